from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.masks import MaskSet
from ag2_ns.perception import mask_nms
from ag2_ns.perception.mask_nms import pairwise_intersections, select_masks, suppress_masks


def slow_keep(dense, score, iou=0.8, min_score=0.7, contained=0.5, min_area=25):
    """The rules, pair by pair, in plain Python."""
    m = len(dense)
    area = [int(d.sum()) for d in dense]
    order = sorted(range(m), key=lambda k: (-score[k], k))
    better = {k: set(order[: order.index(k)]) for k in range(m)}
    overlaps, part_of_better, part_of_worse = set(), set(), set()
    for j in range(m):
        for i in range(m):
            if i == j:
                continue
            inter = int((dense[i] & dense[j]).sum())
            union = area[i] + area[j] - inter
            if i in better[j] and union and inter / union > iou:
                overlaps.add(j)
            if not (area[i] and area[j] and inter / area[i] < 0.5 and inter / area[j] >= 0.85):
                continue
            if 1 - (inter / area[i]) * (inter / area[j]) > 1 - (contained or 0):
                (part_of_better if i in better[j] else part_of_worse).add(j)
    confident = {k for k in range(m) if score[k] > min_score} or set(order[:3])
    inner = [set(range(m)) - part_of_better or set(order[:3]), set(range(m)) - part_of_worse or set(order[:3])]
    if contained is None:
        inner = [set(range(m))] * 2
    return [k not in overlaps and k in confident and k in inner[0] and k in inner[1] and area[k] > min_area
            for k in range(m)]  # fmt: skip


@st.composite
def boxes_and_scores(draw):
    count = draw(st.integers(0, 12))
    rows = []
    for _ in range(count):
        if rows and draw(st.booleans()):  # a near copy, or a part, of an earlier mask
            y0, x0, y1, x1 = draw(st.sampled_from(rows))
            rows.append((y0, x0, max(y1 - draw(st.integers(0, 3)), y0 + 1), max(x1 - draw(st.integers(0, 12)), x0 + 1)))
        else:
            y0, x0 = draw(st.integers(0, 20)), draw(st.integers(0, 20))
            rows.append((y0, x0, y0 + draw(st.integers(1, 20)), x0 + draw(st.integers(1, 20))))
    score = [draw(st.sampled_from([0.2, 0.65, 0.7, 0.71, 0.8, 0.9, 0.95])) for _ in range(count)]
    dense = np.zeros((count, 32, 36), bool)
    for k, (y0, x0, y1, x1) in enumerate(rows):
        dense[k, y0:y1, x0:x1] = True
        if draw(st.booleans()):
            dense[k, y0:y1:3, x0:x1:2] = False
    return dense, score


@settings(max_examples=150, deadline=None)
@given(boxes_and_scores(), st.sampled_from([0.5, None, 0.7]))
def test_same_decisions_as_the_slow_rules(case, contained):
    dense, score = case
    masks = MaskSet.from_dense(torch.from_numpy(dense))
    keep = suppress_masks(masks, torch.tensor(score, dtype=torch.float64), contained=contained)
    assert keep.tolist() == slow_keep(dense, score, contained=contained)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 2**31))
def test_intersections_are_exact(count, seed):
    dense = torch.rand(count, 17, 23, generator=torch.Generator().manual_seed(seed)) < 0.4
    flat = dense.flatten(1).double()
    assert torch.equal(pairwise_intersections(MaskSet.from_dense(dense)), flat @ flat.T)


def test_intersections_are_exact_over_several_chunks(monkeypatch):
    monkeypatch.setattr(mask_nms, "CHUNK", 7)
    dense = torch.rand(6, 40, 40, generator=torch.Generator().manual_seed(1)) < 0.5
    flat = dense.reshape(6, -1).double()
    assert torch.equal(pairwise_intersections(MaskSet.from_dense(dense)), flat @ flat.T)


def test_each_rule_on_its_own():
    dense = torch.zeros(5, 40, 40, dtype=torch.bool)
    dense[0, :20, :20] = True
    dense[1, :20, :19] = True  # nearly the first, lower score
    dense[2, 25:40, 25:40] = True  # low score
    dense[3, :8, :8] = True  # part of the first
    dense[4, 30:34, :6] = True  # 24 pixels
    score = torch.tensor([0.95, 0.9, 0.6, 0.99, 0.9])
    masks = MaskSet.from_dense(dense)
    assert suppress_masks(masks, score).tolist() == [True, False, False, False, False]
    assert suppress_masks(masks, score, contained=None).tolist() == [True, False, False, True, False]
    assert suppress_masks(masks, score, min_score=0.5, iou=0.99, min_area=0, contained=None).all()


def test_low_scores_keep_the_best_three():
    dense = torch.zeros(5, 50, 50, dtype=torch.bool)
    for k in range(5):
        dense[k, 10 * k : 10 * k + 9] = True
    keep = suppress_masks(MaskSet.from_dense(dense), torch.tensor([0.1, 0.5, 0.3, 0.4, 0.2]))
    assert keep.tolist() == [False, True, True, True, False]


def test_select_reorders_pairs_and_scores():
    dense = torch.rand(5, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.3
    masks = MaskSet.from_dense(dense, torch.arange(5.0))
    chosen = select_masks(masks, torch.tensor([3, 0, 4]))
    assert torch.equal(chosen.dense(), dense[[3, 0, 4]])
    assert chosen.score.tolist() == [3.0, 0.0, 4.0]
    assert (chosen.mask.diff() >= 0).all()
