"""Procedural textures, compiled with numba: lattice noise, the patterns on objects, and the room's surfaces."""

from __future__ import annotations

import math

from numba import njit

from ag2_ns.synthetic.tabletop.shapes import BRICKS, CHECKS, COVER, DOTS, MARBLE, PAGES, RINGS, STAVES, TEXT, WOOD


@njit(cache=True)
def hash3(x, y, z):
    """A number in [0, 1) from three integers."""
    h = (x * 374761393 + y * 668265263 + z * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1103515245) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@njit(cache=True)
def noise(x, y, z):
    """Value noise in [0, 1): random values on the integer lattice, blended smoothly."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    a = hash3(i, j, k) * (1 - u) + hash3(i + 1, j, k) * u
    b = hash3(i, j + 1, k) * (1 - u) + hash3(i + 1, j + 1, k) * u
    c = hash3(i, j, k + 1) * (1 - u) + hash3(i + 1, j, k + 1) * u
    d = hash3(i, j + 1, k + 1) * (1 - u) + hash3(i + 1, j + 1, k + 1) * u
    return (a * (1 - v) + b * v) * (1 - w) + (c * (1 - v) + d * v) * w


@njit(cache=True)
def fractal(x, y, z, footprint):
    """Three octaves of noise around 0, within about +-0.5; octaves finer than `footprint` (in lattice cells) fade."""
    total, size, step = 0.0, 0.5, 1.0
    for octave in range(3):
        fade = min(1.0, max(0.0, 1.5 - footprint * step))
        if fade <= 0.0:
            break
        total += size * fade * (noise(x * step, y * step, z * step + 17.0 * octave) - 0.5)
        size *= 0.55
        step *= 2.1
    return total * 1.1


@njit(cache=True)
def _cell(x):
    return math.floor(x)


@njit(cache=True)
def share(texture, scale, x, y, z, foot):
    """Share of the second colour, 0 to 1, of an object's pattern at a point in body coordinates."""
    if texture == RINGS:
        return 1.0 if scale > 0.0 and (z * scale - math.floor(z * scale)) < 0.3 else 0.0
    if texture == STAVES:
        turn = math.atan2(y, x) / (2 * math.pi) * scale
        return 1.0 if turn - math.floor(turn) < 0.4 else 0.0
    if texture == CHECKS:
        return float((_cell(x * scale + 0.37) + _cell(y * scale + 0.41) + _cell(z * scale + 0.43)) & 1)
    if texture == DOTS:
        i, j, k = _cell(x * scale), _cell(y * scale), _cell(z * scale)
        u, v, w = x * scale - i - 0.5, y * scale - j - 0.5, z * scale - k - 0.5
        return 1.0 if u * u + v * v + w * w < 0.13 and hash3(i, j, k) > 0.12 else 0.0
    if texture == WOOD:
        bend = noise(x * 5.0, y * 5.0, z * 5.0) * 1.6
        ring = (x * 0.9 + y * 0.5) * scale * 1.5 + bend
        ring -= math.floor(ring)
        return 0.75 * ring * ring + 0.5 * (noise(x * 70.0, y * 70.0, z * 7.0) - 0.5)
    if texture == MARBLE:
        return min(1.0, max(0.0, 0.35 + 1.3 * fractal(x * scale, y * scale, z * scale, foot * scale)))
    if texture == BRICKS:
        row = _cell(z * scale)
        u = (x + y) * scale * 0.5 + 0.5 * (row & 1)
        if z * scale - row < 0.13 or u - math.floor(u) < 0.07:
            return 1.0
        return 0.45 * hash3(row, _cell(u), 5)
    if texture == PAGES:
        return hash3(_cell(z * scale), 3, 7) * 0.8
    if texture == TEXT:
        return _print(x, y)
    if texture == COVER:
        return _cover(x, y, z)
    return 0.0


@njit(cache=True)
def _print(x, y):
    """Lines of words with margins on both pages of an open book."""
    ax = abs(x)
    if ax < 0.035 or ax > 0.262 or abs(y) > 0.155:
        return 0.0
    if x > 0.0 and -0.10 < y < 0.0 and ax < 0.2:
        return 0.55 if noise(x * 40.0, y * 40.0, 3.0) > 0.5 else 0.15
    line = _cell(y / 0.019)
    if y / 0.019 - line > 0.5:
        return 0.0
    word = _cell(ax / 0.021)
    if ax / 0.021 - word > 0.82 or hash3(line, word, _cell(x) + 9) < 0.12:
        return 0.0
    return 0.75


