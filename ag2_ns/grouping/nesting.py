"""Which regions of a hierarchy really lie inside the region around them, from the masks of that region.

Merging puts a ball inside the table that it stands on, because the table is what it belongs with most. The masks of the
table say otherwise: they leave the ball out, whereas those of a robot hold its head. A region that most of the masks
about the region around it leave out is lifted one step up, until it lies in a region whose masks hold it.
"""

from __future__ import annotations

import numpy as np

from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.lifting import LiftedMasks


def held_by_parent(lifted: LiftedMasks, parent: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """How much of each region the masks about its parent hold; NaN where no mask is about the parent.

    Args:
        lifted: the masks lifted onto the R regions (each with what lies inside it).
        parent: [R] the region around each, -1 for none.
        choice: [M] the region that each mask is about, -1 for none.

    Returns:
        [R]
    """
    num, views = lifted.num_units, lifted.num_views
    unit, mask = lifted.unit.cpu().numpy(), lifted.mask.cpu().numpy()
    about = (parent[unit] >= 0) & (choice[mask] == parent[unit])
    held = np.bincount(unit[about], lifted.weight.double().cpu().numpy()[about], minlength=num)
    count = np.zeros((num, views))
    chosen = choice >= 0
    np.add.at(count, (choice[chosen], lifted.mask_view.cpu().numpy()[chosen]), 1.0)
    owner, view = lifted.view_unit.cpu().numpy(), lifted.view.cpu().numpy()
    shown = lifted.total.double().cpu().numpy() * np.where(parent[owner] >= 0, count[parent[owner], view], 0.0)
    possible = np.bincount(owner, shown, minlength=num)
    with np.errstate(invalid="ignore"):
        return np.where(possible > 0, held / possible, np.nan)


def lift_out(
    lifted: LiftedMasks, parent: np.ndarray, choice: np.ndarray, config: GroupingConfig = DEFAULTS
) -> np.ndarray:
    """New parents, with every region above those whose masks leave it out.

    Args:
        lifted: the masks lifted onto the R regions.
        parent: [R] the region around each, -1 for none.
        choice: [M] the region that each mask is about, -1 for none.
        config: thresholds.
    """
    parent, original = parent.copy(), parent
    while True:
        left_out = held_by_parent(lifted, parent, choice) < config.held
        if not left_out.any():
            return parent
        parent[left_out] = original[parent[left_out]]
