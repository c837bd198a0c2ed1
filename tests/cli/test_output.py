"""What commands print: labels and paths as they are, and commands that a shell takes."""

import json
import shlex
from pathlib import Path

import blob_run
import pytest
from tiny_run import ag2

from ag2_ns.core.console import command_line

LABEL = "red [/b] a:key:b ball"
FOLDER = "it's [b] a folder :key:"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blob_run, "TEXTS", [LABEL, *blob_run.TEXTS[1:]])
        return blob_run.build(tmp_path_factory.mktemp("output") / FOLDER)


def test_labels_and_paths_are_printed_as_they_are(config, tmp_path, capsys):
    out = tmp_path / FOLDER
    ag2("render", "--load-config", config, "--text", LABEL, "--frames", 1, "--size", 32, 24, "--output-path", out)
    said = capsys.readouterr().out
    assert f"{LABEL}: score" in said and str(out) in said
    ag2("export", "--load-config", config, "--text", LABEL, "--format", "splat", "--output-dir", out)
    assert f"{out / 'labels.json'}  " in capsys.readouterr().out
    ag2("edit", "--load-config", config, "--text", LABEL, "--delete", "--no-cleanup")
    said = capsys.readouterr().out
    ag2("edit", "--load-config", config, "--clear")
    assert f"saved: {config.parent}" in said
    assert f"{config.parent / 'ag2_edits.npz'}: removed" in capsys.readouterr().out


def test_a_lift_prints_paths_as_they_are_and_commands_that_run(config, tmp_path, capsys, monkeypatch):
    from ag2_ns.plugin.pipeline import AG2Pipeline

    monkeypatch.setattr(AG2Pipeline, "build_instances", lambda *a: None)  # the balls keep theirs
    monkeypatch.setattr("ag2_ns.plugin.datamanager.AG2DataManager.view_masks", lambda self: object())
    ag2("lift", "--load-config", config, "--output-dir", tmp_path / FOLDER, "--device", "cpu")
    said = dict(
        line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.split()[:1] in (["run"], ["ask"])
    )
    words = shlex.split(said["ask"])
    assert words[:2] == ["ag2", "query"] and words[3] == said["run"] and FOLDER in words[3] and words[5] == LABEL
    ag2(*words[1:-1], tmp_path / "q", "--max-views", 1)
    assert json.loads(capsys.readouterr().out)["found"]


def test_an_evaluation_prints_labels_as_they_are(config, tmp_path, capsys, monkeypatch):
    import numpy as np
    from PIL import Image

    monkeypatch.setenv("COLUMNS", "200")  # in a narrow table labels are broken
    (tmp_path / "ids").mkdir()
    ids = np.zeros((blob_run.HEIGHT, blob_run.WIDTH), np.uint8)
    ids[20:30, 20:30] = 1
    Image.fromarray(ids).save(tmp_path / "ids" / "view_01.png")
    (tmp_path / "labels.json").write_text(json.dumps({"1": LABEL}))
    ag2("eval", "--load-config", config, "--ground-truth", tmp_path, "--output-dir", tmp_path / FOLDER)
    said = capsys.readouterr().out
    assert LABEL in said and str(tmp_path / FOLDER / "report.json") in said


def test_command_lines_are_quoted():
    words = ["ag2", "query", "--load-config", Path("my runs/it's/config.yml"), "--text", "red mug"]
    assert shlex.split(command_line(*words)) == [str(w) for w in words]
    assert command_line("ag2", "prepare", Path("data/kitchen")) == "ag2 prepare data/kitchen"
