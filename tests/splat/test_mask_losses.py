from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.masks import MaskSet
from ag2_ns.splat import mask_losses
from ag2_ns.splat.mask_losses import (
    mask_contrastive_loss,
    mask_contrastive_terms,
)
from ag2_ns.splat.prototype_loss import PrototypeConfig, prototype_loss


def dense_contrastive(feature: torch.Tensor, dense: torch.Tensor, smooth_weight=3.0, contrast_weight=0.5):
    """M x H x W floats, pair by pair."""
    dense = dense[dense.flatten(1).any(1)]
    m = dense.double()[..., None].to(feature.dtype)
    mean = (m * feature).sum((1, 2)) / m.sum((1, 2))
    difference = (feature - mean[:, None, None]) * m
    inside = dense.nonzero(as_tuple=True)
    smooth = difference[inside].norm(dim=-1).sum() / dense.numel()
    values = [1 / ((mean[a] - mean[b]).norm() + 1) for a in range(len(mean)) for b in range(a + 1, len(mean))]
    if not values:
        return smooth_weight * smooth
    values = torch.stack(values).sort().values
    weights = torch.linspace(0.1, 1.0, len(values)) if len(values) > 1 else torch.ones(1)
    return smooth_weight * smooth + contrast_weight * (weights * values).mean()


def scene(m=7, h=23, w=31, f=3, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    feature = torch.rand(h, w, f, generator=g, dtype=dtype)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    centre = torch.rand(m, 2, generator=g) * torch.tensor([h, w])
    radius = 3 + 8 * torch.rand(m, generator=g)
    dense = (y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2 < radius[:, None, None] ** 2
    return feature, dense


@pytest.mark.parametrize("f", [1, 3, 8, 16])
@pytest.mark.parametrize("m", [1, 2, 9])
@pytest.mark.parametrize("processor", ["cpu", "gpu"])
def test_equals_dense(m, f, processor, monkeypatch):
    """Both ways of summing, the GPU's run on the CPU."""
    if processor == "gpu":
        plan = mask_losses.plan_of
        monkeypatch.setattr(mask_losses, "plan_of", lambda masks, dtype: plan(masks, dtype).filled_up())
    feature, dense = scene(m, f=f)
    assert m < 9 or (dense.sum(0) > 1).any()  # they overlap
    a, b = feature.clone().requires_grad_(), feature.clone().requires_grad_()
    sparse = mask_contrastive_loss(a, MaskSet.from_dense(dense), 2.5, 0.7)
    reference = dense_contrastive(b, dense, 2.5, 0.7)
    torch.testing.assert_close(sparse, reference, atol=1e-6, rtol=1e-5)
    sparse.backward()
    reference.backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-7, rtol=1e-5)
    assert b.grad.abs().max() > 1e-4


def test_large_mask_does_not_drift():
    g = torch.Generator().manual_seed(0)
    feature = torch.rand(400, 500, 3, generator=g) + 10
    masks = MaskSet.from_dense(torch.ones(1, 400, 500, dtype=torch.bool))
    expected = (feature.double() - feature.double().mean((0, 1))).norm(dim=-1).mean()
    torch.testing.assert_close(mask_contrastive_terms(feature, masks).smooth.double(), expected, rtol=2e-6, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.integers(1, 4), st.floats(0, 1), st.integers(0, 1000))
def test_any_masks(m, f, cover, seed):
    g = torch.Generator().manual_seed(seed)
    feature = torch.randn(5, 4, f, generator=g).requires_grad_()
    dense = torch.rand(m, 5, 4, generator=g) < cover  # some masks are empty
    loss = mask_contrastive_loss(feature, MaskSet.from_dense(dense))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(feature.grad).all()
    if dense.any():
        torch.testing.assert_close(loss, dense_contrastive(feature, dense), atol=1e-6, rtol=1e-5)
    else:
        assert loss == 0 and (feature.grad == 0).all()


def test_gradcheck():
    feature, dense = scene(3, 6, 7, dtype=torch.float64)
    masks = MaskSet.from_dense(dense)
    assert torch.autograd.gradcheck(lambda x: mask_contrastive_loss(x, masks), feature.requires_grad_())


def test_masks_serve_both_precisions_and_every_step():
    feature, dense = scene(5)
    masks = MaskSet.from_dense(dense)
    for dtype in (torch.float32, torch.float64, torch.float32):
        x = feature.to(dtype)
        for value in (x, 2 * x):
            expected = dense_contrastive(value.double(), dense)
            torch.testing.assert_close(mask_contrastive_loss(value, masks).double(), expected, rtol=1e-5, atol=1e-6)


def test_equal_features_have_no_nan_gradient():
    feature = torch.ones(6, 8, 3, requires_grad=True)
    masks = MaskSet.from_dense(torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0)) < 0.5)
    loss = mask_contrastive_loss(feature, masks)
    loss.backward()
    # Equal values: the ranks still spread over the pairs, 0.5 * mean(0.1, 0.55, 1.0).
    assert loss.item() == pytest.approx(0.275)
    assert (feature.grad == 0).all()


