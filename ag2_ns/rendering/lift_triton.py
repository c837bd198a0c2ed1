"""Lifting in one CUDA kernel, without the picture and the gradients that come with composition's own transpose."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.ops.launch import on
from ag2_ns.rendering.base import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

MEMBERS = 16
"""Gaussians of a tile that are weighed at a time."""

CHANNELS = 32
"""Maps of one program."""

ROWS = 2
"""Rows of a tile that a program has: more need more registers than there are."""

WARPS = 2
"""Of a program."""

PRECISION = "tf32x3"
"""Of the products: as exact as float32, on tensor cores."""

LEAST = tl.constexpr(ALPHA_MIN)
MOST = tl.constexpr(ALPHA_MAX)
FLOOR = tl.constexpr(TRANSMITTANCE_MIN)


@triton.jit(do_not_specialize=["num_members", "width", "height", "channels", "num_tiles", "tiles_x"])
def _lift(
    means2d, conics, opacities, offsets, members, maps, out, num_tiles, num_members, tiles_x, width, height, channels,
    TILE: tl.constexpr, ROWS: tl.constexpr, MEMBERS: tl.constexpr, CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0) // (TILE // ROWS)
    part = tl.program_id(0) % (TILE // ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    pixel = tl.arange(0, TILE * ROWS)
    x, y = (tile % tiles_x) * TILE + pixel % TILE, (tile // tiles_x) * TILE + part * ROWS + pixel // TILE
    inside = (x < width) & (y < height)
    at = (y * width + x).to(tl.int64) * channels
    known = inside[:, None] & (channel < channels)[None, :]
    values = tl.load(maps + at[:, None] + channel[None, :], mask=known, other=0.0)
    light = tl.where(inside, 1.0, 0.0)
    start = tl.load(offsets + tile)
    stop = tl.load(offsets + tile + 1, mask=tile + 1 < num_tiles, other=0)
    stop = tl.where(tile + 1 < num_tiles, stop, num_members)
    while (start < stop) & (tl.max(light, 0) > FLOOR):
        place = start + tl.arange(0, MEMBERS)
        there = place < stop
        g = tl.load(members + place, mask=there, other=0).to(tl.int64)
        dx = tl.load(means2d + 2 * g, mask=there, other=0.0)[:, None] - (x + 0.5)[None, :]
        dy = tl.load(means2d + 2 * g + 1, mask=there, other=0.0)[:, None] - (y + 0.5)[None, :]
        xx = tl.load(conics + 3 * g, mask=there, other=0.0)[:, None]
        xy = tl.load(conics + 3 * g + 1, mask=there, other=0.0)[:, None]
        yy = tl.load(conics + 3 * g + 2, mask=there, other=0.0)[:, None]
        opacity = tl.load(opacities + g, mask=there, other=0.0)[:, None]
        power = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
        alpha = tl.minimum(opacity * tl.exp(-power), MOST)
        alpha = tl.where((power >= 0.0) & (alpha >= LEAST), alpha, 0.0)
        remaining = light[None, :] * tl.cumprod(1.0 - alpha, 0)
        weight = tl.where(remaining > FLOOR, alpha * (remaining / (1.0 - alpha)), 0.0)
        light = tl.min(remaining, 0)
        total = tl.dot(weight, values, input_precision=PRECISION)
        target = out + g[:, None] * channels + channel[None, :]
        tl.atomic_add(target, total, mask=there[:, None] & (channel < channels)[None, :] & (total != 0.0))
        start += MEMBERS


def lift(
    means2d: Float[Tensor, "N 2"],
    conics: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    offsets: Int[Tensor, "TY TX"],
    members: Int[Tensor, " E"],
    maps: Float[Tensor, "H W C"],
    tile: int,
) -> Float[Tensor, "N C"]:
    """The weights of every Gaussian summed over maps; see `Rasterizer.lift`.

    Args:
        means2d: centres, pixels.
        conics: xx, xy and yy of the inverse covariances.
        opacities: of the Gaussians.
        offsets: where the list of each tile begins.
        members: the Gaussians of the tiles, front to back.
        maps: one value per pixel and channel.
        tile: edge of a tile, pixels.
    """
    height, width, channels = maps.shape
    out = torch.zeros(len(means2d), channels, device=maps.device)
    with on(maps.device):
        _lift[(offsets.numel() * (tile // ROWS), triton.cdiv(channels, CHANNELS))](
            means2d.contiguous(), conics.contiguous(), opacities.contiguous(), offsets.reshape(-1), members,
            maps.contiguous(), out, offsets.numel(), len(members), offsets.shape[-1], width, height, channels,
            TILE=tile, ROWS=ROWS, MEMBERS=MEMBERS, CHANNELS=CHANNELS, PRECISION=PRECISION, num_warps=WARPS,
        )  # fmt: skip
    return out
