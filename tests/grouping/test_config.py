from dataclasses import replace

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.tree import build_tree


def test_stages_fall_to_the_last_one():
    assert np.array_equal(DEFAULTS.stages, np.round(np.arange(0.95, 0.09, -0.05), 2))
    assert GroupingConfig(first_stage=0.9, last_stage=0.3, stage=0.3).stages == [0.9, 0.6, 0.3]


@pytest.mark.parametrize("name", ["voxel", "reach", "neighbours", "tau", "stage", "shares", "object_bandwidth"])
def test_what_nothing_can_be_divided_by_is_refused(name):
    with pytest.raises(UserError, match=rf"grouping\.{name} 0: give a number above 0"):
        GroupingConfig(**{name: 0}).check()


@pytest.mark.parametrize(
    "change",
    [
        {"seen": 1e9}, {"part": 1.0, "object": 0.9}, {"none": 40.0}, {"last_stage": 0.9},
        {"fit": 1.0, "object": 0.1}, {"vote": 0.99}, {"held": 1.0},
    ],
)  # fmt: skip
def test_thresholds_reach_the_compiled_loops(noisy, change):
    a, b = (build_tree(noisy.by_anchor, noisy.edges, config=c) for c in (DEFAULTS, replace(DEFAULTS, **change)))
    assert a.num_nodes != b.num_nodes or not (
        torch.equal(a.anchor_node, b.anchor_node) and torch.equal(a.parent, b.parent) and torch.equal(a.level, b.level)
    )
