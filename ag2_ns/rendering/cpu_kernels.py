"""Compiled loops of the CPU rasteriser: binning to tiles, compositing, its gradient, and lifting.

Every kernel takes a range (`start`, `stop`) of tiles or Gaussians and writes only what belongs to it, so ranges run
concurrently and results do not depend on the number of threads. A Gaussian is considered in the 16 x 16 pixel tiles
that gsplat considers it in; inside of a tile only the pixels within its ellipse of least contribution are visited.

Names: `ellipses` N x 9 holds mean x, y, conic xx / 2, xy, yy / 2, opacity, and of that ellipse the half height, the
longest half chord of a pixel row and the chords' shear; `boxes` N x 4 the first and one past the last tile column, then
row. An *entry* is one (tile, Gaussian) pair: those of tile t are `tile_start[t]:tile_start[t + 1]`, front to back, with
their Gaussian in `members`; `slots` is an entry's place in the order by Gaussian, where Gaussian g owns
`slot_start[g]:slot_start[g + 1]`.
"""

from __future__ import annotations

import math

import numpy as np

from ag2_ns.ops.jit import jit
from ag2_ns.rendering.base import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

TILE = 16
GEOMETRY = 8
"""Leading columns of an entry's gradient: mean x, y, conic xx, xy, yy, opacity, |mean x|, |mean y|; then its values."""

ELLIPSE = 9
"""Columns of `ellipses`."""

_REACH_MARGIN = 1e-3
_CHORD_MARGIN = 0.01
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
        ellipses[g, 7] = math.sqrt(exponent / conics[g, 0])
        ellipses[g, 8] = conics[g, 1] / conics[g, 0]
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


@jit
def _columns(x, dy, half_height, half_chord, shear, left, right):
    """Pixel columns of left:right whose centres lie within an ellipse, in the row at mean y minus `dy`."""
    height = dy / half_height
    chord = half_chord * math.sqrt(max(1.0 - height * height, 0.0)) + _CHORD_MARGIN
    centre = x + shear * dy - 0.5
    first = max(math.ceil(max(centre - chord, -1.0)), left)
    last = min(math.floor(min(centre + chord, right + 1.0)), right - 1)
    return first, last + 1


@jit
def _strength(dx, dy, half_xx, xy, half_yy, opacity):
    """Opacity times the Gaussian at mean minus pixel = (dx, dy); 0 where rounding left the exponent negative.

    No fast-math flags: the passes forward and backward must decide alike.
    """
    sigma = (half_xx * dx * dx + half_yy * dy * dy) + xy * dx * dy
    if sigma < 0.0:
        return opacity - opacity
    return opacity * math.exp(-sigma)


