"""Anchors for a splat that was trained without them: its Gaussians, grouped by voxel."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.splat.anchors import Anchors, Children, voxel_groups


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


def children_of(gaussians: Gaussians, anchors: Anchors, group: Int[Tensor, " N"]) -> Children:
    """Gaussians as children of the given anchors, in trainable form."""
    tiny = torch.finfo(torch.float32).tiny
    return Children(
        anchor=group,
        offset=(gaussians.means - anchors.xyz[group]) / anchors.radius[group],
        sh_dc=gaussians.sh[:, 0],
        sh_rest=gaussians.sh[:, 1:],
        log_scale=gaussians.scales.clamp(min=tiny).log(),
        quat=gaussians.quats,
        opacity_logit=gaussians.opacities.clamp(1e-6, 1 - 1e-6).logit()[:, None],
    )