def test_closest_pair_weighs_most():
    """Three one-pixel masks with features 0, 1, 3: distances 1, 2, 3."""
    feature = torch.tensor([[[0.0], [1.0], [3.0]]])
    masks = MaskSet.from_dense(torch.eye(3, dtype=torch.bool)[:, None])
    terms = mask_contrastive_terms(feature, masks)
    assert terms.smooth == 0
    assert terms.contrast.item() == pytest.approx((1.0 / 2 + 0.55 / 3 + 0.1 / 4) / 3)


def test_minimising_separates_masks():
    feature, dense = scene(3, 16, 24)
    dense[1] &= ~dense[0]
    dense[2] &= ~dense[0] & ~dense[1]
    masks = MaskSet.from_dense(dense)
    feature.requires_grad_()
    optimizer = torch.optim.Adam([feature], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        mask_contrastive_loss(torch.nn.functional.normalize(feature, dim=-1), masks).backward()
        optimizer.step()
    unit = torch.nn.functional.normalize(feature.detach(), dim=-1)
    mean = torch.stack([unit[d].mean(0) for d in dense])
    assert max((unit[d] - m).norm(dim=-1).mean() for d, m in zip(dense, mean)) < 0.1
    assert torch.pdist(mean).min() > 1.0


def test_the_loss_is_the_weighted_sum_of_its_terms():
    feature, dense = scene()
    masks = MaskSet.from_dense(dense)
    terms = mask_contrastive_terms(feature, masks)
    expected = 2 * terms.smooth + terms.contrast / 4
    torch.testing.assert_close(mask_contrastive_loss(feature, masks, 2.0, 0.25), expected)


def test_views_of_like_masks_share_sizes_on_a_gpu():
    sizes = set()
    for m in (2, 3, 4):
        plan = mask_losses.plan_of(MaskSet.from_dense(scene(m)[1]), torch.float32).filled_up()
        sizes.add(tuple(t.shape for t in plan.tensors))
        assert all(t.is_floating_point() or t.dtype == torch.int32 for t in plan.tensors)
    assert len(sizes) == 1


def test_bad_input():
    feature, dense = scene()
    with pytest.raises(ValueError, match="do not match masks of 23 x 31"):
        mask_contrastive_loss(feature[:-1], MaskSet.from_dense(dense))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["contrastive", "prototype"])
def test_gpu_equals_cpu(kind):
    feature, dense = scene(9, 60, 80, f=8)
    out = []
    for device in ("cpu", "cuda"):
        leaf = feature.to(device).detach().requires_grad_()
        masks = MaskSet.from_dense(dense.to(device))
        if kind == "contrastive":
            loss = mask_contrastive_loss(leaf, masks)
        else:
            loss = prototype_loss(leaf, masks, PrototypeConfig(samples=3000), torch.Generator().manual_seed(0))
        loss.backward()
        out.append((loss.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(out[0], out[1], rtol=1e-4, atol=1e-6)
