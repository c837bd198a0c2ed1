"""`ag2 export` on a small scene: every format, edits and the world frame."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from plyfile import PlyData

from ag2_ns.cli.export import Export
from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.edit.edit_file import edit_path, save_edits
from ag2_ns.edit.history import History
from ag2_ns.edit.operations import Delete, Duplicate, Members
from ag2_ns.export.frame import FILE_NAME, run_to_world, world_frame
from ag2_ns.io.ply import read_gaussians
from ag2_ns.query.text import Text
from ag2_ns.scene.scene import Scene, WorldFrame
from ag2_ns.scene.scene_file import FILE_NAME as SCENE_FILE
from ag2_ns.scene.scene_file import open_scene, save_scene
from ag2_ns.splat.anchors import Anchors

TRANSFORM, SCALE = [[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0]], 0.5
NODES = {"red mug": [0], "the table!": [3], "unicorn": []}


def reply(query, scene, level):
    """What texts select."""
    found = scene.index.selection(NODES[query.text], query.text, 0.8)
    return Answer(found if NODES[query.text] else scene.index.nothing(query.text, "no such thing"))


@pytest.fixture
def config(tmp_path, monkeypatch, gaussians, index):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / FILE_NAME).write_text(json.dumps({"transform": TRANSFORM, "scale": SCALE}))
    feature = torch.nn.functional.normalize(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    anchors = Anchors(index.anchor_xyz, torch.ones(12, 1), feature)
    frame = WorldFrame(world_frame(torch.tensor(TRANSFORM), SCALE))
    save_scene(folder / SCENE_FILE, Scene(gaussians, anchors, index.gaussian_anchor, 1.0, index, frame=frame))
    monkeypatch.setattr(Text, "reply", reply)
    monkeypatch.setattr(Text, "ignored", lambda *_: "")
    return folder / "config.yml"


def edit(config, index, *edits):
    history = History()
    for e in edits:
        history = history.push(e)
    save_edits(edit_path(config), history, Fingerprint.of(36, index.anchor_xyz))


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_pieces_and_the_rest(config, tmp_path, gaussians, capsys):
    out = tmp_path / "out"
    Export(config, out, text=["red mug", "the table!"], format=("splat", "anchors", "boxes", "hulls")).main()
    assert names(out) == [
        "anchors.ply", "boxes.glb", "hulls.glb", "labels.json", "red-mug.ply", "rest.ply", "the-table.ply",
    ]  # fmt: skip
    torch.testing.assert_close(read_gaussians(out / "red-mug.ply").means, gaussians.means[:21])
    assert set(PlyData.read(str(out / "the-table.ply"))["vertex"]["instance"]) == {3}
    assert len(PlyData.read(str(out / "rest.ply"))["vertex"].data) == 3
    anchors = PlyData.read(str(out / "anchors.ply"))
    assert anchors["vertex"]["label"].tolist() == [0] * 7 + [3] * 4 and len(anchors["edge"].data) == 10
    content = json.loads((out / "labels.json").read_text())
    assert content["labels"] == ["red mug", "the table!"] and content["frame"] == "run"
    assert content["instances"]["3"]["label_id"] == 1 and content["instances"]["3"]["gaussians"] == 12
    assert sorted(content["files"]) == [n for n in names(out) if n != "labels.json"]
    assert "21 Gaussians" in capsys.readouterr().out


def test_the_graph_as_other_programs_read_it(config, tmp_path, index):
    Export(config, tmp_path, all=True, format=("anchors",)).main()
    ply = PlyData.read(str(tmp_path / "anchors.ply"))
    vertex, edge = ply["vertex"], ply["edge"]
    np.testing.assert_allclose(np.stack([vertex[c] for c in "xyz"], 1), index.anchor_xyz.numpy())
    feature = open_scene(config).anchors.feature.numpy()
    columns = [p.name for p in vertex.properties if p.name.startswith("feature_")]
    assert columns == [f"feature_{k}" for k in range(feature.shape[1])]
    np.testing.assert_allclose(np.stack([vertex[c] for c in columns], 1), feature, rtol=1e-6)
    assert vertex["label"].tolist() == index.tree.cut(0.5).tolist()
    assert [edge["vertex1"].tolist(), edge["vertex2"].tolist()] == index.edges.tolist()


def test_edits_are_honoured_unless_told_not_to(config, tmp_path, index):
    node = index.gaussian_node(0.5)
    edit(config, index, Delete(Members.of(node == 0)), Duplicate(Members.of(node == 3), translation=(9.0, 0, 0)))
    Export(config, tmp_path / "a", all=True, format=("splat", "anchors")).main()
    vertex = PlyData.read(str(tmp_path / "a" / "scene.ply"))["vertex"]
    assert np.unique(vertex["instance"]).tolist() == [-1, 3, 7] and len(vertex.data) == 27
    assert json.loads((tmp_path / "a" / "labels.json").read_text())["instances"]["7"]["duplicate_of"] == 3
    assert set(PlyData.read(str(tmp_path / "a" / "anchors.ply"))["vertex"]["label"]) == {-1, 3, 7}
    Export(config, tmp_path / "b", all=True, edits=False, format=("splat",)).main()
    assert len(PlyData.read(str(tmp_path / "b" / "scene.ply"))["vertex"].data) == 36
    with pytest.raises(UserError, match="red mug: edits removed it"):
        Export(config, tmp_path / "c", text=["red mug"]).main()


def test_world_frame(config, tmp_path, gaussians):
    Export(config, tmp_path / "out", all=True, world=True, box_shape="box").main()
    back = read_gaussians(tmp_path / "out" / "scene.ply")
    expected = run_to_world(config).gaussians(gaussians)
    for name in ("means", "quats", "scales", "sh"):
        torch.testing.assert_close(getattr(back, name), getattr(expected, name), atol=1e-5, rtol=1e-4)
    x, y, z = (gaussians.means * 2).unbind(1)  # x_run = 0.5 * (R x + t)
    torch.testing.assert_close(back.means, torch.stack([y - 2, -(x - 1), z - 3], 1))
    content = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert content["frame"] == "world"
    own = back.means[21:33]
    np.testing.assert_allclose(content["instances"]["3"]["box"]["size"], own.amax(0) - own.amin(0), atol=1e-4)


def test_pieces_of_one_name_get_files_of_their_own(config, tmp_path):
    Export(config, tmp_path / "out", text=["red mug", "red mug"], format=("splat",)).main()
    assert names(tmp_path / "out") == ["labels.json", "red-mug-2.ply", "red-mug.ply", "rest.ply"]


def test_what_an_earlier_export_wrote_does_not_stay(config, tmp_path, capsys):
    out = tmp_path / "out"
    Export(config, out, text=["red mug", "the table!"], format=("splat", "anchors", "boxes")).main()
    (out / "notes.ply").write_text("of the user")
    (out / "the-table.ply").write_text("changed by the user")
    later = (out / "labels.json").stat().st_mtime_ns + 10**9
    os.utime(out / "the-table.ply", ns=(later, later))
    capsys.readouterr()
    Export(config, out, all=True, format=("splat",)).main()
    assert names(out) == ["labels.json", "notes.ply", "scene.ply", "the-table.ply"]
    assert f"{out / 'red-mug.ply'}  removed" in capsys.readouterr().out
    assert json.loads((out / "labels.json").read_text())["files"] == ["scene.ply"]


@pytest.mark.parametrize("content", ["[]", "no json", '{"files": ["../run/config.ply", "sub/a.ply", 3, "a.txt"]}'])
def test_labels_of_something_else_remove_nothing(config, tmp_path, content):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    kept = [tmp_path / "run" / "config.ply", out / "sub" / "a.ply", out / "a.txt"]
    for path in kept:
        path.write_text("")
    (out / "labels.json").write_text(content)
    Export(config, out, all=True, format=("splat",)).main()
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "or the whole scene with --all"),
        ({"all": True, "text": ["red mug"]}, "not both"),
        ({"text": ["unicorn"]}, "unicorn: nothing found"),
        ({"all": True, "level": 2.0}, "--level 2.0"),
        ({"all": True, "format": ()}, "no format; choose of splat, anchors, boxes, hulls"),
        ({"all": True, "vocabulary": ("mug",)}, "no language"),
    ],
)
def test_bad_input_is_one_line(config, tmp_path, options, words):
    with pytest.raises(UserError, match=words) as error:
        Export(config, tmp_path / "out", **options).main()
    assert "\n" not in str(error.value)


def test_unwritable_and_unknown_frame(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Export(config, tmp_path / "file" / "out", all=True).main()
    save_scene(config.parent / SCENE_FILE, replace(open_scene(config), frame=None))
    with pytest.raises(UserError, match=r"scene\.safetensors: its world is not known.*no --world"):
        Export(config, tmp_path / "out", all=True, world=True).main()
