"""Protocol `scribbles` (NVOS): strokes in one view select a thing, its mask in another view is compared.

Pixels are drawn from the strokes at random; every positive one adds what it shows, every negative one takes away what
it
shows, at the level at which the positive strokes fall on the fewest things while the negative ones stay out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.benchmark import Strokes
from ag2_ns.eval.levels import LEVELS, Select

PIXELS = 12
"""Pixels drawn from the strokes of each side."""
MAJORITY = 0.5
"""A thing that the strokes of both sides touch is kept where the positive ones touch it more often."""


@dataclass(frozen=True)
class StrokeAnswer:
    """What scribbles select."""

    selection: Selection | None
    level: float


def answer_strokes(
    select: Select, view: View, strokes: Strokes, *, seed: int = 0, pixels: int = PIXELS,
    levels: tuple[float, ...] = LEVELS, nothing: Callable[[], Selection] | None = None,
) -> StrokeAnswer:  # fmt: skip
    """The things under the positive strokes, less those that the negative ones touch more often.

    Args:
        select: what a click selects.
        view: the camera of the strokes, at their size.
        strokes: the scribbles.
        seed: draws the pixels.
        pixels: how many of each side.
        levels: those to choose from.
        nothing: makes the empty selection, for strokes on the background.
    """
    rng = np.random.default_rng(seed)

    def points(mask: np.ndarray) -> list[tuple[int, int]]:
        flat = np.flatnonzero(mask)
        some = rng.choice(flat, min(pixels, len(flat)), replace=False) if len(flat) else []
        return [(int(p % mask.shape[1]), int(p // mask.shape[1])) for p in some]

    inside, outside = points(strokes.positive), points(strokes.negative)
    best: tuple[float, float, list[Selection]] | None = None
    for level in levels:
        hits = [s for s in (select(view, x, y, level) for x, y in inside) if not s.empty]
        misses = [s.nodes for s in (select(view, x, y, level) for x, y in outside) if not s.empty]
        wanted = {s.nodes: s for s in hits}
        rate = {n: sum(s.nodes == n for s in hits) / max(1, len(inside)) for n in wanted}
        kept = {n: s for n, s in wanted.items() if rate[n] > MAJORITY * misses.count(n) / max(1, len(outside))}
        right = sum(rate[n] for n in kept)
        wrong = sum(misses.count(n) for n in kept) / max(1, len(outside))
        quality = right - wrong - 0.05 * max(0, len(kept) - 1)
        if kept and (best is None or quality > best[0] + 1e-9):
            best = (quality, level, list(kept.values()))
    if best is None:
        return StrokeAnswer(None if nothing is None else nothing(), 0.5)
    union = best[2][0]
    for more in best[2][1:]:
        union = union.union(more)
    return StrokeAnswer(union, best[1])
