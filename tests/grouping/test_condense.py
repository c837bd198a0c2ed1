import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ag2_ns.grouping.condense import candidates, levels
from ag2_ns.grouping.merge import Merges


def dendrogram(merges, fit):
    """Merges (one, other, affinity) of four anchors that fill their masks; `fit` of all regions."""
    one, other, affinity = (np.array(x) for x in zip(*merges))
    size = np.ones(4 + len(merges))
    for k, (a, b, _) in enumerate(merges):
        size[4 + k] = size[a] + size[b]
    return Merges(one, other, affinity, np.ones(len(size)), np.array(fit, float), size)


def test_regions_that_stand_apart_are_sure():
    # 0 and 1 are one object, 2 and 3 another; only little holds the two together.
    found = candidates(dendrogram([(0, 1, 0.9), (2, 3, 0.8), (4, 5, 0.2)], [0.1] * 4 + [0.9, 0.9, 0.4]))
    assert found.sure.tolist() == [True, True, True]
    assert found.parent.tolist() == [-1, 0, 0] and found.last.tolist() == [2, 1, 2]
    assert np.allclose(found.affinity, [0.2, 0.9, 0.8])
    assert found.anchor_node.tolist() == [1, 1, 2, 2]


def test_regions_that_fit_masks_on_their_way_are_candidates():
    found = candidates(dendrogram([(0, 1, 0.9), (4, 2, 0.8), (5, 3, 0.7)], [0.1] * 4 + [0.6, 0.15, 0.8]))
    assert found.sure.tolist() == [True, False], "the root, and the pair that fitted masks"
    assert found.parent.tolist() == [-1, 0] and found.anchor_node.tolist() == [1, 1, 0, 0]


def test_what_fills_no_mask_is_no_root():
    merges = dendrogram([(0, 1, 0.9)], [0.1] * 5)
    merges.fill[:] = 0.1
    assert candidates(merges).anchor_node.tolist() == [-1, -1, -1, -1]


def test_levels_are_even_steps():
    #        0 group
    #      1 object     5 object
    #    2 part  4 part
    #  3 part of the part
    level = levels(np.array([-1, 0, 1, 2, 1, 0]), np.array([False, True, True, True, True, True]), np.ones(6))
    assert level.tolist() == [0.75, 0.5, 0.25, 0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("stack", "pair", "expected"), [(0.5, 0.3, [0.875, 0.75, 0.625]), (0.3, 0.5, [0.9375, 0.875, 0.75])]
)
def test_the_group_is_what_most_views_have_a_mask_of(stack, pair, expected):
    # The whole table; a stack of three books in it; two of them; the three books.
    parent = np.array([-1, 0, 1, 2, 2, 1])
    level = levels(parent, np.array([False, False, False, True, True, True]), np.array([0.1, stack, pair, 1, 1, 1]))
    assert level.tolist() == [*expected, 0.5, 0.5, 0.5]


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_levels_rise_towards_the_root(nodes):
    parent = np.array([int(p) % (n + 1) - 1 for n, (p, _, _) in enumerate(nodes)])
    level = levels(parent, np.array([o for _, o, _ in nodes]), np.array([share for _, _, share in nodes]))
    assert ((level >= 0) & (level < 1)).all()
    below = np.flatnonzero(parent >= 0)
    assert (level[below] < level[parent[below]]).all()
