import json

import numpy as np
import pytest
import torch
from flat_scene import HEIGHT, WIDTH, view, wall
from PIL import Image

from ag2_ns.core.view import View
from ag2_ns.eval.instances import evaluate_instances
from ag2_ns.eval.tabletop import read_ground_truth
from ag2_ns.rendering.cpu import CpuRasterizer

LEFT, RIGHT, HIDDEN = 1, 2, 7
NOTHING = 10
"""Columns at the right border that have no label."""


def views() -> list[tuple[str, View]]:
    return [(name, view()) for name in ("a.png", "b.png", "c.png")]


@pytest.fixture
def truth(tmp_path):
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[:, : WIDTH // 2], ids[:, WIDTH // 2 : -NOTHING] = LEFT, RIGHT
    (tmp_path / "ids").mkdir()
    for name in ("a", "b"):
        Image.fromarray(ids).save(tmp_path / "ids" / f"{name}.png")
    (tmp_path / "labels.json").write_text(json.dumps({LEFT: "left", RIGHT: "right", HIDDEN: "hidden"}))
    return read_ground_truth(tmp_path)


def column() -> torch.Tensor:
    """The pixel column of each Gaussian."""
    return 25 * wall().means[:, 0] + WIDTH / 2


def evaluate(truth, instance):
    done = []
    report = evaluate_instances(
        wall(), instance, sorted(truth.labels.items()), truth, views(), CpuRasterizer(), done.append
    )
    assert done == [1, 2], "c has no ground truth"
    return {o.label: o for o in report.objects}, report


def test_pieces_of_an_object_count_together(truth):
    x = column()
    # Left: three pieces, numbered as tree nodes are, with gaps. Right: one. No label: one.
    instance = torch.where(x < 8, 5, torch.where(x < 20, 9, torch.where(x < 32, 2, torch.where(x < 54, 30, 4))))
    objects, report = evaluate(truth, instance)
    assert objects["left"].instances == [2, 5, 9] and objects["right"].instances == [30]
    assert objects["left"].miou > 0.93 and objects["right"].miou > 0.9 and len(objects["left"].iou) == 2
    content = report.as_dict()
    assert content["unlabelled"] == 1
    assert (content["median_instances"], content["max_instances"]) == (2.0, 3)
    assert content["miou"] == pytest.approx((objects["left"].miou + objects["right"].miou) / 2)
    assert objects["hidden"].iou == [] and content["objects"][0]["label"] == "hidden"


def test_an_instance_across_two_objects_goes_to_the_larger_share(truth):
    x = column()
    instance = torch.where(x < 40, 0, torch.where(x < 54, 1, -1))
    objects, report = evaluate(truth, instance)
    assert objects["left"].instances == [0] and objects["right"].instances == [1]
    assert objects["left"].miou == pytest.approx(32 / 40, abs=0.03)
    assert objects["right"].miou == pytest.approx(14 / 22, abs=0.08)
    assert report.unlabelled == 0, "what is in no instance is none"


def test_one_instance_for_everything_leaves_one_object_without(truth):
    objects, report = evaluate(truth, torch.zeros(len(wall()), dtype=torch.long))
    assert objects["left"].instances == [0] and objects["right"].instances == []
    assert objects["right"].iou == [0.0, 0.0] and report.as_dict()["median_instances"] == 0.5
    assert objects["left"].miou == pytest.approx(0.5, abs=0.02)


def test_no_instances_at_all(truth):
    objects, report = evaluate(truth, torch.full((len(wall()),), -1))
    assert report.as_dict()["miou"] == 0 and objects["left"].instances == [] == objects["right"].instances
    assert report.unlabelled == 0


def test_instances_that_no_view_draws_belong_to_nobody(truth):
    scene, x = wall(), column()
    scene.means[x > 60] += torch.tensor([0, 0, -10.0])  # behind the cameras
    report = evaluate_instances(
        scene, torch.where(x > 60, 1, 0), sorted(truth.labels.items()), truth, views(), CpuRasterizer()
    )
    assert report.unlabelled == 1 and report.objects[0].instances == [0]
