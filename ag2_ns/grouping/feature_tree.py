"""The instance tree of trained features alone: super-anchors as objects, finer super-anchors inside as their parts.

This is how AG2aussian finds instances (section 2, super-anchors); `tree.build_tree` is our own way, from lifted masks.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.lifting import LiftedMasks
from ag2_ns.grouping.super_anchors import super_anchors
from ag2_ns.grouping.tree import InstanceTree, adopt_unseen

OBJECT_LEVEL, PART_LEVEL = 0.25, 0.0
"""Levels of the nodes: objects from 0.25 up, their parts below."""


@torch.no_grad()
def feature_tree(
    lifted: LiftedMasks,
    feature: Float[Tensor, "A F"],
    xyz: Float[Tensor, "A 3"],
    graph: AnchorGraph,
    config: GroupingConfig = DEFAULTS,
) -> InstanceTree:
    """Super-anchors at the object bandwidth, and inside each those at the part bandwidth.

    Parts are cut at the border of their object, so they nest. Pieces too small to be a super-anchor of their own stay
    with the object, and an object of one part has no nodes below it. Anchors that no view sees have no say, as nothing
    trained their features; those inside an object join it. The masks decide nothing here: they only tell what is seen
    and how large.

    Args:
        lifted: the masks lifted onto the A anchors.
        feature: trained anchor features, normalised here.
        xyz: anchor centres, scene units.
        graph: the merging graph (s = 4).
        config: thresholds.
    """
    seen = lifted.visible >= config.seen
    among = graph.subgraph(seen)
    known, where = feature.detach()[seen], xyz[seen]
    label, part = (
        super_anchors(known, where, among, b, config) for b in (config.object_bandwidth, config.part_bandwidth)
    )
    tree = adopt_unseen(nested_tree(label, part, seen, config), graph.edges)
    nodes = tree.lift(lifted)
    support = torch.zeros_like(tree.level).scatter_reduce_(0, nodes.view_unit, nodes.total, "amax")
    return replace(tree, support=support)


def nested_tree(
    label: Int[Tensor, " S"], part: Int[Tensor, " S"], seen: Bool[Tensor, " A"], config: GroupingConfig = DEFAULTS
) -> InstanceTree:
    """Objects by falling size, each followed by its parts by falling size; `size` and `support` are still to come.

    Args:
        label: the object of each seen anchor, from 0 by falling size.
        part: likewise the part, whatever its object.
        seen: the anchors that these are of.
        config: thresholds.
    """
    device = seen.device
    count = torch.bincount(label)
    objects = int((count >= config.least).sum())
    # Numbered by object, then by part: (object, part) pairs that hold anchors.
    pair, own, size = torch.unique(
        label * (int(part.max()) + 1 if len(part) else 1) + part, return_inverse=True, return_counts=True
    )
    owner = torch.zeros_like(pair).scatter_(0, own, label)
    big = (size >= config.min_size) & (owner < objects)
    several = torch.bincount(owner[big], minlength=len(count)) > 1
    kept = (big & several[owner]).nonzero().squeeze(1)
    kept = kept[torch.argsort(size[kept], descending=True, stable=True)]
    kept = kept[torch.argsort(owner[kept], stable=True)]
    # Preorder: an object comes after all objects before it and their parts.
    parts = torch.bincount(owner[kept], minlength=objects)[:objects]
    before = torch.cumsum(parts, 0) - parts
    root = torch.arange(objects, device=device) + before
    place = torch.arange(len(kept), device=device) + owner[kept] + 1
    num = objects + len(kept)
    parent = torch.full((num,), -1, dtype=torch.long, device=device)
    parent[place] = root[owner[kept]]
    last = torch.arange(num, device=device)
    last[root] = root + parts
    level = torch.full((num,), PART_LEVEL, device=device)
    level[root] = OBJECT_LEVEL
    node_of_pair = torch.full((len(pair),), -1, dtype=torch.long, device=device)
    inside = owner < objects
    node_of_pair[inside] = root[owner[inside]]
    node_of_pair[kept] = place
    anchor_node = torch.full((len(seen),), -1, dtype=torch.long, device=device)
    anchor_node[seen] = node_of_pair[own]
    zero = torch.zeros(num, device=device)
    return InstanceTree(parent, last, level, zero.long(), zero, anchor_node, seen)
