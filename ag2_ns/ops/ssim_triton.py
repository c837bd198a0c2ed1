"""Structural similarity and its gradient in two CUDA kernels each way: see `ag2_ns.splat.losses.ssim`.

A picture of H x W x C numbers is taken as H rows of W C: the window steps along a row by C, and by rows down a column.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ag2_ns.ops.launch import on

BLOCK = 256
"""Places of one program, within one row."""


@triton.jit
def _along_rows(a, b, moments, window, channels, width, height, BLOCK: tl.constexpr):
    """Windowed sums of a, b, a^2, b^2 and a b, of `width` places a row."""
    row = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < width
    at = row * (width + (len(window) - 1) * channels) + n
    mx, my, xx, yy, xy = (tl.zeros([BLOCK], tl.float32),) * 5
    for t in tl.static_range(len(window)):
        x = tl.load(a + at + t * channels, mask=ok, other=0.0)
        y = tl.load(b + at + t * channels, mask=ok, other=0.0)
        wx, wy = window[t] * x, window[t] * y
        mx += wx
        my += wy
        xx += wx * x
        yy += wy * y
        xy += wx * y
    out, step = moments + row * width + n, height * width
    tl.store(out, mx, mask=ok)
    tl.store(out + step, my, mask=ok)
    tl.store(out + 2 * step, xx, mask=ok)
    tl.store(out + 3 * step, yy, mask=ok)
    tl.store(out + 4 * step, xy, mask=ok)


@triton.jit
def _down_columns(moments, sums, slopes, window, width, height, c1, c2, BLOCK: tl.constexpr):
    """The same down the columns, the similarity's sum for each program, and its slopes in mx, xx and xy."""
    row = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < width
    at, step = moments + row * width + n, height * width
    mx, my, xx, yy, xy = (tl.zeros([BLOCK], tl.float32),) * 5
    for t in tl.static_range(len(window)):
        mx += window[t] * tl.load(at + t * width, mask=ok, other=0.0)
        my += window[t] * tl.load(at + t * width + step, mask=ok, other=0.0)
        xx += window[t] * tl.load(at + t * width + 2 * step, mask=ok, other=0.0)
        yy += window[t] * tl.load(at + t * width + 3 * step, mask=ok, other=0.0)
        xy += window[t] * tl.load(at + t * width + 4 * step, mask=ok, other=0.0)
    p, u = 2.0 * mx * my, mx * mx + my * my
    q, v = 2.0 * xy - p + c2, xx + yy - u + c2
    p, u = p + c1, u + c1
    share = 1.0 / (u * v)
    similarity = p * q * share
    total = tl.sum(tl.where(ok, similarity, 0.0), axis=0)
    tl.store(sums + row * tl.num_programs(0) + tl.program_id(0), total)
    by_xx = -similarity / v
    by_mx = (q - p) * share * my - mx * (similarity / u + by_xx)
    out, step = slopes + row * width + n, (height - len(window) + 1) * width
    tl.store(out, by_mx, mask=ok)
    tl.store(out + step, by_xx, mask=ok)
    tl.store(out + 2 * step, p * share, mask=ok)


@triton.jit
def _up_columns(slopes, spread, window, width, height, BLOCK: tl.constexpr):
    """The transpose of the window down the columns: from height - 10 rows to `height`."""
    row = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < width
    rows = height - len(window) + 1
    mx, xx, xy = (tl.zeros([BLOCK], tl.float32),) * 3
    for t in tl.static_range(len(window)):
        inside = ok & (row >= t) & (row - t < rows)
        at = slopes + (row - t) * width + n
        mx += window[t] * tl.load(at, mask=inside, other=0.0)
        xx += window[t] * tl.load(at + rows * width, mask=inside, other=0.0)
        xy += window[t] * tl.load(at + 2 * rows * width, mask=inside, other=0.0)
    out = spread + row * width + n
    tl.store(out, mx, mask=ok)
    tl.store(out + height * width, xx, mask=ok)
    tl.store(out + 2 * height * width, xy, mask=ok)


@triton.jit
def _back_along_rows(spread, a, b, gradient, window, channels, width, height, scale, BLOCK: tl.constexpr):
    """The transpose along rows of `width` places, and from there to the gradient in `a`, times `scale`."""
    row = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    whole = width + (len(window) - 1) * channels
    ok = n < whole
    mx, xx, xy = (tl.zeros([BLOCK], tl.float32),) * 3
    for t in tl.static_range(len(window)):
        place = n - t * channels
        inside = (place >= 0) & (place < width)
        at = spread + row * width + place
        mx += window[t] * tl.load(at, mask=inside, other=0.0)
        xx += window[t] * tl.load(at + height * width, mask=inside, other=0.0)
        xy += window[t] * tl.load(at + 2 * height * width, mask=inside, other=0.0)
    x = tl.load(a + row * whole + n, mask=ok, other=0.0)
    y = tl.load(b + row * whole + n, mask=ok, other=0.0)
    tl.store(gradient + row * whole + n, (mx + xx * x + xy * y) * tl.load(scale), mask=ok)


def similarity(a: Tensor, b: Tensor, window: tuple[float, ...], c1: float, c2: float) -> tuple[Tensor, Tensor]:
    """Mean similarity of two pictures (H x W x C, contiguous float32), and its slopes for `similarity_backward`."""
    height, columns, channels = a.shape
    width, rows = (columns - len(window) + 1) * channels, height - len(window) + 1
    blocks = triton.cdiv(width, BLOCK)
    moments, slopes = a.new_empty(5, height, width), a.new_empty(3, rows, width)
    sums = a.new_empty(rows, blocks)
    with on(a.device):
        _along_rows[(blocks, height)](a, b, moments, window, channels, width, height, BLOCK=BLOCK)
        _down_columns[(blocks, rows)](moments, sums, slopes, window, width, height, c1, c2, BLOCK=BLOCK)
    return sums.sum() / (rows * width), slopes


def similarity_backward(a: Tensor, b: Tensor, slopes: Tensor, window: tuple[float, ...], scale: Tensor) -> Tensor:
    """The gradient in `a` of `scale` (one number on the device) times the sum of the similarities, halved."""
    height, columns, channels = a.shape
    width = slopes.shape[2]
    spread, gradient = a.new_empty(3, height, width), a.new_empty(a.shape)
    with on(a.device):
        _up_columns[(triton.cdiv(width, BLOCK), height)](slopes, spread, window, width, height, BLOCK=BLOCK)
        _back_along_rows[(triton.cdiv(columns * channels, BLOCK), height)](
            spread, a, b, gradient, window, channels, width, height, scale, BLOCK=BLOCK
        )
    return gradient
