"""Agglomeration of anchors into regions, most certain pairs first, every pair re-scored as its regions grow.

In stages of falling affinity: score every edge between regions whose rows have changed, then walk the edges above the
stage's threshold in falling order and merge a pair if its affinity, computed anew from the regions as they are at that
moment, still holds. A stage repeats until nothing merges. That is average-link clustering to within one stage's width,
at a cost of near-linear sorting and row additions.

At the object threshold, regions that share masks are compared even if no edge joins them (what stands in front or on
top may cut an object in pieces). Then fragments join the region that they fit best, again in stages: regions that go
with another more than they fill any mask, so that whatever mask holds them is about something else (rims where anchors
straddle an edge, pieces of something half hidden). Pieces of an object that another one on top keeps apart have rims
in that one's masks, and so belong together less than its middle would; they merge by their relative affinity, compared
with how much each belongs together with itself. Only then do objects join groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ag2_ns.grouping.affinity import edge_affinities, feature_vote, row_affinity
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.csr import Rows
from ag2_ns.ops.jit import jit
from ag2_ns.ops.threads import for_ranges

LEAST = 1024
"""Pairs, or regions, worth a thread of their own: a quarter of a millisecond."""


@dataclass(frozen=True)
class Merges:
    """A dendrogram: regions 0 to A - 1 are the anchors, region A + k is what merge k made, in the order of merging."""

    one: np.ndarray
    """[K] a region that merged: the one of more evidence."""
    other: np.ndarray
    """[K] the region it merged with."""
    affinity: np.ndarray
    """[K] their affinity then."""
    fill: np.ndarray
    """[A + K] how much of its masks each region fills: of the mask it fills most, averaged over the views."""
    fit: np.ndarray
    """[A + K] how well each region fits its masks: its IoU with the mask it fits best, averaged over the views."""
    peak: np.ndarray
    """[A + K] the largest visible area of each region, pixels."""

    @property
    def num_anchors(self) -> int:
        """A."""
        return len(self.fill) - len(self.one)


@jit
def _find(parent, x):
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@jit
def _compact(slot, weight, start, length, parent):
    """Move the live rows to the front of the pool; returns where they end."""
    order = np.argsort(start)
    end = 0
    for r in order:
        if parent[r] != r:
            continue
        s = start[r]
        for k in range(length[r]):
            slot[end + k] = slot[s + k]
            weight[end + k] = weight[s + k]
        start[r] = end
        end += length[r]
    return end


@jit
def _join_rows(slot, weight, start, length, a, b, end):
    """Add row b to row a; in place when a has all of b's slots, else as a new row at `end`. Returns the new end."""
    i, i_end, j, j_end = start[a], start[a] + length[a], start[b], start[b] + length[b]
    inside = True
    while j < j_end:
        while i < i_end and slot[i] < slot[j]:
            i += 1
        if i == i_end or slot[i] != slot[j]:
            inside = False
            break
        j += 1
    i, j = start[a], start[b]
    if inside:
        while j < j_end:
            while slot[i] < slot[j]:
                i += 1
            weight[i] += weight[j]
            j += 1
        return end
    new = end
    while i < i_end or j < j_end:
        if j == j_end or (i < i_end and slot[i] < slot[j]):
            slot[end], weight[end] = slot[i], weight[i]
            i += 1
        elif i == i_end or slot[j] < slot[i]:
            slot[end], weight[end] = slot[j], weight[j]
            j += 1
        else:
            slot[end], weight[end] = slot[i], weight[i] + weight[j]
            i += 1
            j += 1
        end += 1
    start[a] = new
    length[a] = end - new
    return end


@jit
def _measure(slot, weight, begin, end, slot_view, view_slot, area):
    """(largest visible area, fill, fit) of a row; views count by how much of the region masks cover there."""
    peak = 0.0
    filled = 0.0
    fitted = 0.0
    seen = 0.0
    k = begin
    while k < end:
        first = view_slot[slot_view[slot[k]]]
        stop = view_slot[slot_view[slot[k]] + 1]
        total = weight[k]
        peak = max(peak, total)
        k += 1
        covered = 0.0
        most = 0.0
        best = 0.0
        while k < end and slot[k] < stop:
            if slot[k] == first + 1:
                covered = weight[k]
            else:
                most = max(most, weight[k] / area[slot[k]])
                best = max(best, weight[k] / (area[slot[k]] + total - weight[k]))
            k += 1
        seen += covered
        filled += covered * most
        fitted += covered * best
    return (peak, filled / seen, fitted / seen) if seen > 0.0 else (peak, 0.0, 0.0)


