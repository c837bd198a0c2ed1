from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.grouping import anchor_graph
from ag2_ns.grouping.anchor_graph import (
    AnchorGraph,
    affinity,
    boundary_anchors,
    build_graph,
    components,
    edge_distance,
    grow,
)

PATH = AnchorGraph(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), 6)  # 0-1-2-3-4 and a loner, 5


def random_graph(a: int, e: int, seed: int) -> AnchorGraph:
    g = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, a, (2, e), generator=g)
    ends = ends[:, ends[0] != ends[1]].sort(0).values
    return AnchorGraph(torch.unique(ends, dim=1), a)


def mask(*anchors: int, size: int = 6) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, torch.tensor(anchors, dtype=torch.long), True)


def test_build_graph_applies_reach_and_radius():
    voxel = 1 / 64  # reach with s = 2: 0.5
    xyz = torch.tensor([[0.0, 0, 0], [0.375, 0, 0], [0.875, 0, 0], [1.25, 0, 0]])
    radius = torch.tensor([0.1, 0.49, 0.25, 0.5])
    graph = build_graph(xyz, radius, voxel, 2.0)
    assert graph.edges.tolist() == [[0], [1]] and graph.num_anchors == 4  # 1-2 at the reach exactly, 3 too large
    assert build_graph(xyz, radius[:, None], voxel, 4.0).edges.tolist() == [[0, 0, 1, 1, 2], [1, 2, 2, 3, 3]]
    assert len(build_graph(xyz, radius, voxel, 4.0, max_neighbours=1)) == 2
    assert len(build_graph(xyz[:0], radius[:0], voxel)) == 0


def test_affinity_and_degree():
    feature = torch.tensor([[2.0, 0], [0.5, 0], [1, 1], [0, 3], [0, -1], [1, 0]])
    d2 = edge_distance(feature, PATH.edges)
    torch.testing.assert_close(d2, torch.tensor([0, 2 - 2**0.5, 2 - 2**0.5, 4.0]))
    w = affinity(feature.requires_grad_(), PATH.edges, 0.5)
    torch.testing.assert_close(w, torch.exp(-d2 / 0.5))
    assert not w.requires_grad
    assert PATH.degree().tolist() == [1, 2, 2, 2, 1, 0]
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: edge_distance(f, PATH.edges), x)


def test_both_ways_and_subgraph():
    assert PATH.both_ways().tolist() == [[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]]
    part = PATH.subgraph(mask(1, 2, 4, 5))
    assert part.edges.tolist() == [[0], [1]] and part.num_anchors == 4


def test_boundary():
    assert torch.equal(boundary_anchors(PATH, mask(1, 2)), mask(0, 3))
    assert torch.equal(boundary_anchors(PATH, mask(0, 4)), mask(1, 3))
    assert not boundary_anchors(PATH, mask()).any()
    assert not boundary_anchors(PATH, mask(0, 1, 2, 3, 4)).any()


def test_grow_stops_at_edges_and_rounds():
    angle = torch.tensor([0.0, 0.04, 0.08, 0.2, 0.21, 0.0])
    feature = torch.stack([angle.cos(), angle.sin()], 1) * 7  # length does not matter
    assert torch.equal(grow(PATH, torch.tensor([0]), feature, 0.05, 10), mask(0, 1, 2))
    assert torch.equal(grow(PATH, mask(0), feature, 0.05, 1), mask(0, 1))
    assert torch.equal(grow(PATH, mask(4, 5), feature, 0.05, 10), mask(3, 4, 5))
    assert torch.equal(grow(PATH, mask(2), feature, 0.15, 10), mask(0, 1, 2, 3, 4))
    assert torch.equal(grow(PATH, mask(2), feature, 0.15, 0), mask(2))
    assert not grow(PATH, torch.tensor([], dtype=torch.long), feature, 1.0, 10).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 60), st.integers(0, 6), st.integers(0, 999))
def test_grow_is_breadth_first_search(a, e, rounds, seed):
    from torch_geometric.utils import k_hop_subgraph

    graph = random_graph(a, e, seed)
    feature = torch.randn(a, 3, generator=torch.Generator().manual_seed(seed))
    near = edge_distance(feature, graph.edges) < 1.0
    passable = AnchorGraph(graph.edges[:, near], a)
    reached, *_ = k_hop_subgraph([0], rounds, passable.both_ways(), num_nodes=a) if rounds else (torch.tensor([0]),)
    assert torch.equal(grow(graph, torch.tensor([0]), feature, 1.0, rounds), mask(*reached.tolist(), size=a))
    assert torch.equal(passable.within(mask(0, size=a), rounds), mask(*reached.tolist(), size=a))


def test_components():
    assert components(PATH).tolist() == [0, 0, 0, 0, 0, 1]
    assert components(PATH, torch.tensor([True, False, True, False])).tolist() == [0, 0, 1, 1, 2, 3]
    assert components(AnchorGraph(torch.tensor([[1], [3]]), 4)).tolist() == [0, 1, 2, 1]
    assert components(AnchorGraph(torch.empty(2, 0, dtype=torch.long), 0)).shape == (0,)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 90), st.integers(0, 999))
def test_components_agree_with_labels_and_search(a, e, seed):
    graph = random_graph(a, e, seed)
    label = components(graph)
    assert torch.equal(label, anchor_graph.components_by_labels(graph.edges, a))
    seen: list[int] = []
    for anchor in range(a):  # ordered by first anchor, and each component is what can be reached
        if label[anchor] not in seen:
            assert label[anchor] == len(seen)
            seen.append(int(label[anchor]))
            assert torch.equal(graph.within(mask(anchor, size=a), a), label == label[anchor])


def test_long_chain_in_any_order_is_one_component():
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    edges = torch.stack([order[:-1], order[1:]]).sort(0).values
    assert (anchor_graph.components_by_labels(edges, 5000) == 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu():
    xyz = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    feature = torch.randn(5000, 3, generator=torch.Generator().manual_seed(1))
    cpu = build_graph(xyz, torch.zeros(5000), 0.002)
    gpu = build_graph(xyz.cuda(), torch.zeros(5000).cuda(), 0.002)
    assert torch.equal(cpu.edges, gpu.edges.cpu())
    keep = edge_distance(feature, cpu.edges) < 1
    assert torch.equal(components(cpu, keep), components(gpu, keep.cuda()).cpu())
    seeds = torch.tensor([0, 7])
    grown = grow(gpu, seeds.cuda(), feature.cuda(), 0.8, 5).cpu()
    assert torch.equal(grow(cpu, seeds, feature, 0.8, 5), grown)
    assert torch.equal(boundary_anchors(cpu, grown), boundary_anchors(gpu, grown.cuda()).cpu())
