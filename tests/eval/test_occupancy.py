"""The occupancy evaluator: a confusion made by hand, and the real Occ3D label."""

import numpy as np
import pytest
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.eval.occupancy import OccupancyScore, score, total
from ag2_ns.io.occ3d import CLASSES, FREE, Labels, read_labels
from ag2_ns.ops.voxels import VoxelGrid


def labels(semantics, mask=None):
    semantics = np.asarray(semantics, np.uint8).reshape(-1, 1, 1)
    mask = np.ones(semantics.shape, bool) if mask is None else np.asarray(mask, bool).reshape(semantics.shape)
    return Labels(semantics, mask, mask, VoxelGrid((0.0, 0.0, 0.0), 1.0, semantics.shape))


def test_a_confusion_made_by_hand():
    #                car car  car  road road free  free others unseen
    truth = labels([4, 4, 4, 11, 11, FREE, FREE, 0, 4], [1, 1, 1, 1, 1, 1, 1, 1, 0])
    found = np.array([4, 4, FREE, 11, 4, FREE, 11, 11, 11], np.uint8).reshape(-1, 1, 1)
    s = score(found, truth)
    # full and full: voxels 0, 1, 3, 4, 7; full in either: all seen but the one free in both
    assert s.iou == pytest.approx(5 / 7)
    assert s.class_iou[4] == pytest.approx(2 / 4)  # hit 2, missed 1, false 1
    assert s.class_iou[11] == pytest.approx(1 / 4)  # hit 1, missed 1, false 2
    assert s.class_iou[0] == 0.0 and np.isnan(s.class_iou[16])
    assert s.miou17 == pytest.approx((0.5 + 0.25 + 0.0) / 3)
    assert s.miou15 == pytest.approx((0.5 + 0.25) / 2)
    assert s.as_dict()["classes"]["vegetation"] is None


def test_the_two_means_differ_by_fifteen_seventeenths_where_all_classes_are_there():
    truth = labels(np.arange(17).repeat(2))
    found = np.arange(17).repeat(2).astype(np.uint8).reshape(-1, 1, 1)
    found[[0, 1, 24, 25]] = FREE  # neither others nor other flat
    s = score(found, truth)
    assert s.miou15 == 1.0 and s.miou17 == pytest.approx(15 / 17)


def test_frames_add_up():
    truth = labels([4, 11, FREE])
    one, two = score(truth.semantics, truth), score(np.full_like(truth.semantics, FREE), truth)
    both = total([one, two])
    assert both.iou == pytest.approx(2 / 4) and np.array_equal(both.confusion, (one + two).confusion)
    assert np.isnan(OccupancyScore.none().iou) and np.isnan(OccupancyScore.none().miou15)


def test_another_grid_is_one_line():
    with pytest.raises(UserError, match="grid"):
        score(np.zeros((2, 1, 1), np.uint8), labels([4]))


def test_the_real_label():
    path = next((shared("nuscenes_sample") / "occ3d").glob("*_labels.npz"))
    truth = read_labels(path)
    assert truth.grid.shape == (200, 200, 16) and int(truth.mask_camera.sum()) == 43355
    perfect = score(truth.semantics, truth)
    assert perfect.iou == perfect.miou17 == perfect.miou15 == 1.0
    seen = truth.semantics[truth.mask_camera]
    full = (seen != FREE).mean()
    assert full == pytest.approx(0.53, abs=0.005)
    assert score(np.full_like(truth.semantics, FREE), truth).iou == 0.0
    # All road: hits are the road's voxels, and IoU of full is the share that is full.
    road = score(np.full_like(truth.semantics, CLASSES.index("driveable surface")), truth)
    assert road.iou == pytest.approx(full)
    assert road.class_iou[11] == pytest.approx((seen == 11).mean())
    there = np.delete(np.unique(seen), -1)
    kinds = [c for c in there if c not in (0, 12)]
    assert road.miou15 == pytest.approx((seen == 11).mean() / len(kinds))
