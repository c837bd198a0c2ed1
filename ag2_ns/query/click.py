"""Click queries: the instance under a pixel or along a ray, at a level of granularity."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.grouping.tree import check_level
from ag2_ns.query.pixel_weights import PATCH, anchor_weights, pixel_view, ray_view
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene_index import SceneIndex

SOLID = 0.5
"""Opacity below which a pixel shows the background."""
TIE = 0.75
"""Instances with at least this share of the weight of the strongest are as good: the smallest of them is meant. People
click small things as often as large ones, so at an outline each pixel of the small one is the likelier target."""


def select_click(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    view: View,
    x: float,
    y: float,
    level: float = 0.5,
) -> Selection:
    """The instance that a pixel shows.

    Further clicks add with `Selection.union` and remove with `Selection.without`.

    Args:
        index: the scene.
        gaussians: its Gaussians, on the device of `index`.
        rasterizer: a backend for that device.
        view: the camera.
        x: column of the pixel, 0 to width - 1.
        y: row of the pixel, 0 to height - 1.
        level: 0 for the part under the pixel, 0.5 for the object, 1 for the group.

    Returns:
        The selection; its score is the share of the pixel's opacity that belongs to the instance. Empty, with a
        reason, where the pixel shows the background or a floater.

    Raises:
        UserError: a pixel outside of the image, or a level out of range.
    """
    if not (0 <= x <= view.width - 1 and 0 <= y <= view.height - 1):
        raise UserError(
            f"click ({x:g}, {y:g}): outside of the image; x must be 0 to {view.width - 1}, y 0 to {view.height - 1}"
        )
    return _select(index, gaussians, rasterizer, pixel_view(view, x, y), level, f"click ({x:g}, {y:g})")


def select_ray(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    origin: Float[Tensor, "3"],
    direction: Float[Tensor, "3"],
    level: float = 0.5,
) -> Selection:
    """The instance that a ray meets first; see `select_click`.

    Raises:
        UserError: a direction of length 0 or a value that is not finite.
    """
    finite = bool(torch.isfinite(origin).all() and torch.isfinite(direction).all())
    if not finite or not bool((direction != 0).any()):
        raise UserError("click: the ray's direction must be finite and not zero")
    return _select(index, gaussians, rasterizer, ray_view(origin, direction), level, "click along a ray")


def _select(
    index: SceneIndex, gaussians: Gaussians, rasterizer: Rasterizer, patch: View, level: float, label: str
) -> Selection:
    check_level(level)
    maps = torch.ones(PATCH, PATCH, 1, device=gaussians.device)
    weight = anchor_weights(index, gaussians, rasterizer, patch, maps)[:, 0] / PATCH**2
    by_node = weight.new_zeros(index.tree.num_nodes + 1).index_add_(0, index.tree.cut(level) + 1, weight)
    by_node[0] = 0  # anchors of no instance
    best = by_node.max()
    area = torch.nn.functional.pad(index.tree.support, (1, 0), value=torch.inf)
    node = torch.where(by_node >= TIE * best, area, torch.inf).argmin()
    found = torch.stack((weight.sum(), best, by_node.take(node), node.to(weight)))
    opacity, best, share, node = found.tolist()  # the one wait for the device
    if opacity < SOLID:
        return index.nothing(label, f"the pixel shows the background (opacity {opacity:.2f})")
    if best <= 0:
        return index.nothing(label, "the pixel shows Gaussians that belong to no instance")
    return index.selection([int(node) - 1], label, share / opacity, level)
