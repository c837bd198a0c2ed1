"""The forms a scene can be exported in. A new one is a file with a function `write(job) -> Written`, and a line here.

All forms of one export share a folder, the instances' numbers and labels.json.
"""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import EditedScene
from ag2_ns.edit.operations import Edit
from ag2_ns.export.labels import Instance, Labelled, label_edited, label_scene, name_instances, subset, write_labels
from ag2_ns.export.previous_files import earlier_files
from ag2_ns.io.atomic import writable
from ag2_ns.ops.boxes import Box, box_of
from ag2_ns.ops.similarity import Similarity
from ag2_ns.scene.scene import Scene

FORMATS = {
    "splat": "ag2_ns.export.splats",
    "anchors": "ag2_ns.export.anchors",
    "boxes": "ag2_ns.export.solids",
    "hulls": "ag2_ns.export.solids",
    "occupancy": "ag2_ns.export.occupancy",
    "grasp": "ag2_ns.export.grasp",
    "semantic": "ag2_ns.export.semantic",
}
"""Name to the module whose `write(job)` writes it; one of several names of a module writes its own."""

Written = list[tuple[Path, str]]
"""Files, and a few words on each."""


@dataclass(frozen=True)
class ExportOptions:
    """Choices of an export."""

    level: float = 0.5
    """Granularity of the instances that are not selected, 0 (parts) to 1 (groups)."""
    world: bool = False
    """In the frame that the cameras were given in, not the run's."""
    box_shape: Literal["box", "upright", "oriented"] = "upright"
    """Boxes along the axes, turned about the vertical, or turned freely."""
    vocabulary: tuple[str, ...] = ()
    """Words that name the instances that are not selected."""
    voxel: float = 0.05
    """Edge of the voxels of an occupancy grid, in units of the frame of the files."""
    density: float = 0.3
    """Sum of opacities from which a voxel is full."""
    metres_per_unit: float | None = None
    """What a unit of the capture's cameras is, for grasps; None where it is not known, or is a metre."""


