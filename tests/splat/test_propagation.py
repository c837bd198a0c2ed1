from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.splat.propagation import anchor_visibility, propagation_loss


def some_graph(a: int = 40, e: int = 160, seed: int = 0) -> AnchorGraph:
    g = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, a - 1, (2, e), generator=g)  # the last anchor has no edge
    return AnchorGraph(torch.unique(ends[:, ends[0] != ends[1]].sort(0).values, dim=1), a)


def some_feature(a: int = 40, f: int = 3) -> torch.Tensor:
    return torch.randn(a, f, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def dense_laplacian(feature: torch.Tensor, graph: AnchorGraph, tau: float) -> torch.Tensor:
    """The normalised bilateral affinity as an A x A matrix, without gradient."""
    unit = normalize(feature.detach(), dim=1)
    w = torch.exp(-(torch.cdist(unit, unit) ** 2) / (2 * tau**2))
    adjacent = torch.zeros_like(w)
    adjacent[graph.edges[0], graph.edges[1]] = 1
    w = w * (adjacent + adjacent.T)
    d = w.sum(1).clamp_min(1e-150)
    w = w / (d[:, None] * d[None]).sqrt()
    return torch.diag(w.sum(1)) - w


@pytest.mark.parametrize("f", [3, 8])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_equals_dense_laplacian(f, tau):
    graph = some_graph()
    a, b = (some_feature(f=f).requires_grad_() for _ in range(2))
    loss = propagation_loss(a, graph, tau, torch.ones(40, dtype=torch.bool))
    unit = normalize(b, dim=1)
    reference = torch.trace(unit.T @ dense_laplacian(b, graph, tau) @ unit)
    torch.testing.assert_close(loss, reference)
    assert loss == propagation_loss(a, graph, tau)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(a.grad, b.grad)
    assert a.grad.abs().max() > 1e-6


def test_only_edges_with_a_visible_end():
    graph = some_graph()
    visible = torch.zeros(40, dtype=torch.bool)
    visible[[3, 8]] = True
    feature = some_feature()
    lap = dense_laplacian(feature, graph, 0.4)
    unit = normalize(feature, dim=1)
    i, j = graph.edges
    terms = -lap[i, j] * (unit[i] - unit[j]).square().sum(1)
    expected = terms[visible[i] | visible[j]].sum()
    assert 0 < expected < terms.sum()
    torch.testing.assert_close(propagation_loss(feature, graph, 0.4, visible), expected)
    leaf = feature.clone().requires_grad_()
    loss = propagation_loss(leaf, graph, 0.4, torch.zeros(40, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and (leaf.grad == 0).all()


def test_weights_take_no_gradient():
    """The slope along a direction is that of the loss with its weights frozen."""
    graph, feature = some_graph(12, 30), some_feature(12)
    lap = dense_laplacian(feature, graph, 0.4)

    def frozen(x):
        unit = normalize(x, dim=1)
        return torch.trace(unit.T @ lap @ unit)

    leaf = feature.clone().requires_grad_()
    propagation_loss(leaf, graph, 0.4).backward()
    direction = torch.randn(12, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    slope = (frozen(feature + 1e-6 * direction) - frozen(feature - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((leaf.grad * direction).sum(), slope, rtol=1e-6, atol=1e-9)


def test_vanishing_weights_are_finite():
    graph = AnchorGraph(torch.tensor([[0, 1], [1, 2]]), 3)
    feature = torch.tensor([[1.0, 0], [-1, 0], [1, 0]], requires_grad=True)
    loss = propagation_loss(feature, graph, 0.05)  # exp(-800) is 0 in floating point
    loss.backward()
    assert loss == 0 and torch.isfinite(feature.grad).all()


def test_empty_graph_and_equal_features():
    feature = torch.ones(5, 3, requires_grad=True)
    for graph in (AnchorGraph(torch.empty(2, 0, dtype=torch.long), 5), AnchorGraph(torch.tensor([[0], [4]]), 5)):
        loss = propagation_loss(feature, graph, 0.1)
        loss.backward()
        assert loss == 0 and (feature.grad == 0).all()


def test_descent_smooths_within_but_not_across():
    """Two noisy groups on a ring: the noise goes, the border stays."""
    g = torch.Generator().manual_seed(0)
    centre = normalize(torch.tensor([[1.0, 1, 0], [-1, 1, 0]]), dim=1).repeat_interleave(20, 0)
    feature = (centre + 0.05 * torch.randn(40, 3, generator=g)).requires_grad_()
    ring = torch.stack([torch.arange(39), torch.arange(1, 40)])
    graph = AnchorGraph(ring, 40)
    before = normalize(feature.detach(), dim=1)
    optimizer = torch.optim.SGD([feature], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        propagation_loss(feature, graph, 0.1).backward()
        optimizer.step()
    after = normalize(feature.detach(), dim=1)
    for group in (slice(0, 20), slice(20, 40)):
        assert after[group].std(0).sum() < 0.4 * before[group].std(0).sum()
    assert (after[19] - after[20]).norm() > 1.2


def test_visibility():
    child_anchor = torch.tensor([0, 0, 1, 2, 2, 4])
    child_visible = torch.tensor([False, True, False, True, True, False])
    assert anchor_visibility(child_visible, child_anchor, 5).tolist() == [True, False, True, False, False]
    assert anchor_visibility(child_visible[:0], child_anchor[:0], 2).tolist() == [False, False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu():
    graph, feature = some_graph(), some_feature().float()
    visible = torch.arange(40) % 3 == 0
    out = []
    for device in ("cpu", "cuda"):
        leaf = feature.to(device).detach().requires_grad_()
        loss = propagation_loss(leaf, graph.to(device), 0.3, visible.to(device))
        loss.backward()
        out.append((loss.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(out[0], out[1])
