"""A simulated segmenter: the masks a promptable segmenter would propose for a view, at a chosen noise level.

Level 0 gives exactly the visible part of every object and of the table, in the order of their ids. At level n > 0
(1 is realistic, 2 twice as bad; every probability and length below is multiplied by n):

| defect | value at level 1 |
|---|---|
| object missing | 0.08 |
| object in two parts (a primitive of its own, or a cut through the middle) | 0.18, half of them besides the whole |
| object merged with one it touches in the picture | 0.06 |
| outline moved in or out | normal, 0.8 px at a width of 640 |
| outline wavy | smooth noise of 0.9 px at a width of 640 |
| holes in the table | 3 ellipses |
| table missing | 0.04 |
| piece of furniture, floor or wall proposed | 0.6 each, whatever the level |

Masks below 40 px at 640x480 (in proportion elsewhere, at least 6) are not proposed, as segmenters filter them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

_DROP, _SPLIT, _KEEP_WHOLE, _MERGE = 0.08, 0.18, 0.5, 0.06
_SHIFT, _WAVE, _HOLES, _DROP_TABLE, _BACKGROUND = 0.8, 0.9, 3, 0.04, 0.6
_MIN_AREA = 40 / (640 * 480)


@dataclass(frozen=True)
class Proposal:
    """One simulated mask and what it shows."""

    mask: Bool[np.ndarray, "H W"]
    parts: tuple[tuple[int | str, float], ...]
    """Ids (or the name of a background surface) and their shares of the mask's content; shares sum to 1."""
    whole: bool = True
    """False for a piece of an object."""


def _crop(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def _smooth_noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit standard deviation at its knots, smooth over about `cell` pixels."""
    coarse = rng.standard_normal((int(shape[0] / cell) + 3, int(shape[1] / cell) + 3))
    rows, columns = np.arange(shape[0]) / cell + 0.5, np.arange(shape[1]) / cell + 0.5
    i, j = rows.astype(int), columns.astype(int)
    a, b = (rows - i)[:, None], (columns - j)[None]
    top = coarse[i][:, j] * (1 - b) + coarse[i][:, j + 1] * b
    low = coarse[i + 1][:, j] * (1 - b) + coarse[i + 1][:, j + 1] * b
    return top * (1 - a) + low * a


def rough_outline(mask: np.ndarray, level: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Move a mask's outline by an offset and smooth noise; picture borders do not move."""
    shift, wave = rng.normal(0, _SHIFT * level * scale), _WAVE * level * scale
    margin = int(np.ceil(3 * (abs(shift) + 2 * wave))) + 2
    where = _crop(mask, margin)
    part = mask[where]
    if part.all():
        return mask
    inside = ndimage.distance_transform_edt(np.pad(part, 1, mode="edge"))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(np.pad(~part, 1, mode="edge"))[1:-1, 1:-1]
    signed = np.where(part, inside - 0.5, 0.5 - outside)
    out = np.zeros_like(mask)
    out[where] = signed + shift + wave * _smooth_noise(part.shape, 14 * scale + 2, rng) > 0
    return out


def halves(mask: np.ndarray, primitive: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Two pieces of a mask: one primitive and the rest, or the sides of a line through the middle."""
    shown, counts = np.unique(primitive[mask], return_counts=True)
    share = counts / counts.sum()
    candidates = shown[(share > 0.15) & (share < 0.85)]
    if len(candidates) and rng.random() < 0.6:
        piece = mask & (primitive == rng.choice(candidates))
    else:
        y, x = np.nonzero(mask)
        a = rng.uniform(0, np.pi)
        grid_y, grid_x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        piece = mask & ((grid_x - x.mean()) * np.cos(a) + (grid_y - y.mean()) * np.sin(a) > 0)
    return [piece, mask & ~piece]


def _touching(ids: np.ndarray, one: int, table: int) -> list[int]:
    """Ids of other objects that touch an object in the picture."""
    where = _crop(ids == one, 2)
    part = ids[where]
    near = part[ndimage.binary_dilation(part == one, iterations=2)]
    return [int(i) for i in np.unique(near) if i not in (0, one, table)]


def _holes(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Cut ellipses of 2 to 6 % of the picture's width out of a mask."""
    height, width = mask.shape
    y, x = np.nonzero(mask)
    grid_y, grid_x = np.ogrid[:height, :width]
    out = mask.copy()
    for _ in range(count):
        n = int(rng.integers(len(x)))
        a, b = rng.uniform(0.02, 0.06, 2) * width
        out &= ((grid_x - x[n]) / a) ** 2 + ((grid_y - y[n]) / b) ** 2 > 1
    return out


def background(
    ids: np.ndarray, primitive: np.ndarray, first: np.ndarray, points: np.ndarray, room: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Surfaces without an id in view: each piece of furniture, the floor and every wall."""
    out = []
    free = (ids == 0) & (primitive >= 0)
    body = np.searchsorted(first, primitive, side="right") - 1
    for b in np.unique(body[free]):
        out.append((f"furniture {b}", free & (body == b)))
    shell = primitive < 0
    floor = shell & (points[..., 2] < room[1] + 1e-4 * room[0])
    out.append(("floor", floor))
    for axis in (0, 1):
        for sign in (-1, 1):
            out.append(("wall", shell & ~floor & (points[..., axis] * sign > room[0] * (1 - 1e-4))))
    return out


def propose(
    ids: Int[np.ndarray, "H W"],
    primitive: Int[np.ndarray, "H W"],
    first: Int[np.ndarray, " B+1"],
    points: Float[np.ndarray, "H W 3"],
    room: Float[np.ndarray, " 3"],
    table: int,
    level: float,
    rng: np.random.Generator,
) -> list[Proposal]:
    """Simulated masks of one view.

    Args:
        ids: id of each pixel, 0 for background.
        primitive: primitive at each pixel, -1 for the room's shell.
        first: first primitive of each body.
        points: world point at each pixel.
        room: half width, floor height, ceiling height.
        table: the table's id.
        level: noise level, 0 for perfect masks.
        rng: source of the defects.
    """
    shown = [int(i) for i in np.unique(ids) if i > 0]
    if level <= 0:
        return [Proposal(ids == i, ((i, 1.0),)) for i in shown]
    height, width = ids.shape
    scale = width / 640
    smallest = max(6, _MIN_AREA * height * width)
    found: list[Proposal] = []

    def add(mask: np.ndarray, parts, whole: bool = True) -> None:
        if np.count_nonzero(mask) < smallest:
            return
        mask = rough_outline(mask, level, scale, rng)
        if np.count_nonzero(mask) >= smallest:
            found.append(Proposal(mask, parts, whole))

    for i in shown:
        mask = ids == i
        if i == table:
            if rng.random() >= _DROP_TABLE * level:
                add(_holes(mask, round(_HOLES * level), rng), ((i, 1.0),))
            continue
        dropped, split, merged, kept = rng.random(4)
        if dropped < _DROP * level:
            continue
        if split < _SPLIT * level:
            for piece in halves(mask, primitive, rng):
                add(piece, ((i, 1.0),), whole=False)
            if kept >= _KEEP_WHOLE:
                continue
        near = _touching(ids, i, table) if merged < _MERGE * level else []
        if near:
            other = int(rng.choice(near))
            both = mask | (ids == other)
            share = float(np.count_nonzero(mask)) / float(np.count_nonzero(both))
            add(both, ((i, share), (other, 1 - share)))
            continue
        add(mask, ((i, 1.0),))
    for name, mask in background(ids, primitive, first, points, room):
        if rng.random() < _BACKGROUND:
            add(mask, ((name, 1.0),))
    return found
