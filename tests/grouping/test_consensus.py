import numpy as np
import torch
from dense_masks import lifted_from
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.grouping.config import DEFAULTS
from ag2_ns.grouping.consensus import elect, holder_of

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
    return elect(lifted, area, LAST, np.array(sure)).kept.tolist()


BOTH = (100, 100)


def test_halves_without_masks_of_their_own_go():
    assert election([(BOTH, [(100, 100)])] * 8) == [True, False, False]


def test_parts_and_wholes_stay_where_masks_of_both_recur():
    assert election([(BOTH, [(100, 100), (100, 0), (0, 100)])] * 8) == [True, True, True]


def test_enough_views_have_to_agree():
    whole, split = (BOTH, [(100, 100)]), (BOTH, [(100, 0), (0, 100)])
    few, many = int(20 * DEFAULTS.views) - 1, int(20 * DEFAULTS.views) + 1
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
    rarely = int(20 * DEFAULTS.piece) + 1
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


def elect_slowly(lifted, area, last, sure):
    """The rule as it reads: all masks vote again whenever a candidate has gone."""
    num, views = lifted.num_units, lifted.num_views
    total = torch.zeros(num, views, dtype=torch.float64)
    total[lifted.view_unit, lifted.view] = lifted.total.double()
    fit = torch.zeros(num, lifted.num_masks, dtype=torch.float64)
    inside = lifted.weight.double()
    fit[lifted.unit, lifted.mask] = inside / (
        torch.as_tensor(area)[lifted.mask] + total[lifted.unit, lifted.mask_view[lifted.mask]] - inside
    )
    total, fit, view = total.numpy(), fit.numpy(), lifted.mask_view.numpy()
    fit[fit < DEFAULTS.vote] = 0
    alive = np.ones(num, bool)

    def share(voted):
        behind = np.zeros((num, views), bool)
        for u, v in voted:
            behind[u, v] = True
        return (behind * total).sum(1) / total.sum(1).clip(1e-9)

    while (fit[alive] > 0).any():
        likes, votes = [], []
        for m in range(fit.shape[1]):
            left = [u for u in np.argsort(-fit[:, m], kind="stable") if alive[u] and fit[u, m] > 0]
            if not left:
                continue
            b = left[0]
            related = [u for u in left if u <= b <= last[u] or b <= u <= last[b]]
            ratio = {u: total[u, view[m]] / total[b, view[m]] for u in related}
            same = {u for u in related if 1 / DEFAULTS.alike <= ratio[u] <= DEFAULTS.alike}
            likes.append((min(same), view[m]))
            if fit[b, m] - max((fit[u, m] for u in left if u not in same), default=0.0) >= DEFAULTS.vote_margin:
                votes.append(likes[-1])
        liked, counted = share(likes), share(votes)
        may_go = np.flatnonzero(alive & ~sure)
        if len(may_go) == 0 or counted[may_go].min() >= DEFAULTS.views:
            return alive & ~(sure & (counted < DEFAULTS.piece) & (counted[holder_of(alive, last)] >= DEFAULTS.views))
        nobody = may_go[liked[may_go] == 0]
        alive[nobody if len(nobody) else min(may_go, key=lambda u: (counted[u], liked[u], u))] = False
    return sure.copy()


def forest(rng, num):
    """Random nesting, in preorder: the candidate above each, and the last one inside each."""
    parent, last, open_ones = np.full(num, -1), np.arange(num), []
    for n in range(num):
        while open_ones and rng.random() < 0.45:
            open_ones.pop()
        parent[n] = open_ones[-1] if open_ones else -1
        open_ones.append(n)
    for n in range(num - 1, 0, -1):
        if parent[n] >= 0:
            last[parent[n]] = max(last[parent[n]], last[n])
    return parent, last


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(1, 10), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_votes_are_kept_up_to_date(num, views, masks, seed):
    rng = np.random.default_rng(seed)
    parent, last = forest(rng, num)

    def with_those_inside(own):
        for n in range(num - 1, -1, -1):
            if parent[n] >= 0:
                own[parent[n]] += own[n]
        return own

    own = rng.gamma(1, 20, (num, views)) * (rng.random((num, views)) < 0.8)
    view = np.repeat(np.arange(views), masks)
    share = np.zeros((num, len(view)))
    for m in range(len(view)):
        target = rng.integers(num)
        share[target : last[target] + 1, m] = rng.uniform(0.7, 1)
        share[rng.integers(num), m] += 0.3 * rng.random()
    weight = with_those_inside(np.minimum(share, 1) * own[:, view])
    total = with_those_inside(own.copy())
    area = weight[parent < 0].sum(0) + rng.random(len(view))
    lifted = lifted_from(weight, total, total, view.tolist())
    sure = rng.random(num) < 0.3
    assert elect(lifted, area, last, sure).kept.tolist() == elect_slowly(lifted, area, last, sure).tolist()
