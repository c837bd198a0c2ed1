"""Clicked things are called by a text only where that text would have selected exactly them."""

import pytest
import torch
from blob_run import BLUE, GREEN, GROUP, RED, TEXTS, TOP, ball_anchors, blob_index

import ag2_ns
from ag2_ns.query.naming import Names, name_of


@pytest.fixture(scope="module")
def index():
    xyz, leaf, _ = ball_anchors(torch.Generator().manual_seed(1))
    return blob_index(xyz, leaf)


def names(index, texts, rows=None):
    rows = torch.eye(8)[: len(texts)] if rows is None else rows
    return Names(index, texts, rows, None)


def test_a_known_thing_has_its_name_and_a_part_its_own(index):
    of = names(index, TEXTS).of
    assert [of(n)[0] for n in (RED, GREEN, BLUE, TOP)] == ["red ball", "green ball", "blue ball", TEXTS[4]]
    assert 0.5 < of(RED)[1] <= 1


def test_parts_and_groups_that_merely_look_like_something_known_stay_unnamed(index):
    of = names(index, TEXTS[:4]).of  # no text for the halves, none for the group of two balls
    assert of(TOP) is None and of(GROUP) is None
    assert of(RED)[0] == "red ball"


def test_what_no_text_describes_stays_unnamed(index):
    of = names(index, ["red ball"]).of
    assert of(BLUE) is None
    nothing = names(index, ["gibberish"], torch.zeros(1, 8)).of
    assert all(nothing(n) is None for n in range(index.tree.num_nodes))


def test_other_widths_and_scenes_without_language_have_no_names(index):
    assert names(index, ["red ball"], torch.eye(5)[:1]).of(RED) is None
    assert names(index, [], torch.zeros(0, 8)).of(RED) is None


def test_texts_asked_before_count_and_unfinished_ones_do_not(session, monkeypatch):
    texts = session.texts()
    rows, other = texts.encoder().encode_text, {"round thing": "blue ball", "round": "red ball"}
    monkeypatch.setattr(texts.encoder(), "encode_text", lambda words: rows([other.get(w, w) for w in words]))
    for text in (*other, "blue ball"):
        texts.embed(text)
    known = texts.vocabulary()
    assert "round thing" in known and "round" not in known and known.count("blue ball") == 1
    assert name_of(session.scene(), BLUE) in ("blue ball", "round thing")


def test_a_click_of_the_command_is_named_too(blob_run):
    scene = ag2_ns.open(blob_run)
    found = scene.select(click=("0", 32, 24), level=0.5).selection
    assert found.nodes and found.label in (*TEXTS, f"instance {found.nodes[0]}")
    name = name_of(scene, found.nodes[0])
    assert name is not None and found.label == name
