"""The answer to one click or text: the state of a session before it, and the state after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import EditedScene
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.query.answer import text_selection
from ag2_ns.query.click import select_ray
from ag2_ns.query.pixel_weights import ray_view
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.session.state import Question, State


@dataclass(frozen=True)
class Asked:
    """The scene that questions are asked of."""

    index: SceneIndex
    scene: EditedScene
    """As it is shown: what was deleted cannot be clicked."""
    rasterizer: Rasterizer
    texts: TextEncoder | None

    def after(self, state: State, question: Question, level: float | None) -> State:
        """The state after a question.

        Args:
            state: the state before it.
            question: a click or a text.
            level: overrides that of texts, which otherwise look at all levels.

        Raises:
            UserError: an empty text, a scene without language, or a click or a text that makes no sense.
        """
        copy = None
        if question.text is not None:
            found = self._named(question, level)
        else:
            found, copy = self._hit(question.ray, state.level)
        old = state.selection
        if old is not None and question.mode == "add":
            new = old.union(found)
        elif question.mode == "remove":
            empty = self.index.nothing(found.label, "nothing was selected that could be taken away")
            new = empty if old is None else old.without(found)
        else:
            new = found
        if old is not None and copy != state.copy and not old.empty:
            copy = state.copy if question.mode == "remove" else None
        return replace(state, selection=new, copy=copy, questions=(*state.questions, question), preview=None)

    def _named(self, question: Question, level: float | None) -> Selection:
        """What a text names."""
        if not question.text:
            raise UserError("the text is empty; say what to look for, for example: red mug")
        if not self.index.has_language:
            raise UserError("this scene has no language: run `ag2 prepare` with an encoder, then `ag2 lift`")
        return text_selection(
            self.index, require_texts(self.texts), question.text, several=question.several, level=level
        )

    def _hit(self, ray: tuple, level: float) -> tuple[Selection, int | None]:
        """What a ray meets in the edited scene, as a selection of the trained one, and which copy of it."""
        scene, backend = self.scene, self.rasterizer
        origin, direction = (torch.tensor(v, dtype=torch.float32) for v in ray)
        found = scene.ask(self.index, lambda index, g: select_ray(index, g, backend, origin, direction, level))
        copy = None
        if scene.duplicates and not found.empty:
            copy = scene.copy_shown(found, backend, ray_view(origin, direction))
        return replace(found, label=self._called(found)), copy

    def _called(self, found: Selection) -> str:
        """What a clicked thing is called: a text that names it, or else its number."""
        if not found.nodes:
            return "click"
        name = None if self.texts is None else self.texts.name(self.index, found.nodes[0])
        return name or f"instance {found.nodes[0]}"


def require_texts(texts: TextEncoder | None) -> TextEncoder:
    """The scene's texts; raises `UserError` where the run does not say what it was trained on."""
    if texts is None:
        raise UserError("text: the run does not say what data it was trained on; open it with its own config.yml")
    return texts
