"""Hierarchical merging of image regions: neighbours that differ least become one, until one is left.

The order of merging is a tree, and every node of it is a region that may be a mask. The cost of a merge joins the
strength of the shared boundary, the difference of the means relative to the spread, and the difference of histograms;
small regions merge first. After "Contour detection and hierarchical image segmentation" (Arbelaez et al., PAMI 2011)
and "Selective search for object recognition" (Uijlings et al., IJCV 2013), which also merge greedily.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array
from scipy.sparse import csr_matrix

from ag2_ns.perception.merge_kernel import merge_all

HISTOGRAM_BINS = (8, 6, 6, 8)
"""Bins of L, a, b and texture: L alone, a and b jointly, texture alone."""

HISTOGRAM_RANGE = ((0.0, 60.0), (-40.0, 40.0), (-40.0, 40.0), (0.0, 28.0))
"""Channel values over which the bins are spread (scaled channels, see `boundaries.CHANNEL_SCALE`)."""


@dataclass(frozen=True)
class Regions:
    """Statistics of R regions and of the B borders between neighbours, everything additive under merging."""

    area: Float[Array, " R"]
    total: Float[Array, "R C"]
    """Sum of every channel."""
    square: Float[Array, "R C"]
    """Sum of every squared channel."""
    histogram: Float[Array, "R K"]
    """Counts; three histograms side by side."""
    border: Int[Array, "B 2"]
    """Neighbouring regions, smaller index first."""
    length: Float[Array, " B"]
    """Pixel pairs along each border."""
    strength: Float[Array, " B"]
    """Sum of boundary strength over these pairs."""

    def with_channels(self, label: Int[Array, "H W"], channels: Float[Array, "H W D"]) -> Regions:
        """The same regions, with the sums of other channels."""
        flat, values = label.reshape(-1), channels.reshape(label.size, -1).astype(np.float64)
        total, square = (
            np.stack([np.bincount(flat, v[:, c], len(self.area)) for c in range(v.shape[1])], 1)
            for v in (values, values**2)
        )
        return replace(self, total=total, square=square)

    def merged(self, group: Int[Array, " R"]) -> Regions:
        """The statistics after joining regions: `group` gives each region's new index."""
        count = int(group.max()) + 1
        membership = csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), shape=(count, len(group)))
        pair = np.sort(group[self.border], axis=1)
        pair, length, strength = _sum_pairs(pair, self.length, self.strength, count)
        return Regions(
            membership @ self.area, membership @ self.total, membership @ self.square, membership @ self.histogram,
            pair, length, strength,
        )  # fmt: skip


@dataclass(frozen=True)
class MergeWeights:
    """How much each cue counts. Several settings give several trees, which err differently."""

    boundary: float = 1.0
    """Mean strength of the shared border."""
    mean: float = 0.0
    """Difference of channel means relative to the spread inside."""
    spread: float = 3.0
    """How much the spread inside a region excuses a difference of means."""
    histogram: float = 1.0
    """Difference of histograms (total variation, mean over three)."""
    size_power: float = 0.3
    """The cost falls with (area of the smaller / `size_share` of the image) to this power."""
    size_share: float = 0.02


@dataclass(frozen=True)
class MergeTree:
    """Nodes 0..R-1 are the regions, node R+k is what merge k made."""

    children: Int[Array, "K 2"]
    cost: Float[Array, " K"]
    area: Float[Array, " R+K"]
    contour: Float[Array, " R+K"]
    """Mean boundary strength along each node's outline, the image's frame excepted."""


def measure_regions(
    label: Int[Array, "H W"], channels: Float[Array, "H W C"], boundary: Float[Array, "H W"]
) -> Regions:
    """Collect the statistics of labelled regions 0..R-1."""
    count, flat = int(label.max()) + 1, label.reshape(-1)
    values = channels.reshape(len(flat), -1).astype(np.float64)
    total = np.stack([np.bincount(flat, values[:, c], count) for c in range(values.shape[1])], 1)
    square = np.stack([np.bincount(flat, values[:, c] ** 2, count) for c in range(values.shape[1])], 1)
    quantised = [
        np.clip(((values[:, c] - low) / (high - low) * bins).astype(np.int64), 0, bins - 1)
        for c, (bins, (low, high)) in enumerate(zip(HISTOGRAM_BINS, HISTOGRAM_RANGE))
    ]
    codes = (
        (quantised[0], HISTOGRAM_BINS[0]),
        (quantised[1] * HISTOGRAM_BINS[2] + quantised[2], HISTOGRAM_BINS[1] * HISTOGRAM_BINS[2]),
        (quantised[3], HISTOGRAM_BINS[3]),
    )
    histogram = np.concatenate(
        [np.bincount(flat * n + code, minlength=count * n).reshape(count, n) for code, n in codes], 1
    ).astype(np.float64)
    sides = [
        (label[:, :-1], label[:, 1:], np.maximum(boundary[:, :-1], boundary[:, 1:])),
        (label[:-1], label[1:], np.maximum(boundary[:-1], boundary[1:])),
    ]
    pairs, strengths = [], []
    for a, b, strength in sides:
        differ = a != b
        pairs.append(np.sort(np.stack([a[differ], b[differ]], 1), axis=1))
        strengths.append(strength[differ])
    pair = np.concatenate(pairs).astype(np.int64)
    border, length, strength = _sum_pairs(pair, np.ones(len(pair)), np.concatenate(strengths), count)
    return Regions(
        np.bincount(flat, minlength=count).astype(np.float64), total, square, histogram, border, length, strength
    )


def merge_regions(regions: Regions, weights: MergeWeights, until: int = 1) -> MergeTree:
    """Merge the cheapest pair of neighbours again and again, until `until` regions are left (or nothing touches)."""
    count = len(regions.area)
    sums = [_room(x, 2 * count) for x in (regions.area, regions.total, regions.square, regions.histogram)]
    packed = np.array(
        [
            weights.boundary,
            weights.mean,
            weights.spread,
            weights.histogram,
            weights.size_power,
            weights.size_share * regions.area.sum(),
        ]
    )
    children, cost, length, strength = merge_all(*sums, regions.border, regions.length, regions.strength, packed, until)
    return MergeTree(children, cost, sums[0][: len(length)], strength / np.maximum(length, 1))


def roots(tree: MergeTree, count: int) -> Int[Array, " R"]:
    """For a tree that was stopped early: the index, 0.., of the surviving region that holds each region."""
    parent = np.arange(count + len(tree.children))
    for k in range(len(tree.children) - 1, -1, -1):
        parent[tree.children[k]] = parent[count + k]
    return np.unique(parent[:count], return_inverse=True)[1].reshape(-1)


def _sum_pairs(pair: Array, length: Array, strength: Array, count: int) -> tuple[Array, Array, Array]:
    """Borders with equal ends added up; those within one region dropped."""
    keep = pair[:, 0] != pair[:, 1]
    key, inverse = np.unique(pair[keep, 0] * count + pair[keep, 1], return_inverse=True)
    inverse = inverse.reshape(-1)
    border = np.stack([key // count, key % count], 1)
    return (
        border,
        np.bincount(inverse, length[keep], len(key)),
        np.bincount(inverse, strength[keep], len(key)),
    )


def _room(values: Array, rows: int) -> Array:
    """A copy with room for more rows."""
    out = np.zeros((rows, *values.shape[1:]))
    out[: len(values)] = values
    return out
