"""Our measures against independent ones: torchmetrics, scikit-image, pycocotools, and by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch
from skimage.morphology import dilation, footprint_rectangle
from torchmetrics.classification import BinaryJaccardIndex

from ag2_ns.eval.instances import average_precision, evaluate_agnostic
from ag2_ns.eval.metrics import boundary, boundary_iou, boundary_reach, iou
from ag2_ns.eval.overlap import boundaries, ious


def blobs(rng, n, shape=(40, 56)):
    out = []
    for _ in range(n):
        y, x = np.ogrid[: shape[0], : shape[1]]
        cy, cx, r = rng.uniform(5, shape[0] - 5), rng.uniform(5, shape[1] - 5), rng.uniform(4, 14)
        out.append((y - cy) ** 2 + (x - cx) ** 2 < r**2)
    return np.array(out)


@pytest.mark.parametrize("seed", range(5))
def test_iou_as_torchmetrics(seed):
    a, b = blobs(np.random.default_rng(seed), 2)
    metric = BinaryJaccardIndex()
    assert iou(a, b) == pytest.approx(float(metric(torch.from_numpy(a), torch.from_numpy(b))), abs=1e-6)
    stacked = [torch.from_numpy(m)[..., None] for m in (a, b)]
    assert float(ious(*stacked)) == pytest.approx(iou(a, b))


@pytest.mark.parametrize("seed", range(3))
def test_boundary_as_scikit_image(seed):
    """Pixels of the mask within reach, in the maximum norm, of one outside; outside of the picture counts."""
    (mask,) = blobs(np.random.default_rng(seed), 1)
    reach = boundary_reach(*mask.shape, 0.03)
    outside = np.pad(~mask, reach + 1, constant_values=True)
    near = dilation(outside, footprint_rectangle((2 * reach + 1, 2 * reach + 1)))[
        reach + 1 : -reach - 1, reach + 1 : -reach - 1
    ]
    assert np.array_equal(boundary(mask, 0.03), mask & near)
    assert np.array_equal(boundaries(torch.from_numpy(mask)[..., None], 0.03)[..., 0].numpy(), mask & near)
    assert boundary_iou(mask, mask) == 1


def coco(predictions, scores, truth):
    pytest.importorskip("pycocotools")
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    encode = lambda m: rle.encode(np.asfortranarray(m.astype(np.uint8)))  # noqa: E731
    size = {"height": truth.shape[1], "width": truth.shape[2]}
    data = {"images": [{"id": 1, **size}], "categories": [{"id": 1}], "info": {}, "annotations": [
        {"id": k + 1, "image_id": 1, "category_id": 1, "segmentation": encode(m), "area": int(m.sum()), "iscrowd": 0}
        for k, m in enumerate(truth)]}  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = data
        known.createIndex()
        found = known.loadRes([
            {"image_id": 1, "category_id": 1, "segmentation": encode(m), "score": float(s)}
            for m, s in zip(predictions, scores)
        ])  # fmt: skip
        run = COCOeval(known, found, "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats[0], run.stats[1], run.stats[2]


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_as_pycocotools(seed):
    rng = np.random.default_rng(seed)
    truth = blobs(rng, 6)
    predictions = np.concatenate([np.roll(truth[:5], rng.integers(0, 3, 2), axis=(1, 2)), blobs(rng, 3)])
    scores = rng.permutation(len(predictions)).astype(float)
    table = np.array([[iou(p, t) for t in truth] for p in predictions])
    every, half, strict = coco(predictions, scores, truth)
    assert average_precision(table, scores, 0.5) == pytest.approx(half, abs=1e-6)
    assert average_precision(table, scores, 0.75) == pytest.approx(strict, abs=1e-6)
    ours = np.mean([average_precision(table, scores, t) for t in np.linspace(0.5, 0.95, 10)])
    assert ours == pytest.approx(every, abs=1e-6)


def test_average_precision_by_hand():
    # One right, one wrong, one right of two objects: precision 1 up to recall 0.5, 2/3 up to 1.
    table = np.array([[0.9, 0.0], [0.2, 0.3], [0.0, 0.8]])
    by_hand = (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision(table, np.array([3.0, 2.0, 1.0]), 0.5) == pytest.approx(by_hand)
    assert average_precision(np.zeros((0, 2)), np.zeros(0), 0.5) == 0
    assert average_precision(np.zeros((2, 0)), np.ones(2), 0.5) == 0


def test_over_and_under_segmentation():
    # Object 0 in two halves, objects 1 and 2 in one instance, object 3 seen by nobody.
    held = torch.tensor([[50.0, 0, 0, 0, 0], [50, 0, 0, 0, 0], [0, 40, 40, 0, 20], [0, 0, 0, 0, 500]])
    report = evaluate_agnostic(held, ["a", "b", "c", "d"])
    assert report.labels == ["a", "b", "c"] and report.pieces == [2, 1, 1] and report.merged == 1
    assert report.best == pytest.approx([0.5, 0.4, 0.4])
