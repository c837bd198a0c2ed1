"""Voxelising on the CPU: compiled loops over the voxels inside each ellipsoid, forwards and backwards.

Forwards, threads share out the x slices of the grid, so sums need no locks and do not depend on the number of threads;
backwards they share out the Gaussians.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.ops.jit import jit
from ag2_ns.ops.threads import as_array, for_ranges


@jit
def _z_range(a, b, c, limit, first, stop, low, step, mean):
    """Voxels along z within the ellipsoid a z^2 + 2 b z + c <= limit (z relative to the mean), a little generously."""
    under = b * b - a * (c - limit)
    if under < 0.0:
        return first, first
    root = math.sqrt(under)
    begin = math.ceil(((-b - root) / a + mean - low) / step - 0.5 - 1e-3)
    end = math.floor(((-b + root) / a + mean - low) / step - 0.5 + 1e-3) + 1
    return max(first, begin), min(stop, end)


@jit
def _add(begin, end, order, means, precision, opacities, values, first, stop, low, step, limit, density, total):
    channels = values.shape[1]
    for n in order:
        x0, x1 = max(first[n, 0], begin), min(stop[n, 0], end)
        if x0 >= x1:
            continue
        xx, yy, zz = precision[n, 0], precision[n, 1], precision[n, 2]
        xy, xz, yz = precision[n, 3], precision[n, 4], precision[n, 5]
        for i in range(x0, x1):
            x = low[0] + (i + 0.5) * step - means[n, 0]
            for j in range(first[n, 1], stop[n, 1]):
                y = low[1] + (j + 0.5) * step - means[n, 1]
                b, c = xz * x + yz * y, xx * x * x + yy * y * y + 2.0 * xy * x * y
                z0, z1 = _z_range(zz, b, c, limit, first[n, 2], stop[n, 2], low[2], step, means[n, 2])
                for k in range(z0, z1):
                    z = low[2] + (k + 0.5) * step - means[n, 2]
                    m2 = c + z * (2.0 * b + zz * z)
                    if m2 <= limit:
                        weight = opacities[n] * math.exp(-0.5 * m2)
                        density[i, j, k] += weight
                        for q in range(channels):
                            total[i, j, k, q] += weight * values[n, q]


@jit
def _gradient(
    begin, end, means, precision, opacities, values, first, stop, low, step, limit, g_density, g_total,
    g_mean, g_precision, g_opacity, g_value,
):  # fmt: skip
    channels = values.shape[1]
    for n in range(begin, end):
        xx, yy, zz = precision[n, 0], precision[n, 1], precision[n, 2]
        xy, xz, yz = precision[n, 3], precision[n, 4], precision[n, 5]
        mx, my, mz, so = 0.0, 0.0, 0.0, 0.0
        pxx, pyy, pzz, pxy, pxz, pyz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(first[n, 0], stop[n, 0]):
            x = low[0] + (i + 0.5) * step - means[n, 0]
            for j in range(first[n, 1], stop[n, 1]):
                y = low[1] + (j + 0.5) * step - means[n, 1]
                b, c = xz * x + yz * y, xx * x * x + yy * y * y + 2.0 * xy * x * y
                z0, z1 = _z_range(zz, b, c, limit, first[n, 2], stop[n, 2], low[2], step, means[n, 2])
                for k in range(z0, z1):
                    z = low[2] + (k + 0.5) * step - means[n, 2]
                    m2 = c + z * (2.0 * b + zz * z)
                    if m2 <= limit:
                        share = math.exp(-0.5 * m2)
                        weight = opacities[n] * share
                        pull = g_density[i, j, k]
                        for q in range(channels):
                            pull += g_total[i, j, k, q] * values[n, q]
                            g_value[n, q] += weight * g_total[i, j, k, q]
                        so += share * pull
                        turn = -0.5 * weight * pull
                        mx -= 2.0 * turn * (xx * x + xy * y + xz * z)
                        my -= 2.0 * turn * (xy * x + yy * y + yz * z)
                        mz -= 2.0 * turn * (xz * x + yz * y + zz * z)
                        pxx += turn * x * x
                        pyy += turn * y * y
                        pzz += turn * z * z
                        pxy += 2.0 * turn * x * y
                        pxz += 2.0 * turn * x * z
                        pyz += 2.0 * turn * y * z
        g_mean[n, 0], g_mean[n, 1], g_mean[n, 2], g_opacity[n] = mx, my, mz, so
        g_precision[n, 0], g_precision[n, 1], g_precision[n, 2] = pxx, pyy, pzz
        g_precision[n, 3], g_precision[n, 4], g_precision[n, 5] = pxy, pxz, pyz


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, precision, opacities, values, first, stop, grid, limit):
        arrays = [as_array(t) for t in (means, precision, opacities, values, first, stop)]
        place = (np.array(grid.low), float(grid.voxel), limit)
        density = np.zeros(grid.shape, arrays[0].dtype)
        total = np.zeros((*grid.shape, values.shape[1]), arrays[0].dtype)
        met = np.flatnonzero((arrays[5] > arrays[4]).all(1))
        for_ranges(_add, grid.shape[0], met, *arrays, *place, density, total)
        ctx.save_for_backward(means, precision, opacities, values, first, stop)
        ctx.place = place
        return torch.from_numpy(density), torch.from_numpy(total)

    @staticmethod
    @once_differentiable
    def backward(ctx, density_grad, total_grad):
        arrays = [as_array(t) for t in ctx.saved_tensors]
        out = [np.zeros_like(a) for a in arrays[:4]]
        for_ranges(
            _gradient,
            len(arrays[0]),
            *arrays,
            *ctx.place,
            as_array(density_grad),
            as_array(total_grad),
            *out,
            minimum=8,
        )
        return *map(torch.from_numpy, out), None, None, None, None


def voxel_sums(means, precision, opacities, values, reach, grid, sigmas) -> tuple[Tensor, Tensor]:
    """Sums of weights (X x Y x Z) and of weighted values (X x Y x Z x C); see `ag2_ns.ops.voxels.voxelise`."""
    from ag2_ns.ops.voxels import voxel_ranges

    first, stop = voxel_ranges(means, reach, grid)
    return _Sums.apply(means, precision, opacities, values, first, stop, grid, float(sigmas) ** 2)
