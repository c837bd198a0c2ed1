"""Anchors for a splat that was trained without them: its Gaussians, grouped by voxel."""

from __future__ import annotations

import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.splat.anchors import Anchors, Children, children_of, voxel_groups


def group_by_voxel(gaussians: Gaussians, extent: float, share: float) -> tuple[Anchors, Children]:
    """Anchors at the mean centre of the Gaussians of every occupied voxel, the Gaussians as their children.

    Args:
        gaussians: any splat, in the run's frame.
        extent: see `anchors.scene_extent`.
        share: edge of a voxel, as a share of `extent`.

    Returns:
        Anchors whose radius is half a voxel's diagonal, with features of ones, and children that decode into exactly
        the given Gaussians.
    """
    size = share * extent
    group = voxel_groups(gaussians.means, size)
    count = torch.bincount(group)
    xyz = gaussians.means.new_zeros(len(count), 3).index_add_(0, group, gaussians.means) / count[:, None]
    radius = xyz.new_full((len(xyz), 1), 3**0.5 / 2 * size)
    anchors = Anchors(xyz, radius, xyz.new_ones(len(xyz), 3))
    return anchors, children_of(gaussians, anchors, group)
