import torch

from ag2_ns.core.selection import Selection


def make(anchors, label="a", score=0.8, nodes=(1,)):
    mask = torch.zeros(5, dtype=torch.bool)
    mask[anchors] = True
    return Selection(mask * score, mask, mask.repeat_interleave(2), label, score, nodes, 0.5)


def test_union_and_without():
    a, b = make([0, 1]), make([1, 3], "b", 0.5, (2,))
    both = a.union(b)
    assert both.anchor_mask.tolist() == [True, True, False, True, False] and both.nodes == (1, 2)
    assert both.gaussian_mask.sum() == 6 and both.label == "a + b" and both.score == 0.5
    assert torch.allclose(both.anchor_score, torch.tensor([0.8, 0.8, 0, 0.5, 0]))
    rest = both.without(b)
    assert rest.anchor_mask.tolist() == [True, False, False, False, False]
    assert rest.nodes == (), "it is no longer the union of its nodes; `SceneIndex.without` finds those that are whole"
    assert rest.anchor_score[1] == 0 and rest.gaussian_mask.sum() == 2 and not rest.reason


def test_removing_everything_says_so():
    gone = make([0]).without(make([0, 1]))
    assert gone.empty and gone.score == 0 and "removed" in gone.reason


def test_empty_selections_change_nothing():
    a, nothing = make([2]), Selection.nothing(5, 10, "x", reason="missed")
    assert a.union(nothing) is a and nothing.union(a) is a
    assert torch.equal(a.without(nothing).anchor_mask, a.anchor_mask)
    assert nothing.without(a).reason == "missed"
