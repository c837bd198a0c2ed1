"""The instance tree: parts, objects and groups of anchors as nested regions, from how masks and views hold them.

Merging (`merge.py`) joins anchors two by two. Of the regions that come up on the way (`condense.py`) the tree keeps
those that masks recur for (`consensus.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.condense import candidates, kinship, levels, objects, preorder
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.consensus import elect
from ag2_ns.grouping.csr import Rows
from ag2_ns.grouping.lifting import LiftedMasks
from ag2_ns.grouping.merge import Merges, merge_regions
from ag2_ns.grouping.nesting import lift_out


@dataclass(frozen=True)
class InstanceTree:
    """R nodes over A anchors, numbered so that the nodes below node n are n + 1 to last[n].

    A node is an instance from its own level up to that of its parent: parts below 0.5, objects at 0.5, groups above.
    """

    parent: Int[Tensor, " R"]
    """The node above, -1 for a root; always smaller than the node's own number."""
    last: Int[Tensor, " R"]
    """The last node below each node, the node itself where there is none."""
    level: Float[Tensor, " R"]
    """The lowest level at which the node is an instance, 0 to 1; less than its parent's."""
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
            level: 0 for the finest parts, 0.5 for objects, 1 for whole groups.

        Raises:
            UserError: a level outside 0 to 1.
        """
        check_level(level)
        nodes = torch.arange(self.num_nodes, device=self.parent.device)
        up = self.parent.clamp_min(0)
        joined = (self.parent >= 0) & (self.level[up] <= level + 1e-6)  # of a slider whose steps add up to 0.4999999
        jump = torch.where(joined, up, nodes)
        for _ in range(self.num_nodes.bit_length()):  # each doubles the reach; to see whether it is enough would wait
            jump = jump[jump]
        return jump

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

    def keep(self, nodes: Bool[Tensor, " R"]) -> InstanceTree:
        """The tree of some of its nodes; what hung below the others hangs below the node above them."""
        if self.num_nodes == 0:
            return self
        number = torch.cumsum(nodes, 0) - 1
        lineage = torch.nn.functional.pad(self.lineage, (0, 1), value=-1)
        stays = (lineage >= 0) & nodes[lineage.clamp_min(0)]

        def lowest(start: int) -> Int[Tensor, " R"]:
            """The kept node closest to each node, `start` steps up or more, by its new number; -1 for none."""
            first = stays[:, start:].int().argmax(1, keepdim=True)
            found = lineage[:, start:].gather(1, first).squeeze(1)
            return torch.where(stays[:, start:].any(1), number[found.clamp_min(0)], -1)

        node = torch.where(self.anchor_node >= 0, lowest(0)[self.anchor_node.clamp_min(0)], -1)
        return InstanceTree(
            lowest(1)[nodes],
            number[self.last][nodes],
            self.level[nodes],
            self.size[nodes],
            self.support[nodes],
            node,
            self.seen,
        )

    def anchors_of(self, node: int) -> Bool[Tensor, " A"]:
        """The anchors of a node and of all nodes below it."""
        return (self.anchor_node >= node) & (self.anchor_node <= self.last[node])

    def subtree_sum(self, values: Float[Tensor, "R ..."]) -> Float[Tensor, "R ..."]:
        """For every node the sum of `values` over it and the nodes below it."""
        total = torch.cumsum(values.double(), 0)
        return (total[self.last] - total + values).to(values.dtype)


def check_level(level: float) -> None:
    """Refuse a level out of range.

    Raises:
        UserError: a level outside 0 to 1.
    """
    if not 0.0 <= level <= 1.0:
        raise UserError(f"level {level}: must be between 0 (parts) and 1 (groups); 0.5 is the object level")


def build_tree(
    lifted: LiftedMasks,
    edges: Int[Tensor, "2 E"],
    feature: Float[Tensor, "A F"] | None = None,
    config: GroupingConfig = DEFAULTS,
    language: Float[Tensor, "M D"] | None = None,
) -> InstanceTree:
    """Merge anchors into an instance tree.

    Args:
        lifted: the masks lifted onto the A anchors.
        edges: the anchor graph.
        feature: instance features of a trained run, as further evidence.
        config: thresholds.
        language: an image-text feature per mask, as evidence of what is one thing.
    """
    seen = lifted.visible >= config.seen
    rows = Rows.of(lifted, keep=seen)
    joined = edges[:, seen[edges[0]] & seen[edges[1]]].cpu().numpy()
    if feature is not None:
        feature = torch.nn.functional.normalize(feature.detach().float(), dim=1).cpu().numpy()
    merges = merge_regions(rows, joined, feature, config)
    return adopt_unseen(_tree_of(merges, lifted, seen, config, language), edges)


@cache
def warm_up(device: torch.device) -> None:
    """Load, or on a new machine compile, what `build_tree` and `refine_anchors` run: their first call takes seconds.

    Does nothing from the second time on.
    """
    units, ones = torch.arange(4, device=device), torch.ones(4, device=device)
    masks = torch.zeros(2, dtype=torch.long, device=device)
    row = torch.arange(5, device=device)
    lifted = LiftedMasks(row, units // 2, ones, row, units * 0, 2 * ones, ones, masks, 2 * ones[:2], 1)
    build_tree(lifted, torch.stack((units[:-1], units[1:])))
    Rows.of(lifted).affinities(units[:-1], units[1:], DEFAULTS.scoring)


def _tree_of(
    merges: Merges, lifted: LiftedMasks, seen: Bool[Tensor, " A"], config: GroupingConfig, language: Tensor | None
) -> InstanceTree:
    """The candidates among the merged regions as a tree, less those that too few masks vote for."""
    found = candidates(merges, config)
    to = {"device": lifted.row.device}
    parent, last = torch.as_tensor(found.parent, **to), torch.as_tensor(found.last, **to)
    anchor_node = torch.where(seen, torch.as_tensor(found.anchor_node, **to), -1)
    empty = torch.zeros(len(parent), **to)
    tree = InstanceTree(parent, last, empty, empty.long(), empty, anchor_node, seen)
    area = lifted.accounted.double().cpu().numpy()
    first = elect(tree.lift(lifted), area, found.last, found.sure, config)
    number = np.where(first.kept, np.cumsum(first.kept) - 1, -1)
    tree = tree.keep(torch.as_tensor(first.kept, **to))
    about = np.append(number, -1)[first.about]
    parent = lift_out(tree.lift(lifted), tree.parent.cpu().numpy(), about, config)
    tree, order = nested(tree, lifted, parent, tree.anchor_node)
    affinity = found.affinity[first.kept][order]
    nodes = tree.lift(lifted)
    again = elect(nodes, area, tree.last.cpu().numpy(), np.ones(tree.num_nodes, bool), config)
    up, visible = tree.parent.cpu().numpy(), nodes.visible.double().cpu().numpy()
    kin = None if language is None else kinship(up, visible, again.about, language.float().cpu().numpy(), config)
    is_object = objects(up, again.votes, visible, affinity, config, kin)
    level = levels(up, is_object, again.votes / visible.clip(1e-9))
    return replace(tree, level=torch.as_tensor(level, dtype=torch.float32, **to))


def nested(
    tree: InstanceTree, lifted: LiftedMasks, parent: np.ndarray, anchor_node: Int[Tensor, " A"]
) -> tuple[InstanceTree, np.ndarray]:
    """A tree of other parents, perhaps with more nodes, and the old number of each node; nodes without anchors go.

    Sizes and support are measured, levels are still to come.
    """
    to = {"device": tree.parent.device}
    order, last = preorder(np.arange(len(parent)), parent)
    number = np.full(len(parent) + 1, -1)
    number[order] = np.arange(len(order))
    anchor_node = torch.as_tensor(number, **to)[anchor_node]
    empty = torch.zeros(len(parent), **to)
    out = InstanceTree(
        torch.as_tensor(number[parent[order]], **to), torch.as_tensor(last, **to), empty, empty.long(), empty,
        anchor_node, tree.seen,
    )  # fmt: skip
    held = anchor_node >= 0
    size = out.subtree_sum(torch.bincount(anchor_node[held], minlength=out.num_nodes).float()).round().long()
    nodes = out.lift(lifted)
    support = empty.scatter_reduce(0, nodes.view_unit, nodes.total, "amax")
    out = replace(out, size=size, support=support)
    left = size > 0
    return (out, order) if bool(left.all()) else (out.keep(left), order[left.cpu().numpy()])


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
