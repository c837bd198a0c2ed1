from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.masks import MaskSet
from ag2_ns.splat.prototype_loss import (
    PUBLISHED,
    PrototypeConfig,
    clusters,
    prototype_loss,
    prototype_nce,
    prototype_terms,
)


def by_hand(value: torch.Tensor, cluster: list[int], config: PrototypeConfig, also=None) -> torch.Tensor:
    """The formula of the paper's code, cluster by cluster and sample by sample, in Python."""
    unit = [v / (v.norm().detach() + 1e-6) for v in value]
    members: dict[int, list[torch.Tensor]] = {}
    for f, k in zip(unit, cluster):
        members.setdefault(k, []).append(f)
    members = {k: v for k, v in members.items() if len(v) > config.least}
    mean = {k: torch.stack(v).mean(0) for k, v in members.items()}
    phi = {}
    for k, v in members.items():
        spread = sum(float((f - mean[k]).norm().detach()) for f in v)
        phi[k] = min(max(10 * spread / (len(v) * math.log(len(v) + 10)), 0.5), 1.0)
    total = value.sum() * 0
    for i, (f, k) in enumerate(zip(unit, cluster)):
        if k in mean:
            rivals = [r for r in mean if r == k or also is None or not also[i][r]]
            below = sum(torch.exp(f @ mean[r] / phi[r]) for r in rivals) + 1e-6
            total = total - torch.log(torch.exp(f @ mean[k] / phi[k]) / below)
    return total / max(len(mean), 1)


@pytest.mark.parametrize("least", [0, 3, 5])
def test_equals_the_formula(least):
    g = torch.Generator().manual_seed(least)
    value = torch.randn(24, 5, generator=g, dtype=torch.double, requires_grad=True)
    cluster = torch.tensor([0] * 9 + [1] * 4 + [2] * 11)
    config = PrototypeConfig(least=least)
    loss = prototype_nce(value, cluster, 4, config)
    expected = by_hand(value, cluster.tolist(), config)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, value)[0], torch.autograd.grad(expected, value)[0])


