"""From a dendrogram of thousands of merges to the regions that may be parts, objects or groups.

Most merges only grow one region. Regions that stand apart at the object affinity become nodes of the tree in any case
(the condensed tree of HDBSCAN, Campello et al. 2013, at one density); others that resemble masks at some point of their
growth are candidates, which `consensus.py` elects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.merge import Merges
from ag2_ns.ops.jit import jit


@dataclass(frozen=True)
class Candidates:
    """R regions in preorder: those inside region n are n + 1 to last[n]."""

    anchor_node: np.ndarray
    """[A] the smallest region that holds each anchor, -1 for none."""
    parent: np.ndarray
    """[R] the smallest region that holds each region, -1 for none."""
    last: np.ndarray
    """[R]"""
    affinity: np.ndarray
    """[R] what holds each together."""
    sure: np.ndarray
    """[R] whether it is a node of the tree in any case."""


def candidates(merges: Merges, config: GroupingConfig = DEFAULTS) -> Candidates:
    """The regions of a dendrogram that may be nodes of the instance tree."""
    num = merges.num_anchors
    kept, sure, held = _choose(
        merges.one, merges.other, merges.affinity, merges.fill, merges.fit, merges.peak,
        config.part_fill, config.object_fill, config.object, config.fit, config.growth,
    )  # fmt: skip
    above = _above(merges.one, merges.other, kept, num)
    nodes = np.flatnonzero(kept)
    order, last = preorder(nodes, above[nodes])
    number = np.full(len(kept) + 1, -1)
    number[order] = np.arange(len(order))
    leaf = np.where(kept[:num], np.arange(num), above[:num])
    return Candidates(number[leaf], number[above[order]], last, held[order], sure[order])


@jit
def _choose(one, other, affinity, fill, fit, peak, part_fill, object_fill, object_affinity, fits, growth):
    """Which regions may be nodes, which are for sure, and the affinity that holds each region together."""
    total, num = fill.shape[0], fill.shape[0] - one.shape[0]
    kept = np.zeros(total, np.bool_)
    sure = np.zeros(total, np.bool_)
    root = np.ones(total, np.bool_)
    height = np.ones(total)
    for k in range(one.shape[0]):
        a, b, x = one[k], other[k], num + k
        root[a] = root[b] = False
        filled = part_fill if affinity[k] >= object_affinity else object_fill
        full_a, full_b = fill[a] >= filled, fill[b] >= filled
        h = min(affinity[k], height[a], height[b])
        if full_a and full_b:
            sure[a] = height[a] >= object_affinity > h
            sure[b] = height[b] >= object_affinity > h
        elif full_a:  # what takes in scraps is no less certain for it
            h = height[a]
        elif full_b:
            h = height[b]
        height[x] = h
        kept[a] = sure[a] or (fit[a] >= fits and peak[b] >= growth * peak[a])
        kept[b] = sure[b] or (fit[b] >= fits and peak[a] >= growth * peak[b])
    for x in range(total):
        if root[x] and fill[x] >= object_fill:
            kept[x] = sure[x] = True
    return kept, sure, height


@jit
def _above(one, other, kept, num):
    """The smallest kept region that holds each region, itself excluded; -1 for none."""
    above = np.full(kept.shape[0], -1)
    for k in range(one.shape[0] - 1, -1, -1):
        x = num + k
        holder = x if kept[x] else above[x]
        above[one[k]] = holder
        above[other[k]] = holder
    return above


def objects(
    parent: np.ndarray,
    votes: np.ndarray,
    visible: np.ndarray,
    affinity: np.ndarray,
    config: GroupingConfig = DEFAULTS,
    kinship: np.ndarray | None = None,
) -> np.ndarray:
    """Which nodes are objects: those disjoint ones that account for most of what the masks show.

    Every mask votes for one node (`consensus.elect`). A node is an object rather than a group where the masks about it
    show more than those about the best objects inside it: a robot, whose masks outweigh those of its head and legs,
    but not a stack of books, whose books have more. It compares a node with its own parts only, so no absolute level
    of agreement has to be chosen. (The optimal cut of a hierarchy, as in HDBSCAN's excess of mass; Campello et al.
    2013.) What is inside a thing of two large parts, a candle and its dish, has about as many masks as the whole; it is
    known by its language: crops of both parts and of the whole say the same (`kinship`), those of a group do not.

    Args:
        parent: [R] the node above each, -1 for none; parents come before their children.
        votes: [R] visible area of each node in the views where a mask votes for it.
        visible: [R] its visible area in all views.
        affinity: [R] what holds it together.
        config: thresholds.
        kinship: [R] how alike it and what is inside it are by their language, see `kinship`.
    """
    num = len(parent)
    tight = affinity >= config.loose
    enough = (votes >= config.most * visible) & tight
    factor = np.where(affinity >= config.held_together, 1.0, np.where(tight, config.whole, 0.0))
    if kinship is not None:
        factor = np.where(tight & (kinship >= config.kin), np.maximum(factor, config.kin_whole), factor)
    inside, has_children = np.zeros(num), np.zeros(num, bool)
    best = votes.astype(float).copy()
    for n in range(num - 1, -1, -1):
        best[n] = max(votes[n], inside[n])
        if parent[n] >= 0:
            inside[parent[n]] += best[n]
            has_children[parent[n]] = True
    out = np.zeros(num, bool)
    below = np.zeros(num, bool)
    for n in range(num):
        up = parent[n]
        below[n] = up >= 0 and (out[up] or below[up])
        out[n] = not below[n] and (
            enough[n] or (factor[n] > 0 and factor[n] * votes[n] >= inside[n]) or not has_children[n]
        )
    return out


def kinship(
    parent: np.ndarray, visible: np.ndarray, about: np.ndarray, language: np.ndarray, config: GroupingConfig = DEFAULTS
) -> np.ndarray:
    """How alike each node and those right inside it are by their language: the least of their cosines, 0 for unknown.

    Cosines are of what tells a node from the others: the mean of all is taken off.

    Args:
        parent: [R] the node above each, -1 for none.
        visible: [R] visible area.
        about: [M] the node that each mask is about, -1 for none.
        language: [M, D] an image-text feature per mask, zeros or NaN for none.
        config: thresholds.
    """
    masks = np.flatnonzero(about >= 0)
    said = csr_array((np.ones(len(masks), np.float32), (about[masks], masks)), (len(parent), len(about)))
    feature = said @ _unit(np.nan_to_num(language))
    described = feature.any(1)
    feature = _unit(feature)
    feature = _unit((feature - feature[described].mean(0)) * described[:, None]) if described.any() else feature
    inner = np.flatnonzero(parent >= 0)
    inner = inner[visible[inner] > config.kin_share * visible[parent[inner]]]
    out = np.ones(len(parent))
    np.minimum.at(out, parent[inner], (feature[inner] * feature[parent[inner]]).sum(1))
    return np.where(described, out, 0.0)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


def levels(parent: np.ndarray, is_object: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The level of each node, in steps: 0 the finest part of an object, 0.5 the object, 0.75 the group it is in.

    Of groups inside each other, such as two books of a stack and the stack, the one at 0.75 is that which most of the
    views that show it have a mask of; levels of those inside lie below, levels of those around it above.

    Args:
        parent: [R] the node above each, -1 for none; parents come before their children.
        is_object: [R] whether each node holds together like an object; the highest one on a path is the object.
        share: [R] share of its views in which a mask votes for it.
    """
    num = len(parent)
    within = np.zeros(num, bool)  # an object, or part of one
    for n in range(num):
        within[n] = is_object[n] or (parent[n] >= 0 and within[parent[n]])
    most = np.where(within, -1.0, share)  # of the groups inside
    inside = np.zeros(num)  # steps down to the finest part, or to the smallest group
    for n in range(num - 1, -1, -1):
        up = parent[n]
        if up >= 0 and within[up] == within[n]:
            inside[up] = max(inside[up], inside[n] + 1)
            most[up] = max(most[up], most[n])
    out, kind = np.empty(num), np.zeros(num, int)  # of groups: 0 around the one at 0.75, 1 that one, 2 inside it
    above = np.zeros(num)  # steps down to the group at 0.75
    top = np.arange(num)  # the object, or the group at 0.75, that a node is in
    for n in range(num):
        up = parent[n]
        inner = up >= 0 and within[up] == within[n]
        if within[n]:
            top[n] = top[up] if inner else n
        elif inner and kind[up]:
            top[n], kind[n] = top[up], 2
        else:
            kind[n] = share[n] >= most[n]
    for n in range(num - 1, -1, -1):
        up = parent[n]
        if up >= 0 and not within[n] and not kind[up]:
            above[up] = max(above[up], above[n] + 1)
        steps = inside[top[n]] + (not within[n])
        if within[n]:
            out[n] = 0.5 * inside[n] / steps if steps else 0.5
        elif kind[n]:
            out[n] = 0.5 + 0.25 * (inside[n] + 1) / steps
        else:
            out[n] = 1 - 0.5 ** (above[n] + 2)
    return out


def preorder(nodes: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order nodes so that each is followed by all nodes below it: (nodes in the new order, place of the last below)."""
    below: dict[int, list[int]] = {}
    for node, up in zip(nodes.tolist(), above.tolist()):
        below.setdefault(up, []).append(node)
    order: list[int] = []
    last: list[int] = []
    stack = below.get(-1, [])[::-1]
    open_nodes: list[int] = []
    while stack:
        node = stack.pop()
        if node < 0:
            last[open_nodes.pop()] = len(order) - 1
            continue
        open_nodes.append(len(order))
        order.append(node)
        last.append(0)
        stack.append(-1)
        stack.extend(below.get(node, [])[::-1])
    return np.array(order, np.int64), np.array(last, np.int64)
