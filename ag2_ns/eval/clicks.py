"""Clicks against ground-truth ids: random pixels of every object are clicked, and what they select is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.tabletop import GroundTruth, Known, chosen_sets, compared, labelled_views, shown
from ag2_ns.io.view_store import view_stem
from ag2_ns.rendering.base import Rasterizer


@dataclass(frozen=True)
class Click:
    """One click and what came of it."""

    label: str
    view: str
    x: int
    y: int
    iou: float
    """Mean over the views that show the object; 0 for an empty selection."""


@dataclass(frozen=True)
class ClickReport:
    """All clicks of a scene."""

    clicks: list[Click] = field(default_factory=list)

    def as_dict(self) -> dict:
        """The mean over all clicks and over those of each object, and every click, worst first."""
        by_label: dict[str, list[float]] = {}
        for click in self.clicks:
            by_label.setdefault(click.label, []).append(click.iou)
        return {
            "miou": float(np.mean([c.iou for c in self.clicks])) if self.clicks else 0.0,
            "objects": {label: float(np.mean(values)) for label, values in by_label.items()},
            "clicks": [vars(c) for c in sorted(self.clicks, key=lambda c: c.iou)],
        }


def evaluate_clicks(
    select: Callable[[View, int, int], Selection],
    gaussians: Gaussians,
    labels: Sequence[tuple[int, str]],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
    *,
    each: int = 5,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    known: Known | None = None,
) -> ClickReport:
    """Click `each` random pixels of every object, in random views that show it, and render what they select.

    Args:
        select: what a click on column x and row y of a view selects.
        gaussians: the scene.
        labels: id and text of each object.
        truth: the ground truth.
        views: image names and cameras.
        rasterizer: a backend for the Gaussians' device.
        each: clicks per object.
        seed: draws views and pixels.
        progress: called with the number of views compared.
        known: scores to use again, and to add to (see `tabletop.Known`).

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    places = _places([i for i, _ in labels], truth, views, each, np.random.default_rng(seed))
    cameras = dict(views)
    answers: dict[tuple, int] = {}  # equal selections of one object are compared once
    asked: list[tuple[int, str, int, int, int]] = []
    selections: list[Selection | None] = []
    wanted: list[int] = []
    for k, name, x, y in places:
        found = select(cameras[name], x, y)
        key = (k, found.nodes, found.empty)
        if key not in answers:
            answers[key] = len(selections)
            selections.append(None if found.empty else found)
            wanted.append(labels[k][0])
        asked.append((k, name, x, y, answers[key]))
    means: list[float] = []
    if selections:
        chosen = chosen_sets(gaussians, selections)
        scores = compared(gaussians, chosen, wanted, truth, views, rasterizer, progress, known)
        means = [float(np.mean(s.iou)) for s in scores]
    return ClickReport([Click(labels[k][1], name, x, y, means[s]) for k, name, x, y, s in asked])


def _places(
    ids: Sequence[int],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    each: int,
    rng: np.random.Generator,
) -> list[tuple[int, str, int, int]]:
    """Where to click: (which object, image name, x, y)."""
    places: dict[int, list[str]] = {number: [] for number in ids}
    for _, name, _, image in labelled_views(truth, views):
        for number in shown(image, ids):
            places[number].append(name)
    out = []
    for k, number in enumerate(ids):
        for name in rng.choice(places[number], each).tolist() if places[number] else []:
            image = truth.ids(view_stem(name))
            pixels = np.flatnonzero(image == number)
            y, x = divmod(int(pixels[rng.integers(len(pixels))]), image.shape[1])
            out.append((k, name, x, y))
    return out