@jit(fastmath=_SAFE_FASTMATH)
def composite(
    start, stop, ellipses, values, tile_start, members, tiles_x, width, height, out, transmittance, last_entry
):
    """Composite tiles start:stop front to back into `out` H x W x C, `transmittance` H x W and `last_entry` H x W.

    `out` holds zeros and `last_entry` -1 (the place in `members` of a pixel's last contribution).
    """
    kind = ellipses.dtype.type
    half, one, zero = kind(0.5), kind(1.0), kind(0.0)
    alpha_min, alpha_max, floor = kind(ALPHA_MIN), kind(ALPHA_MAX), kind(TRANSMITTANCE_MIN)
    channels = values.shape[1]
    for t in range(start, stop):
        left, top = (t % tiles_x) * TILE, (t // tiles_x) * TILE
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        transmittance[top:bottom, left:right] = one
        undecided = (right - left) * (bottom - top)
        for j in range(tile_start[t], tile_start[t + 1]):
            g = members[j]
            mean_x, mean_y, opacity = ellipses[g, 0], ellipses[g, 1], ellipses[g, 5]
            half_xx, xy, half_yy = ellipses[g, 2], ellipses[g, 3], ellipses[g, 4]
            half_height, half_chord, shear = ellipses[g, 6], ellipses[g, 7], ellipses[g, 8]
            first_row, end_row = _rows(mean_y, half_height, top, bottom)
            for y in range(first_row, end_row):
                dy = mean_y - (kind(y) + half)
                first, end = _columns(mean_x, dy, half_height, half_chord, shear, left, right)
                for x in range(first, end):
                    light = transmittance[y, x]
                    if light <= zero:  # finished, see below
                        continue
                    strength = _strength(mean_x - (kind(x) + half), dy, half_xx, xy, half_yy, opacity)
                    if not strength >= alpha_min:
                        continue
                    alpha = min(strength, alpha_max)
                    remaining = light * (one - alpha)
                    if remaining <= floor:
                        transmittance[y, x] = -light
                        undecided -= 1
                        continue
                    weight = alpha * light
                    for k in range(channels):
                        out[y, x, k] += weight * values[g, k]
                    transmittance[y, x] = remaining
                    last_entry[y, x] = j
            if undecided == 0:
                break
        for y in range(top, bottom):
            for x in range(left, right):
                transmittance[y, x] = abs(transmittance[y, x])


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
    absgrad,
    entry_grad,
):
    """Gradient of `composite` for tiles start:stop, one row of `entry_grad` (zeros at first) per slot."""
    kind = ellipses.dtype.type
    half, one, zero, two = kind(0.5), kind(1.0), kind(0.0), kind(2.0)
    alpha_min, alpha_max = kind(ALPHA_MIN), kind(ALPHA_MAX)
    channels = values.shape[1]
    light_behind = np.empty((TILE, TILE), ellipses.dtype)
    shade_behind = np.empty((TILE, TILE), ellipses.dtype)
    for t in range(start, stop):
        left, top = (t % tiles_x) * TILE, (t // tiles_x) * TILE
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        last = np.int64(-1)
        for y in range(top, bottom):
            for x in range(left, right):
                light_behind[y - top, x - left] = transmittance[y, x]
                # d(alpha channel)/d(alpha_i) = final transmittance / (1 - alpha_i): a constant shade behind all.
                shade_behind[y - top, x - left] = -transmittance[y, x] * alpha_grad[y, x]
                last = max(last, np.int64(last_entry[y, x]))
        for j in range(last, tile_start[t] - 1, -1):
            g = members[j]
            mean_x, mean_y, opacity = ellipses[g, 0], ellipses[g, 1], ellipses[g, 5]
            half_xx, xy, half_yy = ellipses[g, 2], ellipses[g, 3], ellipses[g, 4]
            half_height, half_chord, shear = ellipses[g, 6], ellipses[g, 7], ellipses[g, 8]
            # Moments of d(loss)/d(exponent) over the pixels.
            s, sx, sy, sxx, sxy, syy, abs_x, abs_y = zero, zero, zero, zero, zero, zero, zero, zero
            slot = slots[j]
            first_row, end_row = _rows(mean_y, half_height, top, bottom)
            for y in range(first_row, end_row):
                dy = mean_y - (kind(y) + half)
                first, end = _columns(mean_x, dy, half_height, half_chord, shear, left, right)
                for x in range(first, end):
                    if last_entry[y, x] < j:
                        continue
                    dx = mean_x - (kind(x) + half)
                    strength = _strength(dx, dy, half_xx, xy, half_yy, opacity)
                    if not strength >= alpha_min:
                        continue
                    alpha = min(strength, alpha_max)
                    inverse = one / (one - alpha)
                    light = light_behind[y - top, x - left] * inverse
                    light_behind[y - top, x - left] = light
                    weight = alpha * light
                    shade = zero
                    for k in range(channels):
                        shade += values[g, k] * out_grad[y, x, k]
                        entry_grad[slot, GEOMETRY + k] += weight * out_grad[y, x, k]
                    behind = shade_behind[y - top, x - left]
                    shade_behind[y - top, x - left] = behind + weight * shade
                    if strength <= alpha_max:
                        pull = -alpha * (light * shade - behind * inverse)
                        s += pull
                        sx += pull * dx
                        sy += pull * dy
                        sxx += pull * dx * dx
                        sxy += pull * dx * dy
                        syy += pull * dy * dy
                        if absgrad:
                            abs_x += abs(pull * (two * half_xx * dx + xy * dy))
                            abs_y += abs(pull * (xy * dx + two * half_yy * dy))
            entry_grad[slot, 0] = two * half_xx * sx + xy * sy
            entry_grad[slot, 1] = xy * sx + two * half_yy * sy
            entry_grad[slot, 2] = half * sxx
            entry_grad[slot, 3] = sxy
            entry_grad[slot, 4] = half * syy
            entry_grad[slot, 5] = -s / opacity
            entry_grad[slot, 6] = abs_x
            entry_grad[slot, 7] = abs_y


@jit(fastmath=_SAFE_FASTMATH)
def lift_tiles(
    start, stop, ellipses, filled, channel, value, tile_start, members, slots, tiles_x, width, height, entry_sum
):
    """Sum weight times maps over the pixels of tiles start:stop into `entry_sum` (zeros at first).

    Maps are masks, mostly zero: pixel p has `value` in `channel` from filled[p] to filled[p + 1].
    """
    kind = ellipses.dtype.type
    half, one, zero = kind(0.5), kind(1.0), kind(0.0)
    alpha_min, alpha_max, floor = kind(ALPHA_MIN), kind(ALPHA_MAX), kind(TRANSMITTANCE_MIN)
    light_left = np.empty((TILE, TILE), ellipses.dtype)
    for t in range(start, stop):
        left, top = (t % tiles_x) * TILE, (t // tiles_x) * TILE
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        light_left[:] = one
        undecided = (right - left) * (bottom - top)
        for j in range(tile_start[t], tile_start[t + 1]):
            g = members[j]
            mean_x, mean_y, opacity = ellipses[g, 0], ellipses[g, 1], ellipses[g, 5]
            half_xx, xy, half_yy = ellipses[g, 2], ellipses[g, 3], ellipses[g, 4]
            half_height, half_chord, shear = ellipses[g, 6], ellipses[g, 7], ellipses[g, 8]
            slot = slots[j]
            first_row, end_row = _rows(mean_y, half_height, top, bottom)
            for y in range(first_row, end_row):
                dy = mean_y - (kind(y) + half)
                first, end = _columns(mean_x, dy, half_height, half_chord, shear, left, right)
                for x in range(first, end):
                    light = light_left[y - top, x - left]
                    if light <= zero:
                        continue
                    strength = _strength(mean_x - (kind(x) + half), dy, half_xx, xy, half_yy, opacity)
                    if not strength >= alpha_min:
                        continue
                    alpha = min(strength, alpha_max)
                    remaining = light * (one - alpha)
                    if remaining <= floor:
                        light_left[y - top, x - left] = zero
                        undecided -= 1
                        continue
                    weight = alpha * light
                    pixel = y * width + x
                    for i in range(filled[pixel], filled[pixel + 1]):
                        entry_sum[slot, channel[i]] += weight * value[i]
                    light_left[y - top, x - left] = remaining
            if undecided == 0:
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
