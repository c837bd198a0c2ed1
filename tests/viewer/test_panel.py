"""The panel in nerfstudio's own viewer, driven through its websocket."""

from threading import Event, Thread

import numpy as np
import pytest
import torch
from blob_run import CENTRES, ring_pose
from tab import Tab

from ag2_ns.edit.edit_file import FILE_NAME
from ag2_ns.rendering.first_view import first_view
from ag2_ns.session.run_files import SELECTION_FILE
from ag2_ns.viewer.layers import SCALE
from ag2_ns.viewer.panel import STEP


def orange(picture):
    return (picture[..., 0] > 200) & (picture[..., 2] < 90)


def red(picture):
    return (picture[..., 0] > 150) & (picture[..., 1] < 90)


def test_a_click_is_answered_with_a_selection_and_its_picture(loaded, tab):
    assert "Click on something" in tab.note()
    before = tab.seen()
    tab.click(CENTRES["green"])
    tab.until(lambda: "**green ball**" in tab.note())
    tab.seen(lambda p: orange(p).sum() > 20 and p.mean() < 0.8 * before.mean())
    assert tab.element("Output type", "Dropdown")["value"] == "selection_overlay"
    assert set(tab.element("Output type", "Dropdown")["options"]) >= {
        "rgb", "feature", "instance", "depth", "relevancy", "selection", "selection_overlay",
    }  # fmt: skip
    tab.press("Clear")
    tab.until(lambda: "Click on something" in tab.note())
    tab.seen(lambda p: np.abs(p.astype(int) - before).mean() < 3)
    assert tab.element("Output type", "Dropdown")["value"] == "rgb"


def test_typing_finds_remembers_and_explains(loaded, tab):
    tab.set("Find", "blue ball", "Text")
    tab.until(lambda: "**blue ball**" in tab.note() and "Gaussians" in tab.note())
    assert loaded.session.state.selection.label == "blue ball"
    tab.until(lambda: any("blue ball" in o for o in tab.element("Again", "Dropdown")["options"]))
    tab.set("Find", "walrus", "Text")
    tab.press("Find")
    tab.until(lambda: "nothing here is called that" in tab.note())
    tab.set("Find", "  ", "Text")
    tab.press("Find")
    tab.until(lambda: "text is empty" in tab.note())
    assert loaded.session.state.selection.label == "blue ball"
    entry = next(o for o in tab.element("Again", "Dropdown")["options"] if "blue" in o)
    tab.press("Clear")
    tab.until(lambda: "Click on something" in tab.note())
    tab.set("Again", entry, "Dropdown")
    tab.until(lambda: "Gaussians" in tab.note())


@pytest.mark.slow
def test_the_slider_goes_from_part_to_group(loaded, tab):
    session = loaded.session
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    tab.set("Granularity", 0.0, "Slider")
    tab.until(lambda: "top of the red ball" in tab.note() or "bottom of the red ball" in tab.note())
    tab.set("Granularity", 1.0, "Slider")
    tab.until(lambda: "**instance 0**" in tab.note())
    tab.press("Undo")
    tab.until(lambda: session.state.level == 0.5 and tab.element("Granularity", "Slider")["value"] == 0.5)


@pytest.mark.slow
def test_click_modes(loaded, tab):
    session = loaded.session
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    tab.set("Click to", "add", "Dropdown")
    tab.until(lambda: loaded.pipeline.AG2.panel.find.mode.value == "add")
    tab.click(CENTRES["blue"])
    tab.until(lambda: "**red ball + blue ball**" in tab.note())
    tab.set("Click to", "do nothing", "Dropdown")
    tab.until(lambda: loaded.pipeline.AG2.panel.find.mode.value == "do nothing")
    tab.click(CENTRES["green"])
    tab.set("Click to", "remove", "Dropdown")
    tab.until(lambda: loaded.pipeline.AG2.panel.find.mode.value == "remove")
    tab.click(CENTRES["red"])
    tab.until(lambda: session.state.selection.nodes == (5,))
    tab.click_place(0.02, 0.02)  # on nothing
    tab.until(lambda: len(session.state.questions) == 4)
    assert session.state.selection.nodes == (5,)


def test_delete_undo_and_keep(loaded, tab):
    session, folder = loaded.session, loaded.folder
    tab.set("Close holes", False, "Checkbox")
    tab.press("Delete")
    tab.until(lambda: "nothing is selected" in tab.note())
    tab.seen(lambda p: red(p).sum() > 100)
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    tab.press("Delete")
    tab.until(lambda: "1 edit" in tab.note())
    tab.seen(lambda p: 10 * red(p).sum() < 100)
    tab.press("Edits")
    tab.until(lambda: "saved" in tab.note())
    assert (folder / FILE_NAME).exists()
    tab.press("Undo")
    tab.until(lambda: "edit" not in tab.note().split("saved")[0] and "**red ball**" in tab.note())
    assert not session.edits()
    tab.press("Selection")
    tab.until(lambda: SELECTION_FILE in tab.note().replace("\\", ""))
    assert (folder / SELECTION_FILE).exists()
    tab.press("Export")
    tab.until(lambda: "wrote 90 Gaussians" in tab.note())
    from plyfile import PlyData

    ply = PlyData.read(folder / "selection.ply")["vertex"]
    assert len(ply) == 90 and set(ply["instance"].tolist()) == {1}


