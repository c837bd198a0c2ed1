"""Click queries: the instance under a pixel or along a ray, at a level of granularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.grouping.tree import check_level
from ag2_ns.query.config import DEFAULTS, QueryConfig
from ag2_ns.query.pixel_weights import PATCH, anchor_weights, pixel_view, ray_view
from ag2_ns.query.query import Query
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex


def answer_click(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    view: View,
    x: float,
    y: float,
    level: float = 0.5,
    config: QueryConfig = DEFAULTS,
) -> Answer:
    """The instance that a pixel shows, and the next that it shows most of.

    Further clicks add with `Selection.union` and remove with `Selection.without`.

    Args:
        index: the scene.
        gaussians: its Gaussians, on the device of `index`.
        rasterizer: a backend for that device.
        view: the camera.
        x: column of the pixel, 0 to width - 1.
        y: row of the pixel, 0 to height - 1.
        level: 0 for the part under the pixel, 0.5 for the object, 1 for the group.
        config: thresholds.

    Returns:
        The answer; its score is the share of the pixel's opacity that belongs to the instance. Empty, with a
        reason, where the pixel shows the background or a floater.

    Raises:
        UserError: a pixel outside of the image, or a level out of range.
    """
    if not (0 <= x <= view.width - 1 and 0 <= y <= view.height - 1):
        raise UserError(
            f"click ({x:g}, {y:g}): outside of the image; x must be 0 to {view.width - 1}, y 0 to {view.height - 1}"
        )
    return _select(index, gaussians, rasterizer, pixel_view(view, x, y), level, f"click ({x:g}, {y:g})", config)


def answer_ray(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    origin: Float[Tensor, "3"],
    direction: Float[Tensor, "3"],
    level: float = 0.5,
    config: QueryConfig = DEFAULTS,
) -> Answer:
    """The instance that a ray meets first; see `answer_click`.

    Raises:
        UserError: a direction of length 0 or a value that is not finite.
    """
    finite = bool(torch.isfinite(origin).all() and torch.isfinite(direction).all())
    if not finite or not bool((direction != 0).any()):
        raise UserError("click: the ray's direction must be finite and not zero")
    return _select(index, gaussians, rasterizer, ray_view(origin, direction), level, "click along a ray", config)


def _select(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    patch: View,
    level: float,
    label: str,
    config: QueryConfig,
) -> Answer:
    check_level(level)
    maps = torch.ones(PATCH, PATCH, 1, device=gaussians.device)
    weight = anchor_weights(index, gaussians, rasterizer, patch, maps)[:, 0] / PATCH**2
    by_node = weight.new_zeros(index.tree.num_nodes + 1).index_add_(0, index.tree.cut(level) + 1, weight)
    by_node[0] = 0  # anchors of no instance
    best = by_node.max()
    area = torch.nn.functional.pad(index.tree.support, (1, 0), value=torch.inf)
    node = torch.where(by_node >= config.tie * best, area, torch.inf).argmin()
    share = by_node.take(node)
    second, other = by_node.index_fill(0, node, 0).max(0)
    found = torch.stack((weight.sum(), best, share, node.to(weight), second, other.to(weight)))
    opacity, best, share, node, second, other = found.tolist()  # the one wait for the device
    if opacity < config.solid:
        return _nothing(index, label, f"the pixel shows the background (opacity {opacity:.2f})")
    if best <= 0:
        return _nothing(index, label, "the pixel shows Gaussians that belong to no instance")
    selection = index.selection([int(node) - 1], label, share / opacity, level)
    candidates = [Candidate(label, selection.score, selection.nodes)]
    if second > 0:
        candidates.append(Candidate(f"instance {int(other) - 1}", second / opacity, (int(other) - 1,)))
    return Answer(selection, tuple(candidates))


def _nothing(index: SceneIndex, label: str, reason: str) -> Answer:
    return Answer(index.nothing(label, reason), reason=reason)


@dataclass(frozen=True)
class Click(Query):
    """What a pixel shows."""

    image: str | View
    """The picture, by name or number, or a camera of one's own."""
    x: float
    y: float
    """Column and row, pixels."""

    of_pictures: ClassVar[bool] = True

    @classmethod
    def from_option(cls, value: tuple[str, float, float]) -> Click:
        """`--click IMAGE X Y`."""
        return cls(*value)

    def patch(self, scene: Scene) -> View:
        """A camera of the few pixels around it."""
        return pixel_view(scene.view(self.image), float(self.x), float(self.y))

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """See `answer_click`; by default at the level of objects."""
        level = 0.5 if level is None else level
        index, view, config = scene.require_index(), scene.view(self.image), scene.config(QueryConfig)
        return answer_click(index, scene.gaussians, scene.rasterizer, view, float(self.x), float(self.y), level, config)


@dataclass(frozen=True)
class Ray(Query):
    """What a ray meets first."""

    origin: tuple[float, float, float]
    direction: tuple[float, float, float]
    """Scene units; any length but 0."""

    of_pictures: ClassVar[bool] = True

    def patch(self, scene: Scene) -> View:
        """A camera of a few pixels along it."""
        return ray_view(*self._tensors())

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """See `answer_ray`; by default at the level of objects."""
        level = 0.5 if level is None else level
        index, config = scene.require_index(), scene.config(QueryConfig)
        return answer_ray(index, scene.gaussians, scene.rasterizer, *self._tensors(), level, config)

    def _tensors(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        return tuple(torch.tensor([float(v) for v in part]) for part in (self.origin, self.direction))
