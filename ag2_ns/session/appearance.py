"""How a scene looks with edits, at a granularity, with a selection: computed when one of these changes, then kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import EditedScene, apply_edits, to_trainable
from ag2_ns.edit.operations import Edit
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.session.outputs import Looks, feature_looks, hues
from ag2_ns.session.state import State

if TYPE_CHECKING:
    from ag2_ns.plugin.model import AG2Model


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
    def scene(self, model: AG2Model, edits: tuple[Edit, ...]) -> EditedScene:
        """The model's Gaussians after edits; training, which changes parameters in place, leaves them as they are."""
        index = model.scene_index()
        tensors = [model.anchor_xyz, model.anchor_radius, model.child_anchor, *model.child_params.values()]
        versions = tuple((t.data_ptr(), t._version, len(t)) for t in tensors)

        def make() -> EditedScene:
            anchor = model.child_anchor if index is None else index.gaussian_anchor
            gaussians = model.gaussians().detach()
            return apply_edits(replace(gaussians, quats=gaussians.quats.clone()), anchor, edits)  # the one parameter

        return self._remember("scene", (versions, _The(index), edits), make)

    def trainable(self, scene: EditedScene) -> dict[str, Tensor]:
        """The Gaussians as nerfstudio's exporters read them."""
        return self._remember("trainable", (_The(scene),), lambda: to_trainable(scene.gaussians))

    @torch.no_grad()
    def looks(self, model: AG2Model, scene: EditedScene, state: State, with_selection: bool = True) -> Looks:
        """What the Gaussians of `scene` show besides their colours."""
        index = model.scene_index()
        raw = model.anchor_params["feature"]
        # A Gaussian's feature is its decoding anchor's; the index may count it to a neighbour for instances.
        feature = self._remember(
            "feature",
            (_The(scene), raw.data_ptr(), raw._version),
            lambda: feature_looks(model.anchor_features().detach(), scene.follow(model.child_anchor)),
        )
        if index is None or index.num_gaussians != model.child_anchor.shape[0]:
            return Looks(feature)
        instance = self._remember(
            "instance",
            (_The(scene), _The(index), state.level),
            lambda: hues(scene.instances(index.gaussian_node(state.level))[0]),
        )
        found = state.selection
        if found is None or not with_selection or len(found.gaussian_mask) != index.num_gaussians:
            return Looks(feature, instance)
        relevancy, selected = self._remember(
            "found", (_The(scene), _The(found), state.copy), lambda: _found(scene, index, found, state.copy)
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
