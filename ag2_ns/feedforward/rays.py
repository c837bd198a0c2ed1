"""What the pixels' rays say about space: where they end is something, what they pass through is empty.

Supervision in 3D without labels, as QueryOcc (2025) and SelfOcc (CVPR 2024) have it; of frames around, rays are moved
by the car's own motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ag2_ns.core.view import View
from ag2_ns.feedforward.config import FAR
from ag2_ns.ops.ray_march import march
from ag2_ns.ops.voxels import VoxelGrid

EMPTY, FULL = 1, 2


@dataclass(frozen=True)
class RayTargets:
    """What rays say about a grid."""

    seen: UInt8[Tensor, "X Y Z"]
    """2 where rays end, 1 where they only pass through, 0 where there were none."""
    index: Int[Tensor, "M 3"]
    """Voxels in which rays of this frame end."""
    features: Float[Tensor, "M C"]
    """Mean features of the patches that those rays belong to."""

    def mirrored(self) -> RayTargets:
        """Left and right of the car changed, for grids that reach as far to either side."""
        index = self.index.clone()
        index[:, 1] = self.seen.shape[1] - 1 - index[:, 1]
        return RayTargets(self.seen.flip(1), index, self.features)

    def to(self, device: torch.device | str) -> RayTargets:
        """The same on a device."""
        return RayTargets(self.seen.to(device), self.index.to(device), self.features.to(device))


@dataclass(frozen=True)
class Rays:
    """Rays of one frame in the ego frame."""

    origins: Float[np.ndarray, "R 3"]
    directions: Float[np.ndarray, "R 3"]
    """Per metre of depth: not of unit length."""
    depth: Float[np.ndarray, " R"]
    features: Float[Tensor, "R C"] | None

    def moved(self, pose: Float[np.ndarray, "4 4"]) -> Rays:
        """The rays in another frame."""
        turn = pose[:3, :3]
        return Rays(self.origins @ turn.T + pose[:3, 3], self.directions @ turn.T, self.depth, self.features)


def rays_of(
    views: tuple[View, ...], depth: Float[Tensor, "V H W"], features: Float[Tensor, "V C h w"] | None, most: int
) -> Rays:
    """Rays through the pixels' centres; at most `most` of each view, on a coarser lattice where there are more."""
    origins, directions, depths, carried = [], [], [], []
    for v, view in enumerate(views):
        step = max(1, int(np.ceil(np.sqrt(view.width * view.height / most))))
        rows, columns = torch.arange(step // 2, view.height, step), torch.arange(step // 2, view.width, step)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        y, x = y.reshape(-1), x.reshape(-1)
        K, cam2ego = view.K.double(), torch.linalg.inv(view.viewmat.double())
        way = torch.stack(((x + 0.5 - K[0, 2]) / K[0, 0], (y + 0.5 - K[1, 2]) / K[1, 1], torch.ones(len(x))), -1)
        directions.append(way.double() @ cam2ego[:3, :3].T)
        origins.append(cam2ego[:3, 3].expand(len(x), 3))
        depths.append(depth[v, y, x])
        if features is not None:
            h, w = features.shape[-2:]
            carried.append(features[v][:, y * h // view.height, x * w // view.width].T)
    flat = [torch.cat(t).double().numpy() for t in (origins, directions, depths)]
    return Rays(*flat, torch.cat(carried) if carried else None)


def ray_targets(own: Rays, others: list[Rays], grid: VoxelGrid) -> RayTargets:
    """Join what rays say; rays end half a voxel before what is far, and where one ends, others do not make it empty.

    Args:
        own: rays of this frame, with features.
        others: rays of frames around, in this frame's ego frame.
        grid: where.
    """
    passed, ended, own_index, own_kept = _trace(own, grid)
    own_passed = passed.copy()
    for rays in others:
        also_passed, also_ended, _, _ = _trace(rays, grid)
        passed |= also_passed
        ended |= also_ended & ~own_passed  # what moved must not leave a trail through what this frame sees to be empty
    seen = torch.from_numpy(np.where(ended, FULL, np.where(passed, EMPTY, 0)).astype(np.uint8))
    flat = (own_index[:, 0] * grid.shape[1] + own_index[:, 1]) * grid.shape[2] + own_index[:, 2]
    unique, inverse, counts = torch.unique(flat, return_inverse=True, return_counts=True)
    features = own.features[own_kept].float()
    sums = torch.zeros(len(unique), features.shape[1]).index_add_(0, inverse, features)
    place = torch.stack((unique // (grid.shape[1] * grid.shape[2]), unique // grid.shape[2] % grid.shape[1],
                         unique % grid.shape[2]), -1)  # fmt: skip
    return RayTargets(seen, place, sums / counts[:, None])


def _trace(rays: Rays, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
    """Voxels passed and ended in; the voxel of every ray that ends in the grid, and which rays do."""
    depth = np.minimum(rays.depth, FAR)
    passed = march(rays.origins, rays.directions, depth, grid)
    index, inside = grid.index(torch.from_numpy(rays.origins + rays.directions * depth[:, None]))
    kept = inside & torch.from_numpy(rays.depth < FAR)
    ended = np.zeros(grid.shape, bool)
    ended[tuple(index[kept].T.numpy())] = True
    return passed, ended, index[kept], kept
