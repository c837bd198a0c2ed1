"""Box queries: the node of the tree that best fills a rectangle of an image."""

from __future__ import annotations

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.query.pixel_weights import anchor_weights
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene_index import SceneIndex

TIE = 1e-3
"""F1 values as near as that are equal."""

INSIDE = 0.5
"""Least share of a node's visible part that must lie inside the box."""


def select_box(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    view: View,
    box: tuple[float, float, float, float],
) -> Selection:
    """The node that lies in the box and fills it most.

    People draw boxes around things, not along their outline: of the nodes that lie mostly inside, the one with the
    largest F1 of (share of the node inside the box, share of the box's non-background instance pixels that it covers,
    as far as nodes inside the box do) wins, so a whole object beats its parts and what is behind it.

    Args:
        index: the scene.
        gaussians: its Gaussians, on the device of `index`.
        rasterizer: a backend for that device.
        view: the camera.
        box: x0, y0, x1, y1 in pixels; parts outside of the image are cut off.

    Returns:
        The selection; its score is that F1. Empty, with a reason, where no node lies mostly inside.

    Raises:
        UserError: a box without area inside the image.
    """
    x0, x1 = (max(0, min(view.width, round(v))) for v in (box[0], box[2]))
    y0, y1 = (max(0, min(view.height, round(v))) for v in (box[1], box[3]))
    label = f"box ({x0}, {y0}) to ({x1}, {y1})"
    if x1 <= x0 or y1 <= y0:
        raise UserError(f"{label}: has no area inside the image; give x0 y0 x1 y1 in pixels, x0 < x1 and y0 < y1")
    maps = torch.ones(view.height, view.width, 2, device=gaussians.device)
    maps[..., 0] = 0
    maps[y0:y1, x0:x1, 0] = 1
    weight = anchor_weights(index, gaussians, rasterizer, view, maps)
    tree = index.tree
    held = tree.anchor_node >= 0
    by_node = torch.zeros(tree.num_nodes, 2, device=weight.device).index_add_(0, tree.anchor_node[held], weight[held])
    inside, total = tree.subtree_sum(by_node).unbind(1)
    share = inside / total.clamp_min(1e-6)
    candidates = (share >= INSIDE) & (inside >= 1.0)
    if not bool(candidates.any()):
        return index.nothing(label, "no instance lies mostly inside the box")
    # What the box can be about: the pixels of everything that lies mostly inside it.
    lowest = torch.where(candidates, by_node[:, 0], by_node.new_zeros(()))
    content = lowest.sum().clamp_min(1e-6)
    f1 = 2 * inside / (total + content)
    # A group of which edits left only one member looks just like that member, which is then meant.
    there = torch.zeros(tree.num_anchors, device=weight.device).index_fill_(0, index.gaussian_anchor, 1.0)[held]
    left = torch.zeros(tree.num_nodes, device=weight.device).index_add_(0, tree.anchor_node[held], there)
    rank = f1 + TIE * tree.subtree_sum(left) / tree.size.clamp_min(1)
    node = int(torch.where(candidates, rank, -1.0).argmax())
    return index.selection([node], label, float(f1[node].clamp(0, 1)))
