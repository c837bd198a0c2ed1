import numpy as np
from dense_masks import lifted_from

from ag2_ns.graph.votes import PIECE, VIEWS, elect

WHOLE, LEFT, RIGHT = 0, 1, 2
LAST = np.array([2, 1, 2])
"""A whole of two halves, in preorder."""


def election(views, sure=(False, False, False)):
    """Each view: (visible pixels of the left and of the right half, its masks as pixels of the left and the right)."""
    mask_view = [v for v, (_, masks) in enumerate(views) for _ in masks]
    halves = np.array([mask for _, masks in views for mask in masks], float).reshape(-1, 2).T
    seen = np.array([visible for visible, _ in views], float).T
    weight = np.concatenate([halves.sum(0, keepdims=True), halves])
    total = np.concatenate([seen.sum(0, keepdims=True), seen])
    lifted = lifted_from(weight, total, np.minimum(total, total), mask_view)
    area = halves.sum(0)
    return elect(lifted, area, LAST, np.array(sure)).tolist()


BOTH = (100, 100)


def test_halves_without_masks_of_their_own_go():
    assert election([(BOTH, [(100, 100)])] * 8) == [True, False, False]


def test_parts_and_wholes_stay_where_masks_of_both_recur():
    assert election([(BOTH, [(100, 100), (100, 0), (0, 100)])] * 8) == [True, True, True]


def test_enough_views_have_to_agree():
    whole, split = (BOTH, [(100, 100)]), (BOTH, [(100, 0), (0, 100)])
    few, many = int(20 * VIEWS) - 1, int(20 * VIEWS) + 1
    assert election([split] * few + [whole] * (20 - few)) == [True, False, False]
    assert election([split] * many + [whole] * (20 - many)) == [True, True, True]


def test_a_view_of_one_part_speaks_for_the_whole():
    """Something in front hides the middle: every view shows one end, and its mask is the object's."""
    views = [((100, 0), [(100, 0)]), ((0, 100), [(0, 100)])] * 5
    assert election(views) == [True, False, False]
    assert election(views, sure=(False, True, True)) == [True, False, False], "pieces of the whole, not objects"


def test_objects_keep_their_place():
    """Two objects that segmenters merge now and then, one of them rarely outlined on its own."""
    apart, merged, one = (BOTH, [(100, 0), (0, 100)]), (BOTH, [(100, 100)]), (BOTH, [(100, 0)])
    rarely = int(20 * PIECE) + 1
    views = [apart] * rarely + [merged] * 8 + [one] * (12 - rarely)
    assert election(views, sure=(False, True, True)) == [True, True, True]


def test_steps_of_growth_share_one_place():
    """A region and the same with a few pixels more: one of them is left, the one that masks fit best."""
    assert election([((200, 20), [(200, 0)])] * 6) == [False, True, False]
    assert election([((200, 20), [(200, 20)])] * 6) == [True, False, False]


def test_nobody_votes():
    nothing = [(BOTH, [(20, 0)])] * 4
    assert election(nothing) == [False, False, False]
    assert election(nothing, sure=(False, True, False)) == [False, True, False]
