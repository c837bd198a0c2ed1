import numpy as np
import pytest
import torch
from dense_masks import lifted_from
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.config import DEFAULTS
from ag2_ns.grouping.csr import Rows
from ag2_ns.grouping.refine import refine_anchors
from ag2_ns.grouping.tree import build_tree


def slow_affinity(wa, ta, ca, wb, tb, cb, mask_view):
    votes = evidence = 0.0
    for v in range(len(ta)):
        if ta[v] == 0 or tb[v] == 0:
            continue
        cover_a, cover_b = ca[v] / ta[v], cb[v] / tb[v]
        pa = [min(wa[m] / ca[v], 1) if ca[v] else 0 for m in range(len(wa)) if mask_view[m] == v]
        pb = [min(wb[m] / cb[v], 1) if cb[v] else 0 for m in range(len(wb)) if mask_view[m] == v]
        together = 1 - np.prod([1 - p * q for p, q in zip(pa, pb)])
        apart = max([abs(p - q) for p, q in zip(pa, pb)], default=0)
        seen = min(ta[v] / max(ta), tb[v] / max(tb))
        both = min(cover_a, cover_b)
        votes += seen * both * together * (1 - DEFAULTS.part * max(0, together + apart - 1))
        evidence += seen * (both + DEFAULTS.one_sided * abs(cover_a - cover_b))
    return votes / (evidence + DEFAULTS.none)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_affinity_equals_slow_reference(seed):
    rng = np.random.default_rng(seed)
    views, masks = 5, 11
    mask_view = np.sort(rng.integers(0, views, masks))
    total = rng.uniform(1, 9, (2, views)) * (rng.random((2, views)) < 0.8)
    total[:, 0] += 1
    covered = total * rng.uniform(0, 1, (2, views)).round(1)
    weight = covered[:, mask_view] * rng.uniform(0, 1, (2, masks)) * (rng.random((2, masks)) < 0.7)
    rows = Rows.of(lifted_from(weight, total, covered, mask_view))
    fast = rows.affinities(torch.tensor([0, 1]), torch.tensor([1, 0]), DEFAULTS.scoring)
    slow = slow_affinity(weight[0], total[0], covered[0], weight[1], total[1], covered[1], mask_view)
    assert fast[0] == pytest.approx(slow, rel=1e-4, abs=1e-6) and fast[1] == pytest.approx(fast[0], rel=1e-5)
    assert 0 <= fast[0] <= 1


def chain(groups, views, config=DEFAULTS):
    """Units in a row, `groups[v]` lists each view's masks as lists of units; every unit is 10 px in every view."""
    units = 1 + max(u for view in views for mask in view for u in mask)
    mask_view = [v for v, view in enumerate(views) for _ in view]
    weight = np.zeros((units, len(mask_view)))
    for m, mask in enumerate(mask for view in views for mask in view):
        weight[mask, m] = 10
    total = np.full((units, len(views)), 10.0)
    covered = np.zeros_like(total)
    for m, v in enumerate(mask_view):
        covered[weight[:, m] > 0, v] = 10
    edges = torch.stack([torch.arange(units - 1), torch.arange(1, units)])
    return build_tree(lifted_from(weight, total, covered, mask_view), edges, None, config)


def same(labels, *units):
    return len({int(labels[u]) for u in units}) == 1


def test_two_objects_despite_noise():
    a, b = [0, 1, 2, 3], [4, 5, 6, 7]
    # Mostly right; twice merged, twice split, twice dropped.
    views = [[a, b]] * 12 + [[a + b]] * 2 + [[[0, 1], [2, 3], b], [a, [4, 5], [6, 7]]] + [[a], [b]]
    labels = chain(None, views).cut(0.5)
    assert same(labels, *a) and same(labels, *b) and labels[0] != labels[4] and (labels >= 0).all()


def test_parts_objects_groups_come_from_levels():
    # Whole masks and part masks in every view; a mask around both objects in four views of ten.
    part = [[0, 1], [2, 3], [4, 5], [6, 7]]
    whole = [[0, 1, 2, 3], [4, 5, 6, 7]]
    tree = chain(None, [part + whole] * 6 + [part + whole + [list(range(8))]] * 4)
    fine, middle, coarse = (tree.cut(level) for level in (0.2, 0.5, 0.9))
    assert [same(fine, *p) for p in part] == [True] * 4 and len(fine.unique()) == 4
    assert [same(middle, *w) for w in whole] == [True] * 2 and len(middle.unique()) == 2
    assert same(coarse, *range(8))
    assert torch.equal(tree.instances(0.5), middle.unique())
    node = int(middle[3])
    assert tree.anchors_of(node).nonzero().squeeze(1).tolist() == [0, 1, 2, 3]
    assert tree.ancestors(int(fine[3])) == [int(fine[3]), node, int(coarse[3])]
    assert sorted(tree.children(node).tolist()) == sorted({int(fine[0]), int(fine[2])})


