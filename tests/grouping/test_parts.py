from dataclasses import replace

import numpy as np
import pytest
import torch
from dense_masks import lifted_from
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.grouping.config import DEFAULTS
from ag2_ns.grouping.parts import add_parts
from ag2_ns.grouping.tree import build_tree


def made(views, size=1, units=None, config=DEFAULTS, device="cpu", at_once=None):
    """A tree and its parts, of units in a row, `size` to an anchor; `views` lists the masks of each as lists of units.

    Every unit is 10 px in every view.
    """
    units = units or 1 + max(u for view in views for mask in view for u in mask)
    mask_view = [v for v, view in enumerate(views) for _ in view]
    weight, total = np.zeros((units, len(mask_view))), np.full((units, len(views)), 10.0)
    for m, mask in enumerate(mask for view in views for mask in view):
        weight[mask, m] = 10
    covered = np.zeros_like(total)
    for m, v in enumerate(mask_view):
        covered[weight[:, m] > 0, v] = 10
    lifted = lifted_from(weight, total, covered, mask_view)
    anchor = torch.arange(units) // size
    count = int(anchor[-1]) + 1
    xyz = torch.zeros(units, 3)
    xyz[:, 0] = torch.arange(units)
    at = torch.zeros(count, 3).index_add_(0, anchor, xyz) / torch.bincount(anchor)[:, None]
    edges = torch.stack([torch.arange(count - 1), torch.arange(1, count)])
    tree = build_tree(lifted.group(anchor, count), edges, None, config)
    on = (each.to(device) for each in (tree, lifted, anchor, xyz, at))
    return (tree, anchor), [each.to("cpu") for each in add_parts(*on, config, at_once)[:2]]


def units_of(tree, anchor):
    """The units of each node."""
    return [tuple(tree.anchors_of(n)[anchor].nonzero().squeeze(1).tolist()) for n in range(tree.num_nodes)]


A, B = list(range(12)), list(range(12, 24))
HANDLES = [0, 1, 10, 11]


def test_a_part_in_two_pieces_is_one_part_and_objects_stay():
    views = [[A, B, HANDLES], [A, B], [A, B, HANDLES], [B, HANDLES]] * 5
    before, after = made(views)
    assert tuple(HANDLES) in units_of(*after) and tuple(HANDLES) not in units_of(*before)
    tree, anchor = after
    node = units_of(*after).index(tuple(HANDLES))
    assert int(tree.parent[node]) == int(tree.cut(0.5)[anchor][0]) and float(tree.level[node]) == 0.0
    assert {tuple(A), tuple(B)} == {u for u, level in zip(units_of(*after), tree.level.tolist()) if level == 0.5}


def test_units_leave_anchors_that_straddle_the_border_of_a_part():
    part = [3, 4, 5, 6, 7]  # of four units to an anchor
    before, after = made([[A, B, part], [A, B]] * 8, size=4)
    assert tuple(part) in units_of(*after) and tuple(part) not in units_of(*before)
    assert set(after[1].tolist()) <= set(before[1].tolist())


def test_a_part_thinner_than_any_anchor_has_one():
    part = [5]
    _, after = made([[A, B, part], [A, B]] * 8, size=4)
    assert tuple(part) in units_of(*after)


