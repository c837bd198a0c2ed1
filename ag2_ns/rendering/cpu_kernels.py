"""Compiled loops of the CPU rasteriser: binning to tiles, compositing, its gradient, and lifting.

Every kernel takes a range (`start`, `stop`) of tiles or Gaussians and writes only what belongs to it, so ranges run
concurrently and results do not depend on the number of threads. A Gaussian is considered in the 16 x 16 pixel tiles
that gsplat considers it in; inside of a tile only the rows within its ellipse of least contribution are visited.

Names: `ellipses` N x 7 holds mean x, y, conic xx / 2, xy, yy / 2, opacity, and that ellipse's half height; `boxes`
N x 4 the first and one past the last tile column, then row. An *entry* is one (tile, Gaussian) pair: those of tile t
are `tile_start[t]:tile_start[t + 1]`, front to back, with their Gaussian in `members`; `slots` is an entry's place in
the order by Gaussian, where Gaussian g owns `slot_start[g]:slot_start[g + 1]`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from ag2_ns.ops.jit import jit
from ag2_ns.rendering.base import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

TILE = 16
GEOMETRY = 8
"""Leading columns of an entry's gradient: mean x, y, conic xx, xy, yy, opacity, |mean x|, |mean y|; then its values."""

ELLIPSE = 7
"""Columns of `ellipses`."""

_REACH_MARGIN = 1e-3
_DECAY = tuple(
    np.float32(c)
    for c in (
        0.9999999995114079, -0.9999999374035058, 0.499998679397903, -0.16665600674645908, 0.04162415464252334,
        -0.008240356909922752, 0.001274089960247693, -0.00012118171798647381,
    )
)  # fmt: skip
"""exp(-u) on 0 … 1: interpolation at Chebyshev nodes, lowest power first."""

_SAFE_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


@jit
def fill_ellipses(start, stop, means2d, conics, opacities, variances, radii, tiles_x, tiles_y, ellipses, boxes):
    """Fill `ellipses` and `boxes` (empty for Gaussians that are not drawn) of Gaussians start:stop."""
    for g in range(start, stop):
        boxes[g, :] = 0
        if radii[g] <= 0:
            continue
        exponent = 2.0 * math.log(opacities[g] / ALPHA_MIN) + _REACH_MARGIN
        if not exponent > 0.0:
            continue
        x, y, radius = float(means2d[g, 0]), float(means2d[g, 1]), float(radii[g])
        half_width = math.sqrt(exponent * variances[g, 0])
        half_height = math.sqrt(exponent * variances[g, 1])
        ellipses[g, 0] = x
        ellipses[g, 1] = y
        ellipses[g, 2] = 0.5 * conics[g, 0]
        ellipses[g, 3] = conics[g, 1]
        ellipses[g, 4] = 0.5 * conics[g, 2]
        ellipses[g, 5] = opacities[g]
        ellipses[g, 6] = half_height
        # gsplat looks in all tiles that the square of 3 sigma touches; contributions end at the ellipse.
        left = max(math.floor((x - radius) / TILE), math.floor((x - half_width) / TILE), 0.0)
        right = min(math.ceil((x + radius) / TILE), math.ceil((x + half_width) / TILE), float(tiles_x))
        top = max(math.floor((y - radius) / TILE), math.floor((y - half_height) / TILE), 0.0)
        bottom = min(math.ceil((y + radius) / TILE), math.ceil((y + half_height) / TILE), float(tiles_y))
        if right > left and bottom > top:
            boxes[g, 0] = int(left)
            boxes[g, 1] = int(right)
            boxes[g, 2] = int(top)
            boxes[g, 3] = int(bottom)


@jit
def bin_tiles(order, boxes, tiles_x, tiles_y):
    """Entry lists of all tiles, front to back; `order` holds the Gaussians by increasing depth.

    Returns tile_start, members, slots, slot_start.
    """
    slot_start = np.zeros(boxes.shape[0] + 1, np.int64)
    tile_start = np.zeros(tiles_x * tiles_y + 1, np.int64)
    for g in range(boxes.shape[0]):
        left, right, top, bottom = boxes[g, 0], boxes[g, 1], boxes[g, 2], boxes[g, 3]
        slot_start[g + 1] = slot_start[g] + (right - left) * (bottom - top)
        for ty in range(top, bottom):
            for tx in range(left, right):
                tile_start[ty * tiles_x + tx + 1] += 1
    for t in range(tiles_x * tiles_y):
        tile_start[t + 1] += tile_start[t]
    members = np.empty(slot_start[-1], np.int32)
    slots = np.empty(slot_start[-1], np.int64)
    cursor = tile_start[:-1].copy()
    for g in order:
        slot = slot_start[g]
        for ty in range(boxes[g, 2], boxes[g, 3]):
            for tx in range(boxes[g, 0], boxes[g, 1]):
                t = ty * tiles_x + tx
                members[cursor[t]] = g
                slots[cursor[t]] = slot
                cursor[t] += 1
                slot += 1
    return tile_start, members, slots, slot_start


