"""Masks vote for the nodes of the instance tree.

Every mask votes for the candidate that it fits best, if it fits that one clearly better than the next. The candidate
with the fewest views behind it goes, the masks vote again, and so on until every one that is left has enough: nested
parts and wholes stay where masks of both kinds recur, steps of growth do not. A view that hides all of a whole but one
part cannot tell them apart; there the whole has the vote.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.lifting import LiftedMasks


@dataclass(frozen=True)
class Elected:
    """What the masks decide about R candidates."""

    kept: np.ndarray
    """[R] whether each stays."""
    votes: np.ndarray
    """[R] its visible area (pixels, summed over the views) in the views where a mask votes for it."""
    about: np.ndarray
    """[M] the candidate that each mask is about, -1 for none that stays."""


def elect(
    lifted: LiftedMasks,
    area: np.ndarray,
    last: np.ndarray,
    sure: np.ndarray,
    config: GroupingConfig = DEFAULTS,
) -> Elected:
    """Which candidates have the masks behind them, and which masks.

    Args:
        lifted: the masks lifted onto the R candidates, which are in preorder.
        area: [M] the size of each mask, pixels.
        last: [R] the last candidate inside each.
        sure: [R] candidates that stay unless they are pieces; they too are voted for.
        config: thresholds.
    """
    num, views = lifted.num_units, lifted.num_views
    total = np.zeros((num, views))
    total[lifted.view_unit.cpu().numpy(), lifted.view.cpu().numpy()] = lifted.total.double().cpu().numpy()
    unit, mask = lifted.unit.cpu().numpy(), lifted.mask.cpu().numpy()
    weight, view = lifted.weight.double().cpu().numpy(), lifted.mask_view.cpu().numpy()[mask]
    iou = weight / (area[mask] + total[unit, view] - weight)
    order = np.lexsort((unit, -iou, mask))
    order = order[iou[order] >= config.vote]
    ballot = _Ballot(unit[order], mask[order], view[order], iou[order], total, last, config)
    # The candidate with the fewest views comes first; what changed is pushed again, and old entries are passed over.
    heap = [(ballot.counted[u], ballot.liked[u], u) for u in np.flatnonzero(~sure).tolist()]
    heapq.heapify(heap)
    while ballot.open:
        leaving: list[int] = []
        while heap:
            counted, liked, u = heap[0]
            current = ballot.alive[u] and ballot.counted[u] == counted and ballot.liked[u] == liked
            # Those that no mask likes best go together: nobody's votes depend on them.
            if current and (counted >= config.views or (leaving and liked > 0)):
                break
            heapq.heappop(heap)
            if current:
                leaving.append(u)
                if liked > 0:
                    break
        if not leaving:
            alive, counted = ballot.alive, ballot.counted
            piece = (counted < config.piece) & (counted[holder_of(alive, last)] >= config.views)
            kept = alive & ~(sure & piece)
            return Elected(kept, counted * ballot.visible, ballot.about(lifted.num_masks, kept))
        for u in ballot.drop(np.unique(leaving)).tolist():
            if ballot.alive[u] and not sure[u]:
                heapq.heappush(heap, (ballot.counted[u], ballot.liked[u], u))
    return Elected(sure.copy(), np.zeros(num), np.full(lifted.num_masks, -1))


class _Ballot:
    """What every mask votes for, kept up to date while candidates go.

    Args:
        unit: [P] the candidate of each (mask, candidate) pair that fits, by mask and then by falling fit.
        mask: [P] the mask of each.
        view: [P] the view of each.
        fit: [P] the IoU of each.
        total: [R, V] the visible area of each candidate in each view.
        last: [R] the last candidate inside each.
        config: thresholds.
    """

    def __init__(
        self,
        unit: np.ndarray,
        mask: np.ndarray,
        view: np.ndarray,
        fit: np.ndarray,
        total: np.ndarray,
        last: np.ndarray,
        config: GroupingConfig,
    ) -> None:
        self.config = config
        self.unit, self.view, self.fit, self.total, self.last = unit, view, fit, total, last
        self.number, first, self.mask = np.unique(mask, return_index=True, return_inverse=True)
        self.row = np.append(first, len(unit))
        self.by_unit = np.argsort(unit, kind="stable")
        self.unit_row = np.searchsorted(unit[self.by_unit], np.arange(len(total) + 1))
        self.visible = total.sum(1).clip(1e-9)
        self.alive = np.ones(len(total), bool)
        self.choice = np.full(len(first), -1)
        """[M] what each mask likes best, -1 for nothing that is left."""
        self.clear = np.zeros(len(first), bool)
        """[M] whether it likes that clearly better than anything else, so that it votes for it."""
        self._likes, self._votes = np.zeros(total.shape, np.int32), np.zeros(total.shape, np.int32)
        self.liked, self.counted = np.zeros(len(total)), np.zeros(len(total))
        """[R] each: the share of its views, by area, in which a mask likes it best, and in which one votes for it."""
        self._ask(np.arange(len(first)))

    @property
    def open(self) -> bool:
        """Whether any mask has something left to vote for."""
        return bool((self.choice >= 0).any())

    def about(self, num_masks: int, kept: np.ndarray) -> np.ndarray:
        """[M] what each of all masks likes best, -1 for nothing that is kept."""
        out = np.full(num_masks, -1)
        liked = self.choice.copy()
        liked[(liked < 0) | ~kept[liked.clip(0)]] = -1
        out[self.number] = liked
        return out

    def drop(self, units: np.ndarray) -> np.ndarray:
        """Let candidates go; the masks that one of them fits vote again. Returns those whose votes changed."""
        self.alive[units] = False
        return self._ask(np.unique(self.mask[self.by_unit[_ranges(self.unit_row, units)]]))

    def _ask(self, masks: np.ndarray) -> np.ndarray:
        """Let these masks vote anew; returns the candidates whose votes may have changed."""
        before = self._enter(masks, -1)
        entry = _ranges(self.row, masks)
        entry = entry[self.alive[self.unit[entry]]]
        self.choice[masks], self.clear[masks] = -1, False
        if len(entry):
            u, v, fit, of = self.unit[entry], self.view[entry], self.fit[entry], self.mask[entry]
            start = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
            best = np.repeat(start, np.diff(np.append(start, len(entry))))  # for every entry the best one of its mask
            b = u[best]
            related = (u <= b) & (b <= self.last[u]) | (b <= u) & (u <= self.last[b])
            ratio = self.total[u, v] / self.total[b, v]
            same = related & (ratio <= self.config.alike) & (ratio * self.config.alike >= 1)
            self.choice[of[start]] = np.minimum.reduceat(np.where(same, u, len(self.total)), start)
            rival = np.maximum.reduceat(np.where(same, 0.0, fit), start)
            self.clear[of[start]] = fit[start] - rival >= self.config.vote_margin
        changed = np.unique(np.concatenate([before, self._enter(masks, 1)]))
        for share, count in ((self.liked, self._likes), (self.counted, self._votes)):
            share[changed] = ((count[changed] > 0) * self.total[changed]).sum(1) / self.visible[changed]
        return changed

    def _enter(self, masks: np.ndarray, count: int) -> np.ndarray:
        """Add to, or take from, the counts what these masks say; returns the candidates that they like."""
        masks = masks[self.choice[masks] >= 0]
        where = self.choice[masks], self.view[self.row[masks]]
        np.add.at(self._likes, where, count)
        np.add.at(self._votes, where, count * self.clear[masks])
        return where[0]


def _ranges(row: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The numbers from row[k] to row[k + 1], for every k of `which` in turn."""
    length = row[which + 1] - row[which]
    skipped = np.cumsum(length) - length
    return np.arange(length.sum()) + np.repeat(row[which] - skipped, length)


def holder_of(alive: np.ndarray, last: np.ndarray) -> np.ndarray:
    """[R] the candidate that most closely holds each of those alive, itself where there is none."""
    out = np.arange(len(alive))
    for n in np.flatnonzero(alive):
        out[n + 1 : last[n] + 1] = n
    return out