def several_objects(seed):
    """Views of five objects, the masks of whose parts are cut at random."""
    rng = np.random.default_rng(seed)
    objects = [list(range(30 * k, 30 * k + 20 + 2 * k)) for k in range(5)]
    pieces = [[o[: len(o) // 3] for o in objects], [o[-7:] for o in objects], [o[2:6] for o in objects]]
    views = []
    for _ in range(12):
        shown = [u for some in pieces for u in some if rng.random() < 0.6]
        views.append(objects + [[x for x in u if rng.random() < 0.9] or u for u in shown])
    return views


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_objects_at_once_have_the_parts_that_they_have_one_by_one(seed, device):
    _, (tree, anchor) = made(several_objects(seed), size=2)
    assert int((tree.level < 0.5).sum()) > 3
    for at_once in (0, 50, 1 << 20):
        _, (other, its) = made(several_objects(seed), size=2, device=device, at_once=at_once)
        assert torch.equal(tree.anchor_node, other.anchor_node) and torch.equal(tree.level, other.level)
        assert torch.equal(tree.parent, other.parent) and torch.equal(anchor, its)


def test_parts_nest():
    _, (tree, anchor) = made([[A, B, [0, 1, 2, 3, 4, 5], [0, 1]]] * 8)
    units = units_of(tree, anchor)
    inner, outer = units.index((0, 1)), units.index((0, 1, 2, 3, 4, 5))
    assert int(tree.parent[inner]) == outer and tree.level[inner] < tree.level[outer] < 0.5


@pytest.mark.parametrize("often", [6, 15])
def test_a_piece_inside_a_part_needs_nearly_as_many_masks_as_the_part(often):
    part, piece = [0, 1, 2, 3, 4, 5], [0, 1, 2]
    views = [[A, B] + [part] * (k < 16) + [piece] * (k >= 20 - often) for k in range(20)]
    _, (tree, anchor) = made(views)
    found = units_of(tree, anchor)
    assert tuple(part) in found and (tuple(piece) in found) == (often == 15)


def test_what_is_masked_once_or_by_chance_is_no_part():
    rng = np.random.default_rng(0)
    views = [[A, B, sorted(rng.choice(12, 5, replace=False).tolist())] for _ in range(20)]
    views[3].append([2, 3])
    _, (tree, anchor) = made(views)
    assert sorted(units_of(tree, anchor)) == [tuple(A), tuple(B)]


def test_the_larger_of_sets_that_a_view_cannot_tell_apart_is_meant():
    # Half of the handles' views see one of them only: no part of its own.
    views = [[A, B, HANDLES]] * 8 + [[A, B]] * 4
    (_, _), (tree, anchor) = made(views)
    assert [u for u in units_of(tree, anchor) if set(u) < set(A)] == [tuple(HANDLES)]


@pytest.mark.parametrize("views", [[[[0]]], [[list(range(6))], []], [[[0, 1]], [[1, 2]]]])
def test_scenes_of_almost_nothing(views):
    (before, _), (tree, anchor) = made(views, units=6)
    assert torch.equal(tree.cut(0.5)[anchor] >= 0, before.cut(0.5) >= 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_trees_with_parts_are_trees_of_the_same_objects_and_groups(seed):
    rng = np.random.default_rng(seed)
    ends = lambda: np.sort(rng.choice(17, 2, replace=False))  # noqa: E731
    things = [list(range(6)), list(range(6, 11)), list(range(11, 16))]
    views = [[*(t for t in things if rng.random() < 0.8), *(list(range(*ends())) for _ in range(3))] for _ in range(8)]
    views[0] += [[15]]
    config = replace(DEFAULTS, part_views=0.05)
    before, (tree, anchor) = made(views, size=int(rng.integers(1, 4)), config=config)
    below = (tree.parent >= 0).nonzero().squeeze(1)
    assert (tree.parent[below] < below).all() and (tree.level[below] < tree.level[tree.parent[below]]).all()
    assert (below <= tree.last[tree.parent[below]]).all() and (tree.size > 0).all()
    upper = lambda t, a: {u for u, level in zip(units_of(t, a), t.level.tolist()) if level >= 0.5 - 1e-6}  # noqa: E731
    assert upper(*before) == upper(tree, anchor)
    again = made(views, size=1, config=config)[1]
    assert torch.equal(again[0].anchor_node, made(views, size=1, config=config)[1][0].anchor_node)


def test_units_without_an_anchor_stay_so_and_the_masks_follow_the_units():
    weight = np.zeros((6, 12))
    for m in range(12):
        weight[: 2 if m % 2 else 6, m] = 10
    total = np.full((6, 6), 10.0)
    lifted = lifted_from(weight, total, total, [m // 2 for m in range(12)])
    anchor = torch.tensor([0, 1, 1, 2, 2, -1])
    edges = torch.tensor([[0, 1], [1, 2]])
    tree = build_tree(lifted.group(anchor, 3), edges)
    xyz = torch.arange(6.0)[:, None].expand(6, 3)
    tree, out, by_anchor = add_parts(tree, lifted, anchor, xyz, xyz[[0, 1, 3]])
    assert int(out[5]) == -1 and (0, 1) in units_of(tree, out[:5])
    again = lifted.group(out, 3)
    assert torch.equal(by_anchor.row, again.row) and torch.equal(by_anchor.weight, again.weight)
