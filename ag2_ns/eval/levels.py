"""Clicks on parts, things and groups: at a fixed level, and at the best of several for each click.

Every click lands on a random pixel of its target. A part is fixed at level 0, a thing at 0.5, a group at 0.75.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.benchmark import Benchmark, Matched
from ag2_ns.eval.masks3d import drawn
from ag2_ns.eval.overlap import ious
from ag2_ns.eval.tabletop import chosen_sets
from ag2_ns.rendering.base import Rasterizer

FIXED = {"parts": 0.0, "things": 0.5, "groups": 0.75}
LEVELS = (0.0, 0.15, 0.3, 0.45, 0.5, 0.6, 0.75, 0.875, 1.0)
"""Levels of which the best counts."""
VIEWS = 6
"""Frames, evenly spread, in which an answer is compared: the target's mask is needed in each."""

Select = Callable[[View, int, int, float], Selection]
"""What a click on column x and row y of a view selects at a level."""


@dataclass(frozen=True)
class LevelReport:
    """Clicks at the fixed level and at the best one."""

    kind: str
    clicks: list[dict]
    """target, frame, x, y, iou at the fixed level, iou and level at the best."""

    def as_dict(self) -> dict:
        """Means over targets, each first averaged over its clicks."""
        by_target: dict[str, list[dict]] = {}
        for click in self.clicks:
            by_target.setdefault(click["target"], []).append(click)
        mean = lambda key: [float(np.mean([c[key] for c in rows])) for rows in by_target.values()]  # noqa: E731
        fixed, best = mean("iou"), mean("best")
        return {
            "level": FIXED[self.kind],
            "miou": float(np.mean(fixed)) if fixed else 0.0,
            "acc50": float(np.mean([c["iou"] > 0.5 for c in self.clicks])) if self.clicks else 0.0,
            "best_level_miou": float(np.mean(best)) if best else 0.0,
            "targets": dict(zip(by_target, fixed)),
            "clicks": sorted(self.clicks, key=lambda c: c["iou"]),
        }


@torch.no_grad()
def evaluate_levels(
    kind: str,
    select: Select,
    gaussians: Gaussians,
    benchmark: Benchmark,
    matched: Matched,
    rasterizer: Rasterizer,
    *,
    each: int = 3,
    seed: int = 0,
    best: bool = True,
    progress: Callable[[int], None] | None = None,
) -> LevelReport:
    """Click every target of a benchmark.

    Args:
        kind: parts, things or groups.
        select: what a click selects.
        gaussians: the scene.
        benchmark: targets and their masks. Those of several things of one name are left out: a click means one.
        matched: cameras of its frames.
        rasterizer: a backend for the Gaussians' device.
        each: clicks per target.
        seed: draws frames and pixels.
        best: also try all `LEVELS`.
        progress: called with the number of targets done.
    """
    rng = np.random.default_rng(seed)
    frames: dict[str, list[str]] = {p: [] for p in benchmark.prompts if p not in benchmark.several}
    for frame in sorted(matched.views):
        for prompt in benchmark.masks(frame):
            if prompt in frames:
                frames[prompt].append(frame)
    clicks = []
    levels = (FIXED[kind], *(v for v in LEVELS if v != FIXED[kind])) if best else (FIXED[kind],)
    for done, (prompt, seen) in enumerate(frames.items(), 1):
        if not seen:
            continue
        some = [seen[k] for k in np.unique(np.linspace(0, len(seen) - 1, min(VIEWS, len(seen))).round().astype(int))]
        score: dict[tuple, float] = {}
        for frame in rng.choice(seen, each).tolist():
            mask = benchmark.masks(frame)[prompt]
            pixels = np.flatnonzero(mask)
            y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
            answers = [select(matched.views[frame][1], x, y, v) for v in levels]
            new = {a.nodes: a for a in answers if not a.empty and a.nodes not in score}
            if new:
                values = _scores(gaussians, list(new.values()), prompt, some, benchmark, matched, rasterizer)
                score |= dict(zip(new, values))
            found = [0.0 if a.empty else score[a.nodes] for a in answers]
            k = int(np.argmax(found))
            clicks.append({
                "target": prompt, "frame": matched.views[frame][0], "x": x, "y": y, "iou": found[0],
                "best": found[k], "best_level": levels[k],
            })  # fmt: skip
        if progress is not None:
            progress(done)
    return LevelReport(kind, clicks)


def _scores(
    gaussians: Gaussians,
    answers: Sequence[Selection],
    prompt: str,
    frames: Sequence[str],
    benchmark: Benchmark,
    matched: Matched,
    rasterizer: Rasterizer,
) -> list[float]:
    """Mean IoU of answers with one target over some frames."""
    sets = chosen_sets(gaussians, answers)
    total = torch.zeros(len(answers), dtype=torch.double)
    for frame in frames:
        predicted = drawn(gaussians, sets, matched.views[frame][1], rasterizer, "share")
        target = torch.from_numpy(benchmark.masks(frame)[prompt]).to(predicted.device)[..., None]
        total += ious(predicted, target.expand_as(predicted)).cpu()
    return (total / len(frames)).tolist()
