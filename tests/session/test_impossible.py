"""What cannot be done is said in one line, by the panel and by every command, and nothing is written."""

import errno
import os
from dataclasses import replace

import pytest
import torch
from blob_run import CENTRES

from ag2_ns.core.errors import MissingLanguage, UserError
from ag2_ns.edit import steps
from ag2_ns.edit.edit_file import FILE_NAME
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.query.text import Text

EYE = (0.0, 0.0, 2.0)


def silence(model):
    """Take the scene's language away."""
    index = model.scene_index()
    nodes = index.tree.num_nodes
    model.set_scene_index(replace(index, language=NodeLanguage(torch.zeros(nodes, 0), *torch.zeros(3, nodes))))


def test_a_text_where_no_language_exists(loaded, session):
    silence(loaded.model)
    with pytest.raises(MissingLanguage, match=r"no language.*ag2 prepare.*ag2 lift"):
        session.ask(Text("red ball"))
    direction = tuple(c - e for c, e in zip(CENTRES["red"], EYE))
    assert session.click(EYE, direction).label.startswith("instance ")  # clicks still work, and nothing has a name


@pytest.mark.slow
def test_the_panel_says_that_there_is_no_language(loaded, tab):
    silence(loaded.model)
    tab.set("Find", "red ball", "Text")
    tab.press("Find")
    tab.until(lambda: "no language" in tab.note())
    loaded.session.index_changed()  # the first picture of this index comes after the answer
    assert loaded.pipeline.AG2.panel.wait()
    assert "no language" in loaded.pipeline.AG2.panel.note.content
    tab.click(CENTRES["red"])
    tab.until(lambda: "instance" in tab.note() and "no language" not in tab.note())


@pytest.mark.slow
def test_a_click_outside_of_the_canvas_is_none(loaded, tab):
    session = loaded.session
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    for place in ((1.3, 0.5), (0.5, -0.1), (float("nan"), 0.5)):
        tab.click_place(*place)
    tab.click(CENTRES["blue"])
    tab.until(lambda: "**blue ball**" in tab.note())
    session.undo()
    session.undo()
    with pytest.raises(UserError, match="nothing to undo"):
        session.undo()


@pytest.mark.slow
def test_a_click_on_nothing_says_so(loaded, tab):
    tab.click_place(0.02, 0.02)
    tab.until(lambda: "nothing selected" in tab.note() and "background" in tab.note())


def test_a_piece_cannot_be_written_just_anywhere(loaded, tab, monkeypatch):
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    for name, words in (("folder/piece.ply", "run's folder only"), ("  ", "no name")):
        tab.set("File", name, "Text")
        tab.until(lambda name=name: loaded.pipeline.AG2.panel.save.file.value == name)
        tab.press("Export")
        tab.until(lambda words=words: words in tab.note().replace("\\", ""))

    def read_only(handle):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", read_only)
    tab.press("Edits")
    tab.until(lambda: FILE_NAME in tab.note().replace("\\", "") and "cannot be written" in tab.note())


def test_nothing_to_undo_or_edit(loaded, tab):
    for button, words in (("Undo", "nothing to undo"), ("Redo", "nothing to redo"), ("Isolate", "nothing is selected")):
        tab.press(button)
        tab.until(lambda words=words: words in tab.note())
    tab.press("Undo")  # the same button again counts, too
    tab.until(lambda: "nothing to undo" in tab.note())


@pytest.fixture
def foreign(blob_run, loaded, session):
    """A run that has the edits of another one beside it."""
    session.ask(Text("red ball"))
    session.edit(*steps.delete(session.edited(), session.require_selection(), None))
    loaded.model.anchor_xyz = loaded.model.anchor_xyz + 1
    session.save_edits()
    return blob_run


@pytest.mark.parametrize(
    "command",
    [
        ("query", "--text", "red ball", "--output-dir", "OUT"),
        ("render", "--text", "red ball", "--output-path", "OUT/a.mp4"),
        ("edit", "--text", "red ball", "--delete"),
        ("export", "--text", "red ball", "--output-dir", "OUT"),
    ],
)
def test_edits_of_another_run_stop_every_command(foreign, tmp_path, capsys, command):
    from ag2_ns.cli.main import main

    edits = (foreign.parent / FILE_NAME).read_bytes()
    name, *options = (part.replace("OUT", str(tmp_path / "new")) for part in command)
    with pytest.raises(SystemExit) as stop:
        main([name, "--load-config", str(foreign), *options])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1 and last.startswith("error: ") and FILE_NAME in last and "another run" in last
    assert not (tmp_path / "new").exists() and (foreign.parent / FILE_NAME).read_bytes() == edits


@pytest.mark.parametrize(
    "command",
    [
        ("query", "--text", "red ball", "--output-dir", "FILE/out"),
        ("render", "--text", "red ball", "--frames", "2", "--output-path", "FILE/a.mp4"),
        ("export", "--text", "red ball", "--output-dir", "FILE/out"),
    ],
)
def test_folders_that_cannot_be_written(blob_run, tmp_path, capsys, command):
    from ag2_ns.cli.main import main

    (tmp_path / "file").write_text("in the way")
    name, *options = (part.replace("FILE", str(tmp_path / "file")) for part in command)
    with pytest.raises(SystemExit) as stop:
        main([name, "--load-config", str(blob_run), *options])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1 and last.startswith("error: ") and "cannot be written" in last


@pytest.mark.parametrize("command", ["query", "render", "edit", "export"])
def test_an_empty_text(blob_run, tmp_path, capsys, command):
    from ag2_ns.cli.main import main

    out = {"query": ["--output-dir"], "render": ["--output-path"], "edit": ["--delete"], "export": ["--output-dir"]}
    options = [*out[command], *([] if command == "edit" else [str(tmp_path / "new")])]
    with pytest.raises(SystemExit) as stop:
        main([command, "--load-config", str(blob_run), "--text", "  ", *options])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1 and last.startswith("error: ") and "empty" in last
    assert not (tmp_path / "new").exists()
