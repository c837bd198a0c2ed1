import json
import os
import zipfile

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.edit.edit_file import edit_path, load_edits, save_edits
from ag2_ns.edit.history import History
from ag2_ns.edit.operations import Delete, Duplicate, Isolate, Members, Patch, Recolour, Transform, axis_angle

COUNT = 43
XYZ = torch.arange(30.0).reshape(10, 3)
FP = Fingerprint.of(COUNT, XYZ)


def members(*rows):
    mask = torch.zeros(COUNT, dtype=torch.bool)
    mask[list(rows)] = True
    return Members.of(mask)


@pytest.fixture
def history():
    patch = Patch.of(
        torch.tensor([1, 2]),
        torch.rand(2, 3),
        torch.rand(2, 3),
        COUNT,
        "the mug",
        wxyz=(0.0, 1.0, 0.0, 0.0),
        scales=(0.1, 0.2, 0.3),
        opacity=0.5,
    )
    h = History(depth=7)
    h = h.push([Delete(members(1, 2), residue=members(3), label="the mug"), patch])
    h = h.push(Transform(members(42), wxyz=axis_angle((1, 1, 0), 33), pivot=(0.1, 0.2, 0.3), label='a "bowl"'))
    h = h.push(Duplicate(members(5, 6), scale=1 / 3, copy=0)).push(Isolate(members(7), spared=members(8)))
    return h.push(Recolour(members(0), rgb=(0.1, 0.2, 0.3), strength=0.7)).undo()


def test_what_is_saved_is_loaded(tmp_path, history):
    path = edit_path(tmp_path / "config.yml")
    assert path.parent == tmp_path
    save_edits(path, history, FP)
    assert load_edits(path, FP) == history
    assert load_edits(path, FP).redo() == history.redo()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_no_file_is_no_edit(tmp_path):
    assert load_edits(tmp_path / "ag2_edits.npz", FP) == History()


def test_people_and_numpy_can_read_it(tmp_path, history):
    path = tmp_path / "e.npz"
    save_edits(path, history, FP)
    with zipfile.ZipFile(path) as file:
        header = json.loads(file.read("edits.json"))
    assert header["done"][0][0]["description"] == "delete the mug: 2 Gaussians, 1 left over removed too"
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays[header["done"][0][0]["members"]["set"]].dtype == np.uint8


def test_same_edits_same_bytes(tmp_path, history):
    for name in "ab":
        save_edits(tmp_path / name, history, FP)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "other", [Fingerprint.of(COUNT + 1, XYZ), Fingerprint.of(COUNT, XYZ[:9]), Fingerprint.of(COUNT, XYZ + 1e-3)]
)
def test_edits_of_another_run_are_refused(tmp_path, history, other):
    path = tmp_path / "e.npz"
    save_edits(path, history, FP)
    with pytest.raises(UserError, match=r"e\.npz: these edits were made for another run.*--clear"):
        load_edits(path, other)


