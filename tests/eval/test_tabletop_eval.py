import json

import numpy as np
import pytest
import torch
from flat_scene import HEIGHT, WIDTH, view, wall
from PIL import Image

from ag2_ns.errors import UserError
from ag2_ns.eval.tabletop import MIN_PIXELS, evaluate_selections, read_ground_truth
from ag2_ns.query.selection import Selection
from ag2_ns.rasterizer.base import View
from ag2_ns.rasterizer.cpu import CpuRasterizer

LEFT, RIGHT, SPECK, UNSEEN = 1, 2, 3, 9


def ids() -> np.ndarray:
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    out[:, : WIDTH // 2], out[:, WIDTH // 2 :] = LEFT, RIGHT
    out[0, -1] = SPECK
    return out


@pytest.fixture
def truth(tmp_path):
    (tmp_path / "ids").mkdir()
    for name in ("a", "b"):
        Image.fromarray(ids()).save(tmp_path / "ids" / f"{name}.png")
    labels = {LEFT: "left wall", RIGHT: "right wall", SPECK: "speck", UNSEEN: "unseen"}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return read_ground_truth(tmp_path)


def select(mask: torch.Tensor, anchors: torch.Tensor | None = None) -> Selection:
    anchors = torch.ones(1, dtype=torch.bool) if anchors is None else anchors
    return Selection(torch.ones(1), anchors, mask, "", 0.9, (0,), 0.5)


def evaluate(truth, selections, views=None):
    labels = sorted(truth.labels.items())
    views = [("a.png", view()), ("b.png", view()), ("c.png", view())] if views is None else views
    return evaluate_selections(wall(), selections, labels, truth, views, CpuRasterizer())


def test_right_selections_score_one_and_missing_ones_zero(truth):
    left = wall().means[:, 0] < 0
    none = torch.zeros_like(left)
    report = evaluate(truth, [select(left), None, select(none, none[:1]), None])
    by_label = {p.label: p for p in report.prompts}
    assert by_label["left wall"].miou > 0.95 and not by_label["left wall"].missing
    assert by_label["left wall"].view == ["a.png", "b.png"], "c has no ground truth"
    assert by_label["right wall"].iou == [0.0, 0.0] and by_label["right wall"].missing
    content = report.as_dict()
    assert content["mean_over_prompts"]["miou"] == pytest.approx(by_label["left wall"].miou / 2)
    assert content["mean_over_prompts"]["acc50"] == 0.5
    assert content["missing"] == 3
    assert content["prompts"][-1]["label"] == "left wall", "worst first"


def test_a_selection_of_everything_scores_its_share(truth):
    everything = torch.ones(len(wall()), dtype=torch.bool)
    report = evaluate(truth, [select(everything)] * 4)
    left = next(p for p in report.prompts if p.label == "left wall")
    assert left.miou == pytest.approx(0.5, abs=0.02)
    assert left.boundary_iou[0] < 0.9


def test_objects_that_are_too_small_do_not_count(truth):
    assert (ids() == SPECK).sum() < MIN_PIXELS * ids().size / (640 * 480)
    report = evaluate(truth, [None] * 4)
    shown = {p.label for p in report.prompts if p.iou}
    assert shown == {"left wall", "right wall"}
    assert report.as_dict()["mean_over_prompts"]["miou"] == 0


def test_sizes_must_agree(truth):
    small = View(view().viewmat, view().K, WIDTH // 2, HEIGHT)
    with pytest.raises(UserError, match=r"a\.png: 64x48 pixels where the camera has 32x48"):
        evaluate(truth, [None] * 4, [("a.png", small)])


def test_names_must_agree(truth):
    with pytest.raises(UserError, match="none of its files is named like an image"):
        evaluate(truth, [None] * 4, [("x.png", view())])


def test_damaged_ground_truth(truth):
    folder = truth.folder
    (folder / "ids" / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        evaluate(truth, [None] * 4)
    for content in ("[]", "{", '{"one": "x"}'):
        (folder / "labels.json").write_text(content)
        with pytest.raises(UserError, match=r"labels\.json"):
            read_ground_truth(folder)
    (folder / "labels.json").write_text("{}")
    with pytest.raises(UserError, match="no labels"):
        read_ground_truth(folder)
    (folder / "labels.json").unlink()
    with pytest.raises(UserError, match="no such file"):
        read_ground_truth(folder)
