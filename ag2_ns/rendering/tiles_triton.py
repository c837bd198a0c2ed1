"""Lists of the Gaussians of each tile, of fixed size and without waiting for the device, so that they can be recorded.

gsplat counts pairs of Gaussian and tile, waits for the count, and sorts 64-bit keys. Here Gaussians are sorted by
depth first, pairs are written in that order and sorted by tile alone, which are 16 bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.ops.launch import ANY_COUNT, on

BLOCK = 256
SLOTS = 512
"""Gaussians, and pairs, of one program."""


@triton.jit
def _box(means, reach, g, ok, axes, columns, rows, TILE: tl.constexpr):
    x = tl.load(means + 2 * g, mask=ok, other=0.0) / TILE
    y = tl.load(means + 2 * g + 1, mask=ok, other=0.0) / TILE
    wide = tl.load(reach + axes * g, mask=ok, other=0)
    high = tl.load(reach + axes * g + axes - 1, mask=ok, other=0)
    dx, dy = wide.to(tl.float32) / TILE, high.to(tl.float32) / TILE
    left = tl.minimum(tl.maximum(tl.floor(x - dx), 0.0), columns).to(tl.int32)
    right = tl.minimum(tl.maximum(tl.ceil(x + dx), 0.0), columns).to(tl.int32)
    top = tl.minimum(tl.maximum(tl.floor(y - dy), 0.0), rows).to(tl.int32)
    bottom = tl.minimum(tl.maximum(tl.ceil(y + dy), 0.0), rows).to(tl.int32)
    seen = (wide > 0) & (high > 0)
    return left, top, tl.where(seen, right - left, 0), tl.where(seen, bottom - top, 0)


@triton.jit(**ANY_COUNT)
def _tiles(means, reach, order, tiles, count, axes, columns, rows, TILE: tl.constexpr, BLOCK: tl.constexpr):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < count
    _, _, width, height = _box(means, reach, tl.load(order + n, mask=ok, other=0), ok, axes, columns, rows, TILE)
    tl.store(tiles + n, width * height, mask=ok)


@triton.jit(**ANY_COUNT)
def _pairs(
    means, reach, order, ends, tile, member, count, axes, columns, rows, TILE: tl.constexpr, STEPS: tl.constexpr,
    SLOTS: tl.constexpr,
):  # fmt: skip
    slot = tl.program_id(0) * SLOTS + tl.arange(0, SLOTS)
    full = slot < tl.load(ends + count - 1)
    # The first Gaussian, front to back, whose pairs end after this slot.
    low = tl.zeros((SLOTS,), tl.int32)
    high = low + (count - 1)
    for _ in range(STEPS):
        middle = (low + high) // 2
        after = tl.load(ends + middle, mask=full, other=0) > slot
        high = tl.where(after, middle, high)
        low = tl.where(after, low, tl.minimum(middle + 1, high))
    g = tl.load(order + low, mask=full, other=0)
    left, top, width, height = _box(means, reach, g, full, axes, columns, rows, TILE)
    k = slot - (tl.load(ends + low, mask=full, other=0) - width * height)
    width = tl.maximum(width, 1)
    where = tl.where(full, (top + k // width) * columns + left + k % width, columns * rows)
    tl.store(tile + slot, where.to(tile.dtype.element_ty))
    tl.store(member + slot, g.to(tl.int32))


@torch.no_grad()
def tile_lists(
    means2d: Float[Tensor, "N 2"],
    reach: Int[Tensor, "N axes"],
    depths: Float[Tensor, " N"],
    tile: int,
    columns: int,
    rows: int,
    capacity: int,
) -> tuple[Int[Tensor, "1 rows+1 columns"], Int[Tensor, " capacity"], Int[Tensor, ""]]:
    """The Gaussians of each tile, front to back; equal depths by number.

    Args:
        means2d: centres, pixels.
        reach: half the size of their boxes, pixels, int32; one number or two. 0 is not drawn.
        depths: from the camera.
        tile: edge of a tile, pixels.
        columns: number of tiles from left to right.
        rows: from top to bottom.
        capacity: room for pairs of Gaussian and tile, a multiple of 512; of more, the farthest are left out.

    Returns:
        Where the list of each tile begins, with a further row of empty tiles so that the last one ends; the lists
        (int32); and how many pairs there are.
    """
    count, axes = reach.shape
    order = depths.sort(stable=True).indices
    tiles = torch.empty(count, dtype=torch.int32, device=means2d.device)
    kind = torch.int16 if columns * (rows + 1) < 2**15 else torch.int32
    key = torch.empty(capacity, dtype=kind, device=means2d.device)
    member = torch.empty(capacity, dtype=torch.int32, device=means2d.device)
    size = axes, columns, rows
    steps = -(-count.bit_length() // 8) * 8  # few sizes, since each is compiled
    with on(means2d.device):
        _tiles[(triton.cdiv(count, BLOCK),)](means2d, reach, order, tiles, count, *size, TILE=tile, BLOCK=BLOCK)
        ends = tiles.cumsum(0, dtype=torch.int32)
        _pairs[(capacity // SLOTS,)](
            means2d, reach, order, ends, key, member, count, *size, TILE=tile, STEPS=steps, SLOTS=SLOTS
        )
    key, place = key.sort(stable=True)
    asked = torch.arange(columns * (rows + 1), dtype=kind, device=means2d.device)
    offsets = torch.searchsorted(key, asked, out_int32=True)
    return offsets.view(1, rows + 1, columns), member[place], ends[-1]
