"""A language field from training or lifting to queries and exports, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_run import ag2, nerfstudio_command

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.io.semantic_ply import read_semantic_splat

pytestmark = pytest.mark.slow


def newest(folder: Path) -> Path:
    return max(folder.rglob("config.yml"), key=lambda p: p.stat().st_mtime)


@pytest.fixture(scope="module")
def lifted(run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("lifted")
    ag2("lift", "--load-config", run.config, "--language", "field", "--field-steps", 40, "--output-dir", out)
    return newest(out)


def asked(capsys, *options) -> dict:
    capsys.readouterr()
    ag2("query", *options)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("strategy", ["tree", "collaborative", "both"])
def test_strategies(lifted, scene, tmp_path, capsys, strategy):
    labels = json.loads((scene / "ground_truth" / "labels.json").read_text())
    options = ("--load-config", lifted, "--text", labels["1"], "--output-dir", tmp_path, "--max-views", 1)
    answer = asked(capsys, *options, "--strategy", strategy, "--floor", 0)
    assert answer["found"] and answer["gaussians"] > 0 and (tmp_path / "selection.npz").exists()
    assert len(list((tmp_path / "overlays").iterdir())) == 1
    high = asked(capsys, *options, "--strategy", strategy, "--floor", 0.99)
    assert not high["found"] and high["reason"].startswith(f"nothing here is '{labels['1']}': nearest was ")


def test_without_a_field(run, scene, tmp_path, capsys):
    with pytest.raises(SystemExit):
        ag2("query", "--load-config", run.config, "--text", "table", "--strategy", "both", "--output-dir", tmp_path)
    assert "make one with `ag2 lift --language field`" in capsys.readouterr().err
    with pytest.raises(UserError, match="no language field"):
        ag2_ns.open(run.config).export(tmp_path, formats=["semantic"])


def test_the_field_is_in_the_scene_and_goes_out_as_semantics(lifted, tmp_path):
    scene = ag2_ns.open(lifted)
    field = scene.language_field
    assert field.instance.shape == (scene.index.num_anchors, 16) and field.language.isfinite().all()
    scene.export(tmp_path, formats=["semantic"])
    gaussians, feature = read_semantic_splat(tmp_path / "semantic.ply")
    assert len(gaussians) == len(scene.gaussians) and feature.shape[1] == 16
    from ag2_ns.plugin.run import load_run

    loaded = load_run(lifted)  # as ns-viewer opens it: the field is in no checkpoint
    assert loaded.pipeline.live.scene().language_field is not None


def test_train_cos3d(scene, tmp_path, capsys):
    nerfstudio_command(
        "ns-train", "cos3d", "--data", scene, "--output-dir", tmp_path, "--vis", "tensorboard",
        "--max-num-iterations", 20, "--machine.device-type", "cpu", "--steps-per-eval-all-images", 1000,
        "--pipeline.language-field.instance.steps", 15, "--pipeline.model.max-initial-anchors", 300,
    )  # fmt: skip
    made = ag2_ns.open(newest(tmp_path))
    assert made.language_field.per_gaussian and len(made.language_field) == len(made.gaussians)
    assert made.settings["query"]["strategy"] == "collaborative"
    assert made.provenance["method"] == "cos3d"
    made.select(text="table")
