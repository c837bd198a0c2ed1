"""Super-anchors: instances as regions of the anchor graph with one peak of the feature density.

AG2aussian, section 2: mean-shift along graph edges, union of neighbouring peaks, fragments attached. Deterministic on
one device; every step works on whole tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.grouping.anchor_graph import AnchorGraph, components, edge_distance
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.ops.neighbours import nearest

PIECE = {"cpu": 1 << 16, "cuda": 1 << 22}
"""Anchor-neighbour entries shifted at a time: one cache's worth, or some 0.2 GB at F = 3."""


@torch.no_grad()
def super_anchors(
    feature: Float[Tensor, "A F"],
    xyz: Float[Tensor, "A 3"],
    graph: AnchorGraph,
    bandwidth: float = DEFAULTS.part_bandwidth,
    config: GroupingConfig = DEFAULTS,
) -> Int[Tensor, " A"]:
    """Group anchors into instances.

    Features shift to a peak each (`mean_shift`); anchors whose peaks are closer than `peak_share` of the bandwidth
    along an edge belong together; a group below `min_size` anchors joins the big group at its most similar edge, else
    the one of the nearest big-group anchor within `fragment_reach` reaches, else it stays.

    Args:
        feature: trained anchor features, normalised here.
        xyz: anchor centres, scene units.
        graph: the merging graph (s = 4); without a reach, fragments are attached along edges only.
        bandwidth: of the Gaussian kernel, distance between unit features; by default the published one.
        config: the other thresholds.

    Returns:
        A label per anchor, from 0 by falling size, ties by first anchor.
    """
    if graph.num_anchors == 0:
        return torch.empty(0, dtype=torch.long, device=feature.device)
    peak = mean_shift(feature, graph, bandwidth, config)
    distance = (peak.index_select(0, graph.edges[0]) - peak.index_select(0, graph.edges[1])).square_().sum(1)
    label = components(graph, distance < (config.peak_share * bandwidth) ** 2)
    label = attach_fragments(label, feature, xyz, graph, config.fragment_reach * graph.reach, config.min_size)
    return by_size(label)


@torch.no_grad()
def mean_shift(
    feature: Float[Tensor, "A F"],
    graph: AnchorGraph,
    bandwidth: float = DEFAULTS.part_bandwidth,
    config: GroupingConfig = DEFAULTS,
) -> Float[Tensor, "A F"]:
    """The peak of the feature density around each anchor, on the unit sphere.

    Every anchor's peak starts at its own normalised feature and moves to the mean of the features of its neighbours
    and itself under a Gaussian kernel around the peak, normalised again, until it moves less than `tolerance` or for
    `rounds` rounds. Features stay where they are, so anchors do not depend on each other and finish one by one.
    """
    unit = normalize(feature.detach(), dim=1)
    peak = unit.clone()
    piece = PIECE.get(unit.device.type, PIECE["cpu"])
    for anchors, neighbours, present in _neighbourhoods(graph, piece):
        # Channels first: a handful of channels as long rows is what both kinds of processor like.
        around = unit.T[:, neighbours]  # F B K
        bias = torch.where(present, 0.0, float("-inf")).to(unit.dtype)
        at = unit[anchors].T.contiguous()  # F B
        active, moving = anchors, torch.ones_like(anchors, dtype=torch.bool)
        for _ in range(config.rounds):
            # |y - x|^2 = 2 - 2 y.x on the sphere
            weight = torch.addcmul(bias, at[0, :, None], around[0])
            for y, x in zip(at[1:], around[1:]):
                weight.addcmul_(y[:, None], x)
            weight = weight.sub_(1).div_(bandwidth**2).exp_()
            moved = normalize(torch.stack([(weight * x).sum(1) for x in around]), dim=0)
            moved = torch.where(moving, moved, at)
            moving = (moved - at).square().sum(0) >= config.tolerance**2
            at = moved
            left = int(moving.sum())
            if left == 0:
                break
            if left < 0.7 * len(active):
                peak[active] = at.T
                active, at = active[moving], at[:, moving]
                around, bias, moving = around[:, moving], bias[moving], moving[moving]
        peak[active] = at.T
    return peak


