"""All that a run is asked for in one evaluation: text queries, clicks and instances against ground-truth ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ag2_ns.core.errors import UnknownWords
from ag2_ns.core.selection import Selection
from ag2_ns.eval.clicks import ClickReport, evaluate_clicks
from ag2_ns.eval.instances import InstanceReport, evaluate_instances
from ag2_ns.eval.tabletop import GroundTruth, Known, Report, evaluate_selections
from ag2_ns.query.click import answer_click
from ag2_ns.query.text import Text
from ag2_ns.scene.scene import Scene

if TYPE_CHECKING:
    from ag2_ns.core.view import View

Watch = Callable[[int, str], AbstractContextManager[Callable[[int], None] | None]]
"""Told how many views a part of the work has and what it is; gives the function to call with the number done."""


@dataclass(frozen=True)
class RunReport:
    """How well a run answers."""

    labels: list[tuple[int, str]]
    selections: list[Selection | None]
    """What each label selects as a text; None for words that the encoder does not know."""
    texts: Report
    clicks: ClickReport
    instances: InstanceReport
    text_seconds: list[float]
    """Of each text query."""
    click_seconds: list[float]
    """Of each click."""


def evaluate_run(scene: Scene, truth: GroundTruth, *, clicks: int = 5, watch: Watch | None = None) -> RunReport:
    """Ask every label as a text, click every object, and compare the instances with the objects.

    Args:
        scene: as trained, with instances.
        truth: ids and labels of some of its views.
        clicks: random clicks per object.
        watch: shows progress.

    Raises:
        UserError: the scene has no instances or its encoder is gone, or the ground truth is not of its views.
    """
    index, gaussians, backend = scene.require_index(), scene.gaussians, scene.rasterizer
    labels, views = sorted(truth.labels.items()), [(v.name, v.view) for v in scene.views]
    watch = watch or (lambda total, what: nullcontext())
    selections: list[Selection | None] = []
    text_seconds: list[float] = []
    click_seconds: list[float] = []
    for _, text in labels:
        start = _clock()
        try:
            selections.append(Text(text, several=False).reply(scene, None).selection)
        except UnknownWords:
            selections.append(None)
        text_seconds.append(_clock() - start)

    def click(view: View, x: int, y: int) -> Selection:
        start = _clock()
        found = answer_click(index, gaussians, backend, view, x, y).selection
        click_seconds.append(_clock() - start)
        return found

    known: Known = {}
    asked = (labels, truth, views, backend)
    with watch(len(views), "text queries") as progress:
        texts = evaluate_selections(gaussians, selections, *asked, progress, known)
    with watch(len(views), "clicks") as progress:
        clicked = evaluate_clicks(click, gaussians, *asked, each=clicks, progress=progress, known=known)
    with watch(len(views), "instances") as progress:
        instances = evaluate_instances(gaussians, index.gaussian_node(0.5), *asked, progress, known)
    return RunReport(labels, selections, texts, clicked, instances, text_seconds, click_seconds)


def _clock() -> float:
    """Seconds, with all work on the GPU done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
