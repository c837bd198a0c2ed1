"""Parts of objects from masks that recur: sets of Gaussians that masks of several views agree on.

Merging joins what belongs together most. So it never has a part in two pieces (handles, wheels), and loses a thin one
to its neighbour before a mask of it speaks. Here parts come from the masks themselves. A mask of one view, lifted, is a
first guess of a part. In every other view the guess is drawn, the mask that fits it best votes, and the units
(Gaussians or anchors) that more than half of the votes hold are the next guess. Guesses that come from masks of one
part meet in one set; those of a shadow or a random cut find no votes. (Masks are assigned and averaged in turn, as
k-means does with points.) What is left is elected by the masks and nested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.lifting import QUANTUM, LiftedMasks, scatter_sum
from ag2_ns.grouping.tree import InstanceTree, nested
from ag2_ns.ops.neighbours import nearest
from ag2_ns.ops.ranges import spread

ROUNDS = 4
"""Times that guesses are drawn and voted on."""

GUESSES = 96
"""Guesses per object at most: bounds memory to some 2 kB per unit of the largest object. Of more masks some are passed
over."""

ALIKE, SAME = 0.95, 0.9
"""IoU of sets from which they are one: during the rounds, and at the end."""

BEST, LEAST = 5, 0.6
"""Masks that fit a guess less than `LEAST` times as well as its best ones (mean of `BEST` views) are about something
else, and have no vote on it."""


MARGIN, SHOWN = 0.05, 1.02
"""Of sets that a mask fits nearly as well (IoU) the largest is meant, if the view shows no more of it than this times
what it shows of the one that fits best: a view that hides all but a piece cannot tell them apart."""

FEW_MASKS = 5
"""Masks on an object below which nothing is to be known of its parts."""

FEW_PAIRS = 1 << 22
"""Pairs of points up to which all distances take less time than an index."""


@dataclass(frozen=True)
class _Object:
    """One object: U of the units, M masks that lie on it, and weights."""

    unit: Int[Tensor, " U"]
    inside: Float[Tensor, "U M"]
    """Sparse: weights in the masks."""
    shown: Float[Tensor, "U V"]
    """Sparse: visible areas."""
    mask: Int[Tensor, " M"]
    view: Int[Tensor, " M"]
    """The view of each mask."""
    area: Float[Tensor, " M"]


@dataclass(frozen=True)
class _Sets:
    """K sets of units of one object, as the masks see them."""

    member: Bool[Tensor, "U K"]
    held: Float[Tensor, "M K"]
    """Weight of each set in each mask."""
    total: Float[Tensor, "V K"]
    """Its visible area in each view."""
    size: Float[Tensor, " U"]
    """Visible area of each unit, over all views."""

    def some(self, columns: Tensor) -> _Sets:
        """Some of the sets."""
        return _Sets(self.member[:, columns], self.held[:, columns], self.total[:, columns], self.size)


def add_parts(
    tree: InstanceTree,
    lifted: LiftedMasks,
    unit_anchor: Int[Tensor, " U"],
    unit_xyz: Float[Tensor, "U 3"],
    anchor_xyz: Float[Tensor, "A 3"],
    config: GroupingConfig = DEFAULTS,
) -> tuple[InstanceTree, Int[Tensor, " U"], LiftedMasks]:
    """The tree with other nodes below its objects: the parts that masks recur for. Objects and groups stay as they are.

    Args:
        tree: over A anchors.
        lifted: the masks lifted onto U units, Gaussians or the anchors themselves.
        unit_anchor: the anchor of each unit.
        unit_xyz: where the units are.
        anchor_xyz: where the anchors are.
        config: thresholds.

    Returns:
        The tree; the anchor of each unit: one of a part moves to the nearest anchor of that part; the masks lifted onto
        the anchors since.
    """
    device, area = lifted.row.device, lifted.accounted.double()
    seeds = _at(tree.anchor_node, unit_anchor)
    parents: list[int] = []
    leaf = torch.full_like(unit_anchor, -1)
    for node, each in _objects(tree, lifted, unit_anchor, area, config):
        inner = torch.arange(node + 1, int(tree.last[node]) + 1, device=device)
        of = seeds[each.unit, None]
        given = (of >= inner) & (of <= tree.last[inner])
        found = _elected(each, recurring(each, given, config), config)
        if not found.member.shape[1]:
            continue
        up, lowest = _nest(found)
        first = tree.num_nodes + len(parents)
        parents += [node if p < 0 else first + p for p in up]
        leaf[each.unit] = torch.where(lowest >= 0, lowest + first, -1)
    parent = torch.cat([tree.parent, torch.tensor(parents, dtype=torch.long, device=device)])
    return _placed(tree, parent, leaf, lifted, unit_anchor, unit_xyz, anchor_xyz)


def _objects(
    tree: InstanceTree, lifted: LiftedMasks, unit_anchor: Tensor, area: Tensor, config: GroupingConfig
) -> Iterator[tuple[int, _Object]]:
    """The objects that masks lie on, by their nodes."""
    node = _at(tree.cut(0.5), unit_anchor)
    units = torch.argsort(node, stable=True)
    numbers, count = torch.unique_consecutive(node[units], return_counts=True)
    for number, unit in zip(numbers.tolist(), units.split(count.tolist())):
        if number < 0 or tree.level[number] > 0.5 + 1e-6:  # the rest of a group
            continue
        who, entry = spread(lifted.row[unit + 1] - lifted.row[unit], lifted.row[unit])
        weight, mask = lifted.weight[entry].double(), lifted.mask[entry]
        inside = scatter_sum(weight, mask, lifted.num_masks)
        on = inside >= config.part_inside * area.clamp_min(1e-9)
        chosen = on.nonzero().squeeze(1)
        if len(chosen) < FEW_MASKS:
            continue
        place = torch.cumsum(on, 0) - 1
        some = on[mask]
        rows = _sparse(who[some], place[mask[some]], weight[some], (len(unit), len(chosen)))
        seer, seen = spread(lifted.view_row[unit + 1] - lifted.view_row[unit], lifted.view_row[unit])
        shown = _sparse(seer, lifted.view[seen], lifted.total[seen].double(), (len(unit), lifted.num_views))
        yield number, _Object(unit, rows, shown, chosen, lifted.mask_view[chosen], area[chosen])


def _sparse(row: Tensor, column: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
    with torch.sparse.check_sparse_tensor_invariants(True):
        return torch.sparse_coo_tensor(torch.stack((row, column)), value, size, is_coalesced=True)


def _sums(weights: Tensor, dim: int) -> Tensor:
    """Dense sums of a sparse matrix over one dimension."""
    return scatter_sum(weights.values(), weights.indices()[1 - dim], weights.shape[1 - dim])


def recurring(of: _Object, given: Bool[Tensor, "U G"], config: GroupingConfig = DEFAULTS) -> _Sets:
    """Sets of an object's units that masks of several views agree on.

    Args:
        of: the object.
        given: first guesses, beside those that come from the masks.
        config: thresholds.
    """
    by_mask, by_view = of.inside.t().coalesce(), of.shown.t().coalesce()
    every = -(-len(of.mask) // max(GUESSES - given.shape[1], 1))
    some = torch.argsort(_sums(of.inside, 0), stable=True)[::every]  # of all sizes
    one = lambda index, size: torch.nn.functional.one_hot(index, size).T.double()  # noqa: E731
    guesses = _voted(of, one(some, len(of.mask)), one(of.view[some], of.shown.shape[1]))
    member, size = torch.cat((given, guesses), 1), _sums(of.shown, 1)
    for last in [False] * ROUNDS + [True]:
        member = torch.cat((given, member), 1) if last else member  # in case they were better before
        sets = member.double()
        held, total = by_mask @ sets, by_view @ sets
        iou = held / (of.area[:, None] + total[of.view] - held).clamp_min(1e-9)
        where = of.view[:, None].expand_as(iou)
        best = torch.zeros_like(total).scatter_reduce_(0, where, iou, "amax")
        least = LEAST * best.topk(min(BEST, len(best)), 0).values.mean(0)
        votes = best >= least.clamp_min(config.part_vote)
        fit = (total * best).sum(0) / total.sum(0).clamp_min(1e-9)
        keep = _different(sets, size, fit * (votes.sum(0) > 1), SAME if last else ALIKE)
        if last or not len(keep):
            return _Sets(member, held, total, size).some(keep)
        trust = (torch.round(best / QUANTUM) * QUANTUM * votes)[:, keep]  # so that sums are exact
        member = _voted(of, (iou >= best[of.view])[:, keep] * trust[of.view], trust)
    raise AssertionError("unreachable")


def _voted(of: _Object, masks: Float[Tensor, "M K"], views: Float[Tensor, "V K"]) -> Bool[Tensor, "U K"]:
    """The units that lie mostly in the masks that vote, of what the voting views show of them."""
    return of.inside @ masks > 0.5 * (of.shown @ views)


def _different(sets: Tensor, size: Tensor, fit: Tensor, same: float) -> Tensor:
    """The sets that fit at all, the best of those that are the same."""
    both = sets.T @ (sets * size[:, None])
    each = both.diagonal()
    alike = (both / (each[:, None] + each - both).clamp_min(1e-9) > same).cpu().numpy()
    keep: list[int] = []
    gone = (fit <= 0).cpu().numpy()
    for k in torch.argsort(fit, descending=True, stable=True).tolist():
        if not gone[k]:
            keep.append(k)
            gone |= alike[k]
    return torch.tensor(keep, dtype=torch.long, device=sets.device)


def _elected(of: _Object, sets: _Sets, config: GroupingConfig) -> _Sets:
    """Those sets that enough views vote for, the object itself being a candidate too.

    Every mask votes for what it fits best. The set with the least behind it goes, and the masks vote again, until each
    has enough: what counts is the share of the views that vote and the share of the set that they show, so that a set
    that few views see needs most of them. Inside a part there are pieces of patterns, which recur too: there it takes
    nearly as much as the part has.
    """
    held = torch.cat((sets.held, _sums(of.inside, 0)[:, None]), 1)
    total = torch.cat((sets.total, _sums(of.shown, 0)[:, None]), 1)
    iou = (held / (of.area[:, None] + total[of.view] - held).clamp_min(1e-9)).cpu().numpy()
    total, view = total.cpu().numpy(), of.view.cpu().numpy()
    fits = np.where(iou >= config.part_vote, iou, 0.0)
    whole, views = fits.shape[1] - 1, len(np.unique(view))
    alive = np.append(total[:, :-1].sum(0) < config.part_most * total[:, -1].sum(), True)
    fits[:, ~alive] = 0.0
    visible, shown = total.sum(0).clip(1e-9), total[view]
    around = np.append(_around(sets), np.ones((1, whole), bool), 0)
    while True:
        first = fits.argmax(1)[:, None]
        close = fits >= np.take_along_axis(fits, first, 1) - MARGIN
        close &= shown <= SHOWN * np.take_along_axis(shown, first, 1)
        best = np.where(close, visible, 0.0).argmax(1)
        voted = np.zeros(total.shape, bool)
        some = fits[np.arange(len(best)), best] > 0
        voted[view[some], best[some]] = True
        score = np.sqrt(voted.sum(0) / views * (total * voted).sum(0) / visible)
        score[whole] = 0.0  # takes no evidence to be around a part
        outer = score[np.where(around & alive[:, None], visible[:, None], np.inf).argmin(0)]
        has = score[:-1] / np.maximum(config.part_views, config.part_nested * outer)
        has[~alive[:-1]] = np.inf
        if not (has < 1).any():
            break
        least = int(has.argmin())
        alive[least], fits[:, least] = False, 0.0
    return sets.some(torch.as_tensor(alive[:-1], device=held.device))


def _around(sets: _Sets) -> Bool[np.ndarray, "K K"]:
    """Whether the first set is around the second: larger, and holds more than half of it."""
    member = sets.member.double()
    both = member.T @ (member * sets.size[:, None])
    place = torch.argsort(torch.argsort(both.diagonal(), descending=True, stable=True))
    holds = both > 0.5 * both.diagonal()
    return (holds & (place[:, None] < place)).cpu().numpy()


def _nest(sets: _Sets) -> tuple[list[int], Int[Tensor, " U"]]:
    """Sets in each other: (the set around each, -1 for none, larger ones first; the smallest set of each unit)."""
    order = torch.argsort(sets.member.T.double() @ sets.size, descending=True, stable=True)
    up = [int(row.nonzero()[0][-1]) if row.any() else -1 for row in _around(sets.some(order)).T]
    smallest = torch.arange(len(order), device=order.device).expand_as(sets.member)
    return up, torch.where(sets.member[:, order], smallest, -1).amax(1)


def _placed(
    tree: InstanceTree,
    parent: Int[Tensor, " R+P"],
    leaf: Int[Tensor, " U"],
    lifted: LiftedMasks,
    unit_anchor: Int[Tensor, " U"],
    unit_xyz: Float[Tensor, "U 3"],
    anchor_xyz: Float[Tensor, "A 3"],
) -> tuple[InstanceTree, Int[Tensor, " U"], LiftedMasks]:
    """The tree with parts instead of the nodes below its objects, and units at anchors of their parts."""
    device, num = tree.parent.device, len(parent)
    top = tree.cut(0.5)
    leaf = torch.where(leaf >= 0, leaf, _at(top, unit_anchor))
    weight = lifted.visible.double()
    seen = (leaf >= 0) & (weight > 0)
    pair, which = torch.unique(unit_anchor[seen] * num + leaf[seen], return_inverse=True)
    total = scatter_sum(weight[seen], which, len(pair))
    pair = pair[torch.argsort(total, stable=True)]
    anchor, node = torch.div(pair, num, rounding_mode="floor"), pair % num
    place = torch.arange(len(pair), device=device)
    anchor_node = torch.where(top >= 0, top, tree.anchor_node)
    # Each anchor belongs where most of its units do; a part too thin for that has the anchor that holds most of it.
    most = torch.full_like(anchor_node, -1).scatter_reduce_(0, anchor, place, "amax")
    anchor_node[most >= 0] = node[most[most >= 0]]
    without = torch.bincount(anchor_node[anchor_node >= 0], minlength=num)[node] == 0
    most = torch.full_like(parent, -1).scatter_reduce_(0, node[without], place[without], "amax")
    most = most[most >= 0]
    thin = torch.full_like(anchor_node, -1).scatter_reduce_(0, anchor[most], node[most], "amax")
    anchor_node = torch.where(thin >= 0, thin, anchor_node)
    out = unit_anchor.clone()
    lost = seen & (leaf != _at(anchor_node, unit_anchor))
    for n in torch.unique(leaf[lost]).tolist():
        here = (anchor_node == n).nonzero().squeeze(1)
        who = (lost & (leaf == n)).nonzero().squeeze(1)
        if len(here):
            out[who] = here[_closest(unit_xyz[who], anchor_xyz[here])]
    stays = torch.cat([tree.level >= 0.5 - 1e-6, torch.ones(num - tree.num_nodes, dtype=torch.bool, device=device)])
    by_anchor = lifted.group(out, tree.num_anchors)
    made, order = nested(tree, by_anchor, parent.cpu().numpy(), anchor_node)
    stays, known = stays.cpu().numpy()[order], order < tree.num_nodes
    made = made.keep(torch.as_tensor(stays, device=device))
    level = np.append(tree.level.cpu().numpy(), np.zeros(num))[order[stays]]
    level = _levels(made.parent.cpu().numpy(), level, known[stays])
    return replace(made, level=level.to(device)), out, by_anchor


def _at(values: Int[Tensor, " A"], unit_anchor: Int[Tensor, " U"]) -> Int[Tensor, " U"]:
    """The value of each unit's anchor, -1 for units without one."""
    return torch.where(unit_anchor >= 0, values[unit_anchor.clamp_min(0)], -1)


def _closest(xyz: Float[Tensor, "Q 3"], others: Float[Tensor, "N 3"]) -> Int[Tensor, " Q"]:
    """The nearest of the others to each point."""
    if len(xyz) * len(others) > FEW_PAIRS:
        return nearest(xyz, others, 1)[1].squeeze(1)
    return torch.cdist(xyz, others, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


def _levels(parent: np.ndarray, level: np.ndarray, known: np.ndarray) -> Float[Tensor, " R"]:
    """The levels of a tree, in steps from 0, the finest part, to 0.5, the object; those that are known stay."""
    inside = np.zeros(len(parent))
    for n in range(len(parent) - 1, -1, -1):
        if not known[n]:
            inside[parent[n]] = max(inside[parent[n]], inside[n] + 1)
    steps = inside.copy()
    for n, up in enumerate(parent):
        if not known[n]:
            steps[n] = steps[up]
            level[n] = 0.5 * inside[n] / steps[n]
    return torch.as_tensor(level, dtype=torch.float32)
