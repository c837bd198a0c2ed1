from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.perception.boundaries import boundary_at_scale, boundary_map, half_disc_difference, image_channels
from ag2_ns.perception.merge_kernel import list_members, overlaps_between, overlaps_within, sort_labels
from ag2_ns.perception.regions import MergeWeights, measure_regions, merge_regions, roots
from ag2_ns.perception.segmenter import Segmenter, make_segmenter
from ag2_ns.perception.superpixel import SuperpixelSegmenter


def best_iou(masks, target) -> float:
    dense = masks.dense().numpy()
    return float(((dense & target).sum((1, 2)) / (dense | target).sum((1, 2))).max())


def test_finds_things_and_their_parts(scene):
    masks = make_segmenter("superpixel").segment(scene, "view")
    y, x = np.mgrid[:96, :128]
    disc = (y - 40) ** 2 + (x - 35) ** 2 < 24**2
    square, bar = np.zeros((2, 96, 128), bool)
    square[25:75, 75:115] = True
    bar[45:55, 80:110] = True
    assert best_iou(masks, disc) > 0.9
    assert best_iou(masks, square) > 0.9
    assert best_iou(masks, bar) > 0.7
    assert ((masks.score > 0) & (masks.score <= 1)).all()
    assert len(masks) <= 64
    assert (masks.mask.diff() >= 0).all()


def test_is_deterministic_and_masks_differ(scene):
    segmenter = SuperpixelSegmenter()
    assert isinstance(segmenter, Segmenter)
    one, two = segmenter.segment(scene), segmenter.segment(scene)
    assert torch.equal(one.pixel, two.pixel)
    assert torch.equal(one.score, two.score)
    flat = one.dense().reshape(len(one), -1).double()
    inter = flat @ flat.T
    iou = inter / (one.areas[:, None] + one.areas[None] - inter)
    assert (iou - torch.eye(len(one))).max() <= 0.85


def test_large_images_are_segmented_small(scene):
    big = np.kron(scene, np.ones((2, 2, 1), np.uint8))
    masks = SuperpixelSegmenter(max_side=128).segment(big)
    assert (masks.height, masks.width) == (192, 256)
    y, x = np.mgrid[:192, :256]
    assert best_iou(masks, (y - 80) ** 2 + (x - 70) ** 2 < 48**2) > 0.88


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (40, 5)])
def test_odd_sizes_and_blank_images(shape):
    masks = SuperpixelSegmenter().segment(np.full((*shape, 3), 128, np.uint8))
    assert (masks.height, masks.width) == shape


def test_presets(scene):
    counts = [len(SuperpixelSegmenter(preset).segment(scene)) for preset in ("coarse", "default", "detail")]
    assert counts == sorted(counts)
    with pytest.raises(UserError, match="coarse, default, detail"):
        SuperpixelSegmenter("fine")


def test_granite_and_leaves_do_not_hide_a_step():
    rng = np.random.default_rng(0)
    image = np.full((64, 64, 3), 110.0)
    image[:, 32:] = 140
    image = np.clip(image + rng.normal(0, 14, (64, 64, 1)), 0, 255).astype(np.uint8)
    strength = boundary_map(image_channels(image))
    assert strength[8:56, 30:34].max(1).mean() > 2.0 * np.median(strength[8:56, :24])