@jit
def _rows(y, half_height, top, bottom):
    """Pixel rows of top:bottom whose centres lie within the height of an ellipse centred at `y`."""
    first = max(math.ceil(max(y - half_height, -1.0) - 0.5), top)
    last = min(math.floor(min(y + half_height, bottom + 1.0) - 0.5), bottom - 1)
    return first, last + 1


def _decay(x):
    """exp(-x)."""
    return math.exp(-x)


@overload(_decay, inline="always")
def _decay_of(x):
    """In single precision a polynomial (relative error 1e-6 up to x = 8, where nothing contributes any more): the
    library's function is called for one number at a time, this is done for all pixels of a row at once.
    """
    if x != types.float32:
        return lambda x: math.exp(-x)
    c0, c1, c2, c3, c4, c5, c6, c7 = _DECAY

    def of_single(x):
        u = (x if x < np.float32(8.0) else np.float32(8.0)) * np.float32(0.125)
        eighth = ((((((c7 * u + c6) * u + c5) * u + c4) * u + c3) * u + c2) * u + c1) * u + c0
        quarter = eighth * eighth
        half = quarter * quarter
        return half * half

    return of_single


@jit
def _strength(dx, dy, half_xx, xy, half_yy, opacity):
    """Opacity times the Gaussian at mean minus pixel = (dx, dy); 0 where rounding left the exponent negative.

    No fast-math flags: the passes forward and backward must decide alike.
    """
    sigma = (half_xx * dx * dx + half_yy * dy * dy) + xy * dx * dy
    strength = opacity * _decay(sigma)
    return strength if sigma >= 0.0 else opacity - opacity


