"""The graph that joins neighbouring anchors, and the questions asked of it.

Features are compared after L2 normalisation everywhere (AG2aussian, section 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.ops.neighbours import radius_edges

CELL = 16
"""Edge of the coarsest growth cell in voxels; the reach of the graph is a multiple of it."""

PROPAGATION_REACH = 2.0
"""Reach in coarsest cells for propagation (AG2aussian, section 2); for merging see `GroupingConfig.reach`."""

MAX_NEIGHBOURS = 128


@dataclass(frozen=True)
class AnchorGraph:
    """Undirected edges between anchors."""

    edges: Int[Tensor, "2 E"]
    """Each edge once as (i, j) with i < j, sorted, int64."""
    num_anchors: int
    reach: float = 0.0
    """No edge is longer than this, scene units; 0 where that is not known."""

    def __len__(self) -> int:
        return self.edges.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the edges live."""
        return self.edges.device

    def to(self, device: torch.device | str) -> AnchorGraph:
        """The same graph on `device`."""
        return AnchorGraph(self.edges.to(device), self.num_anchors, self.reach)

    def both_ways(self) -> Int[Tensor, "2 2E"]:
        """Every edge in both directions, sorted by first end: the form that message passing takes."""
        from torch_geometric.utils import to_undirected  # seconds to import: only where a graph is in use

        return to_undirected(self.edges, num_nodes=self.num_anchors)

    def degree(self) -> Int[Tensor, " A"]:
        """Edges at each anchor."""
        from torch_geometric.utils import degree

        return degree(self.edges.reshape(-1), self.num_anchors, torch.long)

    def subgraph(self, anchors: Bool[Tensor, " A"]) -> AnchorGraph:
        """The edges with both ends among `anchors`, which are renumbered in order."""
        from torch_geometric.utils import subgraph

        edges, _ = subgraph(anchors, self.edges, relabel_nodes=True, num_nodes=self.num_anchors)
        return AnchorGraph(edges, int(anchors.sum()), self.reach)

    def within(self, seeds: Bool[Tensor, " A"], hops: int) -> Bool[Tensor, " A"]:
        """The anchors at most `hops` edges away from `seeds`."""
        every = torch.ones(len(self), dtype=torch.bool, device=self.device)
        return _spread(self, seeds, every, hops)


def build_graph(
    xyz: Float[Tensor, "A 3"],
    radius: Float[Tensor, " A"],
    voxel: float,
    reach_factor: float = PROPAGATION_REACH,
    max_neighbours: int = MAX_NEIGHBOURS,
) -> AnchorGraph:
    """Join anchors closer than reach = `reach_factor` * 16 * `voxel`, where both have a radius below reach.

    Args:
        xyz: anchor centres, scene units.
        radius: how far the children of each anchor reach, scene units; A or A x 1.
        voxel: the run's voxel size, scene units.
        reach_factor: s of AG2aussian, section 2: 2 for propagation, 4 for merging and editing.
        max_neighbours: nearest neighbours that each anchor may list.

    Raises:
        ValueError: anchors that are not finite, or a reach that is not positive.
    """
    reach = reach_factor * CELL * voxel
    edges = radius_edges(xyz, reach, max_neighbours)
    small = radius.detach().reshape(len(xyz)) < reach
    return AnchorGraph(edges[:, small[edges[0]] & small[edges[1]]], len(xyz), reach)


def edge_distance(feature: Float[Tensor, "A F"], edges: Int[Tensor, "2 E"]) -> Float[Tensor, " E"]:
    """Squared distance between the normalised features of the ends of each edge, 0 to 4; differentiable."""
    unit = normalize(feature, dim=1)
    return (unit.index_select(0, edges[0]) - unit.index_select(0, edges[1])).square().sum(1)


