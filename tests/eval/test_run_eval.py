from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from flat_scene import HEIGHT, WIDTH, view, wall
from PIL import Image

from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import EncoderGone, MissingInstances, UnknownWords, UserError
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import NamedView
from ag2_ns.eval.run import evaluate_run
from ag2_ns.eval.tabletop import GroundTruth
from ag2_ns.rendering.cpu import CpuRasterizer


def test_a_run_without_instances_is_refused():
    def refuse():
        raise MissingInstances(None)

    run = SimpleNamespace(require_index=refuse)
    with pytest.raises(MissingInstances, match="no instances yet"):
        evaluate_run(run, GroundTruth(None, {1: "wall"}, {}))


VIEWS = tuple(NamedView(f"{split}.png", split, split, view()) for split in ("train", "eval"))


def test_an_encoder_that_is_gone_is_an_error_and_no_score(monkeypatch, tmp_path):
    def gone(*_):
        raise EncoderGone("the weights are gone")

    monkeypatch.setattr("ag2_ns.query.text.Text.reply", gone)
    scene = SimpleNamespace(require_index=lambda: None, gaussians=wall(), rasterizer=None, views=VIEWS)
    with pytest.raises(EncoderGone):
        evaluate_run(scene, GroundTruth(tmp_path, {1: "wall"}, {}))


def test_progress_is_told_part_by_part(monkeypatch, tmp_path):
    """Nothing in the ground truth is of the run's views: said at the first part."""
    parts = []

    @contextmanager
    def watch(total, what):
        parts.append((total, what))
        yield None

    def unknown(query, scene, level):
        raise UnknownWords(query.text)

    monkeypatch.setattr("ag2_ns.query.text.Text.reply", unknown)
    run = SimpleNamespace(require_index=lambda: None, gaussians=wall(), rasterizer=None, views=VIEWS)
    with pytest.raises(UserError, match="none of its files is named like an image"):
        evaluate_run(run, GroundTruth(tmp_path, {1: "wall"}, {"elsewhere": tmp_path / "elsewhere.png"}), watch=watch)
    assert parts == [(2, "text queries")]


def test_texts_clicks_and_instances_share_what_they_draw(monkeypatch, tmp_path):
    """All three give the same halves of the wall: each half is drawn once per view."""
    ids = np.ones((HEIGHT, WIDTH), np.uint8)
    ids[:, WIDTH // 2 :] = 2
    files = {name: tmp_path / f"{name}.png" for name in ("train", "eval")}
    for path in files.values():
        Image.fromarray(ids).save(path)
    node = (wall().means[:, 0] > 0).long()

    def half(right: bool) -> Selection:
        inside = node == int(right)
        return Selection(inside.float(), inside, inside, "", 1.0, (int(right),), 0.5)

    class Counting(CpuRasterizer):
        sets = 0

        def rasterize(self, means, quats, scales, opacities, values, view, **options):
            self.sets += values.shape[1]
            return super().rasterize(means, quats, scales, opacities, values, view, **options)

    backend = Counting()
    monkeypatch.setattr("ag2_ns.query.text.Text.reply", lambda query, *_: Answer(half(query.text == "right")))
    monkeypatch.setattr("ag2_ns.eval.run.answer_click", lambda *place: Answer(half(place[-2] >= WIDTH // 2)))
    index = SimpleNamespace(gaussian_node=lambda level: node)
    run = SimpleNamespace(require_index=lambda: index, gaussians=wall(), rasterizer=backend, views=VIEWS)
    report = evaluate_run(run, GroundTruth(tmp_path, {1: "left", 2: "right"}, files))
    assert backend.sets == 4
    assert [o.instances for o in report.instances.objects] == [[0], [1]] and len(report.clicks.clicks) == 10
    for prompt, found in zip(report.texts.prompts, report.instances.objects):
        assert prompt.iou == found.iou and len(prompt.iou) == 2 and prompt.miou > 0.95
    assert {c.iou for c in report.clicks.clicks} == {p.miou for p in report.texts.prompts}
