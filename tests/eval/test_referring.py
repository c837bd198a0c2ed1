import flat_scene
import numpy as np
import pytest
import torch

from ag2_ns.core.selection import Selection
from ag2_ns.eval.referring import evaluate_sentences, figures
from ag2_ns.io.referring import ReferringSentence
from ag2_ns.rendering.cpu import CpuRasterizer


@pytest.fixture(scope="module")
def scene():
    """A wall whose left half is thing 1 and whose right half is thing 2."""
    gaussians, view = flat_scene.wall(), flat_scene.view()
    ids = np.ones((view.height, view.width), int)
    ids[:, view.width // 2 :] = 2
    return gaussians, view, ids


def select(gaussians, left, right):
    mask = torch.zeros(len(gaussians), dtype=torch.bool)
    x = gaussians.means[:, 0]
    mask |= (x < 0) if left else False
    mask |= (x > 0) if right else False
    return Selection(mask.float(), mask, mask, "", 0.9)


def run(scene, cases, amodal=None):
    gaussians, view, ids = scene
    sentences = [ReferringSentence(f"s{k}", wanted, kind="k") for k, (wanted, _) in enumerate(cases)]
    selections = [s for _, s in cases]
    report = evaluate_sentences(gaussians, sentences, selections, [(view, ids, amodal)], CpuRasterizer())
    return report.results, report


def test_right_wrong_and_missing(scene):
    g = scene[0]
    results, report = run(
        scene,
        [
            ((1,), select(g, True, False)),
            ((1,), select(g, False, True)),
            ((1,), select(g, True, True)),
            ((1,), None),
            ((1, 2), select(g, True, True)),
            ((1,), Selection.nothing(len(g), len(g), "")),
        ],
    )
    assert [r.right for r in results] == [True, False, False, False, True, False]
    assert results[0].miou > 0.9 and results[1].miou < 0.05 and results[3].miou == 0 and results[5].miou == 0
    assert results[2].miou == pytest.approx(0.5, abs=0.05)
    assert report.as_dict()["all"]["t_acc"] == pytest.approx(4 / 6)


def test_absent_targets(scene):
    results, report = run(scene, [((), None), ((), select(scene[0], True, False))])
    assert [r.right for r in results] == [True, False] and [r.miou for r in results] == [1.0, 0.0]
    assert report.as_dict()["all"]["n_acc"] == 0.5


def test_amodal_masks_and_strata(scene):
    g, view, _ = scene
    whole = np.ones((view.height, view.width), bool)
    hidden = np.zeros_like(whole)
    hidden[: view.height // 2, : view.width // 2] = True
    results, report = run(
        scene, [((1,), select(g, True, False)), ((2,), select(g, True, False))], {1: whole, 2: hidden}
    )
    assert results[0].strata == ["visible"] and results[1].strata == ["hidden"]
    assert results[0].amodal_iou == pytest.approx(0.5, abs=0.06)
    assert set(report.as_dict()["by_stratum"]) == {"visible", "hidden"}


def test_no_sentences_no_figures():
    assert np.isnan(figures([])["miou"]) and figures([])["sentences"] == 0