@dataclass(frozen=True)
class ExportJob:
    """What a form is written from."""

    name: str
    """The form."""
    folder: Path
    scene: Scene
    """As trained."""
    edited: EditedScene
    edits: Sequence[Edit]
    selections: Sequence[Selection]
    trained: Labelled
    """Instances of the trained Gaussians."""
    labelled: Labelled
    """Instances of the edited ones."""
    pieces: dict[str, Bool[Tensor, " N'"]]
    """The edited Gaussians of each selection, by a file name."""
    shown: frozenset[int]
    """The instances that the pieces hold; all without pieces."""
    boxes: dict[int, Box]
    """Of all instances, in the frame of the files."""
    frame: Similarity
    """From the run's frame to that of the files."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """To add to positions in the frame of the files, in double precision: the world of a survey lies far away."""
    options: ExportOptions = field(default_factory=ExportOptions)


@torch.no_grad()
def export_scene(
    scene: Scene,
    edited: EditedScene,
    edits: Sequence[Edit],
    folder: Path,
    selections: Sequence[Selection],
    formats: Sequence[str],
    options: ExportOptions,
) -> Written:
    """Write pieces and the rest, or the whole scene; what an earlier export left in the folder is removed.

    Args:
        scene: as trained, with instances.
        edited: what `edits` make of it.
        edits: the edits.
        folder: where the files go.
        selections: the pieces; none for the whole scene.
        formats: of `FORMATS`.
        options: further choices.

    Returns:
        The files, labels.json last, and a few words on each.

    Raises:
        UserError: an empty selection, one that edits removed, an unknown form, no world, or nothing can be written.
    """
    index = scene.require_index()
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        what = f"{', '.join(unknown)}: no such format" if unknown else "no format"
        raise UserError(f"{what}; choose of {', '.join(FORMATS)}")
    for found in selections:
        if found.empty:
            raise UserError(f"{found.label}: nothing found ({found.reason}); try other words or a click")
    frame = world_of(scene) if options.world else Similarity.identity()
    offset = scene.frame.offset if options.world and scene.frame is not None else (0.0, 0.0, 0.0)
    names = _names(scene, options) if options.vocabulary else _vocabulary_names(scene, options.level)
    trained = label_scene(index, selections, options.level, names)
    labelled = label_edited(trained, edited)
    pieces = _pieces(edited, selections)
    shown = labelled.present()
    if pieces:
        shown = subset(labelled, torch.stack(list(pieces.values())).any(0)).present()
    boxes = {number: _box(edited, labelled, number, frame, options) for number in labelled.present()}
    labels = folder / "labels.json"
    earlier = earlier_files(labels)
    written: Written = []
    for name in dict.fromkeys(formats):
        job = ExportJob(
            name, folder, scene, edited, edits, selections, trained, labelled, pieces, frozenset(shown), boxes, frame,
            offset, options,
        )  # fmt: skip
        written += importlib.import_module(FORMATS[name]).write(job)
    files = [path.name for path, _ in written]
    gone = [path for path in earlier if path.name not in files]
    for old in gone:
        with writable(old):
            old.unlink(missing_ok=True)
    write_labels(
        labels, labelled, edited.anchor, boxes, frame="world" if options.world else "run", files=files, offset=offset
    )
    written.append((labels, f"{counted(len(boxes), 'instance')}, {counted(len(labelled.labels), 'label')}"))
    return written + [(old, "removed, of an earlier export") for old in gone]


def world_of(scene: Scene) -> Similarity:
    """From the run's frame to the world that the cameras were given in, without its offset.

    Raises:
        UserError: it is not known.
    """
    if scene.frame is None:
        raise UserError(f"{scene.path or 'the scene'}: its world is not known; export in the run's frame (no --world)")
    return scene.frame.to_world


def _vocabulary_names(scene: Scene, level: float) -> dict[int, Instance]:
    """Labels of a level's instances from the scene's own vocabulary (`ag2 name`); none where it was not named."""
    if scene.vocabulary is None:
        return {}
    score = {name.node: name.score for name in scene.vocabulary.names}
    out = {}
    for node in scene.require_index().tree.instances(level).tolist():
        word = scene.vocabulary.name_of(node)
        if word is not None:
            out[node] = Instance(word, score.get(node), level)
    return out


def _names(scene: Scene, options: ExportOptions) -> dict[int, Instance]:
    """Labels from the vocabulary for the instances of a level."""
    if scene.texts is None:
        raise UserError("--vocabulary: the scene has no language; run `ag2 prepare` with an encoder, then `ag2 lift`")
    texts = torch.stack([scene.texts.embed(t) for t in options.vocabulary]).to(scene.device)
    negatives = scene.texts.negatives()
    negatives = None if negatives is None else negatives.to(scene.device)
    return name_instances(scene.require_index(), options.vocabulary, texts, negatives, options.level)


def _pieces(edited: EditedScene, selections: Sequence[Selection]) -> dict[str, Tensor]:
    """The Gaussians of each piece, by a file name."""
    out: dict[str, Tensor] = {}
    for selection in selections:
        if edited.removed(selection):
            raise UserError(f"{selection.label}: edits removed it; undo them, or export without edits (--no-edits)")
        name = re.sub(r"[^\w.-]+", "-", selection.label.strip().lower()).strip("-.") or "piece"
        taken = {*out, "rest", "scene", "anchors"}
        candidates = (name if k == 1 else f"{name}-{k}" for k in itertools.count(1))
        out[next(c for c in candidates if c not in taken)] = edited.selected(selection)
    return out


def _box(edited: EditedScene, labelled: Labelled, number: int, frame: Similarity, options: ExportOptions) -> Box:
    """The box of an instance. Upright means upright in the run's frame, whose z is up."""
    own = edited.gaussians[labelled.instance == number]
    if options.box_shape == "box":
        return box_of(frame.gaussians(own), "box")
    return box_of(own, options.box_shape).moved(frame)


def counted(number: int, what: str) -> str:
    """`1 label`, `2 labels`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
