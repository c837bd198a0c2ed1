"""Lifted masks as the sparse rows that the affinity kernels walk: totals, covered areas and masks in one sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ag2_ns.grouping.affinity import pair_affinities
from ag2_ns.grouping.config import Scoring
from ag2_ns.grouping.lifting import BLOCK, LiftedMasks, blocks
from ag2_ns.ops.jit import jit
from ag2_ns.ops.ranges import spread
from ag2_ns.ops.threads import as_array, for_ranges


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
        gather = by_loops if masks.device.type == "cpu" else by_sorting
        return Rows(*gather(lifted, keep, view_slot, mask_slot), slot_view, view_slot)

    @property
    def peak(self) -> np.ndarray:
        """[U] the largest total of each row."""
        out = np.zeros(len(self.row) - 1)
        for_ranges(_peaks, len(out), self.slot, self.weight, self.row, self.slot_view, self.view_slot, out, minimum=256)
        return out

    def affinities(self, one: Int[Tensor, " K"], other: Int[Tensor, " K"], scoring: Scoring) -> np.ndarray:
        """[K] affinity of the pairs of rows (one[k], other[k])."""
        out = np.zeros(len(one))
        for_ranges(
            pair_affinities, len(out), one.cpu().numpy(), other.cpu().numpy(), self.slot, self.weight, self.row,
            self.peak, self.slot_view, self.view_slot, scoring, out, minimum=256,
        )  # fmt: skip
        return out


@jit
def _peaks(begin, stop, slot, weight, row, slot_view, view_slot, out):
    for u in range(begin, stop):
        for k in range(row[u], row[u + 1]):
            if weight[k] > out[u] and slot[k] == view_slot[slot_view[slot[k]]]:
                out[u] = weight[k]


def by_sorting(
    lifted: tuple[LiftedMasks, ...],
    keep: Tensor | None,
    view_slot: np.ndarray,
    mask_slot: np.ndarray,
    block: int = BLOCK,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slot, weight and row offsets, put in order on the device about `block` entries at a time: bounds memory."""
    device = lifted[0].row.device
    first = torch.from_numpy(view_slot).to(device).long()
    of_mask = torch.from_numpy(mask_slot).to(device).long()
    parts, offset = [], 0
    for each in lifted:
        for units in blocks(each.row + 2 * each.view_row, block):
            parts.append(_sorted(each, *units, None if keep is None else keep[offset:], first, of_mask))
        offset += each.num_units
    if not parts:
        return np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(offset + 1, np.int64)
    slot, weight, count = (np.concatenate(p) for p in zip(*parts))
    return slot, weight, np.concatenate([[0], np.cumsum(count)])


def _sorted(
    lifted: LiftedMasks, start: int, stop: int, keep: Tensor | None, first: Tensor, of_mask: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slot and weight of the entries of some units, and how many each has."""
    parts = []
    for row, values in (
        (lifted.view_row, ((lifted.view, first, lifted.total), (lifted.view, first + 1, lifted.covered))),
        (lifted.row, ((lifted.mask, of_mask, lifted.weight),)),
    ):
        here = slice(int(row[start]), int(row[stop]))
        unit, _ = spread(row[start + 1 : stop + 1] - row[start:stop])
        for column, slot, weight in values:
            chosen = weight[here] > 0
            if keep is not None:
                chosen &= keep[start:stop][unit]
            parts.append((unit[chosen], slot[column[here][chosen]], weight[here][chosen]))
    unit, column, weight = (torch.cat(p) for p in zip(*parts))
    order = torch.argsort(unit * int(first[-1]) + column)
    count = torch.bincount(unit, minlength=stop - start)
    return column[order].int().cpu().numpy(), weight[order].float().cpu().numpy(), count.cpu().numpy()


def by_loops(
    lifted: tuple[LiftedMasks, ...], keep: Tensor | None, view_slot: np.ndarray, mask_slot: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`by_sorting` by compiled loops on the CPU: a row's views and masks are in order already."""
    sizes = [each.num_units for each in lifted]
    kept = np.ones(sum(sizes), bool) if keep is None else as_array(keep)
    parts, count = [], np.zeros(sum(sizes), np.int64)
    for each, end in zip(lifted, np.cumsum(sizes)):
        arrays = (each.view_row, each.view, each.total, each.covered, each.row, each.mask, each.weight)
        parts.append((slice(end - each.num_units, end), tuple(as_array(t) for t in arrays)))
        for_ranges(_count, each.num_units, *parts[-1][1], kept[parts[-1][0]], count[parts[-1][0]], minimum=256)
    row = np.concatenate([[0], np.cumsum(count)])
    slot, weight = np.empty(row[-1], np.int32), np.empty(row[-1], np.float32)
    for units, arrays in parts:
        inside = kept[units]
        for_ranges(_fill, len(inside), *arrays, inside, row[units], view_slot, mask_slot, slot, weight, minimum=256)
    return slot, weight, row


@jit
def _count(begin, stop, view_row, view, total, covered, mask_row, mask, weight, keep, count):
    for u in range(begin, stop):
        if keep[u]:
            for i in range(view_row[u], view_row[u + 1]):
                count[u] += (total[i] > 0) + (covered[i] > 0)
            for j in range(mask_row[u], mask_row[u + 1]):
                count[u] += weight[j] > 0


@jit
def _fill(
    begin, stop, view_row, view, total, covered, mask_row, mask, weight, keep, row, view_slot, mask_slot, out_slot,
    out_weight,
):  # fmt: skip
    for u in range(begin, stop):
        if not keep[u]:
            continue
        k, i, j = row[u], view_row[u], mask_row[u]
        while i < view_row[u + 1] or j < mask_row[u + 1]:
            if j == mask_row[u + 1] or (i < view_row[u + 1] and view_slot[view[i]] < mask_slot[mask[j]]):
                if total[i] > 0:
                    out_slot[k], out_weight[k] = view_slot[view[i]], total[i]
                    k += 1
                if covered[i] > 0:
                    out_slot[k], out_weight[k] = view_slot[view[i]] + 1, covered[i]
                    k += 1
                i += 1
            else:
                if weight[j] > 0:
                    out_slot[k], out_weight[k] = mask_slot[mask[j]], weight[j]
                    k += 1
                j += 1


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
