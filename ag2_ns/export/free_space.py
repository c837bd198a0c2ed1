"""What the training pictures saw to be empty: voxels that lie before the surface along some picture's rays.

Empty and never seen are different things to a robot. Voxels are looked at in cubes, so that memory is bounded however
large the grid is: of a cube, one number is kept where it is all free or all unseen, else one bit a voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.ops.jit import jit
from ag2_ns.ops.threads import for_ranges
from ag2_ns.ops.voxels import BRICK, VoxelGrid
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.render import render

DEPTH_PIXELS = 400
"""Depth is drawn at most this wide and high."""

COVERED = 0.5
"""Rays through pixels that are less covered say nothing: the capture has no surface there."""

Brick = tuple[int, int, int]


@dataclass(frozen=True)
class DepthViews:
    """Depth of all training pictures."""

    viewmats: Float[np.ndarray, "V 4 4"]
    intrinsics: Float[np.ndarray, "V 4"]
    """fx, fy, cx, cy of the depth maps."""
    depth: Float[np.ndarray, "V H W"]
    """Padded with 0 to one size; 0 where nothing is known."""
    sizes: Int[np.ndarray, "V 2"]
    """Height and width of each."""


@dataclass
class FreeSpace:
    """Free voxels by cubes of `BRICK` voxels; what is in none is unseen."""

    grid: VoxelGrid
    whole: list[Brick] = field(default_factory=list)
    """First voxels of the cubes that are free all over."""
    mixed: dict[Brick, UInt8[np.ndarray, " N"]] = field(default_factory=dict)
    """Packed bits of the cubes of which a part is free, in the order x, y, z."""

    def brick(self, first: Brick, shape: Brick) -> Bool[np.ndarray, "x y z"]:
        """Which voxels of a cube are free."""
        if first in self.mixed:
            return np.unpackbits(self.mixed[first], count=int(np.prod(shape))).reshape(shape).astype(bool)
        return np.full(shape, first in set(self.whole))

    def count(self) -> int:
        """Free voxels."""
        shapes = dict(self.grid.bricks())
        bits = sum(int(np.unpackbits(b).sum()) for b in self.mixed.values())
        return bits + sum(int(np.prod(shapes[f])) for f in self.whole)

    def index(self) -> Int[np.ndarray, "F 3"]:
        """Free voxels one by one, for grids small enough."""
        shapes = dict(self.grid.bricks())
        parts = [np.argwhere(self.brick(f, shapes[f])) + f for f in (*self.whole, *self.mixed)]
        return np.concatenate(parts) if parts else np.zeros((0, 3), np.int64)


@torch.no_grad()
def depth_views(gaussians: Gaussians, views: Sequence[View], rasterizer: Rasterizer) -> DepthViews:
    """Draw depth from every training camera, at a bounded size."""
    mats, numbers, maps = [], [], []
    for view in views:
        factor = min(1.0, DEPTH_PIXELS / max(view.width, view.height))
        K = view.K.clone()
        K[:2] *= factor
        small = View(view.viewmat, K, max(1, int(view.width * factor)), max(1, int(view.height * factor)))
        out = render(gaussians, small.to(gaussians.device), rasterizer)
        depth = torch.where(out.alpha > COVERED, out.depth, torch.zeros_like(out.depth))[..., 0]
        mats.append(view.viewmat.cpu().double().numpy())
        numbers.append([float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])])
        maps.append(depth.cpu().float().numpy())
    sizes = np.array([m.shape for m in maps], np.int64).reshape(-1, 2)
    high, wide = sizes.max(0) if len(maps) else (1, 1)
    stack = np.zeros((len(maps), high, wide), np.float32)
    for k, m in enumerate(maps):
        stack[k, : m.shape[0], : m.shape[1]] = m
    return DepthViews(np.array(mats).reshape(-1, 4, 4), np.array(numbers).reshape(-1, 4), stack, sizes)


@jit
def _carve(begin, end, low, step, margin, chosen, viewmats, intrinsics, depth, sizes, out):
    """Mark voxels of the x slices begin .. end whose centre some view sees before its surface."""
    for i in range(begin, end):
        x = low[0] + (i + 0.5) * step
        for j in range(out.shape[1]):
            y = low[1] + (j + 0.5) * step
            for k in range(out.shape[2]):
                z = low[2] + (k + 0.5) * step
                for v in chosen:
                    m = viewmats[v]
                    c = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                    if c <= 1e-6:
                        continue
                    a = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                    b = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                    column = int(np.floor(a / c * intrinsics[v, 0] + intrinsics[v, 2]))
                    row = int(np.floor(b / c * intrinsics[v, 1] + intrinsics[v, 3]))
                    if 0 <= row < sizes[v, 0] and 0 <= column < sizes[v, 1] and c + margin < depth[v, row, column]:
                        out[i, j, k] = True
                        break


def free_space(
    views: DepthViews, grid: VoxelGrid, margin: float, done: Callable[[int], None] = lambda count: None
) -> FreeSpace:
    """Voxels that the rays of the training pictures pass through before they end.

    Args:
        views: depth.
        grid: where, in the frame of the views.
        margin: how far before the surface a voxel must lie, scene units.
        done: called with the number of cubes looked at.
    """
    out = FreeSpace(grid)
    deepest = views.depth.reshape(len(views.depth), -1).max(1) if len(views.depth) else np.zeros(0)
    for number, (first, shape) in enumerate(grid.bricks(BRICK)):
        part = grid.part(first, shape)
        chosen = _may_see(views, part, deepest)
        if len(chosen):
            marks = np.zeros(shape, np.bool_)
            for_ranges(
                _carve, shape[0], np.array(part.low), float(grid.voxel), float(margin), chosen, views.viewmats,
                views.intrinsics, views.depth, views.sizes, marks,
            )  # fmt: skip
            if marks.all():
                out.whole.append(first)
            elif marks.any():
                out.mixed[first] = np.packbits(marks)
        done(number + 1)
    return out


def _may_see(views: DepthViews, part: VoxelGrid, deepest: np.ndarray) -> Int[np.ndarray, " K"]:
    """Views whose frustum may meet the ball around a cube."""
    centre = (np.array(part.low) + np.array(part.high)) / 2
    radius = 0.5 * part.voxel * float(np.linalg.norm(part.shape))
    camera = views.viewmats[:, :3, :3] @ centre + views.viewmats[:, :3, 3]
    x, y, z = camera.T if len(camera) else np.zeros((3, 0))
    fx, fy, cx, cy = views.intrinsics.T if len(camera) else np.zeros((4, 0))
    height, width = views.sizes.T if len(camera) else np.zeros((2, 0))
    near = (z > -radius) & (z - radius < deepest)
    for slope, value in ((cx / fx, x), ((width - cx) / fx, -x), (cy / fy, y), ((height - cy) / fy, -y)):
        # The plane through the camera's centre along a side of the picture: outside is below -slope z.
        near &= value + slope * z > -radius * np.sqrt(1 + slope**2)
    return np.flatnonzero(near)
