"""What is selected and edited in a run, and what that looks like: the state behind the viewer's panel and ns-render.

One session belongs to one model; all tabs of a viewer share it. It knows nothing of viser. State is an immutable value
that is replaced as a whole, so a picture that is being drawn (or given up half way) never sees half a change.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.edit.apply import EditedScene
from ag2_ns.edit.operations import Edit, Members
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.plugin.undistorted import served_downscale
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.session.answer import Asked, require_texts
from ag2_ns.session.appearance import Appearance
from ag2_ns.session.outputs import scene_outputs
from ag2_ns.session.run_files import keep_edits, keep_selection, take_up
from ag2_ns.session.state import Mode, Question, State, Timeline

if TYPE_CHECKING:
    from nerfstudio.data.scene_box import OrientedBox

    from ag2_ns.plugin.model import AG2Model


class Session:
    """Selecting and editing in one run.

    Methods that answer or change something raise `UserError` where that is impossible, and leave the state alone then.
    `click`, `ask` and `set_level` take hold of the model by themselves, see `hold`; what else reads the model while it
    may be trained does so inside of `hold()`.
    """

    def __init__(self, model: AG2Model) -> None:
        self._model = weakref.ref(model)
        self._timeline = Timeline()
        self._appearance = Appearance()
        self._lock = threading.RLock()
        self._trained_only = False
        self._index: SceneIndex | None = None
        self.hold: Callable[[], AbstractContextManager] = nullcontext
        """Gives what to hold while the model must not be trained or drawn."""
        self.index_changed: Callable[[], None] = lambda: None
        """Called from a picture when instances came or went."""
        self.texts: TextEncoder | None = None
        self.datamanager: Any = None
        self.run_folder: Path | None = None

    # Where the session is.

    @property
    def model(self) -> AG2Model:
        """The model."""
        model = self._model()
        assert model is not None
        return model

    @property
    def state(self) -> State:
        """The present state."""
        return self._timeline.present

    def connect(self, datamanager: Any, run_folder: str = "") -> None:
        """Tell the session what the model is trained on and where its run lies."""
        self.datamanager = datamanager
        self.run_folder = Path(run_folder) if run_folder else None
        data = getattr(datamanager.config, "data", None)
        if data is not None:
            downscale = served_downscale(datamanager.train_dataset.image_filenames)
            self.texts = TextEncoder(Path(data), downscale, self.model.device.type, lambda: self.model.scene_index())

    def open(self) -> None:
        """Take up what lies beside the run; see `take_up`."""
        take_up(self)

    def restart(self, state: State) -> None:
        """Forget everything but a state: nothing can be undone."""
        with self._lock:
            self._timeline = Timeline(state)

    def fingerprint(self) -> Fingerprint:
        """What edits of this run are recognised by."""
        return Fingerprint.of(self.model.child_anchor.shape[0], self.model.anchor_xyz)

    def index(self) -> SceneIndex:
        """The scene's instances.

        Raises:
            UserError: there are none yet.
        """
        index = self.model.scene_index()
        if index is None:
            raise UserError(
                "no instances yet: they are made at the end of training, from masks (`ag2 prepare`); "
                "`ag2 lift` makes them for an older run"
            )
        return index

    # What it looks like.

    def edits(self, state: State | None = None) -> tuple[Edit, ...]:
        """The edits that pictures and exports show in a state, by default the present one.

        nerfstudio's viewer leaves a model in training mode between pictures: clicks and edits then mean what the last
        picture showed.
        """
        state, model = state or self.state, self.model
        if self._trained_only:
            return ()
        edits = state.history.edits if state.preview is None else (*state.history.edits, state.preview)
        # Training may have changed the scene since.
        count = model.child_anchor.shape[0]
        return edits if all(e.members.count == count for e in edits) else ()

    def scene(self, state: State | None = None) -> EditedScene:
        """The Gaussians as edited in a state, by default the present one."""
        return self._appearance.scene(self.model, self.edits(state))

    def trainable(self) -> dict[str, Tensor] | None:
        """The edited Gaussians as nerfstudio's exporters read them; None where nothing is edited."""
        return self._appearance.trainable(self.scene()) if self.edits() else None

    @torch.no_grad()
    def outputs(
        self,
        view: View,
        background: Float[Tensor, "3"],
        crop_box: OrientedBox | None = None,
        sh_degree: int | None = None,
    ) -> dict[str, Tensor]:
        """nerfstudio's outputs of one camera; see `scene_outputs`. Changes nothing."""
        index = self.model.scene_index()
        if index is not self._index:
            self._index = index
            self.index_changed()
        state = self.state
        scene = self.scene(state)
        looks = self._appearance.looks(self.model, scene, state, not self._trained_only)
        gaussians = scene.gaussians
        if crop_box is not None:
            inside = crop_box.within(gaussians.means).squeeze(-1)
            looks, gaussians = looks[inside], gaussians[inside]
        return scene_outputs(gaussians, looks, view, self.model.backend(), background, sh_degree=sh_degree)

    @contextmanager
    def as_trained(self) -> Iterator[None]:
        """Pictures inside show neither edits nor selections: for measuring."""
        before, self._trained_only = self._trained_only, True
        try:
            yield
        finally:
            self._trained_only = before

    # Asking.

    @torch.no_grad()
    def click(
        self, origin: tuple[float, float, float], direction: tuple[float, float, float], mode: Mode = "select"
    ) -> Selection:
        """Select what a ray meets first (scene units); add it, or take it away.

        Raises:
            UserError: before instances exist, or a ray that makes no sense.
        """
        ray = (tuple(float(v) for v in origin), tuple(float(v) for v in direction))
        return self._answer(Question(mode, ray=ray))

    @torch.no_grad()
    def ask(self, text: str, mode: Mode = "select", several: bool | None = None, continues: bool = False) -> Selection:
        """Select what a text names; add it, or take it away. The first text may load an encoder and take seconds.

        With `continues`, a text that begins with the one asked last replaces it, as one step to undo.

        Raises:
            UserError: an empty text, before instances exist, or without language.
        """
        return self._answer(Question(mode, text=text.strip(), several=several), continues)

    def embed(self, text: str) -> None:
        """Do the slow part of `ask` beforehand: load the encoder, embed the text.

        Raises:
            UserError: an empty text, or without language.
        """
        texts = require_texts(self.texts)
        texts.embed(text)
        texts.negatives()

    def _answer(self, question: Question, continues: bool = False) -> Selection:
        def answered(timeline: Timeline) -> Timeline:
            state, last = timeline.present, timeline.present.questions[-1:]
            begun = continues and bool(last) and last[0].text is not None and question.text.startswith(last[0].text)
            replaces = question.mode == "select" or state.selection is None or not self._fits(state.selection)
            before = State(history=state.history, level=state.level) if replaces else state
            return timeline.to(self._asked(state).after(before, question, None), join=begun)

        return self._go_on(answered).selection

    def _asked(self, state: State) -> Asked:
        """The scene as a state shows it. The model is held only while its Gaussians are read: it may go on then."""
        with self.hold():
            return Asked(self.index(), self.scene(state), self.model.backend(), self.texts)

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
                asked = self._asked(state)
                for question in state.questions:
                    after = asked.after(after, question, level)
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
        return len(found.gaussian_mask) == self.model.child_anchor.shape[0]

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
        if self.run_folder is None:
            raise UserError("the run's folder is not known; open it with its own config.yml, or use `ag2` commands")
        return self.run_folder

    def save_edits(self) -> Path:
        """Write the edits beside the run; see `keep_edits`."""
        return keep_edits(self)

    def save_selection(self) -> Path:
        """Write the selection beside the run; see `keep_selection`."""
        return keep_selection(self)

    def selected(self) -> Int[Tensor, " K"]:
        """The selected Gaussians of the edited scene, by number; raises `UserError` if there are none."""
        found, scene = self.require_selection(), self.scene()
        mask = scene.selected(found)
        if self.state.copy is not None:
            mask = mask & (scene.copy == self.state.copy)
        return mask.nonzero().squeeze(1)
