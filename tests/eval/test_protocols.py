"""Protocols on a flat wall whose halves are the things."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flat_scene import HEIGHT, WIDTH, view, wall
from PIL import Image

from ag2_ns.core.selection import Selection
from ag2_ns.eval.absent import evaluate_absent
from ag2_ns.eval.benchmark import Strokes, match_views
from ag2_ns.eval.formats import read_benchmark
from ag2_ns.eval.heat2d import evaluate_heat, thresholded
from ag2_ns.eval.levels import evaluate_levels
from ag2_ns.eval.masks3d import drawn, evaluate_masks
from ag2_ns.eval.scribbles import answer_strokes
from ag2_ns.rendering.cpu import CpuRasterizer

SPLAT = wall()
RIGHT = SPLAT.means[:, 0] > 0
LEFT_PIXELS = np.zeros((HEIGHT, WIDTH), bool)
LEFT_PIXELS[:, : WIDTH // 2] = True


def chosen(mask, node=0, score=1.0):
    return Selection(mask.float(), mask, mask, "", score, (node,), 0.5)


@pytest.fixture
def halves(tmp_path):
    for name, mask in (("left", LEFT_PIXELS), ("right", ~LEFT_PIXELS)):
        (tmp_path / "gt" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "gt" / "a" / f"{name}.png")
    benchmark = read_benchmark(tmp_path)
    return benchmark, match_views(benchmark, [("a.png", view())])


@pytest.mark.parametrize("rule", ["share", "alone"])
def test_right_and_missing_selections(halves, rule):
    found = {"left": chosen(~RIGHT), "right": None}
    report = evaluate_masks(SPLAT, found, *halves, CpuRasterizer(), rule)
    by = {p.label: p for p in report.prompts}
    assert by["left"].miou > 0.93 and not by["left"].missing and by["right"].iou == [0.0] and by["right"].missing


def test_what_stands_in_front_hides_by_share_only():
    front = replace(SPLAT, means=SPLAT.means * 0.5)
    both = type(SPLAT)(*(torch.cat((getattr(SPLAT, f), getattr(front, f))) for f in ("means", "quats", "scales", "opacities", "sh")))  # fmt: skip  # noqa: E501
    behind = (torch.arange(len(both)) < len(SPLAT))[:, None]
    assert not drawn(both, behind, view(), CpuRasterizer(), "share").any()
    assert drawn(both, behind, view(), CpuRasterizer(), "alone").float().mean() > 0.9
    with pytest.raises(ValueError, match="share or alone"):
        drawn(both, behind, view(), CpuRasterizer(), "other")


def test_frames_without_camera_count_zero(halves):
    benchmark, matched = halves
    report = evaluate_masks(SPLAT, {"left": chosen(~RIGHT)}, benchmark, replace(matched, views={}), CpuRasterizer())
    assert all(p.iou == [0.0] for p in report.prompts)


def test_heat(halves):
    scores = {"left": torch.where(RIGHT, 0.45, 0.6), "right": torch.full((len(SPLAT),), torch.nan)}
    report = evaluate_heat(SPLAT, scores, *halves, CpuRasterizer()).as_dict()
    by = {p["label"]: p for p in report["prompts"]}
    assert by["left"]["miou"] > 0.9 and by["right"]["miou"] < 0.6 and report["localisation"] >= 0.5
    assert not thresholded(np.full((4, 4), 0.3)).any() and not thresholded(np.full((4, 4), np.nan)).any()
    assert np.array_equal(thresholded(np.array([[0.0, 0.69, 0.71, 1.0]])), [[False, False, True, True]])


def test_absent_prompts():
    nothing = Selection.nothing(3, 3, "x")
    some = chosen(torch.ones(3, dtype=torch.bool), score=0.6)
    answers = {
        "unicorn": nothing,
        "red mug": replace(some, score=0.52),
        "dragon": None,
        "nan": replace(some, score=float("nan")),
    }
    present = {f"p{k}": replace(some, score=0.55 + k / 1000) for k in range(100)}
    asked = [(t, "kind") for t in answers]
    out = evaluate_absent(answers.get, asked, present).as_dict()
    assert out["rejected"] == 0.5 and out["false_positive_rate"] == 0.5 and out["kept"] == 1
    assert out["rejected_at_98_kept"] == 1 and out["by_sort"] == {"kind": 0.5} and out["found"] == ["nan", "red mug"]
    present["p0"] = replace(nothing, score=0.5)  # refused, as the best of what is not there would be
    out = evaluate_absent({"red mug": replace(some, score=0.52)}.get, asked[1:2], present).as_dict()
    assert out["kept"] == 0.99 and out["rejected_at_98_kept"] == 1
    out = evaluate_absent(answers.get, asked, {"p0": present["p0"]}).as_dict()
    assert out["kept"] == 0 and out["rejected_at_98_kept"] == 0.75, "whatever the system refuses by itself"


def click(camera, x, y, level):
    """Level 1 is the whole wall, less is a half."""
    if level >= 1:
        return chosen(torch.ones_like(RIGHT), 0)
    right = x >= WIDTH // 2
    return chosen(RIGHT if right else ~RIGHT, 1 + int(right))


def test_levels(halves):
    report = evaluate_levels("things", click, SPLAT, *halves, CpuRasterizer(), each=2).as_dict()
    assert report["miou"] > 0.93 and report["best_level_miou"] >= report["miou"] and len(report["clicks"]) == 4
    wrong = evaluate_levels(
        "things", lambda *a: click(*a[:3], 1.0), SPLAT, *halves, CpuRasterizer(), best=False
    ).as_dict()
    assert wrong["miou"] == pytest.approx(0.5, abs=0.03)


def test_scribbles_choose_the_level_that_keeps_the_negative_ones_out():
    strokes = Strokes("a", LEFT_PIXELS, ~LEFT_PIXELS)
    answer = answer_strokes(click, view(), strokes)
    assert answer.level < 1 and torch.equal(answer.selection.gaussian_mask, ~RIGHT)
    everything = Strokes("a", LEFT_PIXELS | True, np.zeros_like(LEFT_PIXELS))
    answer = answer_strokes(click, view(), everything)
    assert answer.selection.gaussian_mask.all()
    nothing = answer_strokes(lambda *_: Selection.nothing(1, 1, ""), view(), strokes)
    assert nothing.selection is None
