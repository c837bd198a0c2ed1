import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ag2_ns.eval.metrics import accuracy, boundary, boundary_iou, iou, summary


def square(y0, y1, x0, x1, shape=(60, 80)):
    m = np.zeros(shape, bool)
    m[y0:y1, x0:x1] = True
    return m


def test_iou():
    a, b = square(0, 10, 0, 10), square(5, 15, 0, 10)
    assert iou(a, b) == pytest.approx(50 / 150) and iou(a, a) == 1
    assert iou(None, a) == 0 and iou(np.zeros_like(a), a) == 0 and iou(np.zeros_like(a), np.zeros_like(a)) == 1
    assert iou(torch.from_numpy(a), b) == iou(a, torch.from_numpy(b))
    with pytest.raises(ValueError, match="different sizes"):
        iou(a, a[:5])


def test_boundary_of_a_square():
    # 2 % of the diagonal of 60 x 80 is 2 px.
    edge = boundary(square(10, 30, 10, 30))
    assert edge.sum() == 20**2 - 16**2
    assert boundary(square(0, 20, 0, 20)).sum() == 20**2 - 16**2, "the image border is contour too"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.005, 0.02, 0.1]))
def test_boundary_is_what_erosion_removes(seed, width):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 3) > 0.02
    steps = max(1, round(width * np.hypot(40, 50)))
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=steps)
    assert np.array_equal(boundary(mask, width), mask & ~eroded)


def test_boundary_iou_sees_what_iou_does_not():
    truth = square(5, 55, 5, 75)
    grown = square(7, 53, 7, 73)
    assert iou(grown, truth) > 0.85 and boundary_iou(grown, truth) < 0.1
    assert boundary_iou(truth, truth) == 1 and boundary_iou(None, truth) == 0


def test_summary_counts_missing_as_zero():
    ious = [1.0, 0.5, 0.3, 0.0]
    out = summary(ious, [0.8, 0.4, 0.2, 0.0])
    assert out == {"miou": pytest.approx(0.45), "mbiou": pytest.approx(0.35), "acc25": 0.75, "acc50": 0.25}
    assert accuracy([], 0.5) == 0 and summary([], [])["miou"] == 0
