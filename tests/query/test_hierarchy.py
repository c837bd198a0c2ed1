from __future__ import annotations

import pytest
from blob_run import BLUE, BOTTOM, GREEN, GROUP, PLATE, RED, TOP

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.query.hierarchy import describe_tree


def test_the_tree_as_it_is(blob_run):
    scene = ag2_ns.open(blob_run, "cpu")
    nodes = {n.node: n for n in describe_tree(scene)}
    assert set(nodes) == {GROUP, RED, TOP, BOTTOM, GREEN, BLUE, PLATE}
    assert [nodes[n].kind for n in (GROUP, RED, TOP, GREEN, PLATE)] == ["group", "object", "part", "object", "object"]
    assert nodes[GROUP].children == (RED, GREEN) and nodes[RED].parent == GROUP
    assert nodes[RED].name == "red ball" and nodes[TOP].name == "top of the red ball" and nodes[GROUP].name is None
    assert nodes[RED].gaussians == nodes[TOP].gaussians + nodes[BOTTOM].gaussians
    assert nodes[RED].level == (0.25, 0.75)
    assert nodes[RED].centre == pytest.approx((0.35, 0.0, 0.12), abs=0.02)
    assert nodes[RED].size == pytest.approx((0.2, 0.2, 0.2), abs=0.03)
    assert nodes[RED].to_json()["kind"] == "object"


def test_words_that_are_not_known(blob_run):
    with pytest.raises(UserError, match="'unicorn'"):
        describe_tree(ag2_ns.open(blob_run, "cpu"), ["unicorn"])