def slow_merge(regions, weights):
    """The same greedy merging, looking at every border every time."""
    area, total, square, histogram = (list(x) for x in (regions.area, regions.total, regions.square, regions.histogram))
    borders = {tuple(p): (n, s) for p, n, s in zip(regions.border.tolist(), regions.length, regions.strength)}
    size = weights.size_share * regions.area.sum()
    children, costs = [], []

    def cost(pair):
        (i, j), (length, strength) = pair, borders[pair]
        value = weights.boundary * strength / length
        mean = [total[k] / area[k] for k in pair]
        variance = [np.maximum(square[k] / area[k] - m**2, 0) for k, m in zip(pair, mean)]
        spread = 12 + weights.spread * np.minimum(*variance)
        value += weights.mean * np.sqrt(((mean[0] - mean[1]) ** 2 / spread).sum())
        value += weights.histogram * np.abs(histogram[i] / area[i] - histogram[j] / area[j]).sum() / 6
        return value * min(1.0, min(area[i], area[j]) / size) ** weights.size_power

    while borders:
        best, *others = sorted(borders, key=cost)
        assume(not others or cost(others[0]) - cost(best) > 1e-9)  # rounding decides between equal borders
        children.append(set(best))
        costs.append(cost(best))
        node = len(area)
        for values in (area, total, square, histogram):
            values.append(values[best[0]] + values[best[1]])
        joined = {}
        for pair, (length, strength) in borders.items():
            pair = tuple(sorted({node if k in best else k for k in pair}))
            if len(pair) == 2:
                old = joined.get(pair, (0.0, 0.0))
                joined[pair] = (old[0] + length, old[1] + strength)
        borders = joined
    return children, costs


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 25), st.integers(0, 2**31), st.sampled_from([MergeWeights(), MergeWeights(mean=0.5, spread=1.0)]))
def test_merging_takes_the_cheapest_border_every_time(count, seed, weights):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, count, (12, 13))
    label.reshape(-1)[:count] = np.arange(count)
    channels = rng.normal(10, 5, (12, 13, 4)).astype(np.float32)
    regions = measure_regions(label, channels, rng.random((12, 13)).astype(np.float32))
    tree = merge_regions(regions, weights)
    children, costs = slow_merge(regions, weights)
    assert [set(pair) for pair in tree.children.tolist()] == children
    assert np.allclose(tree.cost, costs)


def slow_members(tree, count):
    """Which regions every node holds."""
    rows = list(np.eye(count, dtype=bool))
    for a, b in tree.children:
        rows.append(rows[a] | rows[b])
    return np.array(rows)


def test_pixels_are_sorted_by_label():
    label = np.random.default_rng(0).integers(0, 9, 500)
    order, begin = sort_labels(label, 10)
    assert np.array_equal(order, np.argsort(label, kind="stable"))
    assert np.array_equal(np.diff(begin), np.bincount(label, minlength=10))


def test_boundaries_are_the_largest_ratio_over_orientations():
    """As `cv2.filter2D` correlates, in numpy."""
    channels = np.random.default_rng(0).normal(10, 5, (37, 50, 4)).astype(np.float32)
    mean = cv2.GaussianBlur(channels, (0, 0), 2.4)
    variance = cv2.GaussianBlur(channels * channels, (0, 0), 2.4) - mean * mean
    ratios = []
    for k in range(8):
        kernel = half_disc_difference(np.pi * k / 8, 3.0)
        squared = cv2.filter2D(channels, -1, kernel, borderType=cv2.BORDER_REFLECT) ** 2
        ratios.append((squared / (12 + np.maximum(variance - 0.25 * squared, 0))).sum(-1))
    assert np.allclose(boundary_at_scale(channels, 3.0), np.sqrt(np.max(ratios, 0)), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**31))
def test_merging_adds_statistics_up(count, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, count, (9, 11))
    label.reshape(-1)[:count] = np.arange(count)
    channels = rng.normal(10, 5, (9, 11, 4)).astype(np.float32)
    boundary = rng.random((9, 11)).astype(np.float32)
    regions = measure_regions(label, channels, boundary)
    tree = merge_regions(regions, MergeWeights(mean=0.5))
    members = slow_members(tree, count)
    assert len(tree.children) == count - 1
    assert members[-1].all()
    assert np.array_equal(tree.area, members @ regions.area)
    crossing = members[:, regions.border[:, 0]] != members[:, regions.border[:, 1]]
    assert np.allclose(tree.contour, crossing @ regions.strength / np.maximum(crossing @ regions.length, 1))
    other = merge_regions(regions, MergeWeights())
    lists, others = list_members(tree.children, count), list_members(other.children, count)
    for row, start, stop in zip(members, *lists[1:]):
        assert set(lists[0][start:stop]) == set(np.flatnonzero(row))
    assert np.array_equal(overlaps_within(*lists[1:], tree.area), members * regions.area @ members.T)
    between = overlaps_between(*lists, *others, regions.area)
    assert np.array_equal(between, members * regions.area @ slow_members(other, count).T)
    group = roots(merge_regions(regions, MergeWeights(), until=2), count)
    assert group.max() == 1
    again, merged = measure_regions(group[label], channels, boundary), regions.merged(group)
    for name in ("area", "total", "square", "histogram", "border", "length", "strength"):
        assert np.allclose(getattr(again, name), getattr(merged, name), rtol=1e-5), name
