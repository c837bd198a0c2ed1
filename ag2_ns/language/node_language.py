"""Language on instances: every tree node takes the image-text features of the masks that it matches.

Per view, the mask with the largest soft IoU against the node's visible part speaks for the view; its feature counts by
IoU squared and by how much of the node the view sees. Views that disagree with the others (a mask that swallowed the
neighbour, a crop that shows something else) are left out. How well and how often a node was matched is kept beside its
feature, so that a query can trust a whole object more than a fragment seen twice. (Matching by soft IoU replaces
AG2aussian's per-region renders, section 3.4; outlier rejection after ReLaGS, CVPR 2026.)
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.lifting import LiftedMasks
from ag2_ns.grouping.tree import InstanceTree

OUTLIER = 3.0
"""A view is left out when its cosine to the node's mean lies this many standard deviations (1.4826 MAD) below the
median."""

LEAST_SPREAD = 0.02
"""Floor of that deviation: closer views are never outliers."""

CHUNK = 65536
"""Matches whose features are added up at a time: bounds memory."""

ROUNDS = 2
"""Times the mean is taken again without the outliers."""


@dataclass(frozen=True)
class NodeLanguage:
    """One image-text feature per tree node, and how far to trust it."""

    feature: Float[Tensor, "R D"]
    """Unit length, half precision; zero where no mask with a feature overlaps the node."""
    support: Float[Tensor, " R"]
    """Views' worth of evidence: visible part of the node, relative to its best view, that masks cover; summed."""
    quality: Float[Tensor, " R"]
    """Mean soft IoU with the best mask of each view, over that evidence, 0 to 1."""

    trust: Float[Tensor, " R"]
    """How far to believe the feature, 0 to 1; 0 where there is none (see `trust_of`)."""

    def to(self, device: torch.device | str) -> NodeLanguage:
        """The same on `device`."""
        return NodeLanguage(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class Matches:
    """The best mask of each view for each node: B rows, by node, then by view."""

    node: Int[Tensor, " B"]
    mask: Int[Tensor, " B"]
    iou: Float[Tensor, " B"]
    best_iou: Float[Tensor, " B"]
    """Largest IoU of the mask with any node."""
    visible: Float[Tensor, " B"]
    """Visible area of the node in the view, relative to its largest one."""


def match_masks(tree: InstanceTree, lifted: LiftedMasks) -> tuple[Matches, Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Match every node with the masks of every view.

    Args:
        tree: the instance tree over A anchors.
        lifted: the masks lifted onto the anchors.

    Returns:
        The matches, and support and quality of every node (see `NodeLanguage`).
    """
    nodes = tree.lift(lifted)
    num, views, device = tree.num_nodes, lifted.num_views, lifted.row.device
    area = lifted.accounted
    cell = nodes.view_unit * views + nodes.view
    peak = torch.zeros(num, device=device).scatter_reduce_(0, nodes.view_unit, nodes.total, "amax")
    evidence = nodes.covered / peak[nodes.view_unit].clamp_min(1e-12)
    support = torch.zeros(num, device=device).index_add_(0, nodes.view_unit, evidence)

    entry_cell = nodes.unit * views + lifted.mask_view[nodes.mask]
    at = torch.searchsorted(cell, entry_cell)
    iou = nodes.weight / (nodes.total[at] + area[nodes.mask] - nodes.weight).clamp_min(1e-12)
    best = torch.zeros(len(cell), device=device).scatter_reduce_(0, at, iou, "amax")
    quality = torch.zeros(num, device=device).index_add_(0, nodes.view_unit, evidence * best)
    quality = quality / support.clamp_min(1e-12)
    # The first entry that attains each cell's best.
    place = torch.arange(len(iou), device=device)
    winner = torch.full((len(cell),), len(iou), device=device)
    winner.scatter_reduce_(0, at, torch.where(iou >= best[at], place, len(iou)), "amin")
    chosen = winner[winner < len(iou)]
    seen = nodes.total[at[chosen]] / peak[nodes.unit[chosen]].clamp_min(1e-12)
    by_mask = torch.zeros(lifted.num_masks, device=device).scatter_reduce_(0, nodes.mask, iou, "amax")
    mask = nodes.mask[chosen]
    return Matches(nodes.unit[chosen], mask, iou[chosen], by_mask[mask], seen), support, quality.clamp(0, 1)


def node_language(tree: InstanceTree, lifted: LiftedMasks, features: Float[Tensor, "M D"]) -> NodeLanguage:
    """Language of every node from the features of all masks.

    Args:
        tree: the instance tree over A anchors.
        lifted: the masks lifted onto the anchors.
        features: one image-text feature per mask, in the order of `lifted`; a row of zeros or NaN means none.

    Raises:
        UserError: another number of features than masks.
    """
    if features.shape[0] != lifted.num_masks:
        raise UserError(
            f"there are {features.shape[0]} features for {lifted.num_masks} masks; run `ag2 prepare` again so that "
            "every mask has one"
        )
    matches, support, quality = match_masks(tree, lifted)
    num, dim = tree.num_nodes, features.shape[1]
    if num == 0 or dim == 0:
        empty = torch.zeros(num, dim, dtype=torch.half, device=support.device)
        return NodeLanguage(empty, support, quality, torch.zeros_like(support))
    unit = torch.nan_to_num(features.to(support.device, torch.float32))
    unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(1e-12)
    valued = unit.abs().amax(1)[matches.mask] > 0
    node, mask = matches.node[valued], matches.mask[valued]
    weight = (matches.iou.square() * matches.visible)[valued]
    kept = torch.ones_like(weight)
    for _ in range(ROUNDS + 1):
        mean = _weighted_mean(unit, mask, weight * kept, node, num)
        cosine = (mean[node] * unit[mask]).sum(1)
        middle = group_median(cosine, node, num)
        spread = 1.4826 * group_median((cosine - middle[node]).abs(), node, num)
        kept = (cosine >= (middle - OUTLIER * spread.clamp_min(LEAST_SPREAD))[node]).float()
    described = torch.zeros(num, device=weight.device).index_add_(0, node, weight) > 0
    return NodeLanguage(mean.half(), support, quality, described * trust_of(matches, support, quality))


def trust_of(matches: Matches, support: Float[Tensor, " R"], quality: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
    """How far to believe the nodes' features.

    Two things count: how many views matched, with one more view's worth that did not; and whether the matched masks are
    about this node, or about another that they fit better (the object for its half, the table for the table with all
    that stands on it). Quality is not compared across objects: something thin or half hidden matches worse than
    something large, and is no less there. Nor do views that missed it count a second time: they weigh by their IoU.
    """
    weight = matches.visible * matches.iou
    own = torch.zeros_like(support).index_add_(0, matches.node, weight * matches.iou)
    best = torch.zeros_like(support).index_add_(0, matches.node, weight * matches.best_iou)
    matched = quality * support
    return own / best.clamp_min(1e-12) * matched / (matched + 1.0)


def _weighted_mean(unit: Tensor, mask: Tensor, weight: Tensor, node: Tensor, num: int) -> Float[Tensor, "R D"]:
    """Normalised sum of the masks' features by node."""
    total = torch.zeros(num, unit.shape[1], device=unit.device)
    for part in torch.arange(len(mask), device=unit.device).split(CHUNK):
        total.index_add_(0, node[part], unit[mask[part]] * weight[part, None])
    return total / total.norm(dim=1, keepdim=True).clamp_min(1e-12)


def group_median(value: Float[Tensor, " B"], group: Int[Tensor, " B"], num: int) -> Float[Tensor, " R"]:
    """Median by group (the lower one of two middle values); 0 for empty groups."""
    order = torch.argsort(value, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=num)
    start = torch.cumsum(count, 0) - count
    middle = (start + (count - 1).clamp_min(0) // 2).clamp_max(max(len(value) - 1, 0))
    if len(value) == 0:
        return torch.zeros(num, device=value.device)
    return torch.where(count > 0, value[order[middle]], torch.zeros(num, device=value.device))
