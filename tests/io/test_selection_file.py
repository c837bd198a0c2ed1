import numpy as np
import pytest
import torch

from ag2_ns.core.errors import MissingFile, UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.core.selection import Selection
from ag2_ns.io.selection_file import load_selection, save_selection

ANCHORS, GAUSSIANS = 11, 29


def scene(anchors=ANCHORS, gaussians=GAUSSIANS, shift=0.0) -> Fingerprint:
    return Fingerprint.of(gaussians, torch.zeros(anchors, 3) + shift)


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
    save_selection(tmp_path / "selection.npz", chosen, scene())
    found = load_selection(tmp_path / "selection.npz", scene())
    assert torch.equal(found.anchor_mask, chosen.anchor_mask)
    assert torch.equal(found.gaussian_mask, chosen.gaussian_mask)
    assert torch.allclose(found.anchor_score, chosen.anchor_score, atol=1e-3)
    assert (found.label, found.score, found.nodes, found.level) == (chosen.label, chosen.score, chosen.nodes, 0.5)


def test_it_holds_no_pickle_and_is_small(tmp_path):
    save_selection(tmp_path / "selection.npz", selection(), scene())
    with np.load(tmp_path / "selection.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype for name in file}["gaussian_mask"] == np.uint8
        assert len(file["gaussian_mask"]) == -(-GAUSSIANS // 8)
    assert [p.name for p in tmp_path.iterdir()] == ["selection.npz"]


@pytest.mark.parametrize("other", [(ANCHORS + 1, GAUSSIANS), (ANCHORS, GAUSSIANS - 1)])
def test_a_selection_of_another_run_is_refused(other, tmp_path):
    save_selection(tmp_path / "selection.npz", selection(), scene())
    with pytest.raises(UserError, match=r"selection\.npz: .*make it again in this scene"):
        load_selection(tmp_path / "selection.npz", scene(*other))


def test_a_run_of_as_many_gaussians_elsewhere_is_another_run(tmp_path):
    here, elsewhere = scene(), scene(shift=1e-3)
    save_selection(tmp_path / "selection.npz", selection(), here)
    assert torch.equal(load_selection(tmp_path / "selection.npz", here).gaussian_mask, selection().gaussian_mask)
    with pytest.raises(UserError, match=r"selection\.npz: selects in another scene.*`ag2 query`") as error:
        load_selection(tmp_path / "selection.npz", elsewhere)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_files_that_are_no_selection(content, tmp_path):
    (tmp_path / "selection.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"selection\.npz: not a selection file") as error:
        load_selection(tmp_path / "selection.npz", scene())
    assert "\n" not in str(error.value)


def test_an_archive_of_something_else(tmp_path):
    np.savez(tmp_path / "selection.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="not a selection file"):
        load_selection(tmp_path / "selection.npz", scene())
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    with pytest.raises(UserError, match="not a selection file"):
        load_selection(tmp_path / "array.npz.npy", scene())


def test_a_selection_of_another_version(tmp_path, monkeypatch):
    save_selection(tmp_path / "selection.npz", selection(), scene())
    monkeypatch.setattr("ag2_ns.io.selection_file.SELECTION_FORMAT", 2)
    with pytest.raises(UserError, match="format 1, this one reads 2"):
        load_selection(tmp_path / "selection.npz", scene())


def test_no_file(tmp_path):
    with pytest.raises(MissingFile, match="no such file"):
        load_selection(tmp_path / "selection.npz", scene())
