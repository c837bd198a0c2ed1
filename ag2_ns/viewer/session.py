"""What is selected and edited in a run, and what that looks like: the state behind the viewer's panel and ns-render.

One session belongs to one model; all tabs of a viewer share it. It knows nothing of viser. State is an immutable value
that is replaced as a whole, so a picture that is being drawn (or given up half way) never sees half a change.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.data.served import served_downscale
from ag2_ns.edit.apply import EditedScene
from ag2_ns.edit.edit_file import FILE_NAME, Fingerprint, load_edits, save_edits
from ag2_ns.edit.operations import Edit, Members
from ag2_ns.errors import UserError
from ag2_ns.graph.scene_index import SceneIndex
from ag2_ns.query.click import select_ray
from ag2_ns.query.look import PATCH, ray_view
from ag2_ns.query.selection import Selection
from ag2_ns.rasterizer.base import View
from ag2_ns.run_access import TextEncoder, load_selection, save_selection, text_selection
from ag2_ns.viewer.appearance import Appearance
from ag2_ns.viewer.outputs import scene_outputs
from ag2_ns.viewer.state import Mode, Question, State, Timeline

if TYPE_CHECKING:
    from nerfstudio.data.scene_box import OrientedBox

    from ag2_ns.gaussians.model import AG2Model

QUERY = "AG2_QUERY"
"""Environment variable: what is selected when a run is opened. Several texts are separated by semicolons."""

EDITS = "AG2_EDITS"
"""Environment variable: 0 opens runs without their edits."""

SELECTION_FILE = "ag2_selection.npz"
"""A selection saved beside a run; it is made again when the run is opened, unless AG2_QUERY asks for something else."""


class Session:
    """Selecting and editing in one run.

    Methods that answer or change something raise `UserError` where that is impossible, and leave the state alone then.
    """

    def __init__(self, model: AG2Model) -> None:
        self._model = weakref.ref(model)
        self._timeline = Timeline()
        self._appearance = Appearance()
        self._lock = threading.RLock()
        self._trained_only = False
        self._index: SceneIndex | None = None
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
            self.texts = TextEncoder(Path(data), downscale, self.model.device.type)

    def open(self) -> None:
        """Take up what lies beside the run: edits, and the query of AG2_QUERY or else a saved selection.

        Raises:
            UserError: edits of another run, or a query that makes no sense.
        """
        state = State()
        if self.run_folder is not None and os.environ.get(EDITS, "1") != "0":
            path = self.run_folder / FILE_NAME
            if path.exists():
                state = replace(state, history=load_edits(path, self.fingerprint()))
                _say(f"{path}: {len(state.history)} edit(s) applied; {EDITS}=0 leaves them out")
        self._timeline = Timeline(state)
        query = os.environ.get(QUERY)
        saved = None if self.run_folder is None else self.run_folder / SELECTION_FILE
        if query is not None:
            for k, text in enumerate(query.split(";")):
                self.ask(text, "add" if k else "select")
            found = self.state.selection
            label, what = (query, found.reason) if found.empty else (found.label, f"score {found.score:.2f}")
            _say(f"{QUERY}: {label} ({what})")
        elif saved is not None and saved.exists() and self.model.scene_index() is not None:
            self._timeline = Timeline(replace(state, selection=load_selection(saved, self.model.scene_index())))
            _say(f"{saved}: {self.state.selection.label} selected")
        self._timeline = Timeline(self.state)

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

    def edits(self) -> tuple[Edit, ...]:
        """The edits that pictures and exports show now; none in training."""
        state, model = self.state, self.model
        if model.training or self._trained_only:
            return ()
        edits = state.history.edits if state.preview is None else (*state.history.edits, state.preview)
        # Training may have changed the scene since.
        count = model.child_anchor.shape[0]
        return edits if all(e.members.count == count for e in edits) else ()

    def scene(self) -> EditedScene:
        """The Gaussians as edited."""
        return self._appearance.scene(self.model, self.edits())

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
        scene = self.scene()
        looks = self._appearance.looks(self.model, scene, self.state, not self._trained_only)
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
        text, last = text.strip(), self.state.questions[-1:]
        begun = bool(last) and last[0].text is not None and text.startswith(last[0].text)
        return self._answer(Question(mode, text=text, several=several), continues and begun)

    def embed(self, text: str) -> None:
        """Do the slow part of `ask` beforehand: load the encoder, embed the text.

        Raises:
            UserError: an empty text, or without language.
        """
        texts = self._texts()
        texts.embed(text)
        texts.negatives()

    def _texts(self) -> TextEncoder:
        if self.texts is None:
            raise UserError("text: the run does not say what data it was trained on; open it with its own config.yml")
        return self.texts

    def _answer(self, question: Question, join: bool = False) -> Selection:
        with self._lock:
            state = self.state
            replaces = question.mode == "select" or state.selection is None or not self._fits(state.selection)
            before = State(history=state.history, level=state.level) if replaces else state
            after = self._asked(before, question, None)
            self._timeline = self._timeline.to(after, join)
            return after.selection

    def _asked(self, state: State, question: Question, level: float | None) -> State:
        """The state after a question; `level` overrides that of texts, which otherwise look at all levels."""
        index = self.index()
        if question.text is not None:
            if not question.text:
                raise UserError("the text is empty; say what to look for, for example: red mug")
            if not index.has_language:
                raise UserError("this scene has no language: run `ag2 prepare` with an encoder, then `ag2 lift`")
            found = text_selection(index, self._texts(), question.text, several=question.several, level=level)
            copy = None
        else:
            found, copy = self._hit(index, question.ray, state.level)
        old = state.selection
        if old is not None and question.mode == "add":
            label = found.label if old.empty else (old.label if found.empty else f"{old.label} + {found.label}")
            new = replace(old.union(found), label=label)
        elif question.mode == "remove":
            empty = index.nothing(found.label, "nothing was selected that could be taken away")
            new = empty if old is None else old.without(found)
        else:
            new = found
        if old is not None and copy != state.copy and not old.empty:
            copy = state.copy if question.mode == "remove" else None
        return replace(state, selection=new, copy=copy, questions=(*state.questions, question), preview=None)

    def _hit(self, index: SceneIndex, ray: tuple, level: float) -> tuple[Selection, int | None]:
        """What a ray meets in the edited scene, as a selection of the trained one, and which copy of it."""
        scene, backend = self.scene(), self.model.backend()
        origin, direction = (torch.tensor(v, dtype=torch.float32, device=scene.source.device) for v in ray)
        shown = replace(index, gaussian_anchor=scene.anchor)
        found = select_ray(shown, scene.gaussians, backend, origin, direction, level)
        name = f"instance {found.nodes[0]}" if found.nodes else "click"
        copy = None
        if scene.duplicates and not found.empty:
            g, maps = scene.gaussians, torch.ones(PATCH, PATCH, 1, device=origin.device)
            weight = backend.lift(g.means, g.quats, g.scales, g.opacities, maps, ray_view(origin, direction))[:, 0]
            by_copy = torch.bincount(scene.copy, weight * found.gaussian_mask, minlength=scene.duplicates + 1)
            copy = int(by_copy.argmax())
        return replace(found, label=name, gaussian_mask=found.anchor_mask[index.gaussian_anchor]), copy

    @torch.no_grad()
    def set_level(self, level: float) -> None:
        """Change the granularity, and ask again what made the present selection.

        Raises:
            UserError: a level outside 0 to 1.
        """
        if not 0 <= level <= 1:
            raise UserError(f"granularity {level:g}: give a number from 0 (parts) to 1 (groups)")
        with self._lock:
            state = self.state
            if level == state.level:
                return
            after = State(history=state.history, level=float(level))
            for question in state.questions:
                after = self._asked(after, question, float(level))
            if not state.questions:
                after = replace(after, selection=state.selection, copy=state.copy)
            last = self._timeline.past[-1] if self._timeline.past else state
            dragging = last.level != state.level and (last.questions, last.history) == (state.questions, state.history)
            self._timeline = self._timeline.to(after, join=dragging)

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
        """Write the edits beside the run; every command shows them from then on.

        Raises:
            UserError: the folder is not known or cannot be written.
        """
        path = self.folder() / FILE_NAME
        try:
            save_edits(path, self.state.history, self.fingerprint())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); make the folder writable") from error
        return path

    def save_selection(self) -> Path:
        """Write the selection beside the run; ns-render and ns-viewer open with it.

        Raises:
            UserError: nothing is selected, or the folder is not known or cannot be written.
        """
        path = self.folder() / SELECTION_FILE
        try:
            save_selection(path, self.require_selection())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); make the folder writable") from error
        return path

    def selected(self) -> Int[Tensor, " K"]:
        """The selected Gaussians of the edited scene, by number; raises `UserError` if there are none."""
        found, scene = self.require_selection(), self.scene()
        mask = scene.selected(found)
        if self.state.copy is not None:
            mask = mask & (scene.copy == self.state.copy)
        return mask.nonzero().squeeze(1)


def _say(line: str) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.print(line, highlight=False, soft_wrap=True, markup=False)
