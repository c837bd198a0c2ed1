from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from ag2_ns.language.pairs import InstancePairs
from ag2_ns.language.regression import (
    KernelConfig,
    MlpConfig,
    fit_mlp,
    kernel_regression,
    mlp_loss,
    mlp_regression,
)


def pairs_of(instance: torch.Tensor, seed: int = 0, d: int = 8) -> InstancePairs:
    g = torch.Generator().manual_seed(seed)
    return InstancePairs(instance, normalize(torch.randn(len(instance), d, generator=g), dim=1), 0.1)


def test_at_distance_0_the_language_is_the_masks():
    pairs = pairs_of(torch.eye(4))
    for kernel in ("published", "paper"):
        found = kernel_regression(torch.eye(4), pairs, KernelConfig(kernel))
        torch.testing.assert_close(found.float(), pairs.language, atol=2e-3, rtol=0)


def test_at_distance_2_nothing_is_nan():
    """Opposite to every mask: exp(-200) and exp(-800) are 0 in single precision; the nearest still speaks."""
    pairs = pairs_of(torch.tensor([[1.0, 0.0]]))
    far = torch.tensor([[-1.0, 0.0]])
    for kernel in ("published", "paper"):
        found = kernel_regression(far, pairs, KernelConfig(kernel))
        torch.testing.assert_close(found.float(), pairs.language, atol=2e-3, rtol=0)
    # The published code divides by a sum that is 0.
    assert kernel_regression(far, pairs, KernelConfig(chunk_sums=True)).isnan().all()


@pytest.mark.parametrize("kernel", ["published", "paper"])
def test_equals_the_formula(kernel):
    g = torch.Generator().manual_seed(1)
    masks, units = normalize(torch.randn(40, 5, generator=g), dim=1), normalize(torch.randn(7, 5, generator=g), dim=1)
    pairs = pairs_of(masks, 2)
    found = kernel_regression(units, pairs, KernelConfig(kernel, bandwidth=0.3, neighbours=6))
    for row, u in zip(found, units):
        d = [1 - float(u @ m) for m in masks]
        if kernel == "published":
            chosen = sorted(range(40), key=lambda k: d[k])[:6]
            weight = {k: math.exp(-(d[k] ** 2) / (2 * 0.3**2)) for k in chosen}
        else:
            weight = {k: math.exp(-(float((u - masks[k]).norm()) ** 2) / (2 * 0.3**2)) for k in range(40)}
        mean = sum(w * pairs.language[k] for k, w in weight.items())
        torch.testing.assert_close(row.float(), mean / mean.norm(), atol=2e-3, rtol=0)


def test_published_sums_make_no_difference_near_the_masks():
    pairs = pairs_of(normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), dim=1))
    a = kernel_regression(pairs.instance, pairs)
    b = kernel_regression(pairs.instance, pairs, KernelConfig(chunk_sums=True))
    torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_fewer_masks_than_neighbours_and_no_units():
    pairs = pairs_of(torch.eye(3))
    assert kernel_regression(torch.eye(3), pairs).shape == (3, 8)
    assert kernel_regression(torch.zeros(0, 3), pairs).shape == (0, 8)
    assert kernel_regression(torch.zeros(2, 3), pairs).isfinite().all()


def test_mlp_learns_the_pairs():
    pairs = pairs_of(normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0)), dim=1), d=32)
    net = fit_mlp(pairs, MlpConfig(epochs=200))
    found = mlp_regression(pairs.instance, net)
    assert found.dtype == torch.half
    assert ((found.float() * pairs.language).sum(1) > 0.95).all()
    assert [layer.out_features for layer in net if hasattr(layer, "out_features")] == [32, 64, 128, 256, 256, 32]


def test_mlp_is_repeatable_and_leaves_the_seed_alone():
    pairs = pairs_of(torch.eye(3, 16))
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    a = mlp_regression(pairs.instance, fit_mlp(pairs, MlpConfig(epochs=2)))
    assert torch.rand(1) == before
    b = mlp_regression(pairs.instance, fit_mlp(pairs, MlpConfig(epochs=2)))
    assert torch.equal(a, b)


def test_mlp_loss_by_hand():
    found = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    wanted = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Squared errors 0, 0, 1, 1; cosines 1 and 0.
    assert mlp_loss(found, wanted).item() == pytest.approx(0.5 + 1e-3 * 0.5)
    assert mlp_loss(found, wanted, MlpConfig(loss="l1")).item() == pytest.approx(0.5 + 1e-3 * 0.5)
    # Along the batch: columns (1, 0) and (1, 1), then (0, 1) and (0, 0).
    slip = mlp_loss(found, wanted, MlpConfig(batch_axis_cosine=True)).item()
    assert slip == pytest.approx(0.5 + 1e-3 * (1 - (math.sqrt(0.5) + 0) / 2), rel=1e-5)