@jit
def _measure_all(begin, stop, slot, weight, start, length, slot_view, view_slot, area, peak, fill, fit):
    for r in range(begin, stop):
        peak[r], fill[r], fit[r] = _measure(slot, weight, start[r], start[r] + length[r], slot_view, view_slot, area)


@jit
def _relative(s, a, b, slot, weight, start, length, peak, slot_view, view_slot, extra, scoring):
    """The affinity `s` of two regions, relative to what each has with itself; 0 where it is below `related`."""
    if s < scoring.related:
        return 0.0
    own = 1.0
    for r in (a, b):
        end = start[r] + length[r]
        own *= row_affinity(
            slot, weight, start[r], end, peak[r], start[r], end, peak[r], slot_view, view_slot, extra, extra, scoring
        )
    return s / math.sqrt(own)


@jit
def _relate(left, right, score, slot, weight, start, length, peak, slot_view, view_slot, extra, scoring):
    """The relative affinities of pairs."""
    out = np.empty_like(score)
    for e in range(score.shape[0]):
        out[e] = _relative(
            score[e], left[e], right[e], slot, weight, start, length, peak, slot_view, view_slot, extra, scoring
        )
    return out


@jit
def _merge(
    a, b, s, slot, weight, start, length, peak, fill, parent, version, slot_view, view_slot, area, feature,
    size, end, region, out_one, out_other, out_affinity, out_fill, out_fit, out_peak, made,
):  # fmt: skip
    """Merge two regions, given by their rows, at affinity `s`; returns (pool end, merges made)."""
    if length[a] < length[b] or (length[a] == length[b] and b < a):
        a, b = b, a
    if end + length[a] + length[b] > slot.shape[0]:
        end = _compact(slot, weight, start, length, parent)
    out_one[made], out_other[made], out_affinity[made] = region[a], region[b], s
    end = _join_rows(slot, weight, start, length, a, b, end)
    parent[b] = a
    version[a] += 1
    made_of = start[a] + length[a]
    peak[a], fill[a], out_fit[made] = _measure(slot, weight, start[a], made_of, slot_view, view_slot, area)
    out_fill[made], out_peak[made] = fill[a], peak[a]
    region[a] = parent.shape[0] + made
    for k in range(feature.shape[1]):
        feature[a, k] = (size[a] * feature[a, k] + size[b] * feature[b, k]) / (size[a] + size[b])
    size[a] += size[b]
    return end, made + 1


@jit
def _pass(
    order, left, right, score, threshold, fragments, relative,
    slot, weight, start, length, peak, fill, parent, version, slot_view, view_slot, area, feature, size, scoring, end,
    region, out_one, out_other, out_affinity, out_fill, out_fit, out_peak, made,
):  # fmt: skip
    """Walk the edges in `order` and merge those that still score `threshold`; returns (pool end, merges made).

    With `fragments` only pairs with one side that is a fragment merge. With `relative` scores are relative affinities.
    """
    seen_version = version.copy()
    for e in order:
        a = _find(parent, left[e])
        b = _find(parent, right[e])
        if a == b:
            continue
        s = score[e]
        if version[a] != seen_version[left[e]] or version[b] != seen_version[right[e]] or a != left[e] or b != right[e]:
            vote = 0.0
            extra = 0.0
            if feature.shape[1] > 0:
                extra = scoring.feature_views
                vote = extra * feature_vote(feature, a, b, scoring.tau)
            s = row_affinity(
                slot, weight, start[a], start[a] + length[a], peak[a], start[b], start[b] + length[b], peak[b],
                slot_view, view_slot, vote, extra, scoring,
            )  # fmt: skip
            if relative:
                s = _relative(s, a, b, slot, weight, start, length, peak, slot_view, view_slot, extra, scoring)
        if s < threshold or (fragments and min(fill[a], fill[b]) >= s):
            continue
        end, made = _merge(
            a, b, s, slot, weight, start, length, peak, fill, parent, version, slot_view, view_slot, area, feature,
            size, end, region, out_one, out_other, out_affinity, out_fill, out_fit, out_peak, made,
        )  # fmt: skip
    return end, made