@njit(cache=True)
def _cover(x, y, z):
    """A book cover: frame, title bars and an emblem on the flat sides, bands on the spine."""
    if x < -0.14:
        band = abs(abs(y) - 0.13)
        return 1.0 if band < 0.012 or (abs(y) < 0.07 and 0.02 < z < 0.042) else 0.0
    inner = max(abs(x) / 0.15, abs(y) / 0.2)
    if 0.83 < inner < 0.88:
        return 1.0
    if abs(x) < 0.085 and (0.10 < y < 0.125 or (0.07 < y < 0.082 and abs(x) < 0.05)):
        return 1.0
    r = math.sqrt(x * x + (y + 0.04) ** 2)
    if r < 0.062:
        return 1.0 if r > 0.05 or math.cos(5.0 * math.atan2(y + 0.04, x)) > 0.3 else 0.0
    return 0.0


@njit(cache=True)
def planks(x, y, width, length, foot):
    """Colour of a wooden floor of planks along x."""
    row = _cell(y / width)
    offset = hash3(row, 11, 2) * length
    board = _cell((x + offset) / length)
    tone = 0.72 + 0.5 * hash3(row, board, 1)
    warm = hash3(board, row, 4)
    grain = fractal(x * 3.0, y * 40.0, 3.1 * row + board, foot * 40.0)
    figure = fractal(x * 1.3 + board * 7.0, y * 9.0, 0.5 + row, foot * 9.0)
    v = tone * (1.0 + 0.7 * grain + 0.7 * figure)
    if y / width - row < 0.035 or (x + offset) / length - board < 0.006:
        v *= 0.45
    return 0.36 * v, (0.19 + 0.03 * warm) * v, (0.085 + 0.03 * warm) * v


@njit(cache=True)
def table_wood(x, y, foot):
    """Colour of the table top: broad light boards with growth rings and knots."""
    board = _cell(y / 0.34)
    shift = hash3(board, 1, 1) * 9.0
    bend = 0.10 * noise(x * 1.2 + shift, y * 3.0, 1.0) + 0.03 * noise(x * 5.0 + shift, y * 9.0, 2.0)
    ring = (y + bend) * 15.0 + shift
    ring -= math.floor(ring)
    fine = fractal(x * 6.0 + shift, y * 90.0, 4.0 + board, foot * 90.0)
    blotch = fractal(x * 4.0, y * 4.0 + shift, 8.0, foot * 4.0)
    v = (0.88 + 0.24 * hash3(board, 5, 3)) * (1.0 - 0.22 * ring * ring + 0.34 * fine + 0.42 * blotch)
    if y / 0.34 - board < 0.014:
        v *= 0.5
    return 0.52 * v, 0.33 * v, 0.17 * v


@njit(cache=True)
def rug(x, y, half, foot):
    """Colour of the rug's pattern at a point within `half` of its centre."""
    m = max(abs(x), abs(y)) / half
    weave = (
        1.0 + 0.5 * fractal(x * 45.0, y * 45.0, 1.0, foot * 45.0) + 0.35 * fractal(x * 6.0, y * 6.0, 2.0, foot * 6.0)
    )
    if m > 0.93:
        return 0.45 * weave, 0.38 * weave, 0.26 * weave
    if m > 0.8:
        s = 16.0 / half
        stripe = (_cell(x * s) + _cell(y * s)) & 1
        return (0.35 * weave, 0.07 * weave, 0.05 * weave) if stripe else (0.5 * weave, 0.4 * weave, 0.22 * weave)
    u, v = x / half * 4.0, y / half * 4.0
    i, j = _cell(u), _cell(v)
    d = abs(u - i - 0.5) + abs(v - j - 0.5)
    if d < 0.25:
        return 0.55 * weave, 0.4 * weave, 0.18 * weave
    if d < 0.42:
        return 0.06 * weave, 0.13 * weave, 0.22 * weave
    return 0.30 * weave, 0.055 * weave, 0.06 * weave


