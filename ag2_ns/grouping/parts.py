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
"""Guesses per object at most: bounds memory to some 2 kB per unit of what goes through the rounds at once. Of more
masks some are passed over."""

UNITS_AT_ONCE, CELLS_AT_ONCE = 1 << 18, 1 << 16
"""Units, and objects times views, that go through the rounds at once on a GPU; there may be one larger object."""

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
class _Objects:
    """O objects that go through the rounds at once: U units, M times that a mask lies on an object, weights.

    Units and masks of one object come after those of another. There is a cell for each of the V views of each object.
    """

    node: list[int]
    unit: Int[Tensor, " U"]
    owner: Int[Tensor, " U"]
    """The object of each unit, 0 to O - 1."""
    inside: Float[Tensor, "U M"]
    """Sparse: weights in the masks."""
    shown: Float[Tensor, "U O*V"]
    """Sparse: visible areas."""
    cell: Int[Tensor, " M"]
    area: Float[Tensor, " M"]
    num_views: int

    @property
    def mask_owner(self) -> Int[Tensor, " M"]:
        """The object of each mask."""
        return torch.div(self.cell, self.num_views, rounding_mode="floor")

    def by_view(self, cells: Float[Tensor, "O*V K"]) -> Float[Tensor, "O V K"]:
        """Values by object and view."""
        return cells.view(len(self.node), self.num_views, -1)


@dataclass(frozen=True)
class _Object:
    """One object, on the CPU."""

    unit: Int[Tensor, " U"]
    in_mask: Float[Tensor, " M"]
    """Its weight in each mask that lies on it."""
    in_view: Float[Tensor, " V"]
    """Its visible area in each view."""
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
    at_once: int | None = None,
) -> tuple[InstanceTree, Int[Tensor, " U"], LiftedMasks]:
    """The tree with other nodes below its objects: the parts that masks recur for. Objects and groups stay as they are.

    Args:
        tree: over A anchors.
        lifted: the masks lifted onto U units, Gaussians or the anchors themselves.
        unit_anchor: the anchor of each unit.
        unit_xyz: where the units are.
        anchor_xyz: where the anchors are.
        config: thresholds.
        at_once: units, of whole objects, that go through the rounds at once; by default many on a GPU, where a small
            object is little work in many launches, and those of one object on a CPU.

    Returns:
        The tree; the anchor of each unit: one of a part moves to the nearest anchor of that part; the masks lifted onto
        the anchors since.
    """
    device = lifted.row.device
    seeds = _at(tree.anchor_node, unit_anchor)
    parents: list[int] = []
    leaf = torch.full_like(unit_anchor, -1, device="cpu")
    at_once = (UNITS_AT_ONCE if device.type == "cuda" else 0) if at_once is None else at_once
    for some in _objects(tree, lifted, unit_anchor, config, at_once):
        for node, each, sets in recurring(some, _given(some, tree, seeds), config):
            found = _elected(each, sets, config)
            if not found.member.shape[1]:
                continue
            up, lowest = _nest(found)
            first = tree.num_nodes + len(parents)
            parents += [node if p < 0 else first + p for p in up]
            leaf[each.unit] = torch.where(lowest >= 0, lowest + first, -1)
    leaf = leaf.to(device)
    parent = torch.cat([tree.parent, torch.tensor(parents, dtype=torch.long, device=device)])
    return _placed(tree, parent, leaf, lifted, unit_anchor, unit_xyz, anchor_xyz)


def _objects(
    tree: InstanceTree, lifted: LiftedMasks, unit_anchor: Int[Tensor, " U"], config: GroupingConfig, at_once: int
) -> Iterator[_Objects]:
    """The objects that masks lie on, some at a time."""
    node = _at(tree.cut(0.5), unit_anchor)
    order = torch.argsort(node, stable=True)
    numbers, count = (t.cpu() for t in torch.unique_consecutive(node[order], return_counts=True))
    level, area = tree.level.cpu(), lifted.accounted.double()
    groups, size = [], 0
    for number, unit in zip(numbers.tolist(), order.split(count.tolist())):
        if number < 0 or level[number] > 0.5 + 1e-6:  # the rest of a group
            continue
        size += len(unit)
        if not groups or size > at_once or (len(groups[-1]) + 1) * lifted.num_views > CELLS_AT_ONCE:
            groups.append([])
            size = len(unit)
        groups[-1].append((number, unit))
    for some in groups:
        found = _with_masks(some, lifted, area, config)
        if found is not None:
            yield found