@jit(fastmath=_SAFE_FASTMATH)
def composite(
    start, stop, ellipses, values, tile_start, members, tiles_x, width, height, out, transmittance, last_entry
):
    """Composite tiles start:stop front to back into `out` H x W x C, `transmittance` H x W and `last_entry` H x W (the
    place in `members` of a pixel's last contribution, -1 for none).

    All pixels of a tile's row are computed together, without branches: compilers make vector instructions of that.
    """
    kind = ellipses.dtype.type
    half, one, zero = kind(0.5), kind(1.0), kind(0.0)
    alpha_min, alpha_max, floor = kind(ALPHA_MIN), kind(ALPHA_MAX), kind(TRANSMITTANCE_MIN)
    channels = values.shape[1]
    light = np.empty(TILE * TILE, ellipses.dtype)  # negative where a pixel is finished
    sums = np.empty(channels * TILE * TILE, ellipses.dtype)
    last = np.empty(TILE * TILE, np.int32)
    lane = np.empty(TILE, ellipses.dtype)
    for t in range(start, stop):
        left, top = (t % tiles_x) * TILE, (t // tiles_x) * TILE
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        light[:], sums[:], last[:] = zero, zero, -1
        for y in range(bottom - top):
            light[y * TILE : y * TILE + right - left] = one
        for j in range(tile_start[t], tile_start[t + 1]):
            g, place = members[j], np.int32(j)
            mean_x, mean_y, opacity = ellipses[g, 0], ellipses[g, 1], ellipses[g, 5]
            half_xx, xy, half_yy = ellipses[g, 2], ellipses[g, 3], ellipses[g, 4]
            first_row, end_row = _rows(mean_y, ellipses[g, 6], top, bottom)
            for y in range(first_row, end_row):
                dy, row = mean_y - (kind(y) + half), (y - top) * TILE
                for x in range(TILE):
                    dx = mean_x - (kind(left + x) + half)
                    lane[np.uintp(x)] = _strength(dx, dy, half_xx, xy, half_yy, opacity)
                for x in range(TILE):
                    at = np.uintp(row + x)
                    strength, before = lane[np.uintp(x)], light[at]
                    alpha = strength if strength < alpha_max else alpha_max
                    remaining = before * (one - alpha)
                    counts = (strength >= alpha_min) & (before > zero)
                    drawn = counts & (remaining > floor)
                    lane[np.uintp(x)] = alpha * before if drawn else zero
                    light[at] = remaining if drawn else (-before if counts else before)
                    last[at] = place if drawn else last[at]
                for k in range(channels):
                    value, to = values[g, k], k * TILE * TILE + row
                    for x in range(TILE):
                        sums[np.uintp(to + x)] += lane[np.uintp(x)] * value
            if j % TILE == 0:
                brightest = zero
                for at in range(TILE * TILE):
                    brightest = max(brightest, light[np.uintp(at)])
                if brightest <= zero:
                    break
        for y in range(top, bottom):
            for x in range(left, right):
                at = (y - top) * TILE + x - left
                transmittance[y, x], last_entry[y, x] = abs(light[at]), last[at]
                for k in range(channels):
                    out[y, x, k] = sums[k * TILE * TILE + at]


@jit(fastmath=_SAFE_FASTMATH)
def composite_backward(
    start,
    stop,
    ellipses,
    values,
    tile_start,
    members,
    slots,
    tiles_x,
    width,
    height,
    transmittance,
    last_entry,
    out_grad,
    alpha_grad,
    entry_grad,
):
    """Gradient of `composite` for tiles start:stop, one row of `entry_grad` (zeros at first) per slot."""
    kind = ellipses.dtype.type
    half, one, zero, two = kind(0.5), kind(1.0), kind(0.0), kind(2.0)
    alpha_min, alpha_max = kind(ALPHA_MIN), kind(ALPHA_MAX)
    channels = values.shape[1]
    light_behind = np.empty(TILE * TILE, ellipses.dtype)
    shade_behind = np.empty(TILE * TILE, ellipses.dtype)
    slope = np.empty(channels * TILE * TILE, ellipses.dtype)
    last = np.empty(TILE * TILE, np.int32)
    lane, shades = np.empty(TILE, ellipses.dtype), np.empty(TILE, ellipses.dtype)
    # Sums over an entry's rows, by column: of d(loss)/d(exponent) times 1, dy and dy^2, of its absolute slopes in x and
    # y, and of what its values get.
    moments = np.empty((5 + channels) * TILE, ellipses.dtype)
    for t in range(start, stop):
        left, top = (t % tiles_x) * TILE, (t // tiles_x) * TILE
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        light_behind[:], shade_behind[:], slope[:], last[:] = zero, zero, zero, -1
        furthest = np.int64(-1)
        for y in range(top, bottom):
            for x in range(left, right):
                at = (y - top) * TILE + x - left
                light_behind[at], last[at] = transmittance[y, x], last_entry[y, x]
                # d(alpha channel)/d(alpha_i) = final transmittance / (1 - alpha_i): a constant shade behind all.
                shade_behind[at] = -transmittance[y, x] * alpha_grad[y, x]
                for k in range(channels):
                    slope[k * TILE * TILE + at] = out_grad[y, x, k]
                furthest = max(furthest, np.int64(last_entry[y, x]))
        for j in range(furthest, tile_start[t] - 1, -1):
            g, place, slot = members[j], np.int32(j), slots[j]
            mean_x, mean_y, opacity = ellipses[g, 0], ellipses[g, 1], ellipses[g, 5]
            half_xx, xy, half_yy = ellipses[g, 2], ellipses[g, 3], ellipses[g, 4]
            moments[:] = zero
            first_row, end_row = _rows(mean_y, ellipses[g, 6], top, bottom)
            for y in range(first_row, end_row):
                dy, row = mean_y - (kind(y) + half), (y - top) * TILE
                for x in range(TILE):
                    dx = mean_x - (kind(left + x) + half)
                    lane[np.uintp(x)] = _strength(dx, dy, half_xx, xy, half_yy, opacity)
                    shades[np.uintp(x)] = zero
                for k in range(channels):
                    value, of = values[g, k], k * TILE * TILE + row
                    for x in range(TILE):
                        shades[np.uintp(x)] += slope[np.uintp(of + x)] * value
                for x in range(TILE):
                    at, dx = np.uintp(row + x), mean_x - (kind(left + x) + half)
                    strength, shade = lane[np.uintp(x)], shades[np.uintp(x)]
                    drawn = (strength >= alpha_min) & (last[at] >= place)
                    alpha = strength if strength < alpha_max else alpha_max
                    inverse = one / (one - alpha)
                    behind, after = shade_behind[at], light_behind[at]
                    light = after * inverse
                    weight = alpha * light if drawn else zero
                    pull = alpha * (behind * inverse - light * shade)
                    pull = pull if drawn & (strength <= alpha_max) else zero
                    light_behind[at] = light if drawn else after
                    shade_behind[at] = behind + weight * shade
                    lane[np.uintp(x)] = weight
                    moments[np.uintp(x)] += pull
                    moments[np.uintp(TILE + x)] += pull * dy
                    moments[np.uintp(2 * TILE + x)] += pull * dy * dy
                    moments[np.uintp(3 * TILE + x)] += abs(pull * (two * half_xx * dx + xy * dy))
                    moments[np.uintp(4 * TILE + x)] += abs(pull * (xy * dx + two * half_yy * dy))
                for k in range(channels):
                    of, to = k * TILE * TILE + row, (5 + k) * TILE
                    for x in range(TILE):
                        moments[np.uintp(to + x)] += lane[np.uintp(x)] * slope[np.uintp(of + x)]
            s, sx, sy, sxx, sxy, syy, abs_x, abs_y = zero, zero, zero, zero, zero, zero, zero, zero
            for x in range(TILE):
                dx = mean_x - (kind(left + x) + half)
                s += moments[x]
                sx += moments[x] * dx
                sxx += moments[x] * dx * dx
                sy += moments[TILE + x]
                sxy += moments[TILE + x] * dx
                syy += moments[2 * TILE + x]
                abs_x += moments[3 * TILE + x]
                abs_y += moments[4 * TILE + x]
            for k in range(channels):
                for x in range(TILE):
                    entry_grad[slot, GEOMETRY + k] += moments[(5 + k) * TILE + x]
            entry_grad[slot, 0] = two * half_xx * sx + xy * sy
            entry_grad[slot, 1] = xy * sx + two * half_yy * sy
            entry_grad[slot, 2] = half * sxx
            entry_grad[slot, 3] = sxy
            entry_grad[slot, 4] = half * syy
            entry_grad[slot, 5] = -s / opacity
            entry_grad[slot, 6] = abs_x
            entry_grad[slot, 7] = abs_y


@jit(fastmath=_SAFE_FASTMATH)
def lift_tiles(start, stop, ellipses, maps, tile_start, members, slots, tiles_x, width, height, entry_sum):
    """Sum weight times `maps` H x W x C over the pixels of tiles start:stop into `entry_sum` (zeros at first)."""
    kind = ellipses.dtype.type
    half, one, zero = kind(0.5), kind(1.0), kind(0.0)
    alpha_min, alpha_max, floor = kind(ALPHA_MIN), kind(ALPHA_MAX), kind(TRANSMITTANCE_MIN)
    channels = maps.shape[2]
    light, lane = np.empty(TILE * TILE, ellipses.dtype), np.empty(TILE, ellipses.dtype)
    for t in range(start, stop):
        left, top = (t % tiles_x) * TILE, (t // tiles_x) * TILE
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        light[:] = zero
        for y in range(bottom - top):
            light[y * TILE : y * TILE + right - left] = one
        for j in range(tile_start[t], tile_start[t + 1]):
            g, slot = members[j], slots[j]
            mean_x, mean_y, opacity = ellipses[g, 0], ellipses[g, 1], ellipses[g, 5]
            half_xx, xy, half_yy = ellipses[g, 2], ellipses[g, 3], ellipses[g, 4]
            first_row, end_row = _rows(mean_y, ellipses[g, 6], top, bottom)
            for y in range(first_row, end_row):
                dy, row = mean_y - (kind(y) + half), (y - top) * TILE
                for x in range(TILE):
                    dx = mean_x - (kind(left + x) + half)
                    lane[np.uintp(x)] = _strength(dx, dy, half_xx, xy, half_yy, opacity)
                for x in range(TILE):
                    at = np.uintp(row + x)
                    strength, before = lane[np.uintp(x)], light[at]
                    alpha = strength if strength < alpha_max else alpha_max
                    remaining = before * (one - alpha)
                    counts = strength >= alpha_min
                    drawn = counts & (remaining > floor)
                    lane[np.uintp(x)] = alpha * before if drawn else zero
                    light[at] = remaining if drawn else (zero if counts else before)
                for x in range(right - left):
                    weight = lane[np.uintp(x)]
                    if weight > zero:
                        for k in range(channels):
                            entry_sum[slot, k] += weight * maps[y, left + x, k]
            if j % TILE == 0 and light.max() <= zero:
                break


@jit
def sum_slots(start, stop, slot_start, entry_rows, rows):
    """Add up the slots of Gaussians start:stop into their `rows`."""
    for g in range(start, stop):
        for k in range(rows.shape[1]):
            rows[g, k] = 0
        for slot in range(slot_start[g], slot_start[g + 1]):
            for k in range(rows.shape[1]):
                rows[g, k] += entry_rows[slot, k]
