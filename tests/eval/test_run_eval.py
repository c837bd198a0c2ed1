from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from flat_scene import view, wall

from ag2_ns.errors import UserError
from ag2_ns.eval.run import evaluate_run
from ag2_ns.eval.tabletop import GroundTruth


def test_a_run_without_instances_is_refused():
    def refuse():
        raise UserError("no instances yet")

    run = SimpleNamespace(require_index=refuse)
    with pytest.raises(UserError, match="no instances yet"):
        evaluate_run(run, GroundTruth(None, {1: "wall"}, {}))


def test_progress_is_told_part_by_part(monkeypatch, tmp_path):
    """Nothing in the ground truth is of the run's views: said at the first part."""
    parts = []

    @contextmanager
    def watch(total, what):
        parts.append((total, what))
        yield None

    def unknown(*_, **__):
        raise UserError("does not know the words")

    monkeypatch.setattr("ag2_ns.run_access.text_selection", unknown)
    run = SimpleNamespace(
        require_index=lambda: None,
        gaussians=wall(),
        model=SimpleNamespace(backend=lambda: None),
        views=lambda split: [(f"{split}.png", view())],
        texts=None,
    )
    with pytest.raises(UserError, match="none of its files is named like an image"):
        evaluate_run(run, GroundTruth(tmp_path, {1: "wall"}, {"elsewhere": tmp_path / "elsewhere.png"}), watch=watch)
    assert parts == [(2, "text queries")]
