from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from ag2_ns.grouping import super_anchors as module
from ag2_ns.grouping.anchor_graph import AnchorGraph, build_graph
from ag2_ns.grouping.config import GroupingConfig
from ag2_ns.grouping.super_anchors import attach_fragments, by_size, mean_shift, super_anchors

VOXEL = 0.002  # reach with s = 4: 0.128


def blobs(count: int = 6, per: int = 150, noise: float = 0.03, seed: int = 0, f: int = 3):
    """Balls of anchors that touch along a line, each with its own feature direction and noise."""
    g = torch.Generator().manual_seed(seed)
    which = torch.arange(count).repeat_interleave(per)
    xyz = torch.randn(count * per, 3, generator=g) * 0.08 + which[:, None] * torch.tensor([0.3, 0, 0])
    direction = normalize(torch.randn(count, f, generator=g), dim=1)
    while torch.pdist(direction).min() < 0.4:
        direction = normalize(torch.randn(count, f, generator=g), dim=1)
    feature = direction[which] + noise * torch.randn(count * per, f, generator=g)
    mixed = torch.randperm(count * per, generator=g)
    return xyz[mixed], feature[mixed], which[mixed]


def slow_mean_shift(feature, graph, bandwidth, rounds, tolerance):
    unit = normalize(feature.double(), dim=1).numpy()
    around = [[a] for a in range(len(unit))]
    for i, j in graph.edges.T.tolist():
        around[i].append(j)
        around[j].append(i)
    out = []
    for a, members in enumerate(around):
        y, x = unit[a], unit[members]
        for _ in range(rounds):
            w = np.exp(-((x - y) ** 2).sum(1) / (2 * bandwidth**2))
            new = w @ x / w.sum()
            new /= np.linalg.norm(new)
            shift, y = np.linalg.norm(new - y), new
            if shift < tolerance:
                break
        out.append(y)
    return torch.tensor(np.array(out))


@pytest.mark.parametrize("rounds", [1, 7, 50])
@pytest.mark.parametrize("f", [2, 3, 8])
def test_mean_shift_equals_slow(f, rounds, monkeypatch):
    xyz, feature, _ = blobs(3, 60, 0.1, f=f)
    graph = build_graph(xyz, torch.zeros(180), VOXEL, 4.0)
    assert graph.degree().min() == 0 or graph.degree().float().std() > 2  # rows of many lengths
    expected = slow_mean_shift(feature, graph, 0.2, rounds, 1e-5)
    for piece in (40, 1 << 16):
        monkeypatch.setitem(module.PIECE, "cpu", piece)
        peak = mean_shift(feature.double(), graph, 0.2, GroupingConfig(rounds=rounds))
        torch.testing.assert_close(peak, expected, rtol=0, atol=1e-9)
        single = mean_shift(feature, graph, 0.2, GroupingConfig(rounds=rounds))
        torch.testing.assert_close(single.double(), expected, rtol=0, atol=2e-4)


def test_blobs_become_instances():
    xyz, feature, which = blobs()
    graph = build_graph(xyz, torch.zeros(len(xyz)), VOXEL, 4.0)
    label = super_anchors(feature, xyz, graph)
    sizes = torch.bincount(label)
    assert (sizes[:-1] >= sizes[1:]).all()
    table = torch.zeros(len(sizes), 6).index_put_((label, which), torch.ones(1), accumulate=True)
    big = sizes >= 10
    purity = table[big].amax(1) / sizes[big]
    assert purity.min() > 0.95
    # One super-anchor holds nearly all of each blob.
    assert (table.amax(0) / 150).min() > 0.9
    assert (sizes[~big].sum() if (~big).any() else 0) <= 0.02 * len(xyz)
    assert torch.equal(label, super_anchors(feature * 5, xyz, graph))  # only the direction counts


def test_edges_confine_instances():
    """Equal features on two islands are two instances."""
    xyz = torch.cat([torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) * 0.1 + 5 * k for k in range(2)])
    graph = build_graph(xyz, torch.zeros(60), VOXEL, 4.0)
    assert super_anchors(torch.ones(60, 3), xyz, graph).tolist() == [0] * 30 + [1] * 30