def _with_masks(
    some: list[tuple[int, Int[Tensor, " U"]]], lifted: LiftedMasks, area: Tensor, config: GroupingConfig
) -> _Objects | None:
    """Some objects, given by node and units, with the masks that lie on them; None where there are too few."""
    device, views = area.device, lifted.num_views
    unit = torch.cat([u for _, u in some])
    owner, _ = spread(torch.tensor([len(u) for _, u in some], device=device))
    who, entry = spread(lifted.row[unit + 1] - lifted.row[unit], lifted.row[unit])
    weight = lifted.weight[entry].double()
    pair, which = torch.unique(owner[who] * lifted.num_masks + lifted.mask[entry], return_inverse=True)
    mask, of = pair % lifted.num_masks, torch.div(pair, lifted.num_masks, rounding_mode="floor")
    on = scatter_sum(weight, which, len(pair)) >= config.part_inside * area[mask].clamp_min(1e-9)
    on &= (torch.bincount(of[on], minlength=len(some)) >= FEW_MASKS)[of]
    mask, of, place, here = mask[on], of[on], torch.cumsum(on, 0) - 1, on[which]
    if len(mask) == 0:
        return None
    inside = _sparse(who[here], place[which[here]], weight[here], (len(unit), len(mask)))
    seer, seen = spread(lifted.view_row[unit + 1] - lifted.view_row[unit], lifted.view_row[unit])
    cell = owner[seer] * views + lifted.view[seen]
    shown = _sparse(seer, cell, lifted.total[seen].double(), (len(unit), len(some) * views))
    nodes = [number for number, _ in some]
    return _Objects(nodes, unit, owner, inside, shown, of * views + lifted.mask_view[mask], area[mask], views)


def _given(of: _Objects, tree: InstanceTree, seeds: Int[Tensor, " U"]) -> Bool[Tensor, "U G"]:
    """The units of the nodes below each object: first guesses."""
    node = torch.tensor(of.node, device=seeds.device)
    count = tree.last[node] - node
    inner = node[:, None] + 1 + torch.arange(int(count.max()), device=node.device)
    last = torch.where(inner <= tree.last[node, None], tree.last[inner.clamp_max(tree.num_nodes - 1)], -1)
    seed = seeds[of.unit, None]
    return (seed >= inner[of.owner]) & (seed <= last[of.owner])


