"""The CPU backend: tile-based compositing on all cores, differentiable, without a compiler on the user's machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.ops.threads import as_array, for_ranges
from ag2_ns.rendering import cpu_kernels as kernels
from ag2_ns.rendering import projection_kernels
from ag2_ns.rendering.base import BLUR, NEAR_PLANE, Raster
from ag2_ns.rendering.projection import MAX_RADIUS, SIGMAS, Projected, guarded, project

LIFT_BYTES = 256 * 2**20
"""Channels are lifted in chunks whose per-tile sums fit into about this much memory."""


@dataclass(frozen=True)
class _Tiles:
    """Entry lists of one view, see `cpu_kernels`."""

    width: int
    height: int
    tiles_x: int
    tiles_y: int
    ellipses: np.ndarray
    tile_start: np.ndarray
    members: np.ndarray
    slots: np.ndarray
    slot_start: np.ndarray

    @property
    def count(self) -> int:
        return self.tiles_x * self.tiles_y

    def sum_by_gaussian(self, entry_rows: np.ndarray) -> np.ndarray:
        """Sum of every Gaussian's entries, N x columns."""
        count = len(self.slot_start) - 1
        rows = np.empty((count, entry_rows.shape[1]), entry_rows.dtype)
        for_ranges(kernels.sum_slots, count, self.slot_start, entry_rows, rows, minimum=1024)
        return rows


def _bin(projected: Projected, opacities: Tensor, width: int, height: int) -> _Tiles:
    """Sort Gaussians by depth (ties by index) into tiles."""
    count = len(opacities)
    tiles_x, tiles_y = -(-width // kernels.TILE), -(-height // kernels.TILE)
    ellipses = np.empty((count, kernels.ELLIPSE), as_array(projected.means2d).dtype)
    boxes = np.empty((count, 4), np.int32)
    arrays = (projected.means2d, projected.conics, opacities, projected.variances, projected.radii)
    for_ranges(kernels.fill_ellipses, count, *map(as_array, arrays), tiles_x, tiles_y, ellipses, boxes, minimum=4096)
    drawn = np.flatnonzero(boxes[:, 1] > boxes[:, 0])
    order = drawn[np.argsort(as_array(projected.depths)[drawn], kind="stable")]
    tile_start, members, slots, slot_start = kernels.bin_tiles(order, boxes, tiles_x, tiles_y)
    return _Tiles(width, height, tiles_x, tiles_y, ellipses, tile_start, members, slots, slot_start)


class _Project(torch.autograd.Function):
    """`project` in compiled loops, for cameras that are not trained."""

    @staticmethod
    def forward(ctx, means, quats, scales, view):
        (fx, _, cx), (_, fy, cy) = view.K[:2].tolist()
        camera = (
            fx, fy, cx, cy, *guarded(fx, cx, view.width), *guarded(fy, cy, view.height),
            float(view.width), float(view.height), NEAR_PLANE, BLUR,
        )  # fmt: skip
        pose = as_array(view.viewmat.to(means.dtype))
        given = (*map(as_array, (means, quats, scales)), pose[:3, :3].copy(), pose[:3, 3].copy(), camera)
        count, dtype = len(means), pose.dtype
        means2d, conics, variances = (np.empty((count, width), dtype) for width in (2, 3, 2))
        depths, radii = np.empty(count, dtype), np.empty(count, np.int32)
        work = np.empty((count, 3, 3), dtype)
        for_ranges(
            projection_kernels.project, count, *given, SIGMAS, MAX_RADIUS, means2d, conics, depths, radii, variances,
            work, minimum=4096,
        )  # fmt: skip
        ctx.given, ctx.radii, ctx.work = given, radii, work
        out = [torch.from_numpy(a) for a in (means2d, conics, depths, radii, variances)]
        ctx.mark_non_differentiable(*out[2:])
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx, g_means2d, g_conics, *_):
        out = [np.empty_like(a) for a in ctx.given[:3]]
        for_ranges(
            projection_kernels.project_backward, len(ctx.radii), *ctx.given, ctx.radii, as_array(g_means2d),
            as_array(g_conics), *out, ctx.work, minimum=4096,
        )  # fmt: skip
        return *map(torch.from_numpy, out), None


def _projected(means: Tensor, quats: Tensor, scales: Tensor, view: View) -> Projected:
    if view.viewmat.requires_grad:
        return project(means, quats, scales, view)
    means2d, conics, depths, radii, variances = _Project.apply(means, quats, scales, view)
    return Projected(means2d, conics, depths, radii, variances)


