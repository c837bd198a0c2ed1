"""`ag2 edit` on a small scene: options, the file beside the run, undo and redo."""

import pytest
import torch

from ag2_ns.cli.edit import Edit
from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.core.selection import Selection
from ag2_ns.edit.edit_file import edit_path, load_edits
from ag2_ns.edit.operations import Delete, Duplicate, Isolate, Recolour, Transform
from ag2_ns.query.text import Text
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_file import save_scene
from ag2_ns.splat.anchors import Anchors


def reply(query, scene, level):
    """Anchor 3 is the mug."""
    mask = torch.arange(10) == (3 if query.text == "mug" else -1)
    found = Selection(mask.float(), mask, mask[scene.gaussian_anchor], query.text, 0.9, reason="no such thing")
    return Answer(found, reason=found.reason)


@pytest.fixture
def config(tmp_path, monkeypatch, gaussians, anchor):
    anchors = Anchors(torch.arange(30.0).reshape(10, 3), torch.ones(10, 1), torch.ones(10, 3))
    save_scene(tmp_path / "scene.safetensors", Scene(gaussians, anchors, anchor, 1.0))
    monkeypatch.setattr(Text, "reply", reply)
    monkeypatch.setattr(Text, "ignored", lambda *_: "")
    return tmp_path / "config.yml"


def edits(config):
    return load_edits(edit_path(config), Fingerprint.of(40, torch.arange(30.0).reshape(10, 3)))


def do(config, **options):
    Edit(config, cleanup=False, **options).main()


def test_every_edit_lands_in_the_file(config, capsys):
    do(config, text="mug", move=(1.0, 2.0, 3.0), rotate=("z", 90.0), scale=2.0)
    do(config, text="mug", duplicate=True, move=(1.0, 0.0, 0.0))
    do(config, text="mug", recolour=(0.0, 1.0, 0.0), strength=0.5)
    do(config, text="mug", delete=True, copy=1)
    do(config, text="mug", isolate=True)
    done = edits(config).edits
    assert [type(e) for e in done] == [Transform, Duplicate, Recolour, Delete, Isolate]
    assert done[0].translation == (1, 2, 3) and done[0].scale == 2 and done[0].wxyz[3] == pytest.approx(0.5**0.5)
    assert done[0].copy == 0 and done[3].copy == 1 and done[4].copy is None
    assert all(e.members.mask().nonzero().squeeze(1).tolist() == [12, 13, 14, 15] for e in done)
    shown = capsys.readouterr().out
    assert "5. isolate mug: 4 Gaussians" in shown and "ag2_edits.npz" in shown


def test_undo_redo_list_clear(config, capsys):
    do(config, text="mug", delete=True)
    do(config, undo=True)
    assert len(edits(config)) == 0
    do(config, redo=True)
    assert len(edits(config)) == 1
    before = edit_path(config).read_bytes()
    capsys.readouterr()
    do(config, list=True)
    assert "1. delete mug: 4 Gaussians" in capsys.readouterr().out
    assert edit_path(config).read_bytes() == before
    do(config, clear=True)
    assert not edit_path(config).exists()
    with pytest.raises(UserError, match="nothing to undo"):
        do(config, undo=True)


def test_pivot_is_the_middle_as_edited(config, gaussians):
    do(config, text="mug", move=(10.0, 0.0, 0.0))
    do(config, text="mug", rotate=("0,0,1", 180.0))
    first, second = edits(config).edits
    assert second.pivot[0] == pytest.approx(first.pivot[0] + 10, abs=1e-4)
    do(config, text="mug", scale=3.0, pivot=(1.0, 2.0, 3.0))
    assert edits(config).edits[-1].pivot == (1, 2, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text": "mug"}, "nothing to do"),
        ({"text": "mug", "delete": True, "isolate": True}, "do one after the other"),
        ({"text": "mug", "delete": True, "move": (1.0, 0.0, 0.0)}, "do one after the other"),
        ({"delete": True}, "say what to edit"),
        ({"text": "mug", "click": ("a", 1.0, 2.0), "delete": True}, "say what to edit"),
        ({"text": "mug", "rotate": ("w", 10.0)}, "the axis must be"),
        ({"text": "mug", "rotate": ("0,0,0", 10.0)}, "axis not zero"),
        ({"text": "mug", "scale": 0.0}, "scale 0 must be above 0"),
        ({"text": "mug", "recolour": (255.0, 0.0, 0.0)}, "give red, green and blue from 0 to 1"),
        ({"text": "unicorn", "delete": True}, "unicorn: nothing is selected"),
        ({"text": "mug", "delete": True, "copy": 2}, "copy 2 of it is not there"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(config, options, words):
    do(config, text="mug", recolour=(0.0, 1.0, 0.0))
    before = edit_path(config).read_bytes()
    with pytest.raises(UserError, match=words) as error:
        do(config, **options)
    assert "\n" not in str(error.value)
    assert edit_path(config).read_bytes() == before


def test_clear_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        Edit(tmp_path / "config.yml", clear=True).main()
