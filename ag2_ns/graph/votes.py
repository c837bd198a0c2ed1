"""Masks vote for the nodes of the instance tree.

Every mask votes for the candidate that it fits best, if it fits that one clearly better than the next. The candidate
with the fewest views behind it goes, the masks vote again, and so on until every one that is left has enough: nested
parts and wholes stay where masks of both kinds recur, steps of growth do not.
"""

from __future__ import annotations

import numpy as np

from ag2_ns.graph.lifting import LiftedMasks

VOTE = 0.5
"""IoU from which a mask is about a region at all."""

MARGIN = 0.05
"""How much better than any other candidate a mask has to fit one for its vote to count."""

VIEWS = 0.3
"""Share of the views that show a region (weighted by its area there) in which some mask must vote for it."""


def elect(lifted: LiftedMasks, area: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Which candidates have the masks behind them.

    Args:
        lifted: the masks lifted onto the R candidates.
        area: [M] the size of each mask, pixels.
        sure: [R] candidates that stay in any case; they too are voted for.

    Returns:
        [R] bool.
    """
    num, views = lifted.num_units, lifted.num_views
    total = np.zeros((num, views))
    total[lifted.view_unit.cpu().numpy(), lifted.view.cpu().numpy()] = lifted.total.double().cpu().numpy()
    unit, mask = lifted.unit.cpu().numpy(), lifted.mask.cpu().numpy()
    weight, mask_view = lifted.weight.double().cpu().numpy(), lifted.mask_view.cpu().numpy()
    view = mask_view[mask]
    iou = weight / (area[mask] + total[unit, view] - weight)
    about = iou >= VOTE
    unit, mask, view, iou = unit[about], mask[about], view[about], iou[about]
    order = np.lexsort((unit, -iou, mask))
    unit, mask, view, iou = unit[order], mask[order], view[order], iou[order]
    visible = total.sum(1).clip(1e-9)

    def share(votes: np.ndarray) -> np.ndarray:
        behind = np.zeros((num, views), bool)
        behind[unit[votes], view[votes]] = True
        return np.where(alive & ~sure, (behind * total).sum(1) / visible, np.inf)

    alive = np.ones(num, bool)
    while True:
        standing = np.flatnonzero(alive[unit])
        first = np.ones(len(standing), bool)
        first[1:] = mask[standing][1:] != mask[standing][:-1]
        lead = iou[standing] - np.append(np.where(first[1:], 0.0, iou[standing][1:]), 0.0)
        liked, counted = share(standing[first]), share(standing[first & (lead >= MARGIN)])
        if counted.min(initial=np.inf) >= VIEWS:
            return alive
        # Those that no mask likes best go together: nobody's votes depend on them.
        alive &= liked > 0 if liked.min() == 0 else np.arange(num) != np.lexsort((liked, counted))[0]