def rimmed(split_views, views=12):
    """Two ends (0-3, 8-11) of what lies below something (4-7); rims of the others' are in each one's masks.

    The ends have a mask of their own each in every `split_views`-th view, and one together in the others.
    """
    masks = []
    for v in range(views):
        masks += [(v, (0.72, 0, 0)), (v, (0, 0, 0.72))] if v % split_views == 0 else [(v, (0.72, 0.1, 0.72))]
        masks.append((v, (0.28, 0.9, 0.28)))
    weight = 10 * np.repeat(np.array([m for _, m in masks]).T, 4, axis=0)
    total = np.full((12, views), 10.0)
    edges = torch.stack([torch.arange(11), torch.arange(1, 12)])
    return build_tree(lifted_from(weight, total, total, [v for v, _ in masks]), edges)


def test_ends_with_rims_below_something_are_one():
    labels = rimmed(split_views=3).cut(0.5)
    assert same(labels, 0, 1, 2, 3, 8, 9, 10, 11) and same(labels, 4, 5, 6, 7) and labels[0] != labels[4]
    labels = rimmed(split_views=1).cut(0.5)  # no mask holds both
    assert same(labels, 0, 1, 2, 3) and same(labels, 8, 9, 10, 11) and len(labels.unique()) == 3


def test_an_object_in_two_pieces_is_one():
    # Units 0, 1 and 4, 5 lie on both sides of 2, 3 and only touch those.
    labels = chain(None, [[[0, 1, 4, 5], [2, 3]]] * 8).cut(0.5)
    assert same(labels, 0, 1, 4, 5) and same(labels, 2, 3) and labels[0] != labels[2]


def test_unseen_units_and_floaters_are_apart():
    weight = np.zeros((6, 8))
    weight[:3, :] = 10  # an object
    total = np.zeros((6, 8))
    total[:3] = 10
    total[3, :] = 3  # a floater: before other masks than its neighbours
    weight[3, ::2] = 0
    total[5, 0] = 0.2  # next to never seen
    covered = np.minimum(total, weight)
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    tree = build_tree(lifted_from(weight, total, covered, np.arange(8)), edges)
    assert tree.cut(0.5).tolist()[:3] == [tree.cut(0.5)[0]] * 3 and tree.cut(0.5)[0] >= 0
    assert (tree.cut(1.0)[3:] == -1).all()
    assert tree.seen.tolist() == [True] * 4 + [False] * 2


def test_unseen_anchors_inside_an_object_belong_to_it():
    # Units 0 to 3 one object, 4 to 7 another; 8 and 9 unseen inside the first, 10 unseen between the two.
    weight = np.zeros((11, 16))
    weight[:4, ::2] = weight[4:8, 1::2] = 10
    total = np.zeros((11, 8))
    total[:8] = 10
    edges = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [1, 8], [8, 9], [3, 10], [4, 10]]
    lifted = lifted_from(weight, total, np.minimum(total, 10), np.repeat(np.arange(8), 2))
    tree = build_tree(lifted, torch.tensor(edges).T)
    label = tree.cut(0.5)
    assert same(label, 0, 1, 2, 3, 8, 9) and same(label, 4, 5, 6, 7) and label[0] != label[4] and label[10] == -1
    assert int(tree.size[label[0]]) == 6 and tree.seen.tolist() == [True] * 8 + [False] * 3


def test_features_join_as_evidence():
    # Nothing but two undecided views: features decide.
    views = [[[0, 1, 2, 3]], [[0, 1], [2, 3]]]
    weight = np.zeros((4, 3))
    weight[:, 0] = weight[:2, 1] = weight[2:, 2] = 10
    lifted = lifted_from(weight, np.full((4, 2), 10.0), np.full((4, 2), 10.0), [0, 1, 1])
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    alike = build_tree(lifted, edges, torch.ones(4, 3)).cut(0.5)
    apart = torch.tensor([[1.0, 0, 0]] * 2 + [[0, 1.0, 0]] * 2)
    different = build_tree(lifted, edges, apart).cut(0.5)
    assert same(alike, 0, 1, 2, 3) and different[0] != different[2] and same(different, 0, 1) and len(views) == 2


