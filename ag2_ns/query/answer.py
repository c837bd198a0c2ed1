"""The one door: every query of the command line, the viewer and Python is answered here."""

from __future__ import annotations

from dataclasses import replace

import torch

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.grouping.tree import check_level
from ag2_ns.query.naming import name_of
from ag2_ns.query.query import Query
from ag2_ns.scene.scene import Scene


@torch.no_grad()
def answer(scene: Scene, query: Query, level: float | None = None) -> Answer:
    """The answer to a query, with the runner-up, both called by known words where some name them.

    Args:
        scene: the scene; for clicks and boxes in one with edits see `ag2_ns.edit.asking.ask`.
        query: `Text`, `Click`, `Box`, … of `ag2_ns.query`.
        level: granularity, 0 (parts) to 1 (groups). By default texts look at all levels and clicks at objects, 0.5.

    Raises:
        UserError: no instances, a level out of range, or a question that makes no sense in this scene.
    """
    if level is not None:
        check_level(level)
    found = query.reply(scene, level)
    if query.of_pictures:
        selection = found.selection
        called = name_of(scene, selection.nodes[0]) if selection.nodes else None
        if called is not None:
            found = replace(found, selection=replace(selection, label=called))
    second = found.runner_up
    if second is not None and second.nodes:
        named = replace(second, label=_label(scene, second))
        found = replace(found, candidates=tuple(named if c is second else c for c in found.candidates))
    return replace(found, level=level)


def _label(scene: Scene, candidate: Candidate) -> str:
    return name_of(scene, candidate.nodes[0]) or candidate.label or f"instance {candidate.nodes[0]}"
