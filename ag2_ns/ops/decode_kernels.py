"""Children of anchors to Gaussians and their colours as compiled loops, and back; the CPU's half of `ops.decode`."""

from __future__ import annotations

import math

import numpy as np

from ag2_ns.ops.jit import jit
from ag2_ns.ops.sh import C0

C1 = math.sqrt(3 / (4 * math.pi))
C2 = math.sqrt(15 / (4 * math.pi))
C20 = math.sqrt(5 / (16 * math.pi))
C30 = math.sqrt(7 / (16 * math.pi))
C31 = math.sqrt(21 / (32 * math.pi))
C32 = math.sqrt(105 / (16 * math.pi))
C33 = math.sqrt(35 / (32 * math.pi))


@jit
def _set(out, k, value, by_x, by_y, by_z):
    out[k, 0], out[k, 1], out[k, 2], out[k, 3] = value, by_x, by_y, by_z


@jit
def _bands(x, y, z, bands, out):
    """Values of the basis functions after the constant one at a unit direction, and their slopes in x, y and z."""
    if bands >= 3:
        _set(out, 0, -C1 * y, 0.0, -C1, 0.0)
        _set(out, 1, C1 * z, 0.0, 0.0, C1)
        _set(out, 2, -C1 * x, -C1, 0.0, 0.0)
    if bands >= 8:
        _set(out, 3, C2 * x * y, C2 * y, C2 * x, 0.0)
        _set(out, 4, -C2 * y * z, 0.0, -C2 * z, -C2 * y)
        _set(out, 5, C20 * (3 * z * z - 1), 0.0, 0.0, 6 * C20 * z)
        _set(out, 6, -C2 * x * z, -C2 * z, 0.0, -C2 * x)
        _set(out, 7, 0.5 * C2 * (x * x - y * y), C2 * x, -C2 * y, 0.0)
    if bands >= 15:
        side, up = x * x - y * y, 5 * z * z - 1
        _set(out, 8, -C33 * y * (3 * x * x - y * y), -6 * C33 * x * y, -3 * C33 * side, 0.0)
        _set(out, 9, 2 * C32 * x * y * z, 2 * C32 * y * z, 2 * C32 * x * z, 2 * C32 * x * y)
        _set(out, 10, -C31 * y * up, 0.0, -C31 * up, -10 * C31 * y * z)
        _set(out, 11, C30 * z * (5 * z * z - 3), 0.0, 0.0, C30 * (15 * z * z - 3))
        _set(out, 12, -C31 * x * up, -C31 * up, 0.0, -10 * C31 * x * z)
        _set(out, 13, C32 * z * side, 2 * C32 * x * z, -2 * C32 * y * z, C32 * side)
        _set(out, 14, -C33 * x * (x * x - 3 * y * y), -3 * C33 * side, 6 * C33 * x * y, 0.0)


@jit
def decode(
    start, stop, xyz, radius, anchor, offset, log_scale, logit, dc, rest, eye, bands, means, scales, opacities, rgb
):
    """Fill means, scales, opacities and colours of children start:stop."""
    basis = np.empty((15, 4))
    for n in range(start, stop):
        a = anchor[n]
        for c in range(3):
            means[n, c] = xyz[a, c] + radius[a, 0] * offset[n, c]
            scales[n, c] = math.exp(log_scale[n, c])
        opacities[n] = 1 / (1 + math.exp(-logit[n, 0]))
        x, y, z = means[n, 0] - eye[0], means[n, 1] - eye[1], means[n, 2] - eye[2]
        length = max(math.sqrt(x * x + y * y + z * z), 1e-12)
        _bands(x / length, y / length, z / length, bands, basis)
        for c in range(3):
            colour = C0 * dc[n, c] + 0.5
            for k in range(bands):
                colour += basis[k, 0] * rest[n, k, c]
            rgb[n, c] = max(colour, 0.0)


@jit
def decode_backward(
    start, stop, radius, anchor, rest, eye, bands, means, scales, opacities, rgb, g_means, g_scales, g_opacities,
    g_rgb, d_offset, d_log_scale, d_logit, d_dc, d_rest,
):  # fmt: skip
    """Fill the gradients of children start:stop; bands that are not in use get 0."""
    basis = np.empty((15, 4))
    for n in range(start, stop):
        d_logit[n, 0] = opacities[n] * (1 - opacities[n]) * g_opacities[n]
        x, y, z = means[n, 0] - eye[0], means[n, 1] - eye[1], means[n, 2] - eye[2]
        length = max(math.sqrt(x * x + y * y + z * z), 1e-12)
        x, y, z = x / length, y / length, z / length
        _bands(x, y, z, bands, basis)
        ux, uy, uz = 0.0, 0.0, 0.0
        for c in range(3):
            d_log_scale[n, c] = scales[n, c] * g_scales[n, c]
            pull = g_rgb[n, c] if rgb[n, c] > 0 else 0.0
            d_dc[n, c] = C0 * pull
            for k in range(bands):
                d_rest[n, k, c] = basis[k, 0] * pull
                weight = pull * rest[n, k, c]
                ux += weight * basis[k, 1]
                uy += weight * basis[k, 2]
                uz += weight * basis[k, 3]
            for k in range(bands, rest.shape[1]):
                d_rest[n, k, c] = 0
        # Colours depend on the direction alone: what points along it does not count.
        along = ux * x + uy * y + uz * z
        r = radius[anchor[n], 0]
        d_offset[n, 0] = r * (g_means[n, 0] + (ux - along * x) / length)
        d_offset[n, 1] = r * (g_means[n, 1] + (uy - along * y) / length)
        d_offset[n, 2] = r * (g_means[n, 2] + (uz - along * z) / length)
