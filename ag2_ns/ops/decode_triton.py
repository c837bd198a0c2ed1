"""Children of anchors to Gaussians and their colours in one CUDA kernel, and back in another: see `ops.decode`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ag2_ns.ops import decode_kernels as loops
from ag2_ns.ops.launch import on

BLOCK = 128
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
        return -C1 * y, o, o - C1, o
    elif k == 1:
        return C1 * z, o, o, o + C1
    elif k == 2:
        return -C1 * x, o - C1, o, o
    elif k == 3:
        return C2 * x * y, C2 * y, C2 * x, o
    elif k == 4:
        return -C2 * y * z, o, -C2 * z, -C2 * y
    elif k == 5:
        return C20 * (3.0 * z * z - 1.0), o, o, 6.0 * C20 * z
    elif k == 6:
        return -C2 * x * z, -C2 * z, o, -C2 * x
    elif k == 7:
        return 0.5 * C2 * (x * x - y * y), C2 * x, -C2 * y, o
    elif k == 8:
        return -C33 * y * (3.0 * x * x - y * y), -6.0 * C33 * x * y, -3.0 * C33 * (x * x - y * y), o
    elif k == 9:
        return 2.0 * C32 * x * y * z, 2.0 * C32 * y * z, 2.0 * C32 * x * z, 2.0 * C32 * x * y
    elif k == 10:
        return -C31 * y * (5.0 * z * z - 1.0), o, -C31 * (5.0 * z * z - 1.0), -10.0 * C31 * y * z
    elif k == 11:
        return C30 * z * (5.0 * z * z - 3.0), o, o, C30 * (15.0 * z * z - 3.0)
    elif k == 12:
        return -C31 * x * (5.0 * z * z - 1.0), -C31 * (5.0 * z * z - 1.0), o, -10.0 * C31 * x * z
    elif k == 13:
        return C32 * z * (x * x - y * y), 2.0 * C32 * x * z, -2.0 * C32 * y * z, C32 * (x * x - y * y)
    else:
        return -C33 * x * (x * x - 3.0 * y * y), -3.0 * C33 * (x * x - y * y), 6.0 * C33 * x * y, o


@triton.jit
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
    x, y, z = px - tl.load(eye), py - tl.load(eye + 1), pz - tl.load(eye + 2)
    inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    x, y, z = x * inverse, y * inverse, z * inverse
    red = C0 * tl.load(dc + 3 * n, mask=ok, other=0.0) + 0.5
    green = C0 * tl.load(dc + 3 * n + 1, mask=ok, other=0.0) + 0.5
    blue = C0 * tl.load(dc + 3 * n + 2, mask=ok, other=0.0) + 0.5
    for k in tl.static_range(BANDS):
        b, _, _, _ = _band(k, x, y, z)
        at = rest + (n * stored + k) * 3
        red += b * tl.load(at, mask=ok, other=0.0)
        green += b * tl.load(at + 1, mask=ok, other=0.0)
        blue += b * tl.load(at + 2, mask=ok, other=0.0)
    tl.store(rgb + 3 * n, tl.maximum(red, 0.0), mask=ok)
    tl.store(rgb + 3 * n + 1, tl.maximum(green, 0.0), mask=ok)
    tl.store(rgb + 3 * n + 2, tl.maximum(blue, 0.0), mask=ok)


@triton.jit
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
    red = tl.load(g_rgb + 3 * n, mask=ok, other=0.0)
    red = tl.where(tl.load(rgb + 3 * n, mask=ok, other=0.0) > 0.0, red, 0.0)
    green = tl.load(g_rgb + 3 * n + 1, mask=ok, other=0.0)
    green = tl.where(tl.load(rgb + 3 * n + 1, mask=ok, other=0.0) > 0.0, green, 0.0)
    blue = tl.load(g_rgb + 3 * n + 2, mask=ok, other=0.0)
    blue = tl.where(tl.load(rgb + 3 * n + 2, mask=ok, other=0.0) > 0.0, blue, 0.0)
    tl.store(d_dc + 3 * n, C0 * red, mask=ok)
    tl.store(d_dc + 3 * n + 1, C0 * green, mask=ok)
    tl.store(d_dc + 3 * n + 2, C0 * blue, mask=ok)
    gx = tl.load(g_means + 3 * n, mask=ok, other=0.0)
    gy = tl.load(g_means + 3 * n + 1, mask=ok, other=0.0)
    gz = tl.load(g_means + 3 * n + 2, mask=ok, other=0.0)
    if BANDS > 0:
        x = tl.load(means + 3 * n, mask=ok, other=0.0) - tl.load(eye)
        y = tl.load(means + 3 * n + 1, mask=ok, other=0.0) - tl.load(eye + 1)
        z = tl.load(means + 3 * n + 2, mask=ok, other=0.0) - tl.load(eye + 2)
        inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
        x, y, z = x * inverse, y * inverse, z * inverse
        ux, uy, uz = x * 0.0, x * 0.0, x * 0.0
        for k in tl.static_range(BANDS):
            b, bx, by, bz = _band(k, x, y, z)
            at = (n * stored + k) * 3
            pull = red * tl.load(rest + at, mask=ok, other=0.0)
            pull += green * tl.load(rest + at + 1, mask=ok, other=0.0)
            pull += blue * tl.load(rest + at + 2, mask=ok, other=0.0)
            ux += pull * bx
            uy += pull * by
            uz += pull * bz
            tl.store(d_rest + at, b * red, mask=ok)
            tl.store(d_rest + at + 1, b * green, mask=ok)
            tl.store(d_rest + at + 2, b * blue, mask=ok)
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