def test_scene_is_found(clean, noisy):
    for scene, least in ((clean, 0.9), (noisy, 0.8)):
        lifted = scene.by_anchor
        tree = build_tree(lifted, scene.edges)
        anchor = refine_anchors(
            scene.by_gaussian, scene.toy.gaussians.means, scene.anchor, scene.xyz, scene.edges, tree.cut()
        )
        label, owner = tree.cut(0.5)[anchor], scene.toy.owner
        truth = [owner == k for k in range(1, 8)]
        agreement = [
            max(float((t & (label == n)).sum() / (t | (label == n)).sum()) for n in label.unique()) for t in truth
        ]
        winners = {int(label[t & (label >= 0)].mode().values) for t in truth}
        assert len(winners) == 7, "every object, and the table, has an instance of its own"
        assert agreement[0] > least


def test_refining_moves_gaussians_to_their_object(clean):
    tree = build_tree(clean.by_anchor, clean.edges)
    before = tree.cut()[clean.anchor]
    moved = refine_anchors(
        clean.by_gaussian, clean.toy.gaussians.means, clean.anchor, clean.xyz, clean.edges, tree.cut()
    )
    after, lifted = tree.cut()[moved], clean.by_gaussian
    # What each Gaussian is seen as most: exact, since these masks are.
    weight = torch.zeros(lifted.num_units, 8).index_put_(
        (lifted.unit, torch.cat([torch.tensor(n) for n in clean.names])[lifted.mask]), lifted.weight, accumulate=True
    )
    weight[:, 0] = lifted.visible - weight.sum(1)
    truth, changed = weight.argmax(1), moved != clean.anchor
    name = torch.full((tree.num_nodes + 1,), -1)
    for n in tree.instances():
        name[n] = truth[before == n].mode().values
    assert changed.sum() > 50
    assert (name[after[changed]] == truth[changed]).float().mean() > 0.9
    assert (name[before[changed]] == truth[changed]).float().mean() < 0.2
    neighbours = set(map(tuple, clean.edges.T.tolist()))
    for a, b in zip(clean.anchor[changed].tolist(), moved[changed].tolist()):
        assert (min(a, b), max(a, b)) in neighbours


def test_tree_invariants(noisy):
    tree = build_tree(noisy.by_anchor, noisy.edges)
    nodes = torch.arange(tree.num_nodes)
    assert (tree.parent < nodes).all() and (tree.last >= nodes).all()
    child = tree.parent >= 0
    assert (tree.level[child] < tree.level[tree.parent[child]]).all()
    assert (tree.last[child] <= tree.last[tree.parent[child]]).all()
    for n in range(tree.num_nodes):
        assert int(tree.anchors_of(n).sum()) == int(tree.size[n])
    values = torch.rand(tree.num_nodes, 2)
    slow = torch.stack([values[n : int(tree.last[n]) + 1].sum(0) for n in range(tree.num_nodes)])
    assert torch.allclose(tree.subtree_sum(values), slow, atol=1e-4)
    counts = [len(tree.instances(level)) for level in (0.0, 0.3, 0.5, 0.7, 1.0)]
    assert counts == sorted(counts, reverse=True)
    lineage = tree.lineage
    assert all([n for n in row.tolist() if n >= 0] == tree.ancestors(i) for i, row in enumerate(lineage))


def test_deterministic(noisy):
    one, two = (build_tree(noisy.by_anchor, noisy.edges) for _ in range(2))
    assert torch.equal(one.anchor_node, two.anchor_node) and torch.equal(one.level, two.level)


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan")])
def test_level_out_of_range(clean, level):
    with pytest.raises(UserError, match=r"between 0 .parts. and 1"):
        build_tree(clean.by_anchor, clean.edges).cut(level)


def test_no_masks_no_tree():
    total = np.full((3, 2), 5.0)
    tree = build_tree(lifted_from(np.zeros((3, 0)), total, 0 * total, np.zeros(0, int)), torch.tensor([[0, 1], [1, 2]]))
    assert tree.num_nodes == 0 and (tree.cut(0.5) == -1).all() and len(tree.instances()) == 0