@pytest.mark.slow
def test_deleting_closes_holes_in_the_background(loaded, tab):
    session = loaded.session
    tab.click(CENTRES["blue"])
    tab.until(lambda: "**blue ball**" in tab.note())
    tab.press("Delete")
    tab.until(lambda: "1 edit" in tab.note())
    assert loaded.pipeline.AG2.panel.wait(60)
    delete = session.state.history.edits[0]
    assert delete.name == "delete" and delete.residue is not None


@pytest.mark.slow
def test_moving_is_previewed_then_made(loaded, tab):
    session = loaded.session
    tab.set("Close holes", False, "Checkbox")
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    rows = session.selected()
    start = session.edited().gaussians.means[rows].mean(0)
    tab.set("Gizmo", True, "Checkbox")
    tab.until(lambda: "/selected_gizmo" in tab.nodes)
    tab.set("Move", [0.0, 0.25, 0.0], "Vector3")
    tab.until(lambda: session.state.preview is not None)
    assert not session.state.history.edits
    moved = session.edited().gaussians.means[rows].mean(0)
    assert (moved - start).tolist() == pytest.approx([0, 0.25, 0], abs=1e-5)
    tab.press("Place")
    tab.until(lambda: "1 edit" in tab.note())
    assert session.state.preview is None and len(session.edits()) == 1
    tab.until(lambda: tab.element("Move", "Vector3")["value"] == [0.0, 0.0, 0.0])
    tab.send(
        "TransformControlsUpdateMessage", name="/selected_gizmo", wxyz=[1.0, 0.0, 0.0, 0.0],
        position=[10 * float(v) + d for v, d in zip(moved, (0.0, 0.0, 3.0))],
    )  # fmt: skip
    tab.until(lambda: abs(tab.element("Move", "Vector3")["value"][2] - 0.3) < 0.03)
    tab.press("Duplicate")
    tab.until(lambda: "copy 1" in tab.note())
    assert len(session.edited()) == len(loaded.scene.gaussians) + 90


@pytest.mark.slow
def test_anchors_and_graph_are_a_layer(loaded, tab):
    tab.set("Graph", True, "Checkbox")
    tab.click(CENTRES["red"])
    tab.until(lambda: {"/selected_anchors", "/selected_edges"} <= tab.nodes)
    tab.press("Clear")
    tab.until(lambda: not {"/selected_anchors", "/selected_edges"} & tab.nodes)


@pytest.mark.slow
def test_two_tabs_show_the_same(viewer, loaded, tab):
    other = Tab(viewer.config.websocket_port, ring_pose(4))
    try:
        other.until(lambda: other.pictures > 0 and other.led, 60)
        tab.click(CENTRES["green"])
        for t in (tab, other):
            t.until(lambda t=t: "**green ball**" in t.note())
        other.seen(lambda p: orange(p).sum() > 20)
    finally:
        other.close()
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())


@pytest.mark.slow
def test_a_scene_without_instances_says_so(viewer, loaded, tab):
    index = loaded.model.scene_index()
    loaded.model.set_scene_index(None)
    tab.click(CENTRES["red"])
    tab.until(lambda: "no instances yet" in tab.note())
    loaded.session.index_changed()  # a picture that comes after the answer
    assert loaded.pipeline.AG2.panel.wait()
    assert "no instances yet" in loaded.pipeline.AG2.panel.note.content
    loaded.model.set_scene_index(index)
    loaded.session.index_changed()
    tab.until(lambda: "instances yet" not in tab.note())
    loaded.model.set_scene_index(None)
    tab.set("Find", "red ball", "Text")
    tab.press("Find")
    tab.until(lambda: "no instances yet" in tab.note())
    before = tab.pictures
    loaded.pipeline.AG2.panel.draw()
    tab.until(lambda: tab.pictures > before)


@pytest.mark.slow
def test_drawing_changes_no_parameter(loaded, tab):
    trained = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note())
    tab.press("Delete")
    loaded.pipeline.AG2.panel.wait(60)
    tab.seen(lambda p: red(p).sum() < 10)
    assert all(torch.equal(v, loaded.model.state_dict()[k]) for k, v in trained.items())


@pytest.mark.slow
def test_what_the_note_says_is_sent_again(loaded, tab):
    """viser's page may miss a text, and would then show an older one for good."""
    tab.click(CENTRES["red"])
    tab.until(lambda: "**red ball**" in tab.note() and tab.note().endswith("\n"))
    assert loaded.pipeline.AG2.panel.note.content in tab.note()


def test_a_lane_slow_to_write_does_not_overwrite_what_another_said_since(loaded, monkeypatch):
    panel, reading, go = loaded.pipeline.AG2.panel, Event(), Event()

    def describe(session, message, busy):
        if message == "old":
            reading.set()
            go.wait(10)
        return message

    monkeypatch.setattr("ag2_ns.viewer.panel.describe", describe)
    old, new = (Thread(target=panel.say, args=(text,)) for text in ("old", "new"))
    old.start()
    assert reading.wait(10)
    new.start()
    new.join(0.3)
    go.set()
    old.join(10)
    new.join(10)
    assert panel.note.content == "new"


def test_a_tab_begins_at_a_training_camera_past_the_photograph_that_is_drawn_there(viewer, loaded, tab):
    """nerfstudio draws every camera with its picture, about 0.03 in front of it."""
    view = loaded.scene.of_split("train")[first_view([v.view for v in loaded.scene.of_split("train")])].view
    eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3]
    begun = torch.tensor(tab.began) / SCALE
    local = view.viewmat[:3, :3] @ (begun - eye)
    assert local.tolist() == pytest.approx([0, 0, STEP], abs=1e-4)
