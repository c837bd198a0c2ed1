"""Where points of a cloud fall in a picture, how large they are, and which are hidden by nearer ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from ag2_ns.core.view import View
from ag2_ns.rendering.base import NEAR_PLANE

NEIGHBOURS = 6
"""Nearest points whose mean distance says how large a point is: enough to reach the next ring of a LiDAR."""

OVERLAP = 0.25
"""Standard deviation of a point, as a share of that distance. At 0.5 neighbours close the surface, but points at the
rim of a thing reach beyond its mask and go to what is behind it: instances of a toy scene lose 14 % of their points, at
0.2 they lose 4 %."""

LARGEST = 8.0
"""A point alone is at most this many times as large as the median one."""

OCCLUDED = 0.05
"""A point further away than the nearest one at its pixel by this share of the depth is hidden."""


@dataclass(frozen=True)
class Projection:
    """N points in one view."""

    pixel: Int[Tensor, "N 2"]
    """Column and row; of points outside of the picture anything."""
    depth: Float[Tensor, " N"]
    """Along the camera's axis, scene units; negative behind it."""
    visible: Bool[Tensor, " N"]
    """In front of the camera, inside the picture, and not behind another point."""


def project_points(
    xyz: Float[Tensor, "N 3"],
    view: View,
    size: Float[Tensor, " N"] | None = None,
    *,
    border: int = 0,
    occlusion: bool = True,
) -> Projection:
    """Where points fall in a picture, and which of them are hidden by nearer ones.

    A point hides what lies behind the square of its size around it. Published code (OpenScene on nuScenes) tests no
    occlusion: give `occlusion=False`.

    Args:
        xyz: points, scene units.
        view: the camera.
        size: radius of each point, scene units; None makes each one pixel large.
        border: pixels at the picture's edge that count as outside (OpenScene: 5 for nuScenes, 10 for ScanNet).
        occlusion: leave out points behind others.
    """
    R, t = view.viewmat[:3, :3].to(xyz), view.viewmat[:3, 3].to(xyz)
    local = xyz @ R.T + t
    depth = local[:, 2]
    safe = depth.clamp_min(NEAR_PLANE)
    K = view.K.to(xyz)
    u = K[0, 0] * local[:, 0] / safe + K[0, 1] * local[:, 1] / safe + K[0, 2]
    v = K[1, 1] * local[:, 1] / safe + K[1, 2]
    pixel = torch.stack([u.clamp(-1e6, 1e6).floor().long(), v.clamp(-1e6, 1e6).floor().long()], 1)
    inside = (depth > NEAR_PLANE) & (pixel >= border).all(1)
    inside &= (pixel[:, 0] < view.width - border) & (pixel[:, 1] < view.height - border)
    if not occlusion or not bool(inside.any()):
        return Projection(pixel, depth, inside)
    radius = torch.ones_like(depth) if size is None else K[0, 0] * size.to(xyz) / safe
    near = _depth_map(pixel[inside], depth[inside], radius[inside], view)
    here = near[pixel[inside, 1], pixel[inside, 0]]
    visible = inside.clone()
    visible[inside] = depth[inside] <= here * (1 + OCCLUDED)
    return Projection(pixel, depth, visible)


def _depth_map(
    pixel: Int[Tensor, "N 2"], depth: Float[Tensor, " N"], radius: Float[Tensor, " N"], view: View
) -> Float[Tensor, "H W"]:
    """Depth of the nearest square at each pixel. Squares are drawn by size: those of 2^k pixels in a picture of that
    many pixels a cell, so that a large one costs as little as a small one."""
    out = depth.new_full((view.height, view.width), torch.inf)
    level = radius.mul(2).clamp(1, 64).log2().round().long()
    for k in level.unique().tolist():
        cell = 2**k
        width, height = -(-view.width // cell), -(-view.height // cell)
        chosen = level == k
        column, row = (pixel[chosen] // cell).unbind(1)
        coarse = depth.new_full((height * width,), torch.inf)
        coarse.scatter_reduce_(0, row * width + column, depth[chosen], "amin")
        fine = coarse.reshape(height, width).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
        out = torch.minimum(out, fine[: view.height, : view.width])
    return out


def point_sizes(xyz: Float[np.ndarray, "N 3"], neighbours: int = NEIGHBOURS) -> Float[np.ndarray, " N"]:
    """Radius of each point, scene units: a share of the mean distance to its nearest neighbours."""
    if len(xyz) == 1:
        return np.full(1, 0.01, np.float32)
    k = min(neighbours, len(xyz) - 1)
    distance = cKDTree(xyz).query(xyz, k + 1, workers=-1)[0][:, 1:].mean(1)
    middle = float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0
    return (OVERLAP * np.clip(distance, 0.1 * middle, LARGEST * middle)).astype(np.float32)