def test_two_tight_clusters_in_numbers():
    """Opposite unit features, no spread: phi = 0.5, so every sample costs ln(1 + e^-4) and a cluster of 30 costs 30."""
    value = torch.tensor([[1.0, 0.0]] * 30 + [[-1.0, 0.0]] * 30)
    loss = prototype_nce(value, torch.arange(60) // 30, 2)
    assert loss.item() == pytest.approx(30 * math.log(1 + math.exp(-4)), rel=1e-4)


def test_sum_over_pixels_not_mean():
    """Twice as many samples of the same features: twice the loss."""
    value = torch.tensor([[1.0, 0.0]] * 30 + [[0.0, 1.0]] * 30)
    once = prototype_nce(value, torch.arange(60) // 30, 2)
    twice = prototype_nce(value.repeat_interleave(2, 0), torch.arange(120) // 60, 2)
    assert twice.item() == pytest.approx(2 * once.item(), rel=1e-5)


def test_length_of_features_only_counts_in_the_norm_term():
    feature = torch.randn(8, 9, 4, generator=torch.Generator().manual_seed(0))
    masks = MaskSet.from_dense(torch.arange(72).view(8, 9) // 24 == torch.arange(3)[:, None, None])
    draw = lambda f: prototype_terms(f, masks, PrototypeConfig(samples=500), torch.Generator().manual_seed(1))  # noqa: E731
    short, long = draw(feature), draw(3 * feature)
    torch.testing.assert_close(short.nce, long.nce)
    assert long.norm.item() == pytest.approx(((3 * feature.norm(dim=-1) - 1) ** 2).mean().item(), rel=1e-5)


def test_norm_looks_at_all_pixels_and_weights():
    feature = torch.full((4, 5, 2), 0.5)
    masks = MaskSet.from_dense(torch.zeros(1, 4, 5, dtype=torch.bool))
    loss = prototype_loss(feature, masks)
    assert loss.item() == pytest.approx(1e-3 * 100 * (math.sqrt(0.5) - 1) ** 2, rel=1e-5)


def test_unmasked_pixels_are_a_cluster_only_where_asked_for():
    dense = torch.zeros(2, 6, 6, dtype=torch.bool)
    dense[0, :2], dense[1, 2:4] = True, True
    masks = MaskSet.from_dense(dense)
    pixel, cluster, count = clusters(masks, False)
    assert count == 2 and len(pixel) == 24 and cluster.max() == 1
    pixel, cluster, count = clusters(masks, PUBLISHED.unmasked_cluster)
    assert count == 3 and sorted(pixel[cluster == 2].tolist()) == list(range(24, 36))


def test_other_masks_of_a_pixel_are_no_negatives():
    """A part inside a whole: the whole is no negative of the part's pixels, nor the part of them as the whole's."""
    g = torch.Generator().manual_seed(3)
    feature = torch.randn(6, 8, 3, generator=g, dtype=torch.double)
    dense = torch.zeros(3, 6, 8, dtype=torch.bool)
    dense[0, :4], dense[1, :4, :3], dense[2, 4:] = True, True, True
    masks = MaskSet.from_dense(dense)
    config = PrototypeConfig(samples=400, least=2)
    found = prototype_terms(feature, masks, config, torch.Generator().manual_seed(5)).nce
    drawn = torch.randint(len(masks.pixel), (400,), generator=torch.Generator().manual_seed(5))
    pixel, cluster = masks.pixel[drawn], masks.mask[drawn].tolist()
    also = [[bool(dense[r].flatten()[p]) and r != k for r in range(3)] for p, k in zip(pixel.tolist(), cluster)]
    expected = by_hand(feature.reshape(-1, 3)[pixel], cluster, config, also)
    torch.testing.assert_close(found, expected)


def test_gradient_is_right():
    value = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double, requires_grad=True)
    cluster, config = torch.arange(12) % 2, PrototypeConfig(least=2)
    # The published gradient leaves lengths and temperatures out; on features of unit length with phi at its bound the
    # latter is flat, and the former is what is compared here.
    unit = torch.nn.functional.normalize(value.detach(), dim=1).requires_grad_()
    loss = prototype_nce(unit, cluster, 2, config)
    analytic = torch.autograd.grad(loss, unit)[0]
    expected = torch.autograd.grad(by_hand(unit, cluster.tolist(), config), unit)[0]
    torch.testing.assert_close(analytic, expected)


def test_minimising_separates_masks():
    dense = torch.zeros(3, 16, 24, dtype=torch.bool)
    dense[0, :, :8], dense[1, :, 8:16], dense[2, :, 16:] = True, True, True
    feature = torch.randn(16, 24, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks, optimizer = MaskSet.from_dense(dense), torch.optim.Adam([feature], lr=0.05)
    for step in range(80):
        optimizer.zero_grad()
        unit = torch.nn.functional.normalize(feature, dim=-1)  # as the field is before it is rendered
        prototype_loss(unit, masks, generator=torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    unit = torch.nn.functional.normalize(feature.detach(), dim=-1)
    mean = torch.stack([unit[d].mean(0) for d in dense])
    assert max((unit[d] - m).norm(dim=-1).mean() for d, m in zip(dense, mean)) < 0.2
    assert torch.pdist(mean).min() > 1.0


@given(st.integers(0, 4), st.integers(1, 400), st.booleans(), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_always_finite(m, samples, unmasked, seed):
    g = torch.Generator().manual_seed(seed)
    feature = torch.randn(7, 9, 3, generator=g) * torch.randint(0, 3, (7, 9, 1), generator=g)
    masks = MaskSet.from_dense(torch.rand(m, 7, 9, generator=g) < 0.3)
    feature.requires_grad_()
    loss = prototype_loss(feature, masks, PrototypeConfig(samples=samples, unmasked_cluster=unmasked), g)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(feature.grad).all()


def test_samples_by_generator():
    feature = torch.randn(12, 15, 4, generator=torch.Generator().manual_seed(0))
    masks = MaskSet.from_dense(torch.rand(4, 12, 15, generator=torch.Generator().manual_seed(1)) < 0.5)
    draw = lambda seed: prototype_loss(feature, masks, PrototypeConfig(200), torch.Generator().manual_seed(seed))  # noqa: E731
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_bad_input():
    masks = MaskSet.from_dense(torch.ones(1, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not match masks of 4 x 5"):
        prototype_loss(torch.zeros(5, 4, 3), masks)
    with pytest.raises(ValueError, match="samples"):
        prototype_loss(torch.zeros(4, 5, 3), masks, PrototypeConfig(samples=0))