@njit(cache=True)
def picture(u, v, which):
    """Colour of framed picture `which` at u, v in [0, 1]: a landscape, shapes or fields of colour."""
    if which % 3 == 0:
        hill = 0.35 + 0.22 * (noise(u * 3.0 + which, 1.0, 2.0) - 0.3) + 0.06 * noise(u * 14.0, 3.0, 2.0)
        if v < hill * 0.55:
            g = 0.7 + 0.5 * noise(u * 18.0, v * 30.0, 4.0)
            return 0.10 * g, 0.25 * g, 0.05 * g
        if v < hill:
            g = 0.7 + 0.4 * noise(u * 12.0, v * 12.0, 5.0)
            return 0.18 * g, 0.22 * g, 0.30 * g
        if (u - 0.72) ** 2 + (v - 0.78) ** 2 < 0.008:
            return 0.95, 0.75, 0.3
        c = noise(u * 5.0, v * 9.0, 6.0)
        return 0.35 + 0.4 * c, 0.5 + 0.3 * c, 0.75 + 0.1 * c
    if which % 3 == 1:
        i, j = _cell(u * 4.0), _cell(v * 5.0)
        a, b = u * 4.0 - i - 0.5, v * 5.0 - j - 0.5
        if a * a + b * b < 0.16:
            return 0.9 * hash3(i, j, which), 0.7 * hash3(i, j, which + 1), 0.8 * hash3(i, j, which + 2)
        return 0.75, 0.7, 0.58
    d0, best = 9.0, 0
    for k in range(9):
        dx, dy = u - hash3(k, which, 1), v - hash3(k, which, 2)
        d = dx * dx + dy * dy
        if d < d0:
            d0, best = d, k
    return 0.8 * hash3(best, which, 5), 0.65 * hash3(best, which, 6), 0.7 * hash3(best, which, 7)


@njit(cache=True)
def wall(face, u, v, height, half, foot):
    """Colour of wall `face` (2..5) at u along it (-half..half) and v above the floor (0..height)."""
    plaster = 0.9 + 0.30 * fractal(u * 14.0, v * 14.0, face, foot * 14.0) + 0.2 * noise(u * 1.7, v * 1.7, face + 9.0)
    if v < 0.035 * height:
        return 0.55 * plaster, 0.52 * plaster, 0.47 * plaster
    width = 2.0 * half / 4.0
    slot = _cell((u + half) / width)
    a = (u + half) / width - slot - 0.5
    b = (v / height - 0.52) * height / width
    w, h = 0.24 + 0.1 * hash3(slot, face, 21), 0.22 + 0.12 * hash3(slot, face, 22)
    b -= 0.15 * (hash3(slot, face, 23) - 0.5)
    if abs(a) < w + 0.025 and abs(b) < h + 0.025:
        if abs(a) > w or abs(b) > h:
            t = 0.7 + 0.4 * noise(u * 30.0, v * 30.0, 1.0)
            return 0.11 * t, 0.06 * t, 0.03 * t
        return picture((a / w + 1) / 2, (b / h + 1) / 2, slot + 4 * face)
    if face == 2:
        s = u / half * 14.0
        stripe = s - math.floor(s)
        if stripe < 0.5:
            return 0.50 * plaster, 0.46 * plaster, 0.33 * plaster
        return 0.36 * plaster, 0.42 * plaster, 0.36 * plaster
    if face == 3:
        row = _cell(v / height * 30.0)
        s = u / half * 16.0 + 0.5 * (row & 1)
        tone = (0.75 + 0.5 * hash3(row, _cell(s), 3)) * plaster
        if v / height * 30.0 - row < 0.14 or s - math.floor(s) < 0.06:
            return 0.42 * plaster, 0.39 * plaster, 0.35 * plaster
        return 0.36 * tone, 0.13 * tone, 0.08 * tone
    if face == 4:
        s, t = u / half * 12.0, v / half * 12.0
        i, j = _cell(s), _cell(t)
        x, y = s - i - 0.5, t - j - 0.5
        petal = 0.25 + 0.12 * math.cos(5.0 * math.atan2(y, x) + 6.28 * hash3(i, j, 1))
        if x * x + y * y < petal * petal:
            return 0.62 * plaster, 0.5 * plaster, 0.25 * plaster
        return 0.17 * plaster, 0.27 * plaster, 0.36 * plaster
    mix = 0.5 + fractal(u * 2.6, v * 2.6, 40.0, foot * 2.6)
    return (0.52 - 0.14 * mix) * plaster, (0.38 + 0.05 * mix) * plaster, (0.26 + 0.16 * mix) * plaster
