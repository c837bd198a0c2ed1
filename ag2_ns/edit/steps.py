"""From a selection to an editing step: what the command line and the viewer do when a person asks for an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.edit.apply import EditedScene, brightened, centre_of
from ag2_ns.edit.cleanup import DEFAULT, Cleanup, find_residue, revealed
from ag2_ns.edit.config import EditConfig
from ag2_ns.edit.history import Step
from ag2_ns.edit.operations import (
    Delete,
    Duplicate,
    Isolate,
    Members,
    Quaternion,
    Recolour,
    Transform,
    Vector,
)
from ag2_ns.edit.patch import find_hole, support_plane
from ag2_ns.edit.shadow import brighten, contact_shadow
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.rendering.base import Rasterizer


@dataclass(frozen=True)
class Surroundings:
    """What a clean removal looks at."""

    graph: AnchorGraph
    node: Int[Tensor, " N"]
    """The instance of each trained Gaussian, -1 for none (`SceneIndex.gaussian_node`)."""
    views: Sequence[View]
    """The training views."""
    rasterizer: Rasterizer
    masks: Sequence[MaskSet] | None = None
    """The segmenter's masks of these views; leave out once things have been moved."""
    config: EditConfig = DEFAULT
    """Thresholds."""
    patch: bool = True
    """Whether to close the hole in a flat support and to lift the shadow on it."""


def delete(scene: EditedScene, selection: Selection, around: Surroundings | None, copy: int | None = None) -> Step:
    """Remove what is selected.

    Args:
        scene: the scene as edited so far.
        selection: of trained Gaussians.
        around: for a clean removal; None removes the selected Gaussians and nothing else.
        copy: which copy of them; None for all.

    Raises:
        UserError: nothing is selected, or what is selected is gone already.
    """
    chosen = _chosen(scene, selection, copy)
    members = Members.of(selection.gaussian_mask)
    if around is None:
        return (Delete(members, label=selection.label, copy=copy),)
    cleanup, patch = _cleaned(scene, selection, chosen, around, around.patch)
    residue, spared = (Members.of(scene.trained(m, members.count)) for m in (cleanup.residue, cleanup.spared))
    return (Delete(members, residue, spared, label=selection.label, copy=copy), *patch)


def isolate(scene: EditedScene, selection: Selection, around: Surroundings | None, copy: int | None = None) -> Step:
    """Remove everything else; arguments as for `delete`."""
    chosen = _chosen(scene, selection, copy)
    members = Members.of(selection.gaussian_mask)
    if around is None:
        return (Isolate(members, label=selection.label, copy=copy),)
    cleanup, _ = _cleaned(scene, selection, chosen, around, patch=False)
    spared = Members.of(scene.trained(cleanup.spared, members.count))
    return (Isolate(members, spared, label=selection.label, copy=copy),)


def transform(
    scene: EditedScene,
    selection: Selection,
    around: Surroundings | None,
    copy: int | None = 0,
    *,
    translation: Vector = (0.0, 0.0, 0.0),
    wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0),
    scale: float = 1.0,
    pivot: Vector | None = None,
) -> Step:
    """Scale and rotate about the selection's centre (or a pivot), then move; its residue goes along, its hole closes.

    Arguments as for `delete` and `Transform`; by default only the original moves, not its copies.
    """
    chosen = _chosen(scene, selection, copy)
    moved = selection.gaussian_mask
    patch: Step = ()
    if around is not None:
        cleanup, patch = _cleaned(scene, selection, chosen, around, around.patch)
        residue, spared = (scene.trained(m, len(moved)) for m in (cleanup.residue, cleanup.spared))
        moved = (moved & ~spared) | residue
    centre = centre_of(scene.gaussians, chosen) if pivot is None else pivot
    edit = Transform(Members.of(moved), centre, wxyz, scale, translation, label=selection.label, copy=copy)
    return (edit, *patch)


def duplicate(
    scene: EditedScene,
    selection: Selection,
    copy: int | None = 0,
    *,
    translation: Vector = (0.0, 0.0, 0.0),
    wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0),
    scale: float = 1.0,
    pivot: Vector | None = None,
) -> Step:
    """Add a transformed copy; arguments as for `transform`."""
    chosen = _chosen(scene, selection, copy)
    centre = centre_of(scene.gaussians, chosen) if pivot is None else pivot
    members = Members.of(selection.gaussian_mask)
    return (Duplicate(members, centre, wxyz, scale, translation, label=selection.label, copy=copy),)


def recolour(
    scene: EditedScene, selection: Selection, rgb: Vector, strength: float = 1.0, copy: int | None = None
) -> Step:
    """Blend towards a colour, 0 to 1; arguments as for `delete` and `Recolour`."""
    _chosen(scene, selection, copy)
    return (Recolour(Members.of(selection.gaussian_mask), rgb, strength, label=selection.label, copy=copy),)


def _chosen(scene: EditedScene, selection: Selection, copy: int | None) -> Bool[Tensor, " N'"]:
    if selection.empty:
        why = f" ({selection.reason})" if selection.reason else ""
        raise UserError(f"{selection.label or 'the selection'}: nothing is selected{why}; select something to edit")
    chosen = scene.selected(selection)
    if copy is not None:
        chosen = chosen & (scene.copy == copy)
    if not bool(chosen.any()):
        which = "it" if copy is None else f"copy {copy} of it"
        raise UserError(
            f"{selection.label or 'the selection'}: {which} is not there, earlier edits removed it or never made it; "
            "undo them first"
        )
    return chosen


def _cleaned(
    scene: EditedScene, selection: Selection, chosen: Bool[Tensor, " N'"], around: Surroundings, patch: bool
) -> tuple[Cleanup, Step]:
    """What else goes and what stays, and the edits that mend the support: its shadow lifted, its hole closed."""
    count, label, config = len(selection.gaussian_mask), selection.label, around.config
    instance = scene.instances(around.node.to(chosen.device))[0]
    cleanup = find_residue(
        scene.gaussians, scene.anchor, around.graph, instance, chosen, around.views, around.rasterizer, around.masks,
        config,
    )  # fmt: skip
    if not patch or cleanup.votes is None:
        return cleanup, ()
    removed, votes = cleanup.removed(chosen), cleanup.votes
    plane = support_plane(scene.gaussians, scene.anchor, around.graph, removed, votes, config)
    if plane is None:
        return cleanup, ()
    factor = contact_shadow(scene.gaussians, removed, plane, chosen, config)
    lit, step = scene.gaussians, ()
    if factor is not None:
        lit, lift = brightened(lit, factor), brighten(factor, scene.source, scene.copy, count, label)
        step = () if lift is None else (lift,)
    hole = find_hole(lit, plane, removed, chosen, votes, around.views, around.rasterizer, config)
    # The new Gaussians belong to copy 0; a support that is itself a duplicate cannot carry them.
    if hole is None or bool((scene.copy[hole.support] != 0).any()):
        return cleanup, step
    hidden = revealed(scene.gaussians, removed, votes, around.views, around.rasterizer, config)
    return cleanup.also(hole.under(scene.gaussians, hidden)), (*step, hole.patch(scene.source, count, label))
