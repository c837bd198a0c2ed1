"""Box queries: the node of the tree that best fills a rectangle of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.query.config import DEFAULTS, QueryConfig
from ag2_ns.query.pixel_weights import anchor_weights
from ag2_ns.query.query import Query
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex


def answer_box(
    index: SceneIndex,
    gaussians: Gaussians,
    rasterizer: Rasterizer,
    view: View,
    box: tuple[float, float, float, float],
    config: QueryConfig = DEFAULTS,
) -> Answer:
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
        config: thresholds.

    Returns:
        The answer; its score is that F1. Empty, with a reason, where no node lies mostly inside.

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
    candidates = (share >= config.inside) & (inside >= 1.0)
    if not bool(candidates.any()):
        return Answer(index.nothing(label, NOTHING), reason=NOTHING)
    # What the box can be about: the pixels of everything that lies mostly inside it.
    lowest = torch.where(candidates, by_node[:, 0], by_node.new_zeros(()))
    content = lowest.sum().clamp_min(1e-6)
    f1 = 2 * inside / (total + content)
    # A group of which edits left only one member looks just like that member, which is then meant.
    there = torch.zeros(tree.num_anchors, device=weight.device).index_fill_(0, index.gaussian_anchor, 1.0)[held]
    left = torch.zeros(tree.num_nodes, device=weight.device).index_add_(0, tree.anchor_node[held], there)
    rank = f1 + config.box_tie * tree.subtree_sum(left) / tree.size.clamp_min(1)
    piece = tree.top(0.5) != torch.arange(tree.num_nodes, device=rank.device)
    ranked = torch.where(candidates, rank - config.box_piece * piece, -1.0)
    node = int(ranked.argmax())
    selection = index.selection([node], label, float(f1[node].clamp(0, 1)))
    number = torch.arange(tree.num_nodes, device=weight.device)
    apart = ~((number >= node) & (number <= tree.last[node])) & ~((number <= node) & (tree.last >= node))
    found = [Candidate(label, selection.score, selection.nodes)]
    second = int(torch.where(apart, ranked, -1.0).argmax())
    if bool(apart[second]) and float(ranked[second]) > 0:
        found.append(Candidate(f"instance {second}", float(f1[second].clamp(0, 1)), (second,)))
    return Answer(selection, tuple(found))


NOTHING = "no instance lies mostly inside the box"


@dataclass(frozen=True)
class Box(Query):
    """What a rectangle in a picture is drawn around."""

    image: str | View
    """The picture, by name or number, or a camera of one's own."""
    corners: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels; parts outside of the image are cut off."""

    of_pictures: ClassVar[bool] = True

    @classmethod
    def from_option(cls, value: tuple[str, float, float, float, float]) -> Box:
        """`--box IMAGE X0 Y0 X1 Y1`."""
        image, *corners = value
        return cls(image, tuple(corners))

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """See `answer_box`: at whatever level.

        Raises:
            UserError: corners that are no numbers, or no area inside the image.
        """
        if not all(math.isfinite(v) for v in self.corners):
            given = ", ".join(f"{v:g}" for v in self.corners)
            raise UserError(f"box ({given}): give x0 y0 x1 y1 in pixels, as numbers")
        index, view = scene.require_index(), scene.view(self.image)
        return answer_box(index, scene.gaussians, scene.rasterizer, view, self.corners, scene.config(QueryConfig))
