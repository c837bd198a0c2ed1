"""A scene opened from its file, as programs use it: ask, look, edit, export."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.edit import steps
from ag2_ns.edit.apply import EditedScene, apply_edits
from ag2_ns.edit.asking import ask, copy_shown, refine
from ag2_ns.edit.edit_file import FILE_NAME as EDIT_FILE
from ag2_ns.edit.edit_file import load_edits, save_edits
from ag2_ns.edit.history import History, Step
from ag2_ns.edit.operations import Quaternion, Vector
from ag2_ns.query.kinds import KINDS
from ag2_ns.query.query import Query
from ag2_ns.rendering.overlay import selection_share
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_file import open_scene
from ag2_ns.session.run_files import EDITS
from ag2_ns.session.session import Fixed, Session
from ag2_ns.session.surroundings import surroundings

if TYPE_CHECKING:
    from ag2_ns.export.formats import ExportOptions

Change = Literal["delete", "isolate", "move", "duplicate", "recolour"]


@dataclass(frozen=True)
class OpenScene(Scene):
    """A scene with its edits. A value: what changes it returns another one.

    ```
    scene = ag2_ns.open("outputs/kitchen/ag2aussian/2026-11-26_120000")
    mug = scene.select(text="red mug")
    picture = scene.render(scene.view("frame_00012.png"))["rgb"]
    scene.export("piece", mug)
    scene.edit("delete", mug).save_edits()
    ```
    """

    history: History = field(default_factory=History)
    """The edits, which pictures, clicks, boxes and exports show."""

    @cached_property
    def edited(self) -> EditedScene:
        """The Gaussians after the edits."""
        anchor = self.gaussian_anchor if self.index is None else self.index.gaussian_anchor
        with torch.no_grad():
            return apply_edits(self.gaussians, anchor, self.history.edits)

    def as_trained(self) -> OpenScene:
        """The same scene without edits."""
        return replace(self, history=History())

    # Asking.

    def select(self, query: Query | None = None, *, level: float | None = None, **kinds: Any) -> Answer:
        """The answer to one query.

        Args:
            query: a `Query`; or name its kind: `text="red mug"`, `click=("frame_00012.png", 320, 240)`,
                `box=("frame_00012.png", 280, 200, 360, 290)`, `selection="mug/selection.npz"`, with the further options
                of that kind (`all=True`, …).
            level: granularity, 0 (parts) to 1 (groups). By default texts look at all levels and clicks at objects, 0.5.

        Returns:
            The answer; its selection is empty, with a reason, where nothing answers.

        Raises:
            UserError: not exactly one query, no instances, or a question that makes no sense in this scene.
        """
        return ask(self, self.edited, query or query_of(**kinds), level)

    def refine(
        self,
        found: Selection | Answer,
        add: Sequence[Query] = (),
        remove: Sequence[Query] = (),
        level: float | None = None,
    ) -> Selection:
        """A selection with what further queries select added, then with what others select taken away."""
        return refine(self, self.edited, selection_of(found), add, remove, level)

    # Looking.

    @torch.no_grad()
    def render(self, view: View | str, found: Selection | Answer | None = None) -> dict[str, Tensor]:
        """What a camera shows of the edited scene.

        Args:
            view: a camera, or the name of one of the capture's pictures.
            found: what is marked in `selection` and `selection_overlay`.

        Returns:
            See `ag2_ns.session.outputs.scene_outputs`: rgb, depth, accumulation, instance, selection_overlay, …
        """
        session = Session(Fixed(self))
        marked = None if found is None else selection_of(found)
        session.restart(replace(session.state, history=self.history, selection=marked))
        return session.outputs(self.view(view).to(self.device))

    @torch.no_grad()
    def mask(self, view: View | str, found: Selection | Answer) -> Tensor:
        """Share of each pixel that a selection holds, H x W, occlusion included; above 0.5 it shows the selection."""
        chosen = self.edited.selected(selection_of(found))[:, None]
        camera = self.view(view).to(self.device)
        return selection_share(self.edited.gaussians, chosen, camera, self.rasterizer)[..., 0]

    # Editing.

    @torch.no_grad()
    def edit(
        self,
        change: Change,
        found: Selection | Answer,
        *,
        translation: Vector = (0.0, 0.0, 0.0),
        wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0),
        scale: float = 1.0,
        pivot: Vector | None = None,
        rgb: Vector = (1.0, 0.0, 0.0),
        strength: float = 1.0,
        copy: int | None = None,
        cleanup: bool = True,
    ) -> OpenScene:
        """The scene after one more edit; nothing is written before `save_edits`.

        Args:
            change: what is done with the selection.
            found: the selection.
            translation: of "move" and "duplicate", scene units; turned about `pivot` by `wxyz` and scaled before.
            wxyz: a quaternion.
            scale: a factor.
            pivot: a point; by default the selection's middle.
            rgb: of "recolour", 0 to 1.
            strength: of "recolour", 0 to 1.
            copy: which duplicate is meant, 0 for the original; by default all, or the original where something moves.
            cleanup: look for what else belongs to a removed object, and close its hole.

        Raises:
            UserError: nothing is selected, or it is gone already.
        """
        selection = selection_of(found)
        around = surroundings(self, edited=len(self.history) > 0) if cleanup and change in CLEANED else None
        place = {"translation": translation, "wxyz": wxyz, "scale": scale, "pivot": pivot}
        one = 0 if copy is None else copy
        if change == "recolour":
            step: Step = steps.recolour(self.edited, selection, rgb, strength, copy)
        elif change == "duplicate":
            step = steps.duplicate(self.edited, selection, one, **place)
        elif change == "move":
            step = steps.transform(self.edited, selection, around, one, **place)
        else:
            step = {"delete": steps.delete, "isolate": steps.isolate}[change](self.edited, selection, around, copy)
        return replace(self, history=self.history.push(step))

    def clicked_copy(self, query: Any, found: Selection | Answer) -> int | None:
        """Which copy of what it selected a click shows, 0 for the original; None without copies."""
        return copy_shown(self, self.edited, selection_of(found), query.patch(self))

    def save_edits(self) -> Path:
        """Write the edits beside the scene; every command and the viewer show them from then on.

        Raises:
            UserError: the scene has no file, or its folder cannot be written.
        """
        if self.folder is None:
            raise UserError("the scene has no file, so edits cannot be kept beside it; write it with save_scene first")
        path = self.folder / EDIT_FILE
        save_edits(path, self.history, self.fingerprint)
        return path

    # Handing on.

    def export(
        self,
        folder: str | Path,
        *found: Selection | Answer,
        formats: Sequence[str] = ("splat", "boxes"),
        options: ExportOptions | None = None,
    ) -> list[tuple[Path, str]]:
        """Write pieces and the rest, or the whole scene where nothing is given.

        Args:
            folder: where the files go.
            found: the pieces.
            formats: of `ag2_ns.export.formats.FORMATS`.
            options: further choices.

        Returns:
            The files, and a few words on each.

        Raises:
            UserError: an empty selection, an unknown format, or a folder that cannot be written.
        """
        from ag2_ns.export.formats import ExportOptions, export_scene

        selections = [selection_of(f) for f in found]
        edits = self.history.edits
        return export_scene(self, self.edited, edits, Path(folder), selections, formats, options or ExportOptions())


CLEANED = ("delete", "isolate", "move")
"""Changes that leave a hole."""


def open_with_edits(path: str | Path, device: Any = None, edits: bool = True) -> OpenScene:
    """Open a scene.

    Args:
        path: a scene.safetensors, or the folder or the config.yml of its run.
        device: where to work; by default CUDA where torch sees it.
        edits: with the edits kept beside it, unless the environment variable AG2_EDITS is 0.

    Raises:
        UserError: no scene there, damaged, or written by a newer version; or edits of another run.
    """
    scene = open_scene(Path(path), device)
    opened = OpenScene(**{f.name: getattr(scene, f.name) for f in fields(Scene)})
    if not edits or os.environ.get(EDITS, "1") == "0" or scene.folder is None:
        return opened
    return replace(opened, history=load_edits(scene.folder / EDIT_FILE, scene.fingerprint))


def query_of(**given: Any) -> Query:
    """The query that is given by the name of its kind, with further options of that kind.

    Raises:
        UserError: none or several kinds, or an option that the kind does not have.
    """
    kinds = [kind for kind in KINDS if given.get(kind.name) is not None]
    if len(kinds) != 1:
        raise UserError(f"give one of {', '.join(kind.name for kind in KINDS)}; {len(kinds)} were given")
    (kind,) = kinds
    further = {name: value for name, value in given.items() if name != kind.name and value is not None}
    known = {option.name for option in kind.further}
    if set(further) - known:
        raise UserError(f"{kind.name}: has no option {', '.join(sorted(set(further) - known))}")
    return kind.query(given[kind.name], **further)


def selection_of(found: Selection | Answer) -> Selection:
    """The selection of an answer, or the selection itself."""
    return found.selection if isinstance(found, Answer) else found
