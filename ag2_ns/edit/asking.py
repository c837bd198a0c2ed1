"""Questions to a scene with edits: what is deleted cannot be clicked, and a copy can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.edit.apply import EditedScene
from ag2_ns.query.answer import answer
from ag2_ns.query.query import Query
from ag2_ns.scene.scene import Scene


def shown(scene: Scene, edited: EditedScene) -> Scene:
    """The scene that pictures show: edited Gaussians, each an instance's as the one that it comes from."""
    index = None if scene.index is None else replace(scene.index, gaussian_anchor=edited.anchor)
    return replace(scene, gaussians=edited.gaussians, gaussian_anchor=edited.anchor, index=index)


@torch.no_grad()
def ask(scene: Scene, edited: EditedScene, query: Query, level: float | None = None) -> Answer:
    """The answer to a query, as a selection of the trained Gaussians; see `ag2_ns.query.answer.answer`.

    Args:
        scene: as trained.
        edited: what its edits make of it.
        query: clicks and boxes are asked of the edited scene.
        level: granularity, 0 (parts) to 1 (groups).
    """
    if not query.of_pictures or len(edited) == 0 or edited.gaussians is scene.gaussians:
        return answer(scene, query, level)
    found = answer(shown(scene, edited), query, level)
    trained = found.selection.anchor_mask[scene.require_index().gaussian_anchor]
    return replace(found, selection=replace(found.selection, gaussian_mask=trained))


def refine(
    scene: Scene,
    edited: EditedScene,
    found: Selection,
    add: Sequence[Query] = (),
    remove: Sequence[Query] = (),
    level: float | None = None,
) -> Selection:
    """A selection with what further queries select added, and then with what others select taken away.

    Args:
        scene: as trained.
        edited: what its edits make of it.
        found: the selection.
        add: queries that add.
        remove: queries that take away, from what was added, too; what is not selected stays so.
        level: granularity of these queries.

    Raises:
        UserError: an empty selection, or a further query that selects nothing.
    """
    if found.empty and (add or remove):
        raise UserError(f"{found.label}: nothing found ({found.reason}); adding and removing need something to change")
    for query in add:
        found = found.union(_something(scene, edited, query, level, "to add"))
    for query in remove:
        found = scene.require_index().without(found, _something(scene, edited, query, level, "to remove"))
    return found


def _something(scene: Scene, edited: EditedScene, query: Query, level: float | None, what: str) -> Selection:
    found = ask(scene, edited, query, level)
    if found.selection.empty:
        image = getattr(query, "image", None)
        place = f" in {image}" if isinstance(image, str) else ""
        raise UserError(f"{found.selection.label}{place} {what}: {found.reason}; click on a thing")
    return found.selection


def copy_shown(scene: Scene, edited: EditedScene, found: Selection, patch: View) -> int | None:
    """Which copy of what it selected a click shows, 0 for the original; None without copies or a selection.

    Args:
        scene: as trained.
        edited: what its edits make of it.
        found: what the click selected.
        patch: a camera of the pixels clicked (`Click.patch`, `Ray.patch`).
    """
    if found.empty or not edited.duplicates:
        return None
    return edited.copy_shown(found, scene.rasterizer, patch)
