import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from plyfile import PlyData

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import apply_edits
from ag2_ns.edit.operations import Delete, Duplicate, Members
from ag2_ns.export.labels import Instance, label_edited, label_scene, subset, write_labels
from ag2_ns.export.splats import write_splat
from ag2_ns.io.ply import read_gaussians
from ag2_ns.ops.boxes import box_of


def test_every_gaussian_gets_its_instance(index):
    scene = label_scene(index, level=0.5)
    assert scene.instance.tolist() == [0] * 21 + [3] * 12 + [-1] * 3
    assert scene.labels == [] and scene.label_id().tolist() == [-1] * 36
    assert label_scene(index, level=0.2).instance.tolist() == [1] * 12 + [2] * 9 + [3] * 12 + [-1] * 3


def test_selections_override_and_name(index):
    part = index.selection([2], "handle", 0.75, 0.2)
    scene = label_scene(index, [part], names={3: Instance("table", 0.5), 0: Instance("mug")})
    assert scene.instance.tolist() == [0] * 12 + [2] * 9 + [3] * 12 + [-1] * 3
    assert scene.labels == ["handle", "mug", "table"]
    assert scene.label_id().tolist() == [1] * 12 + [0] * 9 + [2] * 12 + [-1] * 3
    assert scene.known[2] == Instance("handle", 0.75, 0.2)


def test_selections_that_are_no_nodes_are_instances_too(index):
    mask = torch.zeros(36, dtype=torch.bool)
    mask[30:] = True
    box = Selection(torch.zeros(12), torch.zeros(12, dtype=torch.bool).index_fill(0, torch.tensor([10]), True), mask,
                    "box", 1.0)  # fmt: skip
    less = index.selection([0], "mug", 1.0).without(index.selection([2], "handle", 1.0))
    scene = label_scene(index, [box, less, index.nothing("x", "y")])
    assert scene.instance.tolist() == [5] * 12 + [0] * 9 + [3] * 9 + [4] * 6
    assert scene.known[5].label == "mug" and scene.known[4].label == "box"


def test_duplicates_are_labelled_like_their_original(index, gaussians):
    labelled = label_scene(index, [index.selection([3], "table", 1.0)])
    m = Members.of(labelled.instance == 3)
    scene = apply_edits(gaussians, index.gaussian_anchor, [Duplicate(m, copy=0, translation=(5, 0, 0))] * 2)
    out = label_edited(labelled, scene)
    assert out.present() == [0, 3, 7, 11]
    assert out.known[11] == replace(labelled.known[3], duplicate_of=3)
    assert out.label_id()[36:].tolist() == [0] * 24


def test_others_can_read_the_file(tmp_path, index, gaussians):
    labelled = label_scene(index, [index.selection([3], "table", 1.0)])
    path = tmp_path / "splat.ply"
    write_splat(path, gaussians, labelled)
    vertex = PlyData.read(str(path))["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:6] == ["x", "y", "z", "nx", "ny", "nz"] and names[-2:] == ["instance", "label_id"]
    assert vertex["instance"].dtype.kind == "i" and vertex["label_id"].dtype.kind == "i"
    np.testing.assert_array_equal(vertex["instance"], labelled.instance.numpy())
    np.testing.assert_array_equal(vertex["label_id"], [-1] * 21 + [0] * 12 + [-1] * 3)
    back = read_gaussians(path)
    torch.testing.assert_close(back.means, gaussians.means)
    torch.testing.assert_close(back.sh, gaussians.sh)
    torch.testing.assert_close(back.opacities, gaussians.opacities)


def test_labels_json(tmp_path, index, gaussians):
    labelled = label_scene(index, [index.selection([3], "table — bois", 0.5)])
    scene = apply_edits(gaussians, index.gaussian_anchor, [Delete(Members.of(labelled.instance == 0))])
    out = label_edited(labelled, scene)
    boxes = {n: box_of(scene.gaussians[out.instance == n]) for n in out.present()}
    path = tmp_path / "labels.json"
    write_labels(path, out, scene.anchor, boxes, frame="world", files=["splat.ply"])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["labels"] == ["table — bois"] and content["frame"] == "world" and content["files"] == ["splat.ply"]
    assert set(content["instances"]) == {"3"}
    entry = content["instances"]["3"]
    assert entry["gaussians"] == 12 and entry["anchors"] == 4 and entry["label_id"] == 0 and entry["score"] == 0.5
    expected = scene.gaussians.means[out.instance == 3]
    np.testing.assert_allclose(entry["box"]["size"], (expected.amax(0) - expected.amin(0)).numpy(), atol=1e-5)


def test_nothing_and_nowhere_to_write(tmp_path, index, gaussians):
    labelled = label_scene(index)
    none = torch.zeros(36, dtype=torch.bool)
    with pytest.raises(UserError, match="no Gaussians to write"):
        write_splat(tmp_path / "x.ply", gaussians[none], subset(labelled, none))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*choose another folder"):
        write_splat(tmp_path / "file" / "x.ply", gaussians, labelled)
