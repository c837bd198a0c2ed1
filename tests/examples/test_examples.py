"""The numbered examples, run as a person runs them, on a tiny scene."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where the examples work; their table is there already, smaller than they would make it."""
    from ag2_ns.synthetic.tabletop.generate import generate

    out = tmp_path_factory.mktemp("examples")
    generate(out / "table", seed=2, objects=3, views=12, width=96, height=72, noise=0.0, progress=False)
    return out


def execute(name: str, *options: object) -> None:
    """`python examples/NAME OPTIONS`, in this process: importing everything anew would take ten seconds each."""
    path, argv = sys.path[:], sys.argv
    sys.path.insert(0, str(EXAMPLES))
    sys.argv = [name, *map(str, options)]
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.path[:], sys.argv = path, argv
        sys.modules.pop("start", None)


@pytest.fixture(scope="module")
def trained(out):
    """Examples 1 and 2."""
    execute("1_prepare.py", "--out", out)
    execute("2_train.py", "--out", out, "--steps", 150)
    from nerfstudio.utils import writer

    writer.EVENT_WRITERS.clear()
    (config,) = (out / "runs").rglob("config.yml")
    return config


@pytest.mark.slow
def test_prepare_and_train(out, trained):
    assert list((out / "table" / "ag2").rglob("manifest.json"))
    assert list(trained.parent.rglob("*.ckpt"))


@pytest.mark.slow
def test_lift_click_film_edit_and_export(out, trained, capsys):
    execute("3_lift.py", "--out", out)
    names = capsys.readouterr().out.splitlines()[-1]
    assert (out / "splat.ply").exists() and "things" in names
    lifted = [p for p in (out / "runs").rglob("config.yml") if p != trained]
    assert len(lifted) == 1 and "lifted" in str(lifted[0])

    options = ("--out", out, "--load-config", lifted[0])
    execute("4_click.py", *options)
    assert Image.open(out / "click.png").size == (3 * 96, 2 * 72)
    execute("5_text_video.py", "--out", out, "--frames", 3)  # takes the newest run by itself
    assert (out / "text.mp4").stat().st_size > 500
    execute("6_edit.py", *options, "--save")
    before, deleted = (np.asarray(Image.open(out / "edit.png")).astype(int)[:, 96 * k : 96 * (k + 1)] for k in (0, 1))
    assert (np.abs(before - deleted).max(-1) > 25).sum() > 30
    assert (lifted[0].parent / "ag2_edits.npz").exists()
    execute("7_export.py", "--out", out, "--load-config", trained)
    written = {p.name for p in (out / "piece").iterdir()}
    assert {"rest.ply", "anchors.ply", "boxes.glb", "hulls.glb", "labels.json"} <= written and len(written) == 6
    assert json.loads((out / "piece" / "labels.json").read_text())["labels"]


def test_without_data_the_table_is_made(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import start

    made = []
    monkeypatch.setattr(start, "generate", lambda out, **options: made.append((out, options)))
    assert start.scene(None, tmp_path) == tmp_path / "table" == made[0][0]
    assert start.scene(Path("mine"), tmp_path) == Path("mine") and len(made) == 1
    sys.modules.pop("start", None)


def test_the_newest_run_of_the_scene_is_taken(tmp_path, monkeypatch):
    import os
    from copy import deepcopy

    import yaml

    from ag2_ns.plugin.methods import ag2aussian_small

    monkeypatch.syspath_prepend(EXAMPLES)
    import start

    def saved(data: Path, time: int) -> Path:
        config = deepcopy(ag2aussian_small.config)
        config.data = config.pipeline.datamanager.data = data
        config.output_dir, config.experiment_name, config.timestamp = tmp_path / "runs", data.name, str(time)
        path = config.get_base_dir() / "config.yml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.dump(config))
        os.utime(path, (time, time))
        return path

    mine, other, table = tmp_path / "mine", tmp_path / "elsewhere" / "mine", tmp_path / "table"
    paths = {(data, time): saved(data, time) for data, time in ((mine, 1), (mine, 2), (table, 3), (other, 4))}
    monkeypatch.setattr(start.ag2_ns, "open", lambda path: path)
    assert start.opened(None, mine, tmp_path) == start.opened(None, mine / "transforms.json", tmp_path)
    assert start.opened(None, mine, tmp_path) == paths[mine, 2]
    assert start.opened(None, None, tmp_path) == paths[table, 3]
    assert start.opened(None, other, tmp_path) == paths[other, 4]
    assert start.opened(paths[mine, 1], other, tmp_path) == paths[mine, 1]
    trained = {"main": lambda data, out: ("trained", data)}
    monkeypatch.setattr(start.runpy, "run_path", lambda path: trained)
    assert start.opened(None, tmp_path / "new", tmp_path) == ("trained", tmp_path / "new")
    sys.modules.pop("start", None)


@pytest.mark.parametrize("script", sorted(p.name for p in EXAMPLES.glob("[0-9]_*.py")))
def test_every_example_says_what_it_shows_and_writes(script):
    text = (EXAMPLES / script).read_text()
    assert f"python examples/{script}" in text and "\nShows " in text and "\nWrites " in text