def line(labels: list[int], gap_after: int | None = None) -> tuple[torch.Tensor, AnchorGraph]:
    n = len(labels)
    i = torch.tensor([k for k in range(n - 1) if k != gap_after])
    return torch.tensor(labels), AnchorGraph(torch.stack([i, i + 1]), n)


def test_fragment_joins_most_similar_neighbour():
    label, graph = line([0, 0, 0, 1, 1, 2, 2, 2])
    angle = torch.tensor([0, 0, 0, 0.3, 0.3, 0.5, 0.5, 0.5])
    feature = torch.stack([angle.cos(), angle.sin()], 1)
    xyz = torch.zeros(8, 3)
    assert attach_fragments(label, feature, xyz, graph, 1.0, 3).tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    angle[3] = 0.1  # closer to the left end now: 0.1 against 0.2
    feature = torch.stack([angle.cos(), angle.sin()], 1)
    assert attach_fragments(label, feature, xyz, graph, 1.0, 3).tolist() == [0, 0, 0, 0, 0, 2, 2, 2]
    assert attach_fragments(label, torch.ones(8, 2), xyz, graph, 1.0, 3).tolist() == [0, 0, 0, 0, 0, 2, 2, 2]  # tie
    assert torch.equal(attach_fragments(label, feature, xyz, graph, 1.0, 2), label)
    assert torch.equal(attach_fragments(label, feature, xyz, graph, 1.0, 9), label)


def test_fragment_without_neighbour_joins_the_nearest():
    label, graph = line([0, 0, 0, 1, 2, 2, 2], gap_after=2)
    graph = AnchorGraph(graph.edges[:, graph.edges[0] != 3], 7)  # 3 is alone
    xyz = torch.tensor([0, 1, 2, 4, 5.5, 6, 7])[:, None] * torch.tensor([[1.0, 0, 0]])
    feature = torch.ones(7, 2)
    assert attach_fragments(label, feature, xyz, graph, 1.6, 3).tolist() == [0, 0, 0, 2, 2, 2, 2]
    assert attach_fragments(label, feature, xyz, graph, 1.5, 3).tolist() == [0, 0, 0, 1, 2, 2, 2]


def test_fragment_beside_a_fragment_looks_further():
    """Two fragments side by side: the outer one has no big neighbour by edge."""
    label, graph = line([0, 0, 0, 1, 2])
    xyz = torch.arange(5.0)[:, None] * torch.tensor([[1.0, 0, 0]])
    assert attach_fragments(label, torch.ones(5, 2), xyz, graph, 2.5, 3).tolist() == [0] * 5
    assert attach_fragments(label, torch.ones(5, 2), xyz, graph, 1.5, 3).tolist() == [0, 0, 0, 0, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_by_size(values):
    label = by_size(torch.tensor(values))
    sizes = torch.bincount(label)
    first = [label.tolist().index(k) for k in range(len(sizes))]
    assert len(sizes) == len(set(values))
    order = list(zip((-sizes).tolist(), first))
    assert order == sorted(order)
    assert len({(v, k) for v, k in zip(values, label.tolist())}) == len(sizes)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_anchors(n):
    graph = AnchorGraph(torch.empty(2, 0, dtype=torch.long), n)
    assert super_anchors(torch.ones(n, 3), torch.rand(n, 3), graph).tolist() == list(range(n))


def test_zero_features_are_finite():
    xyz = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    graph = build_graph(xyz, torch.zeros(20), VOXEL, 4.0)
    assert torch.isfinite(mean_shift(torch.zeros(20, 3), graph)).all()
    assert (super_anchors(torch.zeros(20, 3), xyz, graph) == 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_is_deterministic_and_agrees():
    xyz, feature, _ = blobs(8, 800)
    graph = build_graph(xyz, torch.zeros(len(xyz)), VOXEL, 4.0)
    cpu = super_anchors(feature, xyz, graph)
    gpu = [super_anchors(feature.cuda(), xyz.cuda(), graph.to("cuda")).cpu() for _ in range(2)]
    assert torch.equal(*gpu)
    torch.testing.assert_close(
        mean_shift(feature.cuda(), graph.to("cuda")).cpu(), mean_shift(feature, graph), rtol=0, atol=2e-3
    )
    assert (gpu[0] == cpu).float().mean() > 0.98
