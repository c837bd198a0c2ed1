"""Gaussians into voxels: exact Mahalanobis weights, differentiable, in bounded memory, on the CPU and on CUDA.

The density of a voxel is the sum over Gaussians of opacity * exp(-m^2 / 2), with m the Mahalanobis distance of the
voxel's centre, cut at 3 sigma; its values are the means of the Gaussians' values with these weights. GaussTR (CVPR
2025, section 3.4) does this without the cut, over boxes.

Compiled loops do it on the CPU (`voxel_kernels`), Triton kernels on CUDA (`voxel_triton`); the plain PyTorch form below
runs anywhere and is what both are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.rotations import rotation_matrices

SIGMAS = 3.0
"""Weights end at this Mahalanobis distance."""

DENSITY_MIN = 1e-6
"""Means are taken over at least this density (GaussTR)."""

PAIRS = {"cpu": 1 << 20, "cuda": 1 << 24}
"""(Gaussian, voxel) pairs that the plain form expands at a time, some 60 bytes each."""

BRICK = 64
"""Voxels along an edge of the cubes in which a huge grid is filled."""


@dataclass(frozen=True)
class VoxelGrid:
    """Cubic voxels along the axes; index order x, y, z."""

    low: tuple[float, float, float]
    """Lowest corner, scene units."""
    voxel: float
    """Edge length, scene units."""
    shape: tuple[int, int, int]
    """Voxels along x, y and z."""

    @property
    def high(self) -> tuple[float, float, float]:
        """Highest corner."""
        return tuple(a + self.voxel * n for a, n in zip(self.low, self.shape))

    @property
    def count(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def centres(
        self, index: Int[Tensor, "M 3"] | None = None, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "... 3"]:
        """Centres of the voxels at `index`, or of all of them as X x Y x Z x 3."""
        if index is None:
            axes = [torch.arange(n, device=device) for n in self.shape]
            index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        low = torch.tensor(self.low, device=index.device)
        return low + (index.to(low.dtype) + 0.5) * self.voxel

    def index(self, points: Float[Tensor, "N 3"]) -> tuple[Int[Tensor, "N 3"], Tensor]:
        """The voxel that holds each point, and whether it lies in the grid."""
        index = torch.floor((points - points.new_tensor(self.low)) / self.voxel).long()
        inside = ((index >= 0) & (index < torch.tensor(self.shape, device=points.device))).all(-1)
        return index, inside

    def part(self, first: tuple[int, int, int], shape: tuple[int, int, int]) -> VoxelGrid:
        """The grid of `shape` voxels from the voxel `first` on."""
        return VoxelGrid(tuple(a + self.voxel * i for a, i in zip(self.low, first)), self.voxel, shape)

    def bricks(self, edge: int = BRICK) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
        """First voxel and shape of the bricks that make up the grid; those at the far ends may be smaller."""
        for x in range(0, self.shape[0], edge):
            for y in range(0, self.shape[1], edge):
                for z in range(0, self.shape[2], edge):
                    first = (x, y, z)
                    yield first, tuple(min(edge, n - i) for n, i in zip(self.shape, first))


@dataclass(frozen=True)
class Voxels:
    """What Gaussians put into a grid."""

    density: Float[Tensor, "X Y Z"]
    values: Float[Tensor, "X Y Z C"]
    """Means weighted by density; 0 where there is none."""


def voxelise(
    gaussians: Gaussians,
    values: Float[Tensor, "N C"],
    grid: VoxelGrid,
    *,
    sigmas: float = SIGMAS,
    method: str = "auto",
) -> Voxels:
    """Density and mean values of Gaussians in every voxel of a grid.

    Differentiable in means, quaternions, scales, opacities and values; the cut carries no gradient. Memory is that of
    the result and a bounded working set. Double precision is possible on the CPU and with `method="plain"`.

    Args:
        gaussians: the Gaussians; any may lie outside of the grid.
        values: C >= 1 numbers for each.
        grid: where.
        sigmas: Mahalanobis distance at which weights end.
        method: "auto" (compiled loops), or "plain" PyTorch.

    Raises:
        ValueError: `values` has another length than the Gaussians.
    """
    if values.dim() != 2 or len(values) != len(gaussians) or values.shape[1] == 0:
        raise ValueError(f"{len(gaussians)} Gaussians need values N x C, not {tuple(values.shape)}")
    precision, reach = precision_and_reach(gaussians, sigmas)
    arguments = (gaussians.means, precision, gaussians.opacities, values.to(gaussians.means.dtype), reach, grid, sigmas)
    if method == "plain" or gaussians.device.type not in ("cpu", "cuda"):
        density, total = _plain(*arguments)
    elif gaussians.device.type == "cuda":
        from ag2_ns.ops.voxel_triton import voxel_sums

        density, total = voxel_sums(*arguments)
    else:
        from ag2_ns.ops.voxel_kernels import voxel_sums

        density, total = voxel_sums(*arguments)
    return Voxels(density, total / density.clamp_min(DENSITY_MIN)[..., None])


def weights_at(gaussians: Gaussians, points: Float[Tensor, "M 3"], *, sigmas: float = SIGMAS) -> Float[Tensor, "M N"]:
    """What each Gaussian adds to the density at points few enough for M x N numbers; differentiable."""
    xx, yy, zz, xy, xz, yz = precision_and_reach(gaussians, sigmas)[0].unbind(-1)
    x, y, z = (points[:, None] - gaussians.means).unbind(-1)
    m2 = x * (xx * x + 2 * (xy * y + xz * z)) + y * (yy * y + 2 * yz * z) + zz * z * z
    return torch.where(m2 <= sigmas**2, gaussians.opacities * torch.exp(-0.5 * m2), torch.zeros_like(m2))


def precision_and_reach(gaussians: Gaussians, sigmas: float) -> tuple[Float[Tensor, "N 6"], Float[Tensor, "N 3"]]:
    """Inverse covariances (xx, yy, zz, xy, xz, yz), and half sizes of the boxes around the ellipsoids at `sigmas`."""
    rotation = rotation_matrices(gaussians.quats)
    narrow = rotation / gaussians.scales[:, None, :]
    xx, yy, zz = (narrow * narrow).sum(-1).unbind(-1)
    xy, xz, yz = ((narrow[:, i] * narrow[:, j]).sum(-1) for i, j in ((0, 1), (0, 2), (1, 2)))
    with torch.no_grad():
        reach = sigmas * (rotation * gaussians.scales[:, None, :]).square().sum(-1).sqrt()
    return torch.stack((xx, yy, zz, xy, xz, yz), -1), reach


def voxel_ranges(
    means: Float[Tensor, "N 3"], reach: Float[Tensor, "N 3"], grid: VoxelGrid
) -> tuple[Int[Tensor, "N 3"], Int[Tensor, "N 3"]]:
    """First and one-past-last voxel, in the grid, whose centre may lie within the box of each Gaussian."""
    low, limit = means.new_tensor(grid.low), torch.tensor(grid.shape, device=means.device)
    first = torch.ceil((means.detach() - reach - low) / grid.voxel - 0.5 - 1e-4).nan_to_num(0).clamp(-1e9, 1e9).long()
    stop = (torch.floor((means.detach() + reach - low) / grid.voxel - 0.5 + 1e-4) + 1).nan_to_num(0).clamp(-1e9, 1e9)
    first = torch.minimum(first.clamp_min(0), limit)
    return first, torch.maximum(torch.minimum(stop.long(), limit), first)


def _plain(means, precision, opacities, values, reach, grid: VoxelGrid, sigmas: float) -> tuple[Tensor, Tensor]:
    """Sums of weights and of weighted values: pairs are expanded in pieces and added up by voxel.

    Pieces are recomputed in the backward pass, so that memory stays bounded there too.
    """
    from torch.utils.checkpoint import checkpoint

    first, stop = voxel_ranges(means, reach, grid)
    size = stop - first
    volume = size.prod(-1)
    end = volume.cumsum(0)
    total = int(end[-1]) if len(end) else 0
    sums = means.new_zeros(grid.count, values.shape[1] + 1)
    piece = PAIRS.get(means.device.type, PAIRS["cpu"])

    def weighted(means, precision, opacities, values, owner, index):
        offset = grid.centres(index).to(means.dtype) - means[owner]
        x, y, z = offset.unbind(-1)
        xx, yy, zz, xy, xz, yz = precision[owner].unbind(-1)
        m2 = xx * x * x + yy * y * y + zz * z * z + 2 * (xy * x * y + xz * x * z + yz * y * z)
        weight = torch.where(m2 <= sigmas**2, opacities[owner] * torch.exp(-0.5 * m2), 0.0)
        return torch.cat([weight[:, None], weight[:, None] * values[owner]], 1)

    for begin in range(0, total, piece):
        pair = torch.arange(begin, min(begin + piece, total), device=means.device)
        owner = torch.searchsorted(end, pair, right=True)
        rest = pair - (end - volume)[owner]
        _, ny, nz = size[owner].unbind(-1)
        index = first[owner] + torch.stack((rest // (ny * nz), rest // nz % ny, rest % nz), -1)
        flat = (index[:, 0] * grid.shape[1] + index[:, 1]) * grid.shape[2] + index[:, 2]
        rows = checkpoint(weighted, means, precision, opacities, values, owner, index, use_reentrant=False)
        sums = sums.index_add(0, flat, rows)
    sums = sums.view(*grid.shape, -1)
    return sums[..., 0], sums[..., 1:]
