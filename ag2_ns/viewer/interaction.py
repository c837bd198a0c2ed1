"""The panel in nerfstudio's viewer: click, ask, edit, keep.

The viewer finds elements by walking modules' attributes in alphabetical order, which is why they carry numbers. Its
callbacks hold the training lock while they run, and clicks come without any lock; so every callback only hands a job to
a lane and returns. Jobs change the session, then the panel says what came of it and asks for a new picture.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerDropdown,
    ViewerRGB,
    ViewerSlider,
    ViewerText,
)
from torch import nn

from ag2_ns.errors import UserError
from ag2_ns.viewer.around import surroundings
from ag2_ns.viewer.elements import Control, Note
from ag2_ns.viewer.layers import Layers
from ag2_ns.viewer.place import Place
from ag2_ns.viewer.session import Session
from ag2_ns.viewer.worker import Lane

if TYPE_CHECKING:
    from ag2_ns.edit.operations import Vector
    from ag2_ns.gaussians.model import AG2Model

TYPING = 0.7
"""Seconds without a keystroke after which a text is looked for."""

RECENT = "recent searches"
"""What the list of searches shows when it is closed."""


class Section(nn.Module):
    """A folder of the panel: elements as attributes. Holds no parameters."""


class Panel(nn.Module):
    """Everything in the viewer that belongs to one model. Holds no parameters."""

    def __init__(self, model: AG2Model) -> None:
        super().__init__()
        self.session = Session(model)
        self.layers = Layers()
        self.control = Control(self._connected)
        self._message = ""
        self._busy: dict[str, str] = {}
        self._switched = False
        self._asked: list[tuple[str, float]] = []
        self._typed = ""
        self.lanes = {
            "act": Lane("act", self._failed),
            "text": Lane("text", self._failed, latest_only=True),
            "slide": Lane("slide", self._failed, latest_only=True),
            "clean": Lane("clean", self._failed),
            "keep": Lane("keep", self._failed),
        }
        self.A0_note = Note("")
        self.A1_mode = ViewerDropdown(
            "Click to", "select", ["select", "add", "remove", "do nothing"], hint="What a click on the picture does"
        )
        self.A2_text = ViewerText(
            "Find", "", cb_hook=self._on_text, hint="What to look for; found when you stop typing, or with the button"
        )
        self.A3_find = ViewerButton("Find", cb_hook=lambda _: self.find())
        self.A4_recent = ViewerDropdown(
            "Again", RECENT, [RECENT], cb_hook=self._on_recent, hint="Earlier searches and their scores"
        )
        self.A5_level = ViewerSlider(
            "Granularity", 0.5, 0.0, 1.0, 0.05, cb_hook=self._on_level, hint="0: parts, 0.5: objects, 1: groups"
        )
        self.A6_clear = ViewerButton("Clear", cb_hook=lambda _: self.act(self.session.clear))
        self.A7_undo = ViewerButton("Undo", cb_hook=lambda _: self.act(self.session.undo))
        self.A8_redo = ViewerButton("Redo", cb_hook=lambda _: self.act(self.session.redo))
        edit, layers, save = Section(), Section(), Section()
        edit.B0_delete = ViewerButton("Delete", cb_hook=lambda _: self.delete())
        edit.B1_isolate = ViewerButton("Isolate", cb_hook=lambda _: self.isolate())
        edit.B2_clean = ViewerCheckbox(
            "Close holes", True, hint="After deleting or moving, remove what is left over and close the hole (slower)"
        )
        edit.B3_color = ViewerRGB("Colour", (230, 60, 60))
        edit.B4_recolour = ViewerButton("Recolour", cb_hook=lambda _: self.recolour())
        layers.C0_jump = ViewerCheckbox(
            "Show selection", True, cb_hook=lambda _: self.refresh(), hint="Change the output to selection_overlay"
        )
        layers.C1_anchors = ViewerCheckbox(
            "Anchors and graph", False, cb_hook=lambda _: self.refresh(), hint="Of what is selected"
        )
        save.D0_edits = ViewerButton("Save edits", cb_hook=lambda _: self.keep(self._save_edits))
        save.D1_selection = ViewerButton("Save selection", cb_hook=lambda _: self.keep(self._save_selection))
        save.D2_file = ViewerText("File", "selection.ply", hint="Beside the run, or an absolute path")
        save.D3_export = ViewerButton("Export selection", cb_hook=lambda _: self.keep(self._export))
        self.Edit, self.Layers, self.Save = edit, layers, save
        self.Move = Place(self)

    # Jobs.

    def act(self, change: Callable[[], object]) -> None:
        """Change the session in the background, while nothing is trained or drawn; then show it."""

        def job() -> None:
            with self.control.lock():
                change()
            self._message = ""
            self.refresh()

        self.lanes["act"].submit(job)

    def keep(self, write: Callable[[], str]) -> None:
        """Write something in the background, then say what."""

        def job() -> None:
            with self.busy("keep", "writing …"):
                self._message = write()
            self.refresh()

        self.lanes["keep"].submit(job)

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until all jobs are done; whether that came about in time."""
        return all(lane.wait(seconds) for lane in self.lanes.values())

    def busy(self, key: str, text: str) -> _Busy:
        """Shows a text in the panel while something slow is done."""
        return _Busy(self, key, text)

    def say(self, text: str) -> None:
        """Show a line in the panel."""
        self._message = text
        self._describe()

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, UserError):
            self.say(str(error))
        else:
            traceback.print_exception(error)
            self.say(f"this did not work ({type(error).__name__}: {error}); the terminal says more")

    # What the viewer tells.

    def _connected(self) -> None:
        self.layers.server = self.control.server
        self.layers.listen(self._on_click)
        self.session.index_changed = lambda: self.act(lambda: None)
        self.lanes["act"].submit(self.refresh)

    def _on_click(self, origin: Vector, direction: Vector) -> None:
        mode = self.A1_mode.value
        if mode != "do nothing":
            self.act(lambda: self.session.click(origin, direction, mode))

    def _on_text(self, element: ViewerText) -> None:
        if element.value.strip() and element.value.strip() != self._typed:
            self._look_for(element.value, TYPING, typing=True)

    def _on_recent(self, element: ViewerDropdown) -> None:
        if element.value != RECENT:
            text = element.value.rpartition("  (")[0]
            self._typed = text
            self.A2_text.value = text
            self._look_for(text)

    def _on_level(self, element: ViewerSlider) -> None:
        level = float(element.value)
        if level == self.session.state.level:
            return

        def job() -> None:
            with self.control.lock():
                self.session.set_level(level)
            self._message = ""
            self.refresh()

        self.lanes["slide"].submit(job)

    # Asking.

    def find(self) -> None:
        """Look for the text in the box."""
        self._look_for(self.A2_text.value)

    def _look_for(self, text: str, delay: float = 0.0, typing: bool = False) -> None:
        mode = self.A1_mode.value
        mode = mode if mode in ("add", "remove") and not typing else "select"

        def job() -> None:
            text_ = text.strip()
            self._typed = text_
            self.session.index()
            if text_:
                with self.busy("text", f"looking for “{text_}” …"):
                    self.session.embed(text_)
            with self.control.lock():
                found = self.session.ask(text_, mode, continues=typing)
            self._message = ""
            self._remember(text_, found.score)
            self.refresh()

        self.lanes["text"].submit(job, delay)

    def _remember(self, text: str, score: float) -> None:
        self._asked = [(text, score)] + [(t, s) for t, s in self._asked if t != text and not text.startswith(t)]
        self._asked = self._asked[:10]
        if self.A4_recent.value != RECENT:
            self.A4_recent.value = RECENT
        self.A4_recent.set_options([RECENT] + [f"{t}  ({s:.2f})" for t, s in self._asked])

    # Editing.

    def delete(self) -> None:
        """Remove what is selected at once; then, if wanted, tidy up in the background."""
        self._removal("delete")

    def isolate(self) -> None:
        """Remove everything else."""
        self._removal("isolate")

    def _removal(self, name: str) -> None:
        from ag2_ns.edit import steps

        def change() -> None:
            session, make = self.session, getattr(steps, name)
            found, copy, scene = session.require_selection(), session.state.copy, session.scene()
            quick = make(scene, found, None, copy)
            session.edit(*quick, keep_selection=name == "isolate")
            if self.Edit.B2_clean.value:
                self.tidy(quick, lambda around: make(scene, found, around, copy))

        self.act(change)

    def tidy(self, quick: tuple, make: Callable) -> None:
        """Replace a quick step by a clean one, in the background.

        Args:
            quick: the step made already.
            make: gives the clean one, from its `Surroundings`.
        """
        edited = len(self.session.state.history) > 1

        def job() -> None:
            with self.busy("clean", "closing holes …") as busy:
                around = surroundings(self.session, edited, lambda part: busy.say(f"closing holes … {part:.0%}"))
                with torch.no_grad():
                    step = make(around)
                with self.control.lock():
                    changed = self.session.amend(quick, step)
            if changed:
                self.refresh()

        self.lanes["clean"].submit(job)

    def recolour(self) -> None:
        """Give what is selected the chosen colour."""
        from ag2_ns.edit import steps

        def change() -> None:
            session = self.session
            rgb = tuple(c / 255 for c in self.Edit.B3_color.value)
            step = steps.recolour(session.scene(), session.require_selection(), rgb, copy=session.state.copy)
            session.edit(*step)

        self.act(change)

    # Keeping.

    def _save_edits(self) -> str:
        return f"saved {self.session.save_edits()}"

    def _save_selection(self) -> str:
        return f"saved {self.session.save_selection()}; ns-render and ns-viewer start with it"

    def _export(self) -> str:
        from ag2_ns.export.splat import label_edited, label_scene, subset, write_splat

        session = self.session
        name = self.Save.D2_file.value.strip()
        if not name:
            raise UserError("the file has no name; write one, for example selection.ply")
        path = Path(name).expanduser()
        path = path if path.is_absolute() else session.folder() / path
        path = path.with_suffix(".ply")
        with self.control.lock(), torch.no_grad():
            rows, scene = session.selected(), session.scene()
            labelled = label_scene(session.index(), [session.require_selection()], session.state.level)
            mask = torch.zeros(len(scene), dtype=torch.bool, device=rows.device)
            mask[rows] = True
            piece, labels = scene.gaussians[mask], subset(label_edited(labelled, scene), mask)
        write_splat(path, piece, labels)
        return f"wrote {len(piece):,} Gaussians to {path}"

    # Showing.

    def refresh(self) -> None:
        """Bring panel, 3D layer and picture up to date. Called without the training lock, from any thread."""
        self.lanes["act"].submit(self._refresh)

    def _refresh(self) -> None:
        state = self.session.state
        if self.A5_level.value != state.level:
            self.A5_level.value = state.level
        if not state.empty and self.Layers.C0_jump.value:
            self._switched = self.control.show_output("selection_overlay", instead_of="rgb") or self._switched
        elif self._switched:
            self.control.show_output("rgb", instead_of="selection_overlay")
            self._switched = False
        index = self.session.model.scene_index()
        shown = index is not None and not state.empty and self.Layers.C1_anchors.value
        size = 0.004 * float(self.session.model.extent)
        self.layers.show_anchors(index, state.selection.anchor_mask if shown else None, size)
        self.Move.follow()
        self._describe()
        self.draw()

    def draw(self) -> None:
        """Ask for a new picture in every tab."""
        # The viewer wrapped the hook so that it draws again; without a viewer it does nothing.
        self.A0_note.cb_hook(self.A0_note)

    def _describe(self) -> None:
        self.A0_note.content = describe(self.session, self._message, tuple(self._busy.values()))