@dataclass(frozen=True)
class _Stage:
    """Which pairs merge, and from which affinity."""

    threshold: float
    fragments: bool = False
    """Only those with a fragment."""
    bridge: bool = False
    """From now on also those that no edge joins but that share masks."""
    relative: bool = False
    """By relative affinity."""


def above(score: np.ndarray, threshold: float, of: np.ndarray | None) -> np.ndarray:
    """The pairs that score at least `threshold`, highest first: of some of them, by default of all."""
    chosen = np.flatnonzero(score >= threshold) if of is None else of[score[of] >= threshold]
    return chosen[np.argsort(-score[chosen], kind="stable")]


def merge_regions(
    rows: Rows,
    edges: np.ndarray,
    feature: np.ndarray | None = None,
    config: GroupingConfig = DEFAULTS,
) -> Merges:
    """Merge A rows along edges, down to the last stage.

    Args:
        rows: the weights of every anchor; those without entries never merge.
        edges: [2, E] neighbouring rows.
        feature: [A, F] trained instance features, unit length, as further evidence.
        config: thresholds.
    """
    slot, weight, row, slot_view, view_slot = rows.slot, rows.weight, rows.row, rows.slot_view, rows.view_slot
    num, live = len(row) - 1, len(slot)
    pool_slot = np.empty(2 * live + 1024, np.int32)
    pool_weight = np.empty(2 * live + 1024, np.float32)
    pool_slot[:live], pool_weight[:live] = slot, weight
    start, length = row[:-1].astype(np.int64), np.diff(row).astype(np.int64)
    parent, version = np.arange(num), np.zeros(num, np.int64)
    size = np.ones(num)
    feature = np.zeros((num, 0)) if feature is None else np.array(feature, np.float64)
    area = np.bincount(slot, weight, minlength=len(slot_view))
    peak, fill, fit = np.empty(num), np.empty(num), np.empty(num)
    for_ranges(
        _measure_all, num, pool_slot, pool_weight, start, length, slot_view, view_slot, area, peak, fill, fit,
        minimum=LEAST,
    )  # fmt: skip
    leaf_fill, leaf_peak, region = fill.copy(), peak.copy(), np.arange(num)
    out = [np.empty(num, np.int64), np.empty(num, np.int64), *(np.empty(num, np.float64) for _ in range(4))]
    end, made = live, 0
    pairs = Pairs(edges[0], edges[1])
    scoring, stages = config.scoring, config.stages
    objects, groups = [t for t in stages if t >= config.object], [t for t in stages if t < config.object]
    plan = [_Stage(t) for t in objects] + [_Stage(t, bridge=k == 0) for k, t in enumerate(objects)]
    plan += [_Stage(t, fragments=True) for t in groups]
    plan += [_Stage(config.object, relative=True)] + [_Stage(t) for t in groups]
    extra = scoring.feature_views if feature.shape[1] else 0.0
    for stage in plan:
        if stage.bridge:
            more = _sharing(parent, pool_slot, pool_weight, start, length, slot_view, view_slot, area, config.shares)
            pairs = Pairs(np.concatenate([pairs.left, more[0]]), np.concatenate([pairs.right, more[1]]))
        again = False
        while True:
            stale = pairs.stale
            for_ranges(
                edge_affinities, len(stale), stale, pairs.left, pairs.right, pairs.score, pool_slot, pool_weight,
                start, length, peak, slot_view, view_slot, feature, scoring, minimum=LEAST,
            )  # fmt: skip
            score = pairs.score
            if stage.relative:
                score = _relate(
                    pairs.left, pairs.right, score, pool_slot, pool_weight, start, length, peak, slot_view, view_slot,
                    extra, scoring,
                )  # fmt: skip
            # Where a stage goes on, pairs that did not change have had their turn (and may not have been fragments).
            order = above(score, stage.threshold, stale if again and not stage.fragments else None)
            before, old_version = made, version.copy()
            end, made = _pass(
                order, pairs.left, pairs.right, score, stage.threshold, stage.fragments, stage.relative,
                pool_slot, pool_weight, start, length, peak, fill, parent, version, slot_view, view_slot, area,
                feature, size, scoring, end, region, *out, made,
            )  # fmt: skip
            if made == before:
                pairs.stale = stale[:0]
                break
            pairs.refresh(parent, version != old_version)
            again = True
    one, other, affinity = (o[:made] for o in out[:3])
    fill, fit, peak = (np.concatenate([leaf, o[:made]]) for leaf, o in zip((leaf_fill, fit, leaf_peak), out[3:]))
    # What fragments were joined at says little: they count as part of the object.
    fragment = np.minimum(fill[one], fill[other]) < affinity
    return Merges(one, other, np.where(fragment, np.maximum(affinity, config.object), affinity), fill, fit, peak)


