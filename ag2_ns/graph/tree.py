"""The instance tree: parts, objects and groups of anchors as nested regions, from how masks and views hold them.

Merging (`merge.py`) joins anchors two by two. Most of those merges only grow one region; the tree keeps as nodes what
was a region of its own: one that fills masks, joined to another such region at an affinity clearly below that which
holds it together (the condensed tree of HDBSCAN, Campello et al. 2013, with affinity for density).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.errors import UserError
from ag2_ns.graph.jit import jit
from ag2_ns.graph.lifting import LiftedMasks
from ag2_ns.graph.merge import OBJECT, Merges, merge_regions
from ag2_ns.graph.rows import Rows

STEP = 0.1
"""A region is a node of its own if it joined another at an affinity this much below its own."""

PART_FILL = 0.5
"""A part is a node of its own if it fills this much of some mask in the views that show it, on average."""

OBJECT_FILL = 0.25
"""Likewise an object, which stayed apart from its neighbours for better reasons already."""

SEEN = 1.0
"""Visible area (pixels, summed over all views) below which an anchor counts as never seen."""


@dataclass(frozen=True)
class InstanceTree:
    """R nodes over A anchors, numbered so that the nodes below node n are n + 1 to last[n].

    A node is an instance at the levels between its parent's affinity and its own.
    """

    parent: Int[Tensor, " R"]
    """The node above, -1 for a root; always smaller than the node's own number."""
    last: Int[Tensor, " R"]
    """The last node below each node, the node itself where there is none."""
    height: Float[Tensor, " R"]
    """Affinity that holds the node together, 0 to 1, never less than its parent's."""
    size: Int[Tensor, " R"]
    """Anchors in the node, those of the nodes below included."""
    support: Float[Tensor, " R"]
    """Largest visible area over the views, pixels."""
    anchor_node: Int[Tensor, " A"]
    """The lowest node that holds each anchor; -1 for floaters and for anchors never seen, unless inside an object."""
    seen: Bool[Tensor, " A"]
    """Whether any view sees the anchor."""

    @property
    def num_nodes(self) -> int:
        """R."""
        return self.parent.shape[0]

    @property
    def num_anchors(self) -> int:
        """A."""
        return self.anchor_node.shape[0]

    def to(self, device: torch.device | str) -> InstanceTree:
        """The same tree on `device`."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def top(self, level: float) -> Int[Tensor, " R"]:
        """The instance that each node belongs to at a level: its highest ancestor, or itself, that still holds there.

        Args:
            level: 0 for the finest parts, 0.5 for objects, 1 for whole groups; the affinity asked for is 1 - level.

        Raises:
            UserError: a level outside 0 to 1.
        """
        threshold = affinity_of(level)
        nodes = torch.arange(self.num_nodes, device=self.parent.device)
        up = self.parent.clamp_min(0)
        joined = (self.parent >= 0) & (self.height[up] >= threshold)
        jump = torch.where(joined, up, nodes)
        while True:
            further = jump[jump]
            if bool((further == jump).all()):
                return jump
            jump = further

    def cut(self, level: float = 0.5) -> Int[Tensor, " A"]:
        """The node that each anchor belongs to at a level (see `top`); -1 for anchors in none."""
        top = self.top(level)
        if self.num_nodes == 0:
            return self.anchor_node
        return torch.where(self.anchor_node >= 0, top[self.anchor_node.clamp_min(0)], self.anchor_node)

    def instances(self, level: float = 0.5) -> Int[Tensor, " K"]:
        """The nodes that are instances at a level and hold anchors, ascending."""
        labels = self.cut(level)
        return torch.unique(labels[labels >= 0])

    def node_at(self, anchor: int, level: float = 0.5) -> int:
        """The node that one anchor belongs to at a level; -1 for an anchor in none."""
        return int(self.cut(level)[anchor])

    def ancestors(self, node: int) -> list[int]:
        """The node and all nodes above it, upwards."""
        out = []
        while node >= 0:
            out.append(int(node))
            node = int(self.parent[node])
        return out

    @property
    def lineage(self) -> Int[Tensor, "R D"]:
        """Each node and the nodes above it, upwards, filled up with -1."""
        columns = [torch.arange(self.num_nodes, device=self.parent.device)]
        while bool((columns[-1] >= 0).any()):
            columns.append(torch.where(columns[-1] >= 0, self.parent[columns[-1].clamp_min(0)], -1))
        return torch.stack(columns[:-1] or columns, 1)

    def lift(self, lifted: LiftedMasks) -> LiftedMasks:
        """The weights of the nodes, those below included, from those of the anchors."""
        return lifted.group(self.anchor_node, self.num_nodes).group(self.lineage, self.num_nodes)

    def children(self, node: int) -> Int[Tensor, " K"]:
        """The nodes directly below a node; the roots for -1."""
        return (self.parent == node).nonzero().squeeze(1)

    def anchors_of(self, node: int) -> Bool[Tensor, " A"]:
        """The anchors of a node and of all nodes below it."""
        return (self.anchor_node >= node) & (self.anchor_node <= self.last[node])

    def subtree_sum(self, values: Float[Tensor, "R ..."]) -> Float[Tensor, "R ..."]:
        """For every node the sum of `values` over it and the nodes below it."""
        total = torch.cumsum(values.double(), 0)
        return (total[self.last] - total + values).to(values.dtype)


def affinity_of(level: float) -> float:
    """The affinity that a level asks for.

    Raises:
        UserError: a level outside 0 to 1.
    """
    if not 0.0 <= level <= 1.0:
        raise UserError(f"level {level}: must be between 0 (parts) and 1 (groups); 0.5 is the object level")
    return 1.0 - level


def build_tree(
    lifted: LiftedMasks,
    edges: Int[Tensor, "2 E"],
    feature: Float[Tensor, "A F"] | None = None,
    tau: float = 0.1,
) -> InstanceTree:
    """Merge anchors into an instance tree.

    Args:
        lifted: the masks lifted onto the A anchors.
        edges: the anchor graph.
        feature: instance features of a trained run, as further evidence.
        tau: their bandwidth (AG2aussian: 0.1 for whole objects, 0.05 for parts).
    """
    seen = lifted.visible >= SEEN
    rows = Rows.of(lifted, keep=seen)
    joined = edges[:, seen[edges[0]] & seen[edges[1]]].cpu().numpy()
    if feature is not None:
        feature = torch.nn.functional.normalize(feature.detach().float(), dim=1).cpu().numpy()
    merges = merge_regions(rows, joined, feature, tau)
    return adopt_unseen(condense(merges, lifted, seen), edges)


def adopt_unseen(tree: InstanceTree, edges: Int[Tensor, "2 E"]) -> InstanceTree:
    """Give anchors that no view sees to the object around them, so that cutting it out leaves no filling behind.

    An unseen anchor joins when all its neighbours that are in an object are in the same one; twice, to reach further
    inside. `seen` still tells them apart.
    """
    node, top = tree.anchor_node, tree.top(0.5)
    if tree.num_nodes == 0:
        return tree
    ends, others = torch.cat([edges[0], edges[1]]), torch.cat([edges[1], edges[0]])
    for _ in range(2):
        wants = ~tree.seen[ends] & (node[ends] < 0) & (node[others] >= 0)
        who, what = ends[wants], top[node[others[wants]]]
        least = torch.full_like(node, tree.num_nodes).scatter_reduce_(0, who, what, "amin")
        most = torch.full_like(node, -1).scatter_reduce_(0, who, what, "amax")
        node = torch.where(least == most, most, node)
    held = node >= 0
    size = tree.subtree_sum(torch.bincount(node[held], minlength=tree.num_nodes).double()).round().long()
    return replace(tree, anchor_node=node, size=size)


@jit
def _condense(kept, gone, affinity, kept_fill, gone_fill, num, part_fill, object_fill, step, object_affinity):
    """Nodes from merges: every region starts as node = its anchor; returns (alias, parent, height) of 2 * num nodes."""
    alias = np.arange(2 * num)
    parent = np.full(2 * num, -1)
    height = np.ones(2 * num)
    node = np.arange(num)
    new = num
    for k in range(kept.shape[0]):
        a, b = kept[k], gone[k]
        na, nb = node[a], node[b]
        filled = part_fill if affinity[k] >= object_affinity else object_fill
        full_a, full_b = kept_fill[k] >= filled, gone_fill[k] >= filled
        h = min(affinity[k], height[na], height[nb])
        if full_a and full_b:
            apart_a = height[na] - h >= step or height[na] >= object_affinity > h
            apart_b = height[nb] - h >= step or height[nb] >= object_affinity > h
            if apart_a and apart_b:
                parent[na] = new
                parent[nb] = new
                na = new
                new += 1
            elif apart_a:
                parent[na] = nb
                na = nb
            elif apart_b:
                parent[nb] = na
            else:
                alias[nb] = na
            height[na] = h
        elif full_b:
            alias[na] = nb
            na = nb
        else:
            alias[nb] = na
            if not full_a:
                height[na] = h
        node[a] = na
    for n in range(new):
        m = n
        while alias[m] != m:
            m = alias[m]
        alias[n] = m
    return alias[:new], parent[:new], height[:new]


def condense(merges: Merges, lifted: LiftedMasks, seen: Bool[Tensor, " A"]) -> InstanceTree:
    """The instance tree that a list of merges amounts to.

    Args:
        merges: the merges of A anchors.
        lifted: the masks lifted onto the anchors.
        seen: the anchors that any view sees.
    """
    device, num = lifted.row.device, lifted.num_units
    alias, parent, height = _condense(
        merges.kept,
        merges.gone,
        merges.affinity,
        merges.kept_fill,
        merges.gone_fill,
        num,
        PART_FILL,
        OBJECT_FILL,
        STEP,
        OBJECT,
    )
    leaf = np.where(seen.cpu().numpy(), alias[:num], -1)
    above = np.where((alias == np.arange(len(alias))) & (parent >= 0), alias[parent.clip(0)], -1)
    fills = np.zeros(len(alias))
    fills[alias[:num]] = merges.fill[merges.root]
    order, last = _preorder(
        above, np.union1d(leaf[leaf >= 0][fills[leaf[leaf >= 0]] >= OBJECT_FILL], above[above >= 0])
    )
    number = np.full(len(alias) + 1, -1)
    number[order] = np.arange(len(order))
    to = {"device": device}
    tree = InstanceTree(
        torch.as_tensor(number[above[order]], **to),
        torch.as_tensor(last, **to),
        torch.as_tensor(height[order], dtype=torch.float32, **to),
        torch.zeros(len(order), dtype=torch.long, **to),
        torch.zeros(len(order), **to),
        torch.as_tensor(number[leaf], **to),
        seen.to(device),
    )
    held = tree.anchor_node >= 0
    size = tree.subtree_sum(torch.bincount(tree.anchor_node[held], minlength=len(order)).float()).round().long()
    nodes = tree.lift(lifted)
    support = torch.zeros(len(order), **to).scatter_reduce_(0, nodes.view_unit, nodes.total, "amax")
    return replace(tree, size=size, support=support)


def _preorder(above: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order nodes so that each is followed by all nodes below it: (old names in the new order, last below each)."""
    chosen = np.union1d(chosen, np.flatnonzero(above >= 0))
    below: dict[int, list[int]] = {}
    for n in chosen.tolist():
        below.setdefault(int(above[n]), []).append(n)
    order: list[int] = []
    last: list[int] = []
    stack = below.get(-1, [])[::-1]
    open_nodes: list[tuple[int, int]] = []
    while stack:
        n = stack.pop()
        if n < 0:
            last[open_nodes.pop()[1]] = len(order) - 1
            continue
        open_nodes.append((n, len(order)))
        order.append(n)
        last.append(0)
        stack.append(-1)
        stack.extend(below.get(n, [])[::-1])
    return np.array(order, np.int64), np.array(last, np.int64)
