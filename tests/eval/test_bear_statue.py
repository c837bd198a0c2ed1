"""The hand-drawn outlines of the bear statue and the ids made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.draw import polygon2mask

from ag2_ns.eval.metrics import iou
from ag2_ns.eval.tabletop import read_ground_truth

FOLDER = Path(__file__).parent / "bear_statue"
STATUE = json.loads((FOLDER / "statue.json").read_text())


def filled(polygons: list) -> np.ndarray:
    shape = (STATUE["height"], STATUE["width"])
    masks = [polygon2mask(shape, np.asarray(p)[:, ::-1] - 0.5) for p in polygons]
    return np.any(masks, axis=0) if masks else np.zeros(shape, bool)


def test_ground_truth_opens():
    truth = read_ground_truth(FOLDER)
    assert truth.labels == {1: STATUE["label"]}
    assert sorted(truth.files) == sorted(Path(name).stem for name in STATUE["views"])
    assert len(truth.files) == 5


@pytest.mark.parametrize("name", sorted(STATUE["views"]))
def test_ids_are_the_outlines(name):
    drawn = STATUE["views"][name]
    ids = read_ground_truth(FOLDER).ids(Path(name).stem)
    assert ids.shape == (STATUE["height"], STATUE["width"])
    mask = filled(drawn["outlines"]) & ~filled(drawn["holes"])
    assert iou(mask, ids == 1) > 0.999
    assert 0.05 < mask.mean() < 0.6
