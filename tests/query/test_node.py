from __future__ import annotations

import pytest
from blob_run import BLUE, BOTTOM, GREEN, GROUP, RED, TOP

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.query.node import above, below


def test_a_node_by_its_number(blob_run):
    scene = ag2_ns.open(blob_run, "cpu")
    found = scene.select(node=RED)
    assert found.selection.label == "red ball" and found.selection.nodes == (RED,)
    assert (found.selection.anchor_mask == scene.select(text="red ball").selection.anchor_mask).all()
    assert scene.select(node=GROUP).selection.label == "instance 0"
    with pytest.raises(UserError, match="give 0 to 6; `ag2 tree` lists them"):
        scene.select(node=7)


def test_up_and_down(blob_run):
    tree = ag2_ns.open(blob_run, "cpu").index.tree
    assert above(tree, [TOP]) == RED and above(tree, [RED]) == GROUP
    assert above(tree, [TOP, BOTTOM]) == RED and above(tree, [TOP, GREEN]) == GROUP
    assert below(tree, [GROUP]) == RED and below(tree, [GROUP], GREEN) == GREEN
    assert below(tree, [GROUP], BOTTOM) == RED and below(tree, [RED], BOTTOM) == BOTTOM
    with pytest.raises(UserError, match="largest instance"):
        above(tree, [BLUE])
    with pytest.raises(UserError, match="no parts"):
        below(tree, [BLUE])
    for step in (above, below):
        with pytest.raises(UserError, match="is no instance"):
            step(tree, [])
