import json

import numpy as np
import pytest
import torch
from flat_scene import HEIGHT, WIDTH, view, wall
from PIL import Image

from ag2_ns.core.selection import Selection
from ag2_ns.eval.clicks import evaluate_clicks
from ag2_ns.eval.tabletop import read_ground_truth
from ag2_ns.rendering.cpu import CpuRasterizer

LABELS = [(1, "left"), (2, "right"), (7, "hidden")]


@pytest.fixture
def truth(tmp_path):
    ids = np.ones((HEIGHT, WIDTH), np.uint8)
    ids[:, WIDTH // 2 :] = 2
    (tmp_path / "ids").mkdir()
    for name in ("a", "b"):
        Image.fromarray(ids).save(tmp_path / "ids" / f"{name}.png")
    (tmp_path / "labels.json").write_text(json.dumps({str(i): text for i, text in LABELS}))
    return read_ground_truth(tmp_path)


def report_of(truth, select, each=4, seed=0):
    views = [(name, view()) for name in ("a.png", "b.png", "c.png")]
    return evaluate_clicks(select, wall(), LABELS, truth, views, CpuRasterizer(), each=each, seed=seed)


def side(right: bool) -> Selection:
    inside = (wall().means[:, 0] > 0) == right
    return Selection(inside.float(), inside, inside, "", 1.0, (int(right),), 0.5)


def nothing() -> Selection:
    return Selection.nothing(len(wall()), len(wall()), "", torch.device("cpu"), "background")


def test_clicks_lie_on_their_object_and_score_it(truth):
    report = report_of(truth, lambda view, x, y: side(x >= WIDTH // 2))
    assert [c.label for c in report.clicks] == ["left"] * 4 + ["right"] * 4, "no view shows the hidden one"
    assert all((c.x >= WIDTH // 2) == (c.label == "right") and 0 <= c.y < HEIGHT for c in report.clicks)
    assert all(c.iou > 0.95 and c.view in ("a.png", "b.png") for c in report.clicks)
    again = report_of(truth, lambda view, x, y: side(x >= WIDTH // 2))
    assert again == report
    assert report_of(truth, lambda view, x, y: side(x >= WIDTH // 2), seed=1) != report


def test_wrong_and_empty_selections_count(truth):
    wrong = report_of(truth, lambda view, x, y: side(True)).as_dict()
    assert wrong["objects"]["right"] > 0.95 and wrong["objects"]["left"] < 0.05
    assert wrong["miou"] == pytest.approx(sum(wrong["objects"].values()) / 2)
    assert wrong["clicks"][0]["iou"] <= wrong["clicks"][-1]["iou"]
    mixed = report_of(truth, lambda view, x, y: nothing() if x < WIDTH // 2 else side(True)).as_dict()
    assert mixed["objects"]["left"] == 0.0 and mixed["objects"]["right"] > 0.95


def test_no_clicks(truth):
    assert report_of(truth, None, each=0).as_dict() == {"miou": 0.0, "objects": {}, "clicks": []}
