"""What is selected and edited in a scene, and what that looks like: the state behind the viewer's panel and ns-render.

One session belongs to one scene; all tabs of a viewer share it. It knows nothing of viser or nerfstudio. State is an
immutable value that is replaced as a whole, so a picture that is being drawn (or given up half way) never sees half a
change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import MissingLanguage, UserError
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.edit.apply import EditedScene
from ag2_ns.edit.asking import ask, copy_shown
from ag2_ns.edit.history import History, Step
from ag2_ns.edit.operations import Edit, Members
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.query.click import Click, Ray
from ag2_ns.query.query import Query
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.session.appearance import Appearance
from ag2_ns.session.outputs import scene_outputs
from ag2_ns.session.run_files import keep_edits, keep_selection, take_up
from ag2_ns.session.state import Mode, Question, State, Timeline


class SceneSource(Protocol):
    """What a session works on: a model that may be in training, or an opened scene."""

    def scene(self) -> Scene:
        """The present scene: the same object while nothing has changed."""
        ...


class Fixed:
    """A scene that stays as it is."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def scene(self) -> Scene:
        """The scene."""
        return self._scene


class Session:
    """Selecting and editing in one scene.

    Methods that answer or change something raise `UserError` where that is impossible, and leave the state alone then.
    `click`, `ask` and `set_level` take hold of the scene by themselves, see `hold`; what else reads the scene while a
    model may be trained does so inside of `hold()`.
    """

    def __init__(self, source: SceneSource) -> None:
        self._source = source
        self._timeline = Timeline()
        self._appearance = Appearance()
        self._lock = threading.RLock()
        self._trained_only = False
        self._index: SceneIndex | None = None
        self.kept: tuple[Step, ...] | None = None
        """The edits beside the run, as this session last read or wrote them; None before it looked."""
        self.hold: Callable[[], AbstractContextManager] = nullcontext
        """Gives what to hold while the model must not be trained or drawn."""
        self.index_changed: Callable[[], None] = lambda: None
        """Called from a picture when instances came or went."""

    # Where the session is.

    @property
    def state(self) -> State:
        """The present state."""
        return self._timeline.present

    def scene(self) -> Scene:
        """The scene as trained."""
        return self._source.scene()

    def open(self) -> None:
        """Take up what lies beside the run; see `take_up`."""
        take_up(self)

    def restart(self, state: State) -> None:
        """Forget everything but a state: nothing can be undone."""
        with self._lock:
            self._timeline = Timeline(state)

    def index(self) -> SceneIndex:
        """The scene's instances.

        Raises:
            MissingInstances: there are none yet.
        """
        return self.scene().require_index()

    def texts(self) -> TextEncoder:
        """The scene's texts.

        Raises:
            MissingLanguage: the scene has no language.
        """
        scene = self.scene()
        if scene.texts is None:
            raise MissingLanguage("text: the run does not say what data it was trained on")
        if scene.index is not None and not scene.index.has_language:
            raise MissingLanguage("this scene has no language: run `ag2 prepare` with an encoder, then `ag2 lift`")
        return scene.texts

    # What it looks like.

    def edits(self, state: State | None = None) -> tuple[Edit, ...]:
        """The edits that pictures and exports show in a state, by default the present one.

        nerfstudio's viewer leaves a model in training mode between pictures: clicks and edits then mean what the last
        picture showed.
        """
        state = state or self.state
        if self._trained_only:
            return ()
        edits = state.history.edits if state.preview is None else (*state.history.edits, state.preview)
        if not edits:
            return ()
        # Training may have changed the scene since.
        count = len(self.scene().gaussians)
        return edits if all(e.members.count == count for e in edits) else ()

    def edited(self, state: State | None = None) -> EditedScene:
        """The Gaussians as edited in a state, by default the present one."""
        return self._appearance.edited(self.scene(), self.edits(state))

    def trainable(self) -> dict[str, Tensor] | None:
        """The edited Gaussians as nerfstudio's exporters read them; None where nothing is edited."""
        return self._appearance.trainable(self.edited()) if self.edits() else None

    @torch.no_grad()
    def outputs(
        self,
        view: View,
        background: Float[Tensor, "3"] | None = None,
        crop_box: Any = None,
        sh_degree: int | None = None,
    ) -> dict[str, Tensor]:
        """What one camera shows; see `scene_outputs`. Changes nothing.

        Args:
            view: the camera.
            background: colour behind everything; by default the scene's.
            crop_box: shows only what lies in it: anything with `within(points)`, as nerfstudio's `OrientedBox`.
            sh_degree: highest band of spherical harmonics; by default the scene's.
        """
        scene = self.scene()
        if scene.index is not self._index:
            self._index = scene.index
            self.index_changed()
        state = self.state
        edited = self._appearance.edited(scene, self.edits(state))
        looks = self._appearance.looks(scene, edited, state, not self._trained_only)
        gaussians = edited.gaussians
        if crop_box is not None:
            inside = crop_box.within(gaussians.means).squeeze(-1)
            looks, gaussians = looks[inside], gaussians[inside]
        if background is None:
            background = gaussians.means.new_zeros(3) if scene.background is None else scene.background
        degree = scene.sh_degree if sh_degree is None else sh_degree
        return scene_outputs(gaussians, looks, view, scene.rasterizer, background, sh_degree=degree)

    @contextmanager
    def as_trained(self) -> Iterator[None]:
        """Pictures inside show neither edits nor selections: for measuring."""
        before, self._trained_only = self._trained_only, True
        try:
            yield
        finally:
            self._trained_only = before

    # Asking.

    def click(
        self, origin: tuple[float, float, float], direction: tuple[float, float, float], mode: Mode = "select"
    ) -> Selection:
        """Select what a ray meets first (scene units); add it, or take it away.

        Raises:
            UserError: before instances exist, or a ray that makes no sense.
        """
        return self.ask(Ray(tuple(float(v) for v in origin), tuple(float(v) for v in direction)), mode)

    @torch.no_grad()
    def ask(self, query: Query, mode: Mode = "select", continues: bool = False) -> Selection:
        """Select what answers a query; add it, or take it away. The first text may load an encoder and take seconds.

        With `continues`, a text that begins with the one asked last replaces it, as one step to undo.

        Raises:
            UserError: before instances exist, or a query that makes no sense.
        """
        question = Question(mode, query)

        def answered(timeline: Timeline) -> Timeline:
            state, last = timeline.present, timeline.present.questions[-1:]
            begun = continues and bool(last) and last[0].text is not None and question.text.startswith(last[0].text)
            replaces = question.mode == "select" or state.selection is None or not self._fits(state.selection)
            before = State(history=state.history, level=state.level) if replaces else state
            return timeline.to(self._after(before, question, None, *self._read(state)), join=begun)

        return self._go_on(answered).selection

    def embed(self, text: str) -> None:
        """Do the slow part of asking in words beforehand: load the encoder, embed the text.

        Raises:
            UserError: an empty text, or without language.
        """
        names = self.scene().vocabulary
        if names is not None and names.find(text) is not None:
            return  # answered by name
        texts = self.texts()
        texts.embed(text)
        texts.negatives()

    def _read(self, state: State) -> tuple[Scene, EditedScene]:
        """The scene and how a state shows it. The model is held only while it is read: it may go on then."""
        with self.hold():
            scene = self.scene()
            return scene, self._appearance.edited(scene, self.edits(state))

    @staticmethod
    def _after(state: State, question: Question, level: float | None, scene: Scene, edited: EditedScene) -> State:
        """The state after a question; `level` overrides that of texts, which otherwise look at all levels."""
        query = question.query
        found = ask(scene, edited, query, state.level if query.of_pictures else level)
        selection, copy = found.selection, None
        if isinstance(query, (Click, Ray)):
            if selection.nodes and selection.label.startswith("click"):
                selection = replace(selection, label=f"instance {selection.nodes[0]}")
            copy = copy_shown(scene, edited, selection, query.patch(scene))
        old = state.selection
        if old is not None and question.mode == "add":
            new = old.union(selection)
        elif question.mode == "remove":
            empty = scene.nothing(selection.label, "nothing was selected that could be taken away")
            new = empty if old is None else scene.require_index().without(old, selection)
        else:
            new = selection
        if old is not None and copy != state.copy and not old.empty:
            copy = state.copy if question.mode == "remove" else None
        questions = (*state.questions, question)
        return replace(state, selection=new, answer=found, copy=copy, questions=questions, preview=None)

    def _go_on(self, step: Callable[[Timeline], Timeline]) -> State:
        """Take a step that needs time; takes it again if somebody else took one meanwhile. Returns the new state."""
        while True:
            before = self._timeline
            after = step(before)
            with self._lock:
                if self._timeline is before:
                    self._timeline = after
                    return after.present

    @torch.no_grad()
    def set_level(self, level: float) -> None:
        """Change the granularity, and ask again what made the present selection.

        Raises:
            UserError: a level outside 0 to 1.
        """
        if not 0 <= level <= 1:
            raise UserError(f"granularity {level:g}: give a number from 0 (parts) to 1 (groups)")
        level = float(level)

        def changed(timeline: Timeline) -> Timeline:
            state = timeline.present
            if level == state.level:
                return timeline
            after = State(history=state.history, level=level)
            if state.questions:
                read = self._read(state)
                for question in state.questions:
                    after = self._after(after, question, level, *read)
            else:
                after = replace(after, selection=state.selection, copy=state.copy)
            last = timeline.past[-1] if timeline.past else state
            dragging = last.level != state.level and (last.questions, last.history) == (state.questions, state.history)
            return timeline.to(after, join=dragging)

        self._go_on(changed)

    def clear(self) -> None:
        """Select nothing."""
        with self._lock:
            if self.state.selection is not None:
                self._timeline = self._timeline.to(State(history=self.state.history, level=self.state.level))

    # Editing.

    def require_selection(self) -> Selection:
        """The selection.

        Raises:
            UserError: nothing is selected.
        """
        found = self.state.selection
        if found is None or found.empty:
            raise UserError("nothing is selected; click on something or type what to look for")
        if not self._fits(found):
            raise UserError("the scene has changed since this was selected; select it again")
        return found

    def _fits(self, found: Selection) -> bool:
        """Whether a selection is of the model's present Gaussians: training may have gone on."""
        return len(found.gaussian_mask) == len(self.scene().gaussians)

    def members(self) -> Members:
        """The selected Gaussians, for an edit; raises `UserError` if there are none."""
        return Members.of(self.require_selection().gaussian_mask)

    def edit(self, *edits: Edit, keep_selection: bool = True, then_copy: int | None = None) -> None:
        """Make one step of edits; `then_copy` is the copy that is selected from then on."""
        with self._lock:
            state = replace(self.state, history=self.state.history.push(edits), preview=None)
            if not keep_selection:
                state = replace(state, selection=None, copy=None, questions=())
            if then_copy is not None:
                state = replace(state, copy=then_copy)
            self._timeline = self._timeline.to(state)

    def amend(self, old: tuple[Edit, ...], new: tuple[Edit, ...]) -> bool:
        """Replace a step made before by a better one of the same meaning, unless it was undone meanwhile."""
        with self._lock:
            before, self._timeline = self._timeline, self._timeline.amend(old, new)
            return self._timeline is not before

    def set_preview(self, edit: Edit | None) -> None:
        """Show an edit without making it."""
        with self._lock:
            if self.state.preview is not edit:
                self._timeline = self._timeline.showing(edit)

    def undo(self) -> None:
        """Go back before the last selection or edit; see `Timeline.undo`."""
        with self._lock:
            self._timeline = self._timeline.undo()

    def redo(self) -> None:
        """Do again what was undone last; see `Timeline.redo`."""
        with self._lock:
            self._timeline = self._timeline.redo()

    # Keeping.

    def folder(self) -> Path:
        """Where the run lies.

        Raises:
            UserError: it is not known.
        """
        folder = self.scene().folder
        if folder is None:
            raise UserError("the run's folder is not known; open it with its own config.yml, or use `ag2` commands")
        return folder

    def take_edits(self, history: History) -> None:
        """Go on with other edits, as one step that can be undone."""
        with self._lock:
            self._timeline = self._timeline.to(replace(self.state, history=history, preview=None))

    def save_edits(self) -> Path:
        """Write the edits beside the run; see `keep_edits`."""
        return keep_edits(self)

    def save_selection(self) -> Path:
        """Write the selection beside the run; see `keep_selection`."""
        return keep_selection(self)

    def selected(self) -> Int[Tensor, " K"]:
        """The selected Gaussians of the edited scene, by number; raises `UserError` if there are none."""
        found, edited = self.require_selection(), self.edited()
        mask = edited.selected(found)
        if self.state.copy is not None:
            mask = mask & (edited.copy == self.state.copy)
        return mask.nonzero().squeeze(1)
