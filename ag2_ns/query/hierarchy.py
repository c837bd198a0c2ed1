"""The instance tree as values to read: every node with its name, level, size and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.query.naming import Names, names_of_scene
from ag2_ns.scene.scene import Scene


@dataclass(frozen=True)
class NodeInfo:
    """One node of the instance tree."""

    node: int
    parent: int
    """-1 for a root."""
    children: tuple[int, ...]
    level: tuple[float, float]
    """The levels at which it is an instance: from its own up to that of its parent, which is no longer included."""
    name: str | None
    """What a known text calls it; None where none clearly does."""
    relevancy: float | None
    """Of the name."""
    anchors: int
    gaussians: int
    views: float
    """Views' worth of masks that support it."""
    quality: float
    """Mean IoU with the best mask of each view, 0 to 1."""
    centre: tuple[float, float, float]
    """In the run's frame."""
    size: tuple[float, float, float]
    """Of its box along the axes, scene units."""

    @property
    def kind(self) -> str:
        """part, object or group: what it is at the level of objects."""
        low, high = self.level
        return "object" if low <= 0.5 < high else "part" if high <= 0.5 else "group"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "node": self.node,
            "parent": self.parent,
            "children": list(self.children),
            "kind": self.kind,
            "level": [round(v, 4) for v in self.level],
            "name": self.name,
            "relevancy": None if self.relevancy is None else round(self.relevancy, 4),
            "anchors": self.anchors,
            "gaussians": self.gaussians,
            "views": round(self.views, 2),
            "quality": round(self.quality, 4),
            "centre": [round(v, 6) for v in self.centre],
            "size": [round(v, 6) for v in self.size],
        }


def describe_tree(scene: Scene, vocabulary: Sequence[str] = ()) -> list[NodeInfo]:
    """Every node that holds Gaussians, parents before children.

    Args:
        scene: with instances.
        vocabulary: texts that may name nodes, beside those that the scene's encoder knows without loading weights.

    Raises:
        UserError: no instances, or texts that the encoder does not know.
    """
    index, names = scene.require_index(), _names(scene, vocabulary)
    tree = index.tree
    gaussian_node = tree.anchor_node[index.gaussian_anchor]
    parent, last, level = tree.parent.tolist(), tree.last.tolist(), tree.level.tolist()
    support, quality = index.language.support.tolist(), index.language.quality.tolist()
    out: list[NodeInfo] = []
    for node in range(tree.num_nodes):
        inside = (gaussian_node >= node) & (gaussian_node <= last[node])
        count = int(inside.sum())
        if count == 0:
            continue
        low, high = robust_bounds(scene.gaussians.means[inside], scene.gaussians.opacities[inside])
        known = None if names is None else names.of(node)
        out.append(
            NodeInfo(
                node,
                parent[node],
                tuple(tree.children(node).tolist()),
                (level[node], level[parent[node]] if parent[node] >= 0 else 1.0 + 1e-6),
                None if known is None else known[0],
                None if known is None else known[1],
                int(tree.anchors_of(node).sum()),
                count,
                float(support[node]),
                float(quality[node]),
                tuple(((low + high) / 2).tolist()),
                tuple((high - low).tolist()),
            )
        )
    return out


def _names(scene: Scene, vocabulary: Sequence[str]) -> Names | None:
    texts, index = scene.texts, scene.require_index()
    if not vocabulary or texts is None or not index.has_language:
        return names_of_scene(scene)
    words = tuple(dict.fromkeys([*texts.vocabulary(), *vocabulary]))
    return Names(index, words, torch.stack([texts.embed(t) for t in words]), texts.negatives())