class _Composite(torch.autograd.Function):
    """Front-to-back compositing of projected Gaussians."""

    @staticmethod
    def forward(ctx, means2d, conics, opacities, values, depths, radii, variances, width, height, absgrad):
        projected = Projected(means2d, conics, depths, radii, variances)
        tiles = _bin(projected, opacities, width, height)
        colours = as_array(values)
        out = np.empty((height, width, colours.shape[1]), colours.dtype)
        transmittance = np.empty((height, width), colours.dtype)
        last_entry = np.empty((height, width), np.int32)
        for_ranges(
            kernels.composite, tiles.count, tiles.ellipses, colours, tiles.tile_start, tiles.members, tiles.tiles_x,
            width, height, out, transmittance, last_entry,
        )  # fmt: skip
        ctx.save_for_backward(means2d, values)
        ctx.tiles, ctx.transmittance, ctx.last_entry, ctx.absgrad = tiles, transmittance, last_entry, absgrad
        return torch.from_numpy(out), torch.from_numpy(1 - transmittance)[..., None]

    @staticmethod
    @once_differentiable
    def backward(ctx, out_grad, alpha_grad):
        means2d, values = ctx.saved_tensors
        tiles: _Tiles = ctx.tiles
        colours = as_array(values)
        entry_grad = np.zeros((len(tiles.members), kernels.GEOMETRY + colours.shape[1]), colours.dtype)
        for_ranges(
            kernels.composite_backward, tiles.count, tiles.ellipses, colours, tiles.tile_start, tiles.members,
            tiles.slots, tiles.tiles_x, tiles.width, tiles.height, ctx.transmittance, ctx.last_entry,
            as_array(out_grad), as_array(alpha_grad[..., 0]), entry_grad,
        )  # fmt: skip
        grad = torch.from_numpy(tiles.sum_by_gaussian(entry_grad))
        if ctx.absgrad:
            means2d.absgrad = grad[:, 6:8].clone()
        geometry = (grad[:, 0:2].contiguous(), grad[:, 2:5], grad[:, 5])
        return *geometry, grad[:, kernels.GEOMETRY :], None, None, None, None, None, None


class CpuRasterizer:
    """Compositing by compiled loops on the CPU, the same arithmetic as gsplat's kernels; float32 or float64.

    Deterministic, whatever the number of threads (`torch.get_num_threads()`), and safe to call from several Python
    threads at once. The first call compiles for some seconds; later runs load the compiled loops from numba's cache.
    """

    name = "cpu"

    def rasterize(
        self,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, " N"],
        values: Float[Tensor, "N C"],
        view: View,
        *,
        absgrad: bool = False,
    ) -> Raster:
        """Composite `values`; see `Rasterizer.rasterize`. Raises `UserError` for tensors on another device."""
        _require_cpu(means)
        projected = _projected(means, quats, scales, view)
        out, alpha = _Composite.apply(
            projected.means2d,
            projected.conics,
            opacities,
            values,
            projected.depths.detach(),
            projected.radii,
            projected.variances,
            view.width,
            view.height,
            absgrad,
        )
        return Raster(out, alpha, projected.means2d, projected.radii)

    @torch.no_grad()
    def lift(
        self,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, " N"],
        maps: Float[Tensor, "H W C"],
        view: View,
    ) -> Float[Tensor, "N C"]:
        """Rendering weight of every Gaussian summed over `maps`; see `Rasterizer.lift`."""
        _require_cpu(means)
        tiles = _bin(_projected(means, quats, scales, view), opacities, view.width, view.height)
        entry_bytes = max(len(tiles.members), 1) * tiles.ellipses.itemsize
        chunk = max(1, min(maps.shape[2], LIFT_BYTES // entry_bytes))
        weights = []
        for part in maps.to(means.dtype).split(chunk, dim=2):
            entry_sum = np.zeros((len(tiles.members), part.shape[2]), tiles.ellipses.dtype)
            for_ranges(
                kernels.lift_tiles, tiles.count, tiles.ellipses, as_array(part), tiles.tile_start, tiles.members,
                tiles.slots, tiles.tiles_x, tiles.width, tiles.height, entry_sum,
            )  # fmt: skip
            weights.append(torch.from_numpy(tiles.sum_by_gaussian(entry_sum)))
        return torch.cat(weights, dim=1)


def _require_cpu(means: Tensor) -> None:
    if means.device.type != "cpu":
        raise UserError(
            f"The rasteriser 'cpu' was given tensors on {means.device}: use 'gsplat' there, or move to cpu."
        )
