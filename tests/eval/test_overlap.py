import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ag2_ns.eval import metrics
from ag2_ns.eval.overlap import boundaries, id_boundaries, ious


def blobs(seed: int, height: int, width: int, count: int) -> np.ndarray:
    """`count` masks of smooth outlines, the first empty and the last full. [H, W, P]"""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.normal(size=(height, width, count)), (3, 3, 0)) > 0.02
    masks[..., 0], masks[..., -1] = False, True
    return masks


SIZES = st.sampled_from([(40, 50), (7, 90), (1, 1), (300, 5)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), SIZES)
def test_many_pairs_are_as_one(seed, size):
    a, b = blobs(seed, *size, 5), np.roll(blobs(seed + 1, *size, 5), seed % 2, -1)
    found = ious(torch.from_numpy(a), torch.from_numpy(b))
    assert found.tolist() == [metrics.iou(a[..., k], b[..., k]) for k in range(5)], "to the last bit"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), SIZES, st.sampled_from([0.001, 0.02, 0.1, 0.6, 3.0]))
def test_boundaries_are_those_by_distance(seed, size, width):
    masks = blobs(seed, *size, 4)
    found = boundaries(torch.from_numpy(masks), width).numpy()
    for k in range(4):
        assert np.array_equal(found[..., k], metrics.boundary(masks[..., k], width))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), SIZES, st.sampled_from([0.001, 0.02, 0.1, 3.0]))
def test_the_boundary_of_ids_is_that_of_each(seed, size, width):
    masks = blobs(seed, *size, 3)
    ids = (masks[..., 0] * 300 + masks[..., 1] * 7 + blobs(seed + 1, *size, 3)[..., 1]).astype(np.int32)
    near = id_boundaries(torch.from_numpy(ids), width).numpy()
    for number in np.unique(ids):
        assert np.array_equal(near & (ids == number), metrics.boundary(ids == number, width))


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(RuntimeError, match="must match"):
        ious(torch.ones(4, 5, 2, dtype=torch.bool), torch.ones(4, 6, 2, dtype=torch.bool))