def _neighbourhoods(graph: AnchorGraph, piece: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Anchors of similar degree together: (B anchors, B x K of themselves and their neighbours, B x K presence).

    Anchors without edges are left out. B x K is about `piece`.
    """
    start, end = graph.both_ways()
    degree = torch.bincount(start, minlength=graph.num_anchors)
    first = degree.cumsum(0) - degree
    order = torch.argsort(degree, stable=True)
    order = order[degree[order] > 0]
    sizes = degree[order]
    begin = 0
    while begin < len(order):
        # Rows grow along the order: the block may hold piece / (its last row) rows.
        stop = min(begin + max(piece // (int(sizes[begin]) + 1), 1), len(order))
        stop = max(begin + piece // (int(sizes[stop - 1]) + 1), begin + 1)
        anchors = order[begin : min(stop, len(order))]
        column = torch.arange(int(degree[anchors[-1]]), device=start.device)
        present = column < degree[anchors][:, None]
        neighbours = end[(first[anchors][:, None] + column).clamp_(max=len(end) - 1)]
        itself = torch.ones_like(present[:, :1])
        yield anchors, torch.cat([anchors[:, None], neighbours], 1), torch.cat([itself, present], 1)
        begin += len(anchors)


@torch.no_grad()
def attach_fragments(
    label: Int[Tensor, " A"],
    feature: Float[Tensor, "A F"],
    xyz: Float[Tensor, "A 3"],
    graph: AnchorGraph,
    reach: float,
    min_size: int = DEFAULTS.min_size,
) -> Int[Tensor, " A"]:
    """Give every group of fewer than `min_size` anchors to a big group.

    First choice: across the edge with the smallest feature distance to a big group (ties: lower label). Else: the
    group of the nearest big-group anchor closer than `reach` (ties: lower label). Else the group stays as it is.

    Args:
        label: groups, 0 .. S-1.
        feature: anchor features, normalised here.
        xyz: anchor centres, scene units.
        graph: the merging graph.
        reach: scene units.
        min_size: anchors of the smallest big group.
    """
    size = torch.bincount(label)
    big = size >= min_size
    if big.all() or not big.any():
        return label
    target = torch.arange(len(size), device=label.device)

    i, j = graph.edges
    distance = edge_distance(feature, graph.edges)
    i, j, distance = torch.cat([i, j]), torch.cat([j, i]), distance.repeat(2)
    out = ~big[label[i]] & big[label[j]]
    small, chosen = _closest(label[i[out]], label[j[out]], distance[out], len(size))
    target[small] = chosen

    lost = ~big
    lost[small] = False
    lonely = lost[label].nonzero().squeeze(1)
    grown = big[label].nonzero().squeeze(1)
    if len(lonely):
        gap, near = (column.squeeze(1) for column in nearest(xyz[lonely], xyz[grown], 1))
        close = gap < reach
        small, chosen = _closest(label[lonely[close]], label[grown[near[close]]], gap[close], len(size))
        target[small] = chosen
    return target[label]


def _closest(group: Tensor, candidate: Tensor, distance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each group that has candidates, and its closest one (ties: the lowest)."""
    best = distance.new_full((count,), float("inf")).scatter_reduce_(0, group, distance, "amin")
    level = distance == best[group]
    lowest = torch.full((count,), count, device=group.device)
    lowest.scatter_reduce_(0, group[level], candidate[level], "amin")
    found = (lowest < count).nonzero().squeeze(1)
    return found, lowest[found]


def by_size(label: Int[Tensor, " A"]) -> Int[Tensor, " A"]:
    """The same groups, numbered from 0 by falling size, ties by first anchor; unused labels vanish."""
    _, label = torch.unique(label, return_inverse=True)
    place = torch.arange(len(label), device=label.device)
    size = torch.bincount(label)
    first = torch.full_like(size, len(label)).scatter_reduce_(0, label, place, "amin")
    order = torch.argsort(first)
    order = order[torch.argsort(size[order], descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank[label]