@torch.no_grad()
def affinity(feature: Float[Tensor, "A F"], edges: Int[Tensor, "2 E"], tau: float) -> Float[Tensor, " E"]:
    """Bilateral weight exp(-|f_i - f_j|^2 / (2 tau^2)) of each edge, 0 to 1, without gradient.

    tau = 0.1 for instances, 0.05 for finer parts (AG2aussian, section 2, graph).
    """
    return edge_distance(feature, edges).mul_(-0.5 / tau**2).exp_()


def boundary_anchors(graph: AnchorGraph, selection: Bool[Tensor, " A"]) -> Bool[Tensor, " A"]:
    """The outer ends of the edges that leave `selection`."""
    i, j = graph.edges
    out = torch.zeros_like(selection)
    out[j[selection[i] & ~selection[j]]] = True
    out[i[selection[j] & ~selection[i]]] = True
    return out


@torch.no_grad()
def grow(
    graph: AnchorGraph,
    seeds: Bool[Tensor, " A"] | Int[Tensor, " K"],
    feature: Float[Tensor, "A F"],
    threshold: float,
    rounds: int,
) -> Bool[Tensor, " A"]:
    """Grow a region from `seeds` along edges whose ends differ by less than `threshold` in feature.

    Args:
        graph: the anchor graph (s = 2 for clicks).
        seeds: anchors to start from, as a mask or as indices; always part of the result.
        feature: anchor features, compared after normalisation.
        threshold: exclusive upper bound on the feature distance along an edge, 0 to 2.
        rounds: edges that the region may extend from a seed (AG2aussian, section 2: 10 for text, 50 for clicks).
    """
    if seeds.dtype != torch.bool:
        seeds = torch.zeros(graph.num_anchors, dtype=torch.bool, device=graph.device).index_fill_(0, seeds, True)
    return _spread(graph, seeds, edge_distance(feature, graph.edges) < threshold**2, rounds)


def _spread(graph: AnchorGraph, seeds: Tensor, passable: Tensor, rounds: int) -> Bool[Tensor, " A"]:
    """Breadth-first search along the passable edges, all frontiers at once."""
    i, j = graph.edges[:, passable]
    region = seeds.clone()
    for _ in range(rounds):
        a, b = region[i], region[j]
        crossing = a != b
        if not crossing.any():
            break
        region[i[crossing]] = True
        region[j[crossing]] = True
        i, j = i[~(a | b)], j[~(a | b)]  # edges that the region has reached are settled
    return region


def components(graph: AnchorGraph, keep: Bool[Tensor, " E"] | None = None) -> Int[Tensor, " A"]:
    """Connected components over the edges in `keep` (all where missing).

    Returns:
        A label for every anchor, from 0 in the order of each component's first anchor.
    """
    edges = graph.edges if keep is None else graph.edges[:, keep]
    if graph.num_anchors == 0:
        return torch.empty(0, dtype=torch.long, device=graph.device)
    if graph.edges.is_cuda:
        return components_by_labels(edges, graph.num_anchors)
    i, j = edges.numpy()
    matrix = sparse.coo_matrix((np.ones(len(i), bool), (i, j)), shape=(graph.num_anchors,) * 2)
    _, label = sparse.csgraph.connected_components(matrix, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return torch.from_numpy(np.argsort(np.argsort(first))[inverse.reshape(-1)])


def components_by_labels(edges: Int[Tensor, "2 E"], num_anchors: int) -> Int[Tensor, " A"]:
    """Lowest label wins, with pointer jumping: a logarithmic number of rounds, any device."""
    parent = torch.arange(num_anchors, device=edges.device)
    i, j = edges
    while True:
        a, b = parent[i], parent[j]
        apart = a != b
        if not apart.any():
            break
        i, j, a, b = i[apart], j[apart], a[apart], b[apart]
        # Hook the higher root under the lowest one that any of its edges offers.
        parent.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        while True:  # jump until every anchor points at a root
            jumped = parent[parent]
            if torch.equal(jumped, parent):
                break
            parent = jumped
    return torch.unique(parent, return_inverse=True)[1]
