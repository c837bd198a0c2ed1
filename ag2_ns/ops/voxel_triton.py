"""Voxelising on CUDA: Triton kernels, one program for up to 512 voxels of one Gaussian's box.

Forwards the sums are added atomically, so the last bit of a sum may differ from run to run; backwards every program
sums up what its voxels say about its Gaussian.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.ops.launch import on
from ag2_ns.ops.ranges import spread

BLOCK = 128
"""Voxels handled at a time by one program."""

SHARE = 512
"""Voxels of one program; larger Gaussians are shared out over several."""

CHANNELS = 64
"""Most values handled in one pass."""


@triton.jit
def _forward(
    owner_at, part_at, means, precision, opacities, values, first, size, density, total,
    low_x, low_y, low_z, step, limit, ny, nz, channels,
    BLOCK: tl.constexpr, SHARE: tl.constexpr, WIDTH: tl.constexpr, WITH_DENSITY: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    n = tl.load(owner_at + program).to(tl.int64)
    begin = tl.load(part_at + program) * SHARE
    sx, sy, sz = tl.load(size + 3 * n), tl.load(size + 3 * n + 1), tl.load(size + 3 * n + 2)
    fx, fy, fz = tl.load(first + 3 * n), tl.load(first + 3 * n + 1), tl.load(first + 3 * n + 2)
    mx, my, mz = tl.load(means + 3 * n), tl.load(means + 3 * n + 1), tl.load(means + 3 * n + 2)
    xx, yy, zz = tl.load(precision + 6 * n), tl.load(precision + 6 * n + 1), tl.load(precision + 6 * n + 2)
    xy, xz, yz = tl.load(precision + 6 * n + 3), tl.load(precision + 6 * n + 4), tl.load(precision + 6 * n + 5)
    opacity = tl.load(opacities + n)
    column = tl.arange(0, WIDTH)
    value = tl.load(values + n * channels + column, mask=column < channels, other=0.0)
    stop = tl.minimum(begin + SHARE, sx * sy * sz)
    for block in range(0, SHARE, BLOCK):
        place = begin + block + tl.arange(0, BLOCK)
        i, j, k = fx + place // (sy * sz), fy + place // sz % sy, fz + place % sz
        x = low_x + (i.to(tl.float32) + 0.5) * step - mx
        y = low_y + (j.to(tl.float32) + 0.5) * step - my
        z = low_z + (k.to(tl.float32) + 0.5) * step - mz
        m2 = xx * x * x + yy * y * y + zz * z * z + 2.0 * (xy * x * y + xz * x * z + yz * y * z)
        inside = (place < stop) & (m2 <= limit)
        weight = opacity * tl.exp(-0.5 * m2)
        flat = (i.to(tl.int64) * ny + j) * nz + k
        if WITH_DENSITY:
            tl.atomic_add(density + flat, weight, mask=inside, sem="relaxed")
        where = total + flat[:, None] * channels + column[None, :]
        mask = inside[:, None] & (column < channels)[None, :]
        tl.atomic_add(where, weight[:, None] * value[None, :], mask=mask, sem="relaxed")


@triton.jit
def _backward(
    owner_at, part_at, means, precision, opacities, values, first, size, g_density, g_total,
    g_mean, g_precision, g_opacity, g_value,
    low_x, low_y, low_z, step, limit, ny, nz, channels,
    BLOCK: tl.constexpr, SHARE: tl.constexpr, WIDTH: tl.constexpr, WITH_DENSITY: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    n = tl.load(owner_at + program).to(tl.int64)
    begin = tl.load(part_at + program) * SHARE
    sx, sy, sz = tl.load(size + 3 * n), tl.load(size + 3 * n + 1), tl.load(size + 3 * n + 2)
    fx, fy, fz = tl.load(first + 3 * n), tl.load(first + 3 * n + 1), tl.load(first + 3 * n + 2)
    mx, my, mz = tl.load(means + 3 * n), tl.load(means + 3 * n + 1), tl.load(means + 3 * n + 2)
    xx, yy, zz = tl.load(precision + 6 * n), tl.load(precision + 6 * n + 1), tl.load(precision + 6 * n + 2)
    xy, xz, yz = tl.load(precision + 6 * n + 3), tl.load(precision + 6 * n + 4), tl.load(precision + 6 * n + 5)
    opacity = tl.load(opacities + n)
    column = tl.arange(0, WIDTH)
    value = tl.load(values + n * channels + column, mask=column < channels, other=0.0)
    stop = tl.minimum(begin + SHARE, sx * sy * sz)
    value_sum = tl.zeros((WIDTH,), tl.float32)
    share_sum = tl.zeros((BLOCK,), tl.float32)
    ax, ay, az = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    axx, ayy, azz = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    axy, axz, ayz = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for block in range(0, SHARE, BLOCK):
        place = begin + block + tl.arange(0, BLOCK)
        i, j, k = fx + place // (sy * sz), fy + place // sz % sy, fz + place % sz
        x = low_x + (i.to(tl.float32) + 0.5) * step - mx
        y = low_y + (j.to(tl.float32) + 0.5) * step - my
        z = low_z + (k.to(tl.float32) + 0.5) * step - mz
        m2 = xx * x * x + yy * y * y + zz * z * z + 2.0 * (xy * x * y + xz * x * z + yz * y * z)
        inside = (place < stop) & (m2 <= limit)
        share = tl.where(inside, tl.exp(-0.5 * m2), 0.0)
        flat = (i.to(tl.int64) * ny + j) * nz + k
        mask = inside[:, None] & (column < channels)[None, :]
        gradient = tl.load(g_total + flat[:, None] * channels + column[None, :], mask=mask, other=0.0)
        pull = tl.sum(gradient * value[None, :], 1)
        if WITH_DENSITY:
            pull += tl.load(g_density + flat, mask=inside, other=0.0)
        weight = opacity * share
        value_sum += tl.sum(gradient * weight[:, None], 0)
        share_sum += share * pull
        turn = -0.5 * weight * pull
        ax += turn * x
        ay += turn * y
        az += turn * z
        axx += turn * x * x
        ayy += turn * y * y
        azz += turn * z * z
        axy += turn * x * y
        axz += turn * x * z
        ayz += turn * y * z
    tl.atomic_add(g_value + n * channels + column, value_sum, mask=column < channels, sem="relaxed")
    tl.atomic_add(g_opacity + n, tl.sum(share_sum, 0), sem="relaxed")
    bx, by, bz = tl.sum(ax, 0), tl.sum(ay, 0), tl.sum(az, 0)
    tl.atomic_add(g_mean + 3 * n, -2.0 * (xx * bx + xy * by + xz * bz), sem="relaxed")
    tl.atomic_add(g_mean + 3 * n + 1, -2.0 * (xy * bx + yy * by + yz * bz), sem="relaxed")
    tl.atomic_add(g_mean + 3 * n + 2, -2.0 * (xz * bx + yz * by + zz * bz), sem="relaxed")
    tl.atomic_add(g_precision + 6 * n, tl.sum(axx, 0), sem="relaxed")
    tl.atomic_add(g_precision + 6 * n + 1, tl.sum(ayy, 0), sem="relaxed")
    tl.atomic_add(g_precision + 6 * n + 2, tl.sum(azz, 0), sem="relaxed")
    tl.atomic_add(g_precision + 6 * n + 3, 2.0 * tl.sum(axy, 0), sem="relaxed")
    tl.atomic_add(g_precision + 6 * n + 4, 2.0 * tl.sum(axz, 0), sem="relaxed")
    tl.atomic_add(g_precision + 6 * n + 5, 2.0 * tl.sum(ayz, 0), sem="relaxed")


def _work(first: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which Gaussian, and which part of it, every program does; and the sizes of the boxes."""
    size = stop - first
    parts = (size.prod(-1) + SHARE - 1) // SHARE
    owner, part = spread(parts)
    return owner.int(), part.int(), size.int().contiguous()


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, precision, opacities, values, first, stop, grid, limit):
        means, precision, opacities, values = (t.contiguous().float() for t in (means, precision, opacities, values))
        owner, part, size = _work(first, stop)
        first = first.int().contiguous()
        place = (*map(float, grid.low), float(grid.voxel), limit, grid.shape[1], grid.shape[2], values.shape[1])
        density = means.new_zeros(grid.shape)
        total = means.new_zeros(*grid.shape, values.shape[1])
        options = {"BLOCK": BLOCK, "SHARE": SHARE, "WIDTH": triton.next_power_of_2(values.shape[1])}
        if len(owner):
            with on(means.device):
                _forward[(len(owner),)](
                    owner, part, means, precision, opacities, values, first, size, density, total, *place,
                    WITH_DENSITY=True, **options,
                )  # fmt: skip
        ctx.save_for_backward(owner, part, means, precision, opacities, values, first, size)
        ctx.place, ctx.options = place, options
        return density, total

    @staticmethod
    @once_differentiable
    def backward(ctx, density_grad, total_grad):
        owner, part, means, precision, opacities, values, first, size = ctx.saved_tensors
        out = [torch.zeros_like(t) for t in (means, precision, opacities, values)]
        if len(owner):
            with on(means.device):
                _backward[(len(owner),)](
                    owner, part, means, precision, opacities, values, first, size,
                    density_grad.contiguous(), total_grad.contiguous(), *out, *ctx.place,
                    WITH_DENSITY=True, **ctx.options,
                )  # fmt: skip
        return *out, None, None, None, None


def voxel_sums(means, precision, opacities, values, reach, grid, sigmas) -> tuple[Tensor, Tensor]:
    """Sums of weights (X x Y x Z) and of weighted values (X x Y x Z x C); see `ag2_ns.ops.voxels.voxelise`."""
    from ag2_ns.ops.voxels import voxel_ranges

    first, stop = voxel_ranges(means, reach, grid)
    limit = float(sigmas) ** 2
    if values.shape[1] <= CHANNELS:
        return _Sums.apply(means, precision, opacities, values, first, stop, grid, limit)
    parts = [_Sums.apply(means, precision, opacities, v, first, stop, grid, limit) for v in values.split(CHANNELS, 1)]
    return parts[0][0], torch.cat([total for _, total in parts], -1)
