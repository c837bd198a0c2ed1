"""Gaussians re-assigned to the anchor whose region their own votes fit: mends anchors that straddle two objects.

An anchor made by grouping the Gaussians of a foreign splat may hold Gaussians of a mug and of the table below it. Once
regions exist, every Gaussian near a border between regions is compared with the regions around it by the same affinity
that merged them, from its own weights in the masks.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.csr import Rows
from ag2_ns.grouping.lifting import LiftedMasks
from ag2_ns.ops.ranges import spread


def refine_anchors(
    lifted: LiftedMasks,
    means: Float[Tensor, "N 3"],
    gaussian_anchor: Int[Tensor, " N"],
    anchor_xyz: Float[Tensor, "A 3"],
    edges: Int[Tensor, "2 E"],
    anchor_label: Int[Tensor, " A"],
    config: GroupingConfig = DEFAULTS,
) -> Int[Tensor, " N"]:
    """The anchor of every Gaussian after moving those that fit a neighbouring anchor's region better.

    Args:
        lifted: the masks lifted onto the N Gaussians.
        means: their centres.
        gaussian_anchor: their anchors.
        anchor_xyz: anchor centres.
        edges: the anchor graph; a Gaussian moves along one edge at most, to the nearest anchor of the better region.
        anchor_label: the region of each anchor, 0 to R - 1, or -1 for none (see `InstanceTree.cut`).
        config: thresholds.
    """
    device, num_anchors = means.device, len(anchor_xyz)
    source, target = _beside(edges, anchor_label)
    contested = contested_anchors(edges, anchor_label)
    keep = contested[source]
    source, target = source[keep], target[keep]
    if len(source) == 0:
        return gaussian_anchor
    num_labels = int(anchor_label.max()) + 1
    pair = torch.unique(source * num_labels + anchor_label[target])
    who, which = _join(gaussian_anchor, contested, torch.div(pair, num_labels, rounding_mode="floor"), num_anchors)
    label = (pair % num_labels)[which]
    regions = lifted.group(torch.where(gaussian_anchor >= 0, anchor_label[gaussian_anchor], -1), num_labels)
    keep = torch.ones(lifted.num_units + num_labels, dtype=torch.bool, device=device)
    keep[: lifted.num_units] = contested[gaussian_anchor]
    rows = Rows.of(lifted, regions, keep=keep)
    score = torch.from_numpy(rows.affinities(who, label + lifted.num_units, config.scoring)).to(device)
    stay = label == anchor_label[gaussian_anchor[who]]
    score = score + config.refine_margin * stay
    # Best label of each Gaussian: lexicographic by score, the lower label on ties.
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(who[order], stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = who[order][1:] != who[order][:-1]
    best = order[first]
    best = best[(score[best] > config.refine_margin) & ~stay[best]]
    mover, wanted = who[best], label[best]
    out = gaussian_anchor.clone()
    # Nearest anchor of the wanted region among those joined to the Gaussian's own.
    near, entry = _join_sorted(gaussian_anchor[mover], source, num_anchors)
    fits = anchor_label[target[entry]] == wanted[near]
    near, place = near[fits], target[entry[fits]]
    distance = (means[mover[near]] - anchor_xyz[place]).square().sum(1)
    order = torch.argsort(distance, descending=True, stable=True)
    out[mover[near[order]]] = _last_write(mover[near[order]], place[order], out)
    return out


def contested_anchors(edges: Int[Tensor, "2 E"], anchor_label: Int[Tensor, " A"]) -> Bool[Tensor, " A"]:
    """The anchors next to a region other than their own: only their Gaussians can move (see `refine_anchors`)."""
    source, target = _beside(edges, anchor_label)
    contested = torch.zeros(len(anchor_label), dtype=torch.bool, device=anchor_label.device)
    contested[source[anchor_label[source] != anchor_label[target]]] = True
    return contested


def _beside(edges: Int[Tensor, "2 E"], anchor_label: Int[Tensor, " A"]) -> tuple[Tensor, Tensor]:
    """Each anchor with itself and with its neighbours, where these belong to a region."""
    own = torch.arange(len(anchor_label), device=edges.device)
    source, target = torch.cat([own, edges[0], edges[1]]), torch.cat([own, edges[1], edges[0]])
    keep = anchor_label[target] >= 0
    return source[keep], target[keep]


def _last_write(index: Tensor, value: Tensor, out: Tensor) -> Tensor:
    """For every position, the value that the last of equal indices has: makes a scatter of them deterministic."""
    final = torch.zeros_like(out)
    place = torch.arange(len(index), device=index.device)
    latest = torch.full_like(out, -1).scatter_reduce_(0, index, place, "amax")
    final[latest >= 0] = value[latest[latest >= 0]]
    return final[index]


def _join(gaussian_anchor: Tensor, contested: Tensor, pair_anchor: Tensor, num_anchors: int) -> tuple[Tensor, Tensor]:
    """All (Gaussian, pair) with the Gaussian's anchor contested and equal to the pair's; pairs sorted by anchor."""
    gaussians = contested[gaussian_anchor].nonzero().squeeze(1)
    who, which = _join_sorted(gaussian_anchor[gaussians], pair_anchor, num_anchors)
    return gaussians[who], which


def _join_sorted(keys: Tensor, table: Tensor, num_keys: int) -> tuple[Tensor, Tensor]:
    """All (i, j) with keys[i] == table[j]."""
    order = torch.argsort(table, stable=True)
    count = torch.bincount(table, minlength=num_keys)
    start = torch.cumsum(count, 0) - count
    who, place = spread(count[keys], start[keys])
    return who, order[place]