@jit
def _touched(left, right, parent, touched, place, key):
    """Pairs with a region that was touched: their places, and the keys of the regions that they join now, without inner
    ones. Returns the numbers of both.
    """
    count = 0
    kept = 0
    for e in range(left.shape[0]):
        if touched[left[e]] or touched[right[e]]:
            place[count] = e
            count += 1
            a, b = _find(parent, left[e]), _find(parent, right[e])
            if a != b:
                key[kept] = min(a, b) * parent.shape[0] + max(a, b)
                kept += 1
    return count, kept


@jit
def _put(left, right, score, place, key, num):
    """Put pairs in places of others: new ones in the first, those of the end in the rest. Returns the new end."""
    for k in range(key.shape[0]):
        left[place[k]], right[place[k]] = key[k] // num, key[k] % num
    end = left.shape[0]
    for k in range(place.shape[0] - 1, key.shape[0] - 1, -1):
        e = place[k]
        end -= 1
        left[e], right[e], score[e] = left[end], right[end], score[end]
    return end


def _distinct(key: np.ndarray) -> np.ndarray:
    """The different keys, ascending."""
    key = np.sort(key)
    return key[np.append(True, key[1:] != key[:-1])] if len(key) else key


class Pairs:
    """Pairs of regions with their affinities: the smaller number on the left, each pair once."""

    def __init__(self, one: np.ndarray, other: np.ndarray) -> None:
        left, right = np.minimum(one, other).astype(np.int64), np.maximum(one, other).astype(np.int64)
        num = int(right.max(initial=0)) + 1
        key = left * num + right
        if not ((left < right).all() and (np.diff(key) > 0).all()):  # as graphs come
            left, right = np.divmod(_distinct(key[left != right]), num)
        self.left, self.right = left.astype(np.int32), right.astype(np.int32)  # gone through after every pass
        self.score = np.empty(len(left))
        self.stale = np.arange(len(left))
        """The pairs whose score is out of date."""
        self._place, self._key = np.empty(len(left), np.int64), np.empty(len(left), np.int64)

    def refresh(self, parent: np.ndarray, changed: np.ndarray) -> None:
        """Name pairs by the regions they are in now; the scores of regions that `changed` are stale, the others not.

        Few regions change from one pass to the next, so only their pairs are sorted. Where two pairs become one, both
        had a region that changed.
        """
        touched = changed | (parent != np.arange(len(parent)))
        count, kept = _touched(self.left, self.right, parent, touched, self._place, self._key)
        key = _distinct(self._key[:kept])
        end = _put(self.left, self.right, self.score, self._place[:count], key, len(parent))
        self.left, self.right, self.score = self.left[:end], self.right[:end], self.score[:end]
        self.stale = self._place[: len(key)].copy()


@jit
def _mask_entries(regions, slot, weight, start, length, slot_view, view_slot, area, shares, out_slot, out_region):
    """Entries of regions that fill at least `shares` of a mask; returns how many."""
    count = 0
    for r in regions:
        for k in range(start[r], start[r] + length[r]):
            s = slot[k]
            if s > view_slot[slot_view[s]] + 1 and weight[k] >= shares * area[s]:
                out_slot[count] = s
                out_region[count] = r
                count += 1
    return count


def _sharing(parent, slot, weight, start, length, slot_view, view_slot, area, shares) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of regions that fill parts of one mask."""
    regions = np.flatnonzero(parent == np.arange(len(parent)))
    bound = int(length[regions].sum())
    of_slot, of_region = np.empty(bound, np.int64), np.empty(bound, np.int64)
    count = _mask_entries(regions, slot, weight, start, length, slot_view, view_slot, area, shares, of_slot, of_region)
    order = np.lexsort((of_region[:count], of_slot[:count]))
    of_slot, of_region = of_slot[order], of_region[order]
    pairs = [np.empty((2, 0), np.int64)]
    for apart in range(1, int(1 / shares)):
        same = of_slot[apart:] == of_slot[: max(count - apart, 0)]
        pairs.append(np.stack([of_region[: max(count - apart, 0)][same], of_region[apart:][same]]))
    left, right = np.unique(np.sort(np.concatenate(pairs, 1), axis=0), axis=1)
    return left, right
