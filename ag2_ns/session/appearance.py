"""How a scene looks with edits, at a granularity, with a selection: computed when one of these changes, then kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import EditedScene, apply_edits, to_trainable
from ag2_ns.edit.operations import Edit
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.session.outputs import Looks, feature_looks, hues
from ag2_ns.session.state import State


@dataclass(frozen=True, eq=False)
class _The:
    """An object in a key: the same only as itself, and kept alive by the key."""

    it: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _The) and self.it is other.it


class Appearance:
    """The last scene and its looks. What it returns depends on the arguments only; it just remembers them."""

    def __init__(self) -> None:
        self._memory: dict[str, tuple[tuple, Any]] = {}

    def _remember(self, name: str, key: tuple, make: Callable[[], Any]) -> Any:
        """The last result of this name, if it came from the same key."""
        known = self._memory.get(name)
        if known is not None and known[0] == key:
            return known[1]
        value = make()
        self._memory[name] = (key, value)
        return value

    @torch.no_grad()
    def edited(self, scene: Scene, edits: tuple[Edit, ...]) -> EditedScene:
        """The scene's Gaussians after edits."""
        anchor = scene.gaussian_anchor if scene.index is None else scene.index.gaussian_anchor
        make = lambda: apply_edits(scene.gaussians, anchor, edits)  # noqa: E731
        return self._remember("edited", (_The(scene), edits), make)

    def trainable(self, edited: EditedScene) -> dict[str, Tensor]:
        """The Gaussians as nerfstudio's exporters read them."""
        return self._remember("trainable", (_The(edited),), lambda: to_trainable(edited.gaussians))

    @torch.no_grad()
    def looks(self, scene: Scene, edited: EditedScene, state: State, with_selection: bool = True) -> Looks:
        """What the Gaussians of `edited` show besides their colours."""
        index = scene.index
        # A Gaussian's feature is its decoding anchor's; the index may count it to a neighbour for instances.
        feature = self._remember(
            "feature",
            (_The(edited), _The(scene)),
            lambda: feature_looks(scene.anchors.feature, edited.follow(scene.gaussian_anchor)),
        )
        if index is None:
            return Looks(feature)
        instance = self._remember(
            "instance",
            (_The(edited), _The(index), state.level),
            lambda: hues(edited.instances(index.gaussian_node(state.level))[0]),
        )
        found = state.selection
        if found is None or not with_selection or len(found.gaussian_mask) != index.num_gaussians:
            return Looks(feature, instance)
        relevancy, selected = self._remember(
            "found", (_The(edited), _The(found), state.copy), lambda: _found(edited, index, found, state.copy)
        )
        return Looks(feature, instance, relevancy, None if found.empty else selected)


def _found(scene: EditedScene, index: SceneIndex, found: Selection, copy: int | None) -> tuple[Tensor, Tensor]:
    selected = scene.selected(found)
    if copy is not None:
        selected = selected & (scene.copy == copy)
    return scene.follow(contrast(found.anchor_score)[index.gaussian_anchor]), selected


def contrast(score: Float[Tensor, " A"]) -> Float[Tensor, " A"]:
    """Scores so that 0 is the median of the scene's instances or less, and 1 the best.

    Image-text models give everything nearly the same score, and a colour map of it shows nothing; stretched over the
    scene, not over the picture, it does not flicker in videos.
    """
    score = score.float().nan_to_num(0.0)
    values = torch.unique(score[score > 0])
    if len(values) == 0:
        return torch.zeros_like(score)
    floor = values.median() if len(values) > 1 else values.new_zeros(())
    return ((score - floor) / (values[-1] - floor).clamp_min(1e-6)).clamp(0, 1)
