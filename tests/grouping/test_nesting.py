"""Regions that the masks of what is around them leave out, and which nodes of a tree are the objects."""

import numpy as np
import pytest
import torch

from ag2_ns.grouping.condense import kinship, levels, objects
from ag2_ns.grouping.lifting import LiftedMasks
from ag2_ns.grouping.nesting import held_by_parent, lift_out


def lifted(weight, total, mask_view):
    """Dense [R, M] weights and [R, V] totals."""
    weight, total, mask_view = torch.tensor(weight), torch.tensor(total), torch.tensor(mask_view)
    unit, mask = weight.nonzero(as_tuple=True)
    owner, view = total.nonzero(as_tuple=True)
    row = torch.searchsorted(unit, torch.arange(len(weight) + 1))
    view_row = torch.searchsorted(owner, torch.arange(len(weight) + 1))
    seen = total[owner, view]
    return LiftedMasks(
        row, mask, weight[unit, mask], view_row, view, seen, seen, mask_view, weight.amax(0), total.shape[1]
    )


# 0 a table with all on it; 1 a ball on it, left out by the table's masks; 2 a drawer, held; 3 a knob of the drawer.
PARENT = np.array([-1, 0, 0, 2])
WEIGHT = [[90.0, 92.0, 10.0], [1.0, 2.0, 10.0], [20.0, 18.0, 0.0], [2.0, 2.0, 0.0]]
TOTAL = [[120.0, 120.0], [10.0, 10.0], [20.0, 20.0], [2.0, 2.0]]
ABOUT = np.array([0, 0, 1])


def test_what_masks_of_the_parent_hold():
    held = held_by_parent(lifted(WEIGHT, TOTAL, [0, 1, 1]), PARENT, ABOUT)
    assert np.isnan(held[0]) and held[1] == 0.15 and held[2] == 0.95
    assert np.isnan(held[3]), "no mask is about the drawer"


def test_what_is_left_out_moves_up():
    assert lift_out(lifted(WEIGHT, TOTAL, [0, 1, 1]), PARENT, ABOUT).tolist() == [-1, -1, 0, 2]
    held = [[120.0, 120.0, 10.0], [10.0, 10.0, 10.0], [20.0, 20.0, 0.0], [2.0, 2.0, 0.0]]
    assert lift_out(lifted(held, TOTAL, [0, 1, 1]), PARENT, ABOUT).tolist() == PARENT.tolist()


def test_a_robot_is_an_object_and_a_stack_of_books_a_group():
    # 0 everything; 1 robot with head 2 and legs 3; 4 stack with books 5, 6.
    parent = np.array([-1, 0, 1, 1, 0, 4, 4])
    visible = np.array([300.0, 100, 20, 30, 100, 50, 50])
    votes = np.array([30.0, 55, 12, 15, 40, 30, 30])
    affinity = np.array([0.15, 0.6, 0.9, 0.9, 0.4, 0.9, 0.9])
    found = objects(parent, votes, visible, affinity)
    assert found.tolist() == [False, True, False, False, False, True, True]
    level = levels(parent, found, votes / visible)
    assert level.tolist() == [0.875, 0.5, 0.0, 0.0, 0.75, 0.5, 0.5]


def test_nodes_without_children_are_objects():
    assert objects(np.array([-1, -1]), np.zeros(2), np.ones(2), np.zeros(2)).all()
    assert objects(np.array([], int), np.zeros(0), np.zeros(0), np.zeros(0)).tolist() == []


def test_what_says_the_same_as_its_parts_is_one_thing():
    # 0 candle of 1 and 2; 3 apple 4 on a plate 5; 6 has no mask of its own.
    parent, visible = np.array([-1, 0, 0, -1, 3, 3, -1]), np.array([100.0, 50, 50, 100, 50, 50, 10])
    candle, apple, plate = np.eye(4)[:3]
    about = np.array([0, 0, 1, 2, 3, 4, 5, -1])
    language = np.stack([candle, 2 * candle, candle, candle + 0.1 * plate, apple + plate, apple, plate, apple])
    kin = kinship(parent, visible, about, language)
    assert kin[0] > 0.9 and kin[3] < 0.7 and kin[[1, 2, 4, 5]].tolist() == pytest.approx([1.0] * 4) and kin[6] == 0.0
    votes, affinity = 0.01 * visible * np.array([50, 60, 60, 50, 60, 60, 0]), np.array([0.5, 0.9, 0.9] * 2 + [0.9])
    assert objects(parent, votes, visible, affinity).tolist() == [False, True, True, False, True, True, True]
    assert objects(parent, votes, visible, affinity, kinship=kin).tolist() == [
        True,
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    language[3] = np.nan
    assert kinship(parent, visible, about, language)[0] == 0.0
    assert not kinship(parent, visible, about, 0 * language).any()


def test_what_is_joined_loosely_is_no_object():
    parent, visible = np.array([-1, 0, 0]), np.array([100.0, 50, 50])
    votes = np.array([90.0, 10, 10])
    assert objects(parent, votes, visible, np.array([0.1, 0.9, 0.9])).tolist() == [False, True, True]
    assert objects(parent, votes, visible, np.array([0.5, 0.9, 0.9])).tolist() == [True, False, False]
