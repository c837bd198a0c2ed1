from dataclasses import replace

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.io.selection_file import load_selection, save_selection
from ag2_ns.scene.scene_index import SceneIndex

ANCHORS, GAUSSIANS = 11, 29


def index(anchors=ANCHORS, gaussians=GAUSSIANS) -> SceneIndex:
    one = torch.ones(1)
    anchor_node = torch.zeros(anchors, dtype=torch.long)
    seen = torch.ones(anchors, dtype=torch.bool)
    tree = InstanceTree(torch.tensor([-1]), torch.tensor([0]), one, torch.tensor([anchors]), one, anchor_node, seen)
    children = torch.arange(gaussians) % anchors
    return SceneIndex(children, torch.zeros(anchors, 3), torch.zeros(2, 0, dtype=torch.long), tree, None)


def selection() -> Selection:
    generator = torch.Generator().manual_seed(0)
    return Selection(
        torch.rand(ANCHORS, generator=generator),
        torch.rand(ANCHORS, generator=generator) < 0.5,
        torch.rand(GAUSSIANS, generator=generator) < 0.5,
        "rote Tasse, ça va",
        0.75,
        (3, 1),
        0.5,
    )


def test_a_selection_file_gives_back_the_selection(tmp_path):
    chosen = selection()
    save_selection(tmp_path / "selection.npz", chosen)
    found = load_selection(tmp_path / "selection.npz", index())
    assert torch.equal(found.anchor_mask, chosen.anchor_mask)
    assert torch.equal(found.gaussian_mask, chosen.gaussian_mask)
    assert torch.allclose(found.anchor_score, chosen.anchor_score, atol=1e-3)
    assert (found.label, found.score, found.nodes, found.level) == (chosen.label, chosen.score, chosen.nodes, 0.5)


def test_it_holds_no_pickle_and_is_small(tmp_path):
    save_selection(tmp_path / "selection.npz", selection())
    with np.load(tmp_path / "selection.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype for name in file}["gaussian_mask"] == np.uint8
        assert len(file["gaussian_mask"]) == -(-GAUSSIANS // 8)
    assert [p.name for p in tmp_path.iterdir()] == ["selection.npz"]


@pytest.mark.parametrize("other", [(ANCHORS + 1, GAUSSIANS), (ANCHORS, GAUSSIANS - 1)])
def test_a_selection_of_another_run_is_refused(other, tmp_path):
    save_selection(tmp_path / "selection.npz", selection())
    with pytest.raises(UserError, match=r"selection\.npz: .*make it again on this run"):
        load_selection(tmp_path / "selection.npz", index(*other))


def test_a_run_of_as_many_gaussians_elsewhere_is_another_run(tmp_path):
    here = index()
    elsewhere = replace(here, anchor_xyz=here.anchor_xyz + 1e-3)
    save_selection(tmp_path / "selection.npz", selection(), here)
    assert torch.equal(load_selection(tmp_path / "selection.npz", here).gaussian_mask, selection().gaussian_mask)
    with pytest.raises(UserError, match=r"selection\.npz: selects in another run.*`ag2 query`") as error:
        load_selection(tmp_path / "selection.npz", elsewhere)
    assert "\n" not in str(error.value)


def test_files_without_a_fingerprint_still_load(tmp_path):
    save_selection(tmp_path / "selection.npz", selection())
    elsewhere = replace(index(), anchor_xyz=torch.ones(ANCHORS, 3))
    assert torch.equal(load_selection(tmp_path / "selection.npz", elsewhere).anchor_mask, selection().anchor_mask)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_files_that_are_no_selection(content, tmp_path):
    (tmp_path / "selection.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"selection\.npz: not a selection file") as error:
        load_selection(tmp_path / "selection.npz", index())
    assert "\n" not in str(error.value)


def test_an_archive_of_something_else(tmp_path):
    np.savez(tmp_path / "selection.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="not a selection file"):
        load_selection(tmp_path / "selection.npz", index())
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    with pytest.raises(UserError, match="not a selection file"):
        load_selection(tmp_path / "array.npz.npy", index())


def test_a_selection_of_another_version(tmp_path, monkeypatch):
    save_selection(tmp_path / "selection.npz", selection())
    monkeypatch.setattr("ag2_ns.io.selection_file.SELECTION_FORMAT", 2)
    with pytest.raises(UserError, match="format 1, this one reads 2"):
        load_selection(tmp_path / "selection.npz", index())


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_selection(tmp_path / "selection.npz", index())
