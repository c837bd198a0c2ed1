"""Children of anchors to Gaussians and their colours in one CUDA kernel, and back in another: see `ops.decode`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ag2_ns.ops import decode_kernels as loops
from ag2_ns.ops.launch import ANY_COUNT, on

BLOCK = 32
"""Children of one program."""

C0 = tl.constexpr(loops.C0)
C1 = tl.constexpr(loops.C1)
C2 = tl.constexpr(loops.C2)
C20 = tl.constexpr(loops.C20)
C30 = tl.constexpr(loops.C30)
C31 = tl.constexpr(loops.C31)
C32 = tl.constexpr(loops.C32)
C33 = tl.constexpr(loops.C33)


@triton.jit
def _band(k: tl.constexpr, x, y, z):
    """Value of basis function k + 1 (after the constant one) at unit directions, and its slopes in x, y and z.

    The slopes are those of the polynomial; their part along the direction does not count.
    """
    o = x * 0.0
    if k == 0:
        return y * -C1, o, o - C1, o
    elif k == 1:
        return z * C1, o, o, o + C1
    elif k == 2:
        return x * -C1, o - C1, o, o
    elif k == 3:
        return x * y * C2, y * C2, x * C2, o
    elif k == 4:
        return y * z * -C2, o, z * -C2, y * -C2
    elif k == 5:
        return (3.0 * z * z - 1.0) * C20, o, o, z * (6.0 * C20)
    elif k == 6:
        return x * z * -C2, z * -C2, o, x * -C2
    elif k == 7:
        return (x * x - y * y) * (0.5 * C2), x * C2, y * -C2, o
    elif k == 8:
        return y * (3.0 * x * x - y * y) * -C33, x * y * (-6.0 * C33), (x * x - y * y) * (-3.0 * C33), o
    elif k == 9:
        return x * y * z * (2.0 * C32), y * z * (2.0 * C32), x * z * (2.0 * C32), x * y * (2.0 * C32)
    elif k == 10:
        up = 5.0 * z * z - 1.0
        return y * up * -C31, o, up * -C31, y * z * (-10.0 * C31)
    elif k == 11:
        return z * (5.0 * z * z - 3.0) * C30, o, o, (15.0 * z * z - 3.0) * C30
    elif k == 12:
        up = 5.0 * z * z - 1.0
        return x * up * -C31, up * -C31, o, x * z * (-10.0 * C31)
    elif k == 13:
        side = x * x - y * y
        return z * side * C32, x * z * (2.0 * C32), y * z * (-2.0 * C32), side * C32
    else:
        return x * (x * x - 3.0 * y * y) * -C33, (x * x - y * y) * (-3.0 * C33), x * y * (6.0 * C33), o


@triton.jit
def _basis(x, y, z, BANDS: tl.constexpr, BLOCK: tl.constexpr):
    """All basis functions after the constant one at BLOCK directions, BLOCK x 16 (0 beyond BANDS), and their slopes."""
    at = tl.arange(0, 16)[None, :]
    value, by_x, by_y, by_z = (tl.zeros([BLOCK, 16], tl.float32),) * 4
    for k in tl.static_range(BANDS):
        b, bx, by, bz = _band(k, x, y, z)
        value = tl.where(at == k, b[:, None], value)
        by_x = tl.where(at == k, bx[:, None], by_x)
        by_y = tl.where(at == k, by[:, None], by_y)
        by_z = tl.where(at == k, bz[:, None], by_z)
    return value, by_x, by_y, by_z


@triton.jit
def _coefficients(n, ok, stored, BANDS: tl.constexpr):
    """Where the bands of children n lie, children x 16 x 4, and which of these places are in use.

    Read as one block: four threads read a colour together, where one that reads a child alone strides through memory.
    """
    k, c = tl.arange(0, 16)[None, :, None], tl.arange(0, 4)[None, None, :]
    return (n * stored * 3)[:, None, None] + 3 * k + c, ok[:, None, None] & (k < BANDS) & (c < 3)


@triton.jit(**ANY_COUNT)
def _forward(
    xyz, radius, anchor, offset, log_scale, logit, dc, rest, eye,
    means, scales, opacities, rgb, count, stored,
    BANDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < count
    n = n.to(tl.int64)
    a = tl.load(anchor + n, mask=ok, other=0)
    r = tl.load(radius + a, mask=ok, other=1.0)
    px = tl.load(xyz + 3 * a, mask=ok, other=0.0) + r * tl.load(offset + 3 * n, mask=ok, other=0.0)
    py = tl.load(xyz + 3 * a + 1, mask=ok, other=0.0) + r * tl.load(offset + 3 * n + 1, mask=ok, other=0.0)
    pz = tl.load(xyz + 3 * a + 2, mask=ok, other=0.0) + r * tl.load(offset + 3 * n + 2, mask=ok, other=0.0)
    tl.store(means + 3 * n, px, mask=ok)
    tl.store(means + 3 * n + 1, py, mask=ok)
    tl.store(means + 3 * n + 2, pz, mask=ok)
    for c in tl.static_range(3):
        tl.store(scales + 3 * n + c, tl.exp(tl.load(log_scale + 3 * n + c, mask=ok, other=0.0)), mask=ok)
    tl.store(opacities + n, tl.sigmoid(tl.load(logit + n, mask=ok, other=0.0)), mask=ok)
    channel = tl.arange(0, 4)[None, :]
    at, shown = 3 * n[:, None] + channel, ok[:, None] & (channel < 3)
    colour = C0 * tl.load(dc + at, mask=shown, other=0.0) + 0.5
    if BANDS > 0:
        x, y, z = px - tl.load(eye), py - tl.load(eye + 1), pz - tl.load(eye + 2)
        inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
        basis, _, _, _ = _basis(x * inverse, y * inverse, z * inverse, BANDS, BLOCK)
        place, used = _coefficients(n, ok, stored, BANDS)
        colour += tl.sum(basis[:, :, None] * tl.load(rest + place, mask=used, other=0.0), axis=1)
    tl.store(rgb + at, tl.maximum(colour, 0.0), mask=shown)


@triton.jit(**ANY_COUNT)
def _backward(
    radius, anchor, rest, eye, means, scales, opacities, rgb,
    g_means, g_scales, g_opacities, g_rgb,
    d_offset, d_log_scale, d_logit, d_dc, d_rest, count, stored,
    BANDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < count
    n = n.to(tl.int64)
    for c in tl.static_range(3):
        slope = tl.load(scales + 3 * n + c, mask=ok, other=0.0) * tl.load(g_scales + 3 * n + c, mask=ok, other=0.0)
        tl.store(d_log_scale + 3 * n + c, slope, mask=ok)
    o = tl.load(opacities + n, mask=ok, other=0.0)
    tl.store(d_logit + n, o * (1.0 - o) * tl.load(g_opacities + n, mask=ok, other=0.0), mask=ok)
    channel = tl.arange(0, 4)[None, :]
    at, shown = 3 * n[:, None] + channel, ok[:, None] & (channel < 3)
    pull = tl.load(g_rgb + at, mask=shown, other=0.0)
    pull = tl.where(tl.load(rgb + at, mask=shown, other=0.0) > 0.0, pull, 0.0)
    tl.store(d_dc + at, C0 * pull, mask=shown)
    gx = tl.load(g_means + 3 * n, mask=ok, other=0.0)
    gy = tl.load(g_means + 3 * n + 1, mask=ok, other=0.0)
    gz = tl.load(g_means + 3 * n + 2, mask=ok, other=0.0)
    if BANDS > 0:
        x = tl.load(means + 3 * n, mask=ok, other=0.0) - tl.load(eye)
        y = tl.load(means + 3 * n + 1, mask=ok, other=0.0) - tl.load(eye + 1)
        z = tl.load(means + 3 * n + 2, mask=ok, other=0.0) - tl.load(eye + 2)
        inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
        x, y, z = x * inverse, y * inverse, z * inverse
        basis, by_x, by_y, by_z = _basis(x, y, z, BANDS, BLOCK)
        place, used = _coefficients(n, ok, stored, BANDS)
        weight = tl.sum(tl.load(rest + place, mask=used, other=0.0) * pull[:, None, :], axis=2)
        ux, uy, uz = tl.sum(weight * by_x, axis=1), tl.sum(weight * by_y, axis=1), tl.sum(weight * by_z, axis=1)
        tl.store(d_rest + place, basis[:, :, None] * pull[:, None, :], mask=used)
        along = ux * x + uy * y + uz * z
        gx += (ux - along * x) * inverse
        gy += (uy - along * y) * inverse
        gz += (uz - along * z) * inverse
    r = tl.load(radius + tl.load(anchor + n, mask=ok, other=0), mask=ok, other=0.0)
    tl.store(d_offset + 3 * n, r * gx, mask=ok)
    tl.store(d_offset + 3 * n + 1, r * gy, mask=ok)
    tl.store(d_offset + 3 * n + 2, r * gz, mask=ok)


def decode(given: tuple[Tensor, ...], bands: int, out: tuple[Tensor, ...]) -> None:
    """Fill `out`; see `decode_kernels.decode` for both."""
    count, stored = len(given[2]), given[7].shape[1]
    if count:
        with on(out[0].device):
            _forward[(triton.cdiv(count, BLOCK),)](*given, *out, count, stored, BANDS=bands, BLOCK=BLOCK)


def decode_backward(
    saved: tuple[Tensor, ...], bands: int, gradients: tuple[Tensor, ...], out: tuple[Tensor, ...]
) -> None:
    """Fill `out`; see `decode_kernels.decode_backward`. Bands that are not in use stay as they are."""
    count, stored = len(saved[1]), saved[2].shape[1]
    if count:
        with on(out[0].device):
            _backward[(triton.cdiv(count, BLOCK),)](*saved, *gradients, *out, count, stored, BANDS=bands, BLOCK=BLOCK)
