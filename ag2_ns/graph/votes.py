"""Masks vote for the nodes of the instance tree.

Every mask votes for the candidate that it fits best, if it fits that one clearly better than the next. The candidate
with the fewest views behind it goes, the masks vote again, and so on until every one that is left has enough: nested
parts and wholes stay where masks of both kinds recur, steps of growth do not. A view that hides all of a whole but one
part cannot tell them apart; there the whole has the vote.
"""

from __future__ import annotations

import numpy as np

from ag2_ns.graph.lifting import LiftedMasks

VOTE = 0.5
"""IoU from which a mask is about a region at all."""

MARGIN = 0.05
"""How much better than any other candidate a mask has to fit one for its vote to count."""

ALIKE = 1.05
"""Regions, one inside the other, whose visible areas differ by no more than this factor are the same to a view."""

VIEWS = 0.25
"""Share of the views that show a region (weighted by its area there) in which some mask must vote for it."""


PIECE = 0.1
"""Likewise below which an object is taken for a piece of the region around it, if that one is elected: things that
stand on it cut it in two, and no view shows enough of both."""


def elect(lifted: LiftedMasks, area: np.ndarray, last: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Which candidates have the masks behind them.

    Args:
        lifted: the masks lifted onto the R candidates, which are in preorder.
        area: [M] the size of each mask, pixels.
        last: [R] the last candidate inside each.
        sure: [R] candidates that stay unless they are pieces; they too are voted for.

    Returns:
        [R] bool.
    """
    num, views = lifted.num_units, lifted.num_views
    total = np.zeros((num, views))
    total[lifted.view_unit.cpu().numpy(), lifted.view.cpu().numpy()] = lifted.total.double().cpu().numpy()
    unit, mask = lifted.unit.cpu().numpy(), lifted.mask.cpu().numpy()
    weight, view = lifted.weight.double().cpu().numpy(), lifted.mask_view.cpu().numpy()[mask]
    iou = weight / (area[mask] + total[unit, view] - weight)
    order = np.lexsort((unit, -iou, mask))
    order = order[iou[order] >= VOTE]
    unit, mask, view, iou = unit[order], mask[order], view[order], iou[order]
    visible = total.sum(1).clip(1e-9)

    def share(who: np.ndarray, where: np.ndarray) -> np.ndarray:
        behind = np.zeros((num, views), bool)
        behind[who, where] = True
        return (behind * total).sum(1) / visible

    alive = np.ones(num, bool)
    while True:
        entry = np.flatnonzero(alive[unit])
        if len(entry) == 0:
            return sure.copy()
        u, v, fit = unit[entry], view[entry], iou[entry]
        start = np.flatnonzero(np.append(True, mask[entry][1:] != mask[entry][:-1]))
        best = np.repeat(start, np.diff(np.append(start, len(entry))))  # for every entry the best one of its mask
        b = u[best]
        related = (u <= b) & (b <= last[u]) | (b <= u) & (u <= last[b])
        ratio = total[u, v] / total[b, v]
        same = related & (ratio <= ALIKE) & (ratio * ALIKE >= 1)
        chosen = np.minimum.reduceat(np.where(same, u, num), start)
        rival = np.maximum.reduceat(np.where(same, 0.0, fit), start)
        clear = fit[start] - rival >= MARGIN
        counted = share(chosen[clear], v[start][clear])
        if counted[alive & ~sure].min(initial=np.inf) >= VIEWS:
            return alive & ~(sure & (counted < PIECE) & (counted[_holder(alive, last)] >= VIEWS))
        liked, counted = (np.where(alive & ~sure, x, np.inf) for x in (share(chosen, v[start]), counted))
        # Those that no mask likes best go together: nobody's votes depend on them.
        alive &= liked > 0 if liked.min() == 0 else np.arange(num) != np.lexsort((liked, counted))[0]


def _holder(alive: np.ndarray, last: np.ndarray) -> np.ndarray:
    """[R] the candidate that most closely holds each of those alive, itself where there is none."""
    out = np.arange(len(alive))
    for n in np.flatnonzero(alive):
        out[n + 1 : last[n] + 1] = n
    return out
