"""Lifted masks as the sparse rows that the affinity kernels walk: totals, covered areas and masks in one sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ag2_ns.grouping.affinity import pair_affinities
from ag2_ns.grouping.config import Scoring
from ag2_ns.grouping.lifting import LiftedMasks
from ag2_ns.ops.threads import for_ranges


@dataclass(frozen=True)
class Rows:
    """U rows over S slots; every view has a slot for the total, one for the covered area and one per mask."""

    slot: np.ndarray
    """[P] int32, ascending within a row."""
    weight: np.ndarray
    """[P] float32, pixels."""
    row: np.ndarray
    """[U + 1] row u lies at row[u] to row[u + 1]."""
    slot_view: np.ndarray
    """[S] the view of each slot."""
    view_slot: np.ndarray
    """[V + 1] the first slot of each view."""

    @staticmethod
    def of(*lifted: LiftedMasks, keep: Bool[Tensor, " U"] | None = None) -> Rows:
        """The rows of one or several sets of units over the same masks, one set after the other.

        Args:
            lifted: the weights.
            keep: units to give entries, of all sets together; by default all.
        """
        masks = lifted[0].mask_view
        slot_view, view_slot, mask_slot = slots(masks.cpu().numpy(), lifted[0].num_views)
        first = torch.from_numpy(view_slot).to(masks.device).long()
        of_mask = torch.from_numpy(mask_slot).to(masks.device).long()
        parts, offset = [], 0
        for each in lifted:
            view_unit = each.view_unit
            for unit, column, slot, weight in (
                (view_unit, each.view, first, each.total),
                (view_unit, each.view, first + 1, each.covered),
                (each.unit, each.mask, of_mask, each.weight),
            ):
                chosen = weight > 0
                if keep is not None:
                    chosen &= keep[offset : offset + each.num_units][unit]
                parts.append((unit[chosen] + offset, slot[column[chosen]], weight[chosen]))
            offset += each.num_units
        unit, column, weight = (torch.cat(p) for p in zip(*parts))
        order = torch.argsort(unit * int(view_slot[-1]) + column)
        row = np.zeros(offset + 1, np.int64)
        row[1:] = torch.cumsum(torch.bincount(unit, minlength=offset), 0).cpu().numpy()
        return Rows(column[order].int().cpu().numpy(), weight[order].float().cpu().numpy(), row, slot_view, view_slot)

    @property
    def peak(self) -> np.ndarray:
        """[U] the largest total of each row."""
        is_total = self.slot == self.view_slot[self.slot_view[self.slot]]
        out = np.zeros(len(self.row) - 1)
        np.maximum.at(out, np.repeat(np.arange(len(out)), np.diff(self.row))[is_total], self.weight[is_total])
        return out

    def affinities(self, one: Int[Tensor, " K"], other: Int[Tensor, " K"], scoring: Scoring) -> np.ndarray:
        """[K] affinity of the pairs of rows (one[k], other[k])."""
        out = np.zeros(len(one))
        for_ranges(
            pair_affinities, len(out), one.cpu().numpy(), other.cpu().numpy(), self.slot, self.weight, self.row,
            self.peak, self.slot_view, self.view_slot, scoring, out, minimum=256,
        )  # fmt: skip
        return out


def slots(mask_view: np.ndarray, num_views: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number totals, covered areas and masks of all views in one sequence, view after view.

    Returns:
        (view of each slot [M + 2V], first slot of each view and the end [V + 1], slot of each mask [M]).
    """
    per_view = np.bincount(mask_view, minlength=num_views) + 2
    view_slot = np.concatenate([[0], np.cumsum(per_view)]).astype(np.int32)
    slot_view = np.repeat(np.arange(num_views, dtype=np.int32), per_view)
    mask_slot = (np.arange(len(mask_view)) + 2 * (mask_view + 1)).astype(np.int32)
    return slot_view, view_slot, mask_slot