def test_every_way_to_be_damaged_is_one_line(tmp_path, history):
    path = tmp_path / "e.npz"
    save_edits(path, history, FP)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cases = [b"", b"hello", whole[: len(whole) // 2], whole[:-30]]
    for _ in range(60):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            broken[at] ^= int(rng.integers(1, 256))
        cases.append(bytes(broken))
    refused = 0
    for case in cases:
        path.write_bytes(case)
        try:
            load_edits(path, FP)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(error).startswith(str(path))
    assert refused > 40


def test_impossible_contents_are_refused(tmp_path, history):
    path = tmp_path / "e.npz"
    save_edits(path, history, FP)
    with zipfile.ZipFile(path) as file:
        files = {n: file.read(n) for n in file.namelist()}

    def with_header(change):
        header = json.loads(files["edits.json"])
        change(header)
        with zipfile.ZipFile(path, "w") as file:
            for name, content in files.items():
                file.writestr(name, json.dumps(header) if name == "edits.json" else content)

    cases = {
        "newer": lambda h: h.update(version=99),
        "not a file of edits": lambda h: h.update(format="x"),
        "damaged.*explode": lambda h: h["done"][0][0].update(operation="explode"),
        "impossible edit.*scale": lambda h: h["done"][1][0].update(scale=-1.0),
        "damaged.*KeyError": lambda h: h["done"][0][0].pop("members"),
        "damaged.*bytes": lambda h: h["done"][0][0]["members"].update(set=h["done"][0][1]["centre"]["table"]),
        "damaged": lambda h: h.update(done=3),
    }
    for words, change in cases.items():
        with_header(change)
        with pytest.raises(UserError, match=words):
            load_edits(path, FP)


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="not a readable file of edits"):
        load_edits(path, FP)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(tmp_path, history):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            save_edits(tmp_path / "e.npz", history, FP)
    finally:
        tmp_path.chmod(0o700)


def test_edits_of_other_gaussians_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="39"):
        save_edits(tmp_path / "e.npz", History().push(Delete(Members.none(39))), FP)
    assert not list(tmp_path.iterdir())


def test_fingerprint_is_that_of_the_values():
    assert Fingerprint.of(COUNT, XYZ.double()) == FP
    assert Fingerprint.of(COUNT, XYZ.T.contiguous().T) == FP


# Several people.


def test_the_second_of_two_editors_loses_nothing(tmp_path, history, capsys):
    """Both read the same edits, and both add one."""
    path = tmp_path / "e.npz"
    save_edits(path, history, FP)
    first, second = (load_edits(path, FP).push(Delete(members(row))) for row in (10, 20))
    save_edits(path, first, FP)
    written = save_edits(path, second, FP)
    assert load_edits(path, FP).done == written.done == (*first.done, second.done[-1])
    assert "another program has added 1 step(s)" in " ".join(capsys.readouterr().out.split())
    third = load_edits(path, FP).undo()
    save_edits(path, third, FP)
    assert load_edits(path, FP).done == first.done, "one's own step can be taken back"


def test_the_first_edits_of_two_editors(tmp_path):
    path = tmp_path / "e.npz"
    mine, theirs = (load_edits(path, FP).push(Delete(members(row))) for row in (1, 2))
    save_edits(path, theirs, FP)
    save_edits(path, mine, FP)
    assert load_edits(path, FP).done == (*theirs.done, *mine.done)


def test_saving_twice_does_nothing_twice(tmp_path, history):
    path = tmp_path / "e.npz"
    once = save_edits(path, load_edits(path, FP).push(Delete(members(1))), FP)
    again = save_edits(path, once.push(Delete(members(2))), FP)
    assert len(load_edits(path, FP)) == len(again) == 2
    save_edits(path, again.undo().push(Delete(members(3))), FP)
    assert [step[0].members for step in load_edits(path, FP).done] == [members(1), members(3)]


def test_what_cannot_be_joined_is_refused(tmp_path, history):
    path = tmp_path / "e.npz"
    save_edits(path, history, FP)
    mine, theirs = load_edits(path, FP), load_edits(path, FP)
    save_edits(path, theirs.undo(), FP)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"another program has changed these edits.*ag2 edit --list"):
        save_edits(path, mine.push(Delete(members(9))), FP)
    assert path.read_bytes() == before
    save_edits(path, history, FP)
    mine, theirs = load_edits(path, FP), load_edits(path, FP)
    save_edits(path, theirs.push(Duplicate(members(3))), FP)
    with pytest.raises(UserError, match="do yours again"):
        save_edits(path, mine.push(Transform(members(5, 6), copy=1)), FP)


def test_editors_at_the_same_moment(tmp_path):
    """Eight of them; no step is lost, whoever comes first."""
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "e.npz"
    read = [load_edits(path, FP).push(Delete(members(row))) for row in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda mine: save_edits(path, mine, FP), read))
    found = {step[0].members for step in load_edits(path, FP).done}
    assert found == {members(row) for row in range(8)}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