def _sparse(row: Tensor, column: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
    with torch.sparse.check_sparse_tensor_invariants(True):
        return torch.sparse_coo_tensor(torch.stack((row, column)), value, size, is_coalesced=True)


def _sums(weights: Tensor, dim: int) -> Tensor:
    """Dense sums of a sparse matrix over one dimension."""
    return scatter_sum(weights.values(), weights.indices()[1 - dim], weights.shape[1 - dim])


def recurring(
    of: _Objects, given: Bool[Tensor, "U G"], config: GroupingConfig = DEFAULTS
) -> Iterator[tuple[int, _Object, _Sets]]:
    """Sets of each object's units that masks of several views agree on: (node, object, sets), on the CPU.

    Column k of what follows is the k-th set of each object; objects with fewer sets have empty ones, which fit nothing.

    Args:
        of: the objects.
        given: first guesses, beside those that come from the masks.
        config: thresholds.
    """
    by_mask, by_cell = of.inside.t().coalesce(), of.shown.t().coalesce()
    member, size = torch.cat((given, _guesses(of, given)), 1), _sums(of.shown, 1)
    for last in [False] * ROUNDS + [True]:
        member = torch.cat((given, member), 1) if last else member  # in case they were better before
        sets = member.double()
        held, total = by_mask @ sets, by_cell @ sets
        iou = held / (of.area[:, None] + total[of.cell] - held).clamp_min(1e-9)
        where = of.cell[:, None].expand_as(iou)
        best = torch.zeros_like(total).scatter_reduce_(0, where, iou, "amax")
        least = LEAST * of.by_view(best).topk(min(BEST, of.num_views), 1).values.mean(1, keepdim=True)
        votes = (of.by_view(best) >= least.clamp_min(config.part_vote)).view(best.shape)
        fit = of.by_view(total * best).sum(1) / of.by_view(total).sum(1).clamp_min(1e-9)
        fit = fit * (of.by_view(votes).sum(1) > 1)
        keep = _different(of, sets, size, fit, SAME if last else ALIKE)
        if last or not keep.shape[1]:
            return _one_by_one(of, size, member, held, total, keep)
        cells = keep.repeat_interleave(of.num_views, 0)
        trust = _columns(torch.round(best / QUANTUM) * QUANTUM * votes, cells)  # so that sums are exact
        member = _voted(of, _columns(iou >= best[of.cell], keep[of.mask_owner]) * trust[of.cell], trust)
    raise AssertionError("unreachable")


def _guesses(of: _Objects, given: Bool[Tensor, "U G"]) -> Bool[Tensor, "U K"]:
    """The masks of each object, of all sizes, as sets of units."""
    owner, count = of.mask_owner, torch.bincount(of.mask_owner, minlength=len(of.node))
    own = torch.zeros(len(of.node), given.shape[1], device=given.device).index_add_(0, of.owner, given.float()) > 0
    every = -(-count // (GUESSES - own.sum(1)).clamp_min(1))
    order = torch.argsort(_sums(of.inside, 0), stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    of_object, rank = spread(count)  # in that order
    chosen = rank % every[of_object] == 0
    some, column = order[chosen], torch.div(rank, every[of_object], rounding_mode="floor")[chosen]
    width = int(column.max()) + 1
    masks = torch.zeros(len(order), width, dtype=torch.double, device=order.device)
    views = torch.zeros(of.shown.shape[1], width, dtype=torch.double, device=order.device)
    masks[some, column] = views[of.cell[some], column] = 1.0
    return _voted(of, masks, views)


def _voted(of: _Objects, masks: Float[Tensor, "M K"], views: Float[Tensor, "O*V K"]) -> Bool[Tensor, "U K"]:
    """The units that lie mostly in the masks that vote, of what the voting views show of them."""
    return of.inside @ masks > 0.5 * (of.shown @ views)


def _columns(values: Tensor, columns: Int[Tensor, "R K"]) -> Tensor:
    """Some columns of each row; zeros for column -1."""
    return torch.where(columns >= 0, values.gather(1, columns.clamp_min(0)), values.new_zeros(()))


def _different(of: _Objects, sets: Tensor, size: Tensor, fit: Float[Tensor, "O K"], same: float) -> Int[Tensor, "O L"]:
    """The sets of each object that fit at all, the best of those that are the same; filled up with -1."""
    units = torch.bincount(of.owner, minlength=len(of.node)).tolist()
    both = torch.stack([own.T @ (own * area[:, None]) for own, area in zip(sets.split(units), size.split(units))])
    each = both.diagonal(dim1=1, dim2=2)
    alike = both / (each[:, :, None] + each[:, None] - both).clamp_min(1e-9) > same
    keep = [_best(*one) for one in zip(alike.cpu().numpy(), fit.cpu().numpy())]
    out = np.full((len(keep), max(map(len, keep))), -1)
    for row, kept in zip(out, keep):
        row[: len(kept)] = kept
    return torch.from_numpy(out).to(sets.device)


def _best(alike: np.ndarray, fit: np.ndarray) -> list[int]:
    """The sets of one object that fit, from the best on, without those that are like a better one."""
    keep: list[int] = []
    gone = fit <= 0
    for k in np.argsort(-fit, kind="stable").tolist():
        if not gone[k]:
            keep.append(k)
            gone |= alike[k]
    return keep


def _one_by_one(
    of: _Objects, size: Tensor, member: Bool[Tensor, "U K"], held: Tensor, total: Tensor, keep: Int[Tensor, "O L"]
) -> Iterator[tuple[int, _Object, _Sets]]:
    """The objects with sets, and those sets of each that are to `keep`."""
    owners, places = of.mask_owner, keep.repeat_interleave(of.num_views, 0)
    rows = (of.unit, size, _columns(member, keep[of.owner]))
    masks = (_sums(of.inside, 0), of.cell % of.num_views, of.area, _columns(held, keep[owners]))
    views = (_sums(of.shown, 0), _columns(total, places))
    parts = []
    for tensors, owner in ((rows, of.owner), (masks, owners)):
        lengths = torch.bincount(owner, minlength=len(of.node)).tolist()
        parts += [t.cpu().split(lengths) for t in tensors]
    parts += [t.cpu().split(of.num_views) for t in views]
    counts = (keep >= 0).sum(1).tolist()
    for node, k, unit, area_of, inside, in_mask, view, area, some, in_view, shown in zip(of.node, counts, *parts):
        if k:
            yield (
                node,
                _Object(unit, in_mask, in_view, view, area),
                _Sets(inside[:, :k], some[:, :k], shown[:, :k], area_of),
            )


def _elected(of: _Object, sets: _Sets, config: GroupingConfig) -> _Sets:
    """Those sets that enough views vote for, the object itself being a candidate too.

    Every mask votes for what it fits best. The set with the least behind it goes, and the masks vote again, until each
    has enough: what counts is the share of the views that vote and the share of the set that they show, so that a set
    that few views see needs most of them. Inside a part there are pieces of patterns, which recur too: there it takes
    nearly as much as the part has.
    """
    held = torch.cat((sets.held, of.in_mask[:, None]), 1)
    total = torch.cat((sets.total, of.in_view[:, None]), 1)
    iou = (held / (of.area[:, None] + total[of.view] - held).clamp_min(1e-9)).numpy()
    total, view = total.numpy(), of.view.numpy()
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
    return sets.some(torch.from_numpy(alive[:-1]))


def _around(sets: _Sets) -> Bool[np.ndarray, "K K"]:
    """Whether the first set is around the second: larger, and holds more than half of it."""
    member = sets.member.double()
    both = member.T @ (member * sets.size[:, None])
    place = torch.argsort(torch.argsort(both.diagonal(), descending=True, stable=True))
    holds = both > 0.5 * both.diagonal()
    return (holds & (place[:, None] < place)).numpy()


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
