"""The CUDA backend: gsplat's kernels (1.4 and 1.5), any number of channels over one projection and one tile sort."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.rendering.base import ALPHA_MIN, BLUR, NEAR_PLANE, Raster
from ag2_ns.rendering.projection import SIGMAS

TILE = 16
CHUNK = 32
"""Most channels per pass: gsplat's kernels keep them in registers, and slow down steeply beyond."""

SIGMAS_OF_TWO = 3.33
"""Standard deviations that radii reach since gsplat 1.5, which gives one to either axis: an opaque Gaussian falls below
`ALPHA_MIN` there. Until 1.4 it was one radius of `SIGMAS`, which cuts opaque Gaussians off at borders of tiles."""


class Projection(NamedTuple):
    """Gaussians as one view sees them, in gsplat's layout for one packed camera."""

    means2d: Float[Tensor, "N 2"]
    conics: Float[Tensor, "N 3"]
    depths: Float[Tensor, "1 N"]
    radii: Int[Tensor, " N"]
    reach: Int[Tensor, "1 N *axes"]
    """See `reach`."""


class Tiles(NamedTuple):
    """The Gaussians that each tile draws, front to back."""

    offsets: Int[Tensor, "1 TY TX"]
    members: Int[Tensor, " E"]
    drawn: Bool[Tensor, "1 TY TX"] | None = None
    """Tiles that are drawn; all where missing."""


