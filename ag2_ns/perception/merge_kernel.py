"""The loop of `ag2_ns.perception.regions.merge_regions`, compiled: a heap of borders over lists of neighbours."""

from __future__ import annotations

import heapq

import numpy as np

from ag2_ns.ops.jit import jit

MEAN_NOISE = 12.0
"""Squared difference of means below which it is noise, in squared channel units."""


@jit
def _price(a, b, length, strength, area, mean, variance, share, weights):
    """Cost of merging two regions; `weights` as packed by `merge_regions`."""
    value = weights[0] * strength / length
    if weights[1] != 0.0:
        total = 0.0
        for c in range(mean.shape[1]):
            difference = mean[a, c] - mean[b, c]
            total += difference * difference / (MEAN_NOISE + weights[2] * min(variance[a, c], variance[b, c]))
        value += weights[1] * np.sqrt(total)
    if weights[3] != 0.0:
        total = 0.0
        for k in range(share.shape[1]):
            total += abs(share[a, k] - share[b, k])
        value += weights[3] * total / 6.0
    small = min(area[a], area[b]) / weights[5]
    return value * min(1.0, small) ** weights[4]


@jit
def merge_all(area, total, square, histogram, border, length, strength, weights, until):
    """Merge the cheapest border until `until` regions are left.

    Args:
        area, total, square, histogram: statistics of R regions in the first R of 2R rows; the rest is filled here.
        border, length, strength: the B borders.
        weights: boundary, mean, spread, histogram, size_power, size in pixels below which merging is cheaper.
        until: regions to leave.

    Returns:
        Children [K, 2] and costs [K] of the merges, and for every region, given or made, the length of its outline and
        the boundary strength along it [R + K]. (Areas are left in `area`.)
    """
    count = area.shape[0] // 2
    mean = total.copy()
    variance = square.copy()
    share = histogram.copy()
    for node in range(count):
        _refresh(node, area, total, square, histogram, mean, variance, share)
    # Every node owns a stretch of the pool: its neighbours, with length and strength of the border.
    degree = np.zeros(2 * count, np.int64)
    for e in range(border.shape[0]):
        degree[border[e, 0]] += 1
        degree[border[e, 1]] += 1
    begin = np.zeros(2 * count, np.int64)
    used = 0
    for node in range(count):
        begin[node] = used
        used += degree[node]
        degree[node] = 0
    who = np.empty(4 * used + 16, np.int64)
    lengths = np.empty(4 * used + 16)
    strengths = np.empty(4 * used + 16)
    around, edge = np.zeros(2 * count), np.zeros(2 * count)
    heap = [(0.0, 0, 0) for _ in range(0)]
    for e in range(border.shape[0]):
        a, b = border[e, 0], border[e, 1]
        for one, other in ((a, b), (b, a)):
            at = begin[one] + degree[one]
            who[at], lengths[at], strengths[at] = other, length[e], strength[e]
            degree[one] += 1
            around[one] += length[e]
            edge[one] += strength[e]
        heap.append((_price(a, b, length[e], strength[e], area, mean, variance, share, weights), a, b))
    heapq.heapify(heap)
    alive = np.zeros(2 * count, np.bool_)
    alive[:count] = True
    place = np.full(2 * count, -1, np.int64)
    children = np.empty((max(count - until, 0), 2), np.int64)
    costs = np.empty(max(count - until, 0))
    done = 0
    while len(heap) > 0 and count - done > until:
        price, a, b = heapq.heappop(heap)
        if not (alive[a] and alive[b]):
            continue
        node = count + done
        alive[a] = alive[b] = False
        alive[node] = True
        children[done, 0], children[done, 1], costs[done] = a, b, price
        done += 1
        area[node] = area[a] + area[b]
        total[node] = total[a] + total[b]
        square[node] = square[a] + square[b]
        histogram[node] = histogram[a] + histogram[b]
        _refresh(node, area, total, square, histogram, mean, variance, share)
        room = degree[a] + degree[b]
        if used + room > who.shape[0]:
            size = 2 * (used + room)
            who, lengths, strengths = _grow(who, size), _grow(lengths, size), _grow(strengths, size)
        begin[node] = used
        used += room
        for old in (a, b):
            for at in range(begin[old], begin[old] + degree[old]):
                other = who[at]
                if other in (a, b):
                    continue
                if place[other] < 0:
                    place[other] = begin[node] + degree[node]
                    who[place[other]], lengths[place[other]], strengths[place[other]] = other, 0.0, 0.0
                    degree[node] += 1
                lengths[place[other]] += lengths[at]
                strengths[place[other]] += strengths[at]
        for at in range(begin[node], begin[node] + degree[node]):
            other = who[at]
            place[other] = -1
            around[node] += lengths[at]
            edge[node] += strengths[at]
            # In the neighbour's list the new node takes the place of the old one, or of the first of both.
            told = False
            k = begin[other]
            while k < begin[other] + degree[other]:
                if who[k] == a or who[k] == b:
                    if told:
                        last = begin[other] + degree[other] - 1
                        who[k], lengths[k], strengths[k] = who[last], lengths[last], strengths[last]
                        degree[other] -= 1
                        continue
                    who[k], lengths[k], strengths[k] = node, lengths[at], strengths[at]
                    told = True
                k += 1
            cost = _price(other, node, lengths[at], strengths[at], area, mean, variance, share, weights)
            heapq.heappush(heap, (cost, other, node))
    return children[:done], costs[:done], around[: count + done], edge[: count + done]


