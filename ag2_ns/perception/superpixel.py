"""The segmenter that needs no weights: regions that persist while an image is merged.

Watershed basins of a boundary map are merged three times with different weights (`ag2_ns.perception.regions`), and
if asked, three times more by features of a small network (`deep_features`). A node of these trees is a
good mask when a strong contour surrounds it, when other trees made nearly the same region (consensus), and when it is
not tiny; near duplicates are dropped. Parts and the wholes they belong to both stay, so masks overlap by nesting.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from skimage.segmentation import watershed

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception import deep_features
from ag2_ns.perception import merge_kernel as kernel
from ag2_ns.perception.boundaries import boundary_map, image_channels
from ag2_ns.perception.regions import MergeWeights, Regions, measure_regions, merge_regions, roots
from ag2_ns.perception.segmenter import register_segmenter

PRESETS = {
    "coarse": {"max_masks": 32, "min_share": 0.004},
    "default": {"max_masks": 64, "min_share": 0.0015},
    "detail": {"max_masks": 128, "min_share": 0.0006},
}
"""Number of masks and smallest mask (share of the image), by preset."""

CUES = ("colours", "network")

TREES = (
    MergeWeights(),
    MergeWeights(mean=0.5),
    MergeWeights(mean=0.5, size_power=0.5),
)
"""Three ways to merge: by boundary, by boundary and colour, and the same with small regions much earlier."""

DEEP_TREES = (
    MergeWeights(mean=1.0, histogram=0.0),
    MergeWeights(mean=0.5, histogram=0.0),
    MergeWeights(mean=1.0),
)
"""Three more by features of a network, where it is used."""

LARGE = 0.03
"""Share of the image from which regions by features are looked at."""

BASINS = 1500
"""Basins are merged down to this number once; the three trees start from there."""

MAX_SHARE = 0.75
"""Larger regions are the image, not a thing."""

CANDIDATES = 6
"""Nodes of each tree that are looked at, per mask asked for."""

AGREEING = 2
"""Other trees that have to agree on a region."""

DUPLICATE_IOU = 0.85
"""Of two regions that overlap more, the lower score goes."""

AREA_POWER = 0.25
"""The rank of a region grows with its area to this power."""

CONTOUR_SOFTNESS = 2.0
"""Boundary strength at which a contour counts 63 %."""


@register_segmenter("superpixel")
class SuperpixelSegmenter:
    """Weight-free masks; see the module.

    Args:
        preset: coarse, default or detail: fewer and larger, or more and smaller masks.
        max_side: larger images are segmented at this longest side (pixels) and the masks enlarged.
        cues: colours, or network: also the features of a small ImageNet network (`deep_features`).
    """

    process_bytes = 1 << 29
    """All work is done on the CPU, and several processes may share it: memory that each takes beside its images."""

    def __init__(self, preset: str = "default", max_side: int = 640, cues: str = "colours"):
        if preset not in PRESETS:
            raise UserError(f"superpixel has no preset {preset!r}; choose one of: {', '.join(PRESETS)}")
        self.max_masks, self.min_share = PRESETS[preset]["max_masks"], PRESETS[preset]["min_share"]
        self.max_side = max_side
        if cues not in CUES:
            raise UserError(f"superpixel has no cues {cues!r}; choose one of: {', '.join(CUES)}")
        if cues == "network" and not deep_features.available():
            raise UserError("--cues network needs a small model; run `pip install 'ag2-ns[words]'`, or use colours")
        self.deep = cues == "network"
        self.settings = {"version": 1, "preset": preset, "max_side": max_side}
        if self.deep:
            self.settings["network"] = deep_features.SETTINGS
        self.options = {"preset": preset, "max_side": max_side, "cues": cues}

    def segment(self, image: np.ndarray, image_name: str = "") -> MaskSet:
        """Masks of a uint8 image [H, W, 3], best first; deterministic."""
        height, width = image.shape[:2]
        scale = min(1.0, self.max_side / max(height, width))
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        deep = deep_features.deep_channels(small) if self.deep else None
        label, members, score = region_masks(small, self.min_share, self.max_masks, deep)
        if scale < 1:
            label = cv2.resize(label.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return label_masks(label, members, score)


def region_masks(
    image: np.ndarray, min_share: float, max_masks: int, deep: Float[Array, "H W D"] | None = None
) -> tuple[np.ndarray, Bool[Array, "M R"], Float[Array, " M"]]:
    """Segment one image.

    Args:
        image: uint8 [H, W, 3].
        min_share: smallest mask, as a share of the image.
        max_masks: at most that many.
        deep: features of the pixels (`deep_features`), as a further cue of what belongs together.

    Returns:
        Labels [H, W] of R regions, which regions every mask holds (best mask first), and scores in 0..1.
    """
    channels = image_channels(image)
    boundary = boundary_map(channels)
    label = np.maximum(watershed(cv2.GaussianBlur(boundary, (0, 0), 1.0)) - 1, 0)
    regions = measure_regions(label, channels, boundary)
    if len(regions.area) > BASINS:
        group = roots(merge_regions(regions, TREES[0], BASINS), len(regions.area))
        label, regions = group[label], regions.merged(group)
    trees = [(regions, weights) for weights in TREES]
    if deep is not None:
        trees += [(regions.with_channels(label, deep), weights) for weights in DEEP_TREES]
    found = _candidates(trees, min_share, max_masks)
    area, contour = (np.concatenate(values) for values in zip(*((c.area, c.contour) for c in found)))
    if not len(area):
        return label, np.zeros((0, len(regions.area)), bool), np.zeros(0)
    tree = np.repeat(np.arange(len(found)), [len(c.area) for c in found])
    iou = _iou(found, area, regions.area)
    consensus = _consensus(iou, tree)
    colour = np.flatnonzero(tree < len(TREES))
    among = np.ix_(colour, colour)
    consensus[colour] = _consensus(iou[among], tree[colour])
    rank = contour * consensus * area**AREA_POWER
    keep = colour[_suppress(iou[among], rank[colour], max_masks)]
    if deep is not None:  # of large regions all trees' compete; small ones are beyond the network's resolution
        large = area >= LARGE * regions.area.sum()
        consensus[large] = _consensus(iou, tree)[large]
        rank = contour * consensus * area**AREA_POWER
        small = keep[~large[keep]]
        chosen = np.flatnonzero(large)
        chosen = chosen[_suppress(iou[np.ix_(chosen, chosen)], rank[chosen], max_masks - len(small))]
        keep = np.concatenate([chosen, small])
        keep = keep[np.argsort(-rank[keep], kind="stable")]
    score = (1 - np.exp(-contour / CONTOUR_SOFTNESS)) * consensus
    return label, _members(found, keep, len(regions.area)), score[keep]


def label_masks(label: np.ndarray, members: Bool[Array, "M R"], score: Float[Array, " M"]) -> MaskSet:
    """Masks as unions of labelled regions, as (pixel, mask) pairs."""
    flat = label.reshape(-1)
    order, start = kernel.sort_labels(flat, members.shape[1])
    pixels, counts = [np.zeros(0, np.int64)], []
    for row in members:
        inside = [order[start[r] : start[r + 1]] for r in np.flatnonzero(row)]
        pixels.append(np.sort(np.concatenate(inside)))
        counts.append(len(pixels[-1]))
    mask = np.repeat(np.arange(len(members)), counts)
    return MaskSet(
        *label.shape, torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(mask),
        torch.from_numpy(np.asarray(score, np.float32)),
    )  # fmt: skip


@dataclass(frozen=True)
class _Candidates:
    """Nodes of one tree that have the size of a mask."""

    order: Int[Array, " R"]
    """The regions; those of candidate c are order[start[c]:stop[c]]."""
    start: Int[Array, " C"]
    stop: Int[Array, " C"]
    area: Float[Array, " C"]
    contour: Float[Array, " C"]


def _candidates(trees: list[tuple[Regions, MergeWeights]], min_share: float, max_masks: int) -> list[_Candidates]:
    """The most promising nodes of every tree."""
    image_area, found = trees[0][0].area.sum(), []
    for regions, weights in trees:
        tree = merge_regions(regions, weights)
        order, start, stop = kernel.list_members(tree.children, len(regions.area))
        nodes = np.flatnonzero((tree.area >= min_share * image_area) & (tree.area <= MAX_SHARE * image_area))
        promise = tree.contour[nodes] * tree.area[nodes] ** AREA_POWER
        nodes = nodes[np.argsort(-promise, kind="stable")[: CANDIDATES * max_masks]]
        found.append(_Candidates(order, start[nodes], stop[nodes], tree.area[nodes], tree.contour[nodes]))
    return found


def _iou(found: list[_Candidates], area: Array, region_area: Array) -> Float[Array, "C C"]:
    """IoU of every pair of candidates, tree after tree."""
    rows = []
    for i, a in enumerate(found):
        row = []
        for j, b in enumerate(found):
            if i == j:
                row.append(kernel.overlaps_within(a.start, a.stop, a.area))
            elif j < i:
                row.append(rows[j][i].T)
            else:
                row.append(kernel.overlaps_between(a.order, a.start, a.stop, b.order, b.start, b.stop, region_area))
        rows.append(row)
    inter = np.block(rows)
    return inter / (area[:, None] + area[None] - inter)


def _members(found: list[_Candidates], chosen: Array, count: int) -> Bool[Array, "M R"]:
    """Which regions the chosen candidates hold."""
    spans = [(c.order, a, b) for c in found for a, b in zip(c.start, c.stop)]
    members = np.zeros((len(chosen), count), bool)
    for row, index in zip(members, chosen):
        order, start, stop = spans[index]
        row[order[start:stop]] = True
    return members


def _consensus(iou: Array, tree: Array) -> Array:
    """How well other trees agree with each candidate: mean of the best IoU in the two that agree most."""
    best = np.stack([iou[:, tree == t].max(1, initial=0.0) for t in range(tree.max() + 1)])
    best[tree, np.arange(len(tree))] = 0
    return np.sort(best, axis=0)[-AGREEING:].sum(0) / AGREEING


def _suppress(iou: Array, rank: Array, limit: int) -> Array:
    """Indices of candidates in order of rank, near duplicates of better ones dropped."""
    keep: list[int] = []
    dropped = np.zeros(len(rank), bool)
    for index in np.argsort(-rank, kind="stable"):
        if len(keep) == limit:
            break
        if not dropped[index]:
            keep.append(int(index))
            dropped |= iou[index] > DUPLICATE_IOU
    return np.array(keep, np.int64)