class GsplatRasterizer:
    """Compositing by gsplat's CUDA kernels, float32.

    gsplat is imported on construction; its first import on a machine may compile for some minutes.

    Args:
        kernels: functions as those of `gsplat.cuda._wrapper`, to take in their place.

    Raises:
        UserError: on construction, if there is no CUDA device or gsplat's compiled part cannot be loaded.
    """

    name = "gsplat"

    def __init__(self, kernels: Any = None) -> None:
        if kernels is not None:
            self._ops = kernels
            return
        if not torch.cuda.is_available():
            raise UserError("The rasteriser 'gsplat' needs a CUDA device, but PyTorch finds none: choose 'cpu'.")
        remedy = "install the CUDA toolkit (nvcc) that fits PyTorch, or a prebuilt gsplat wheel, or choose 'cpu'"
        try:
            from gsplat.cuda import _wrapper
            from gsplat.cuda._backend import _C
        except Exception as error:  # whatever a failing build or a foreign library raises
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"gsplat's CUDA extension does not load ({reason[0]}): {remedy}.") from error
        if _C is None:
            raise UserError(f"gsplat has no compiled CUDA extension: {remedy}.")
        self._ops = _wrapper

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
        """Composite `values` in chunks of 32 channels; see `Rasterizer.rasterize`.

        With more than 32 channels `absgrad` is that of the first 32. Rows of `means2d` with radius 0 are arbitrary.

        Raises:
            UserError: for tensors that are not on a CUDA device.
        """
        require_cuda(means)
        if len(means) == 0:
            return _empty(means, quats, scales, opacities, values, view)
        return self.composite(self.project(means, quats, scales, opacities, view), opacities, values, view, absgrad)

    def composite(
        self,
        projection: Projection,
        opacities: Float[Tensor, " N"],
        values: Float[Tensor, "N C"],
        view: View,
        absgrad: bool,
        tiles: Tiles | None = None,
    ) -> Raster:
        """The second half of `rasterize`, for at least one Gaussian."""
        tiles, outs, alpha = tiles or self._sort(projection, view), [], None
        for chunk in values.split(CHUNK, dim=-1):
            out, chunk_alpha = self._composite(projection, tiles, opacities, chunk, view, absgrad and alpha is None)
            outs.append(out)
            alpha = chunk_alpha if alpha is None else alpha
        out = outs[0] if len(outs) == 1 else torch.cat(outs, dim=-1)
        return Raster(out, alpha, projection.means2d, projection.radii)

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
        require_cuda(means)
        if len(means) == 0:
            return means.new_zeros(0, maps.shape[-1])
        from ag2_ns.rendering import lift_triton

        with torch.no_grad():
            projection = self.project(means, quats, scales, opacities, view)
            tiles = self._sort(projection, view)
            return lift_triton.lift(
                projection.means2d, projection.conics, opacities, tiles.offsets[0], tiles.members,
                maps.to(means.dtype), TILE,
            )  # fmt: skip

    def sh_colours(
        self, sh: Float[Tensor, "N K 3"], directions: Float[Tensor, "N 3"], degree: int | None = None
    ) -> Float[Tensor, "N 3"]:
        """`ag2_ns.ops.sh.sh_colours` in one kernel."""
        stored = math.isqrt(sh.shape[1]) - 1
        degree = stored if degree is None else min(degree, stored)
        return (self._ops.spherical_harmonics(degree, directions, sh) + 0.5).clamp(min=0)

    def project(
        self,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, " N"],
        view: View,
    ) -> Projection:
        """The first half of `rasterize`, of fixed size and without waiting for the device."""
        radii, means2d, depths, conics, _ = self._ops.fully_fused_projection(
            means,
            None,
            quats,
            scales,
            view.viewmat[None].to(means.dtype),
            view.K[None].to(means.dtype),
            view.width,
            view.height,
            eps2d=BLUR,
            near_plane=NEAR_PLANE,
        )  # radii: 1 x N until gsplat 1.4, 1 x N x 2 (width and height) since 1.5
        first = radii[0] if radii.dim() == 2 else radii[0].amax(dim=-1)
        # Squeezed, not indexed, which would be filled with zeros and copied in its backward.
        return Projection(means2d.squeeze(0), conics.squeeze(0), depths.detach(), first, reach(radii, opacities))

    def tiles(self, projection: Projection, view: View, capacity: int) -> tuple[Tiles, Int[Tensor, ""]]:
        """Tile lists of a fixed size, made without waiting for the device, and how many pairs they want to hold.

        Args:
            projection: of at least one Gaussian.
            view: camera.
            capacity: see `tile_lists`.
        """
        from ag2_ns.rendering.tiles_triton import tile_lists

        tiles_x, tiles_y = -(-view.width // TILE), -(-view.height // TILE)
        reach = projection.reach.reshape(len(projection.means2d), -1)
        offsets, members, pairs = tile_lists(
            projection.means2d.detach(), reach, projection.depths[0], TILE, tiles_x, tiles_y, capacity
        )
        drawn = torch.ones(1, tiles_y + 1, tiles_x, dtype=torch.bool, device=reach.device)
        drawn[:, -1] = False
        return Tiles(offsets, members, drawn), pairs

    def _sort(self, projection: Projection, view: View) -> Tiles:
        tiles_x, tiles_y = -(-view.width // TILE), -(-view.height // TILE)
        means2d = projection.means2d.detach()[None]
        _, keys, members = self._ops.isect_tiles(means2d, projection.reach, projection.depths, TILE, tiles_x, tiles_y)
        offsets = self._ops.isect_offset_encode(keys, 1, tiles_x, tiles_y).reshape(1, tiles_y, tiles_x)
        return Tiles(offsets, members)

    def _composite(
        self, projection: Projection, tiles: Tiles, opacities: Tensor, values: Tensor, view: View, absgrad: bool
    ) -> tuple[Float[Tensor, "H W C"], Float[Tensor, "H W 1"]]:
        """One pass. The packed layout takes `means2d` as N x 2, so that its gradients land on that very tensor."""
        out, alpha = self._ops.rasterize_to_pixels(
            projection.means2d,
            projection.conics,
            values,
            opacities,
            view.width,
            view.height,
            TILE,
            tiles.offsets,
            tiles.members,
            masks=tiles.drawn,
            packed=True,
            absgrad=absgrad,
        )
        return out.squeeze(0), alpha.squeeze(0)


@torch.no_grad()
def reach(radii: Int[Tensor, "1 N *axes"], opacities: Float[Tensor, " N"]) -> Int[Tensor, "1 N *axes"]:
    """Radii within which Gaussians are above `ALPHA_MIN`; gsplat's reach equally far for all.

    Pixels beyond add nothing, so the picture stays the same and has fewer pairs of tile and Gaussian.
    """
    sigmas = SIGMAS if radii.dim() == 2 else SIGMAS_OF_TWO
    if radii.is_cuda:
        from ag2_ns.rendering import gsplat_triton

        return gsplat_triton.reach(radii, opacities, sigmas, ALPHA_MIN)
    share = (2 * (opacities / ALPHA_MIN).clamp(min=1).log()).sqrt().clamp(max=sigmas) / sigmas
    return torch.ceil(radii * (share[None] if radii.dim() == 2 else share[None, :, None])).to(radii.dtype)


def _empty(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, values: Tensor, view: View) -> Raster:
    """A raster of no Gaussians that still belongs to the autograd graph."""
    nothing = means.sum() + quats.sum() + scales.sum() + opacities.sum() + values.sum()
    shape = (view.height, view.width)
    return Raster(
        means.new_zeros(*shape, values.shape[-1]) + nothing,
        means.new_zeros(*shape, 1) + nothing,
        means[:, :2] * 1.0,
        torch.zeros(0, dtype=torch.int32, device=means.device),
    )


def require_cuda(means: Tensor) -> None:
    """Raises `UserError` for tensors that are not on a CUDA device."""
    if means.device.type != "cuda":
        raise UserError(
            f"The rasteriser 'gsplat' was given tensors on {means.device}: use 'cpu' there, or move to cuda."
        )
