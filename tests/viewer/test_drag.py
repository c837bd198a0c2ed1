"""A box dragged on the picture: what looks like what it shows, by colours."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def blob_template(tmp_path_factory):
    from blob_run import build_palette

    return build_palette(tmp_path_factory.mktemp("palette"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["green", "blue"])
def test_a_box_around_a_ball_finds_the_ball(session, tab, name):
    from blob_run import CENTRES

    tab.press("Drag a box")
    tab.until(lambda: tab.dragging and "drag a box" in tab.note())
    tab.drag_box(CENTRES[name], 0.04)
    tab.until(lambda: not tab.dragging)
    tab.until(lambda: "like the box" in tab.note() and "looking" not in tab.note())
    found = session.state.selection
    tab.set("Find", name, "Text")
    tab.until(lambda: f"**{name}**" in tab.note())
    assert session.state.selection.nodes == found.nodes


def test_a_box_that_shows_too_little(session, tab):
    from blob_run import CENTRES

    tab.press("Drag a box")
    tab.until(lambda: tab.dragging)
    tab.drag_box(CENTRES["red"], 0.001)
    tab.until(lambda: "pixels show too little" in tab.note())
    assert session.state.selection is None