class _Busy:
    def __init__(self, panel: Panel, key: str, text: str) -> None:
        self._panel, self._key, self._text = panel, key, text

    def say(self, text: str) -> None:
        self._panel._busy[self._key] = text
        self._panel._describe()

    def __enter__(self) -> _Busy:
        self.say(self._text)
        return self

    def __exit__(self, *_: object) -> None:
        self._panel._busy.pop(self._key, None)
        self._panel._describe()


def describe(session: Session, message: str = "", busy: tuple[str, ...] = ()) -> str:
    """What is selected and edited, as Markdown.

    Args:
        session: the session.
        message: a line about what was just done, or why it could not be done.
        busy: what is being done.
    """
    state = session.state
    found = state.selection
    lines = []
    if session.model.scene_index() is None:
        lines.append("*No instances yet: they come at the end of training, if the scene has masks (`ag2 prepare`).*")
    elif found is None:
        lines.append("*Click on something, or type what to look for.*")
    elif found.empty:
        lines.append(
            f"**{_plain(found.label)}**: nothing selected" + (f" ({_plain(found.reason)})" if found.reason else "")
        )
    else:
        which = "" if state.copy in (None, 0) else f", copy {state.copy}"
        lines.append(
            f"**{_plain(found.label)}**{which}: {int(found.gaussian_mask.sum()):,} Gaussians, "
            f"{int(found.anchor_mask.sum()):,} anchors, score {found.score:.2f}"
        )
    if len(state.history):
        count = len(state.history)
        lines.append(f"{count} edit{'s' if count > 1 else ''}, the last: {_plain(state.history.describe()[-1])}")
    lines += [f"*{_plain(text)}*" for text in busy]
    if message:
        lines.append(_plain(message))
    return "\n\n".join(lines)


def _plain(text: str) -> str:
    """Text with Markdown's marks taken as they are."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in text)
