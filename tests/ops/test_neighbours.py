from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.ops import neighbours
from ag2_ns.ops.grid import PIECE
from ag2_ns.ops.neighbours import nearest, radius_edges

METHODS = ["kdtree", "grid"]


def brute_edges(xyz: torch.Tensor, reach: float, cap: int) -> torch.Tensor:
    """All pairs, in double precision; ties to the lower index."""
    p = xyz.double().numpy()
    d2 = ((p[:, None] - p[None]) ** 2).sum(-1)
    edges = set()
    for i in range(len(p)):
        near = [j for j in np.argsort(d2[i], kind="stable") if j != i and d2[i, j] < reach * reach]
        edges |= {(min(i, int(j)), max(i, int(j))) for j in near[:cap]}
    return torch.tensor(sorted(edges), dtype=torch.long).reshape(-1, 2).T


def cloud(kind: str, n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if kind == "uniform":
        return torch.rand(n, 3, generator=g)
    if kind == "surface":
        p = torch.randn(n, 3, generator=g)
        return p / p.norm(dim=1, keepdim=True)
    if kind == "lattice":  # ties everywhere, and pairs at exactly the reach
        return torch.randint(0, 6, (n, 3), generator=g).float() * 0.25
    # two clusters of very different density and a far outlier
    p = torch.cat([torch.randn(n // 2, 3, generator=g) * 0.01, torch.randn(n - n // 2, 3, generator=g) + 5])
    p[-1] = 1e6
    return p


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cap", [128, 5])
@pytest.mark.parametrize(
    ("kind", "reach"), [("uniform", 0.15), ("surface", 0.2), ("lattice", 0.25), ("lattice", 0.5001), ("uneven", 0.8)]
)
def test_edges_equal_brute_force(kind, reach, cap, method):
    xyz = cloud(kind, 300, 0)
    expected = brute_edges(xyz, reach, cap)
    assert torch.equal(radius_edges(xyz, reach, cap, method=method), expected)
    if (kind, reach) != ("lattice", 0.25):  # every lattice neighbour lies at exactly 0.25: only duplicates join
        assert expected.shape[1] > 300


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-3, 3, width=32)] * 3), min_size=0, max_size=40),
    st.floats(0.01, 8),
    st.integers(1, 6),
)
def test_edges_property(points, reach, cap):
    xyz = torch.tensor(points, dtype=torch.float32).reshape(-1, 3)
    expected = brute_edges(xyz, reach, cap)
    for method in METHODS:
        assert torch.equal(radius_edges(xyz, reach, cap, method=method), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["uneven", "lattice"])
def test_crowded_balls_take_the_bounded_path(kind, method, monkeypatch):
    """A reach that covers the whole cloud must not list all pairs at once."""
    called = []
    capped = neighbours.capped_edges
    monkeypatch.setattr(neighbours, "capped_edges", lambda *a: called.append(1) or capped(*a))
    monkeypatch.setattr(neighbours, "TREE_ROWS", 150)
    xyz = cloud(kind, 700, 3)
    assert torch.equal(radius_edges(xyz, 10.0, 2, method=method), brute_edges(xyz, 10.0, 2))
    assert called


def test_small_pieces_change_nothing(monkeypatch):
    xyz = cloud("surface", 500, 1)
    expected = radius_edges(xyz, 0.3, 10, method="kdtree")
    monkeypatch.setitem(PIECE, "cpu", 17)
    assert torch.equal(radius_edges(xyz, 0.3, 10, method="grid"), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1])
def test_edges_of_next_to_nothing(n, method):
    assert radius_edges(torch.zeros(n, 3), 1.0, method=method).shape == (2, 0)


def test_coincident_points_are_neighbours():
    assert radius_edges(torch.zeros(3, 3), 1e-6).tolist() == [[0, 0, 1], [1, 2, 2]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["uniform", "surface", "uneven"])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_nearest_equals_brute_force(kind, k, method):
    xyz, query = cloud(kind, 300, 0), cloud(kind, 120, 7)
    d = torch.cdist(query.double(), xyz.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected, index = d.topk(k, largest=False)
    distance, found = nearest(query, xyz, k, method=method)
    assert distance.dtype == query.dtype
    torch.testing.assert_close(distance.double(), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(d.gather(1, found), expected)
    if kind == "uniform":
        assert torch.equal(found, index)


@pytest.mark.parametrize("method", METHODS)
def test_nearest_finds_itself_first_and_pads(method):
    xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    distance, index = nearest(xyz, xyz, 4, method=method)
    assert distance.tolist() == [[0, 1, np.inf, np.inf]] * 2
    assert index.tolist() == [[0, 1, -1, -1], [1, 0, -1, -1]]
    distance, index = nearest(xyz, torch.empty(0, 3), 2, method=method)
    assert distance.isinf().all() and (index == -1).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda p: radius_edges(p, 0.0),
        lambda p: radius_edges(p, float("nan")),
        lambda p: radius_edges(p, 1.0, 0),
        lambda p: radius_edges(p[:, :2], 1.0),
        lambda p: radius_edges(torch.full_like(p, float("nan")), 1.0),
        lambda p: nearest(p, p, 0),
        lambda p: nearest(p, p / 0, 1),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError):
        call(torch.rand(4, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cap", [128, 8])
def test_gpu_equals_cpu(cap):
    for kind, reach in (("surface", 0.05), ("lattice", 0.3), ("uneven", 0.3)):
        xyz = cloud(kind, 20_000 if kind != "lattice" else 2000, 0)
        assert torch.equal(radius_edges(xyz.cuda(), reach, cap).cpu(), radius_edges(xyz, reach, cap))
        torch.testing.assert_close(nearest(xyz.cuda(), xyz.cuda(), 4)[0].cpu(), nearest(xyz, xyz, 4)[0])