@jit
def _refresh(node, area, total, square, histogram, mean, variance, share):
    """Means, variances and histogram shares of one node from its sums."""
    size = max(area[node], 1.0)
    for c in range(total.shape[1]):
        mean[node, c] = total[node, c] / size
        variance[node, c] = max(square[node, c] / size - mean[node, c] * mean[node, c], 0.0)
    for k in range(histogram.shape[1]):
        share[node, k] = histogram[node, k] / size


@jit
def _grow(values, size):
    """A larger copy."""
    out = np.empty(size, values.dtype)
    out[: values.shape[0]] = values
    return out


@jit
def list_members(children, count):
    """The regions in an order in which those of every node are neighbours: (order [R], start, stop of each node)."""
    nodes = count + children.shape[0]
    size = np.ones(nodes, np.int64)
    for k in range(children.shape[0]):
        size[count + k] = size[children[k, 0]] + size[children[k, 1]]
    start = np.full(nodes, -1, np.int64)
    free = 0
    for node in range(nodes - 1, -1, -1):
        if start[node] < 0:  # nothing above it
            start[node] = free
            free += size[node]
        if node >= count:
            a, b = children[node - count, 0], children[node - count, 1]
            start[a], start[b] = start[node], start[node] + size[a]
    order = np.empty(count, np.int64)
    for region in range(count):
        order[start[region]] = region
    return order, start, start + size


@jit
def overlaps_within(start, stop, area):
    """Area that every two nodes of one tree share: that of the inner one, or none."""
    out = np.zeros((len(start), len(start)))
    for i in range(len(start)):
        for j in range(len(start)):
            if start[j] <= start[i] and stop[i] <= stop[j]:
                out[i, j] = out[j, i] = area[i]
    return out


@jit
def overlaps_between(order, start, stop, other_order, other_start, other_stop, region_area):
    """Area that every node of one tree shares with every node of another."""
    count = len(order)
    place = np.empty(count, np.int64)
    for k in range(count):
        place[other_order[k]] = k
    out = np.empty((len(start), len(other_start)))
    before = np.empty(count + 1)
    for i in range(len(start)):
        before[:] = 0.0
        for k in range(start[i], stop[i]):
            before[place[order[k]] + 1] = region_area[order[k]]
        for k in range(count):
            before[k + 1] += before[k]
        for j in range(len(other_start)):
            out[i, j] = before[other_stop[j]] - before[other_start[j]]
    return out


@jit
def sort_labels(label, count):
    """The pixels by label, in rising order: (pixels [P], where those of each label begin, and the end)."""
    begin = np.zeros(count + 1, np.int64)
    for pixel in range(len(label)):
        begin[label[pixel] + 1] += 1
    for k in range(count):
        begin[k + 1] += begin[k]
    free = begin[:-1].copy()
    order = np.empty(len(label), np.int64)
    for pixel in range(len(label)):
        order[free[label[pixel]]] = pixel
        free[label[pixel]] += 1
    return order, begin
