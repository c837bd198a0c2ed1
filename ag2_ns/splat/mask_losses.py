"""Losses that make rendered instance features agree inside 2D masks and differ between them.

Masks stay (pixel, mask) pairs throughout: time and memory grow with the pixels that masks cover, never with
masks x height x width, and masks may overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.core.masks import MaskSet
from ag2_ns.splat.prototype_loss import PrototypeConfig, prototype_terms, weighted

MaskLossKind = Literal["contrastive", "prototype"]
"""Published AG2aussian loss, or the prototype loss of COS3D."""

SMOOTH_WEIGHT = 3.0
CONTRAST_WEIGHT = 0.5
"""AG2aussian, section 2: weights for instances (2.5 and 0.5 for finer parts)."""

RANK_WEIGHTS = (0.1, 1.0)
"""Weight of the most different and of the most similar pair of masks."""

SLOTS = 64
"""Partial sums per mask on a GPU."""


@dataclass(frozen=True)
class MaskLoss:
    """A loss over the masks of one view."""

    total: Float[Tensor, ""]
    """What to minimise."""
    terms: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    """Its terms, unweighted and detached, for logging."""


def mask_loss(
    kind: MaskLossKind,
    feature: Float[Tensor, "H W F"],
    masks: MaskSet,
    *,
    smooth_weight: float = SMOOTH_WEIGHT,
    contrast_weight: float = CONTRAST_WEIGHT,
    prototype: PrototypeConfig = PrototypeConfig(),  # noqa: B008 - frozen
    generator: torch.Generator | None = None,
) -> MaskLoss:
    """The mask loss of the chosen kind; options of the other kind are ignored.

    Args:
        kind: "contrastive" or "prototype".
        feature: rendered instance features, any F >= 1, not normalised again.
        masks: the view's masks at the size of `feature`, on its device.
        smooth_weight: see `mask_contrastive_loss`.
        contrast_weight: see `mask_contrastive_loss`.
        prototype: constants of the prototype loss.
        generator: see `prototype_loss`.

    Raises:
        ValueError: unknown kind, or features and masks of different sizes.
    """
    if kind == "contrastive":
        terms = mask_contrastive_terms(feature, masks)
        total = smooth_weight * terms.smooth + contrast_weight * terms.contrast
        return MaskLoss(total, {"smooth": terms.smooth.detach(), "contrast": terms.contrast.detach()})
    if kind == "prototype":
        protos = prototype_terms(feature, masks, prototype, generator)
        return MaskLoss(weighted(protos, prototype), {"nce": protos.nce.detach(), "norm": protos.norm.detach()})
    raise ValueError(f"unknown mask loss {kind!r}; use 'contrastive' or 'prototype'")


@dataclass(frozen=True)
class ContrastiveTerms:
    """The two terms of the mask contrastive loss, unweighted."""

    smooth: Float[Tensor, ""]
    """Mean over masks and all pixels of the distance to the mask's mean, 0 outside the mask."""
    contrast: Float[Tensor, ""]
    """Mean over pairs of masks of their re-weighted closeness."""


def mask_contrastive_loss(
    feature: Float[Tensor, "H W F"],
    masks: MaskSet,
    smooth_weight: float = SMOOTH_WEIGHT,
    contrast_weight: float = CONTRAST_WEIGHT,
) -> Float[Tensor, ""]:
    """`smooth_weight` * smooth + `contrast_weight` * contrast (AG2aussian, section 2, mask contrastive).

    Raises:
        ValueError: features and masks of different sizes.
    """
    terms = mask_contrastive_terms(feature, masks)
    return smooth_weight * terms.smooth + contrast_weight * terms.contrast


def mask_contrastive_terms(feature: Float[Tensor, "H W F"], masks: MaskSet) -> ContrastiveTerms:
    """Both terms of the mask contrastive loss.

    With mean feature mu_m of mask m: smooth is the sum over masks and their pixels of |f(p) - mu_m|, divided by
    masks x height x width. Contrast is the mean over pairs of v = 1 / (|mu_a - mu_b| + 1), each first multiplied by a
    weight that grows linearly with the rank of v, from 0.1 for the smallest to 1.0 for the largest (a single pair has
    weight 1). Masks without pixels do not count. Without masks both terms are 0, with one mask contrast is.

    Args:
        feature: rendered instance features.
        masks: masks at the size of `feature`, on its device; they may overlap.

    Raises:
        ValueError: features and masks of different sizes.
    """
    _check(feature, masks)
    flat = feature.reshape(-1, feature.shape[-1])
    if len(masks.pixel) == 0:
        return ContrastiveTerms(flat.sum() * 0, flat.sum() * 0)
    return ContrastiveTerms(*_Contrastive.apply(flat, masks.pixel, masks.mask, plan_of(masks, flat.dtype)))


@dataclass(frozen=True)
class _Plan:
    """What the loss needs to know of a view's masks beside the pairs themselves."""

    area: Int[Tensor, " M"]
    inverse_area: Float[Tensor, "M 1"]
    """1 for masks without pixels."""
    share: float
    """One pixel's share of the smooth term: 1 / (filled masks x height x width)."""
    first: Int[Tensor, " Q"]
    second: Int[Tensor, " Q"]
    """Pairs of filled masks."""
    weight: Float[Tensor, " Q"]
    """Weight over number of pairs, by rising value of the pair."""
    slot: Int[Tensor, " P"] | None
    """On a GPU: where each pair is added up, `SLOTS` places per mask. Consecutive pairs go to different ones: no queue
    at one address, and short sums that stay exact enough."""


def plan_of(masks: MaskSet, dtype: torch.dtype) -> _Plan:
    """Made once for each `MaskSet` and kept with it: views return every epoch, and making it waits for the device."""
    plan = masks.derived.get("contrastive")
    if plan is None or plan.weight.dtype != dtype:
        area = masks.areas
        filled = (area > 0).nonzero().squeeze(1)
        first, second = filled[torch.triu_indices(len(filled), len(filled), 1, device=area.device)]
        low, high = RANK_WEIGHTS
        weight = torch.linspace(low, high, len(first), dtype=dtype, device=area.device) / max(len(first), 1)
        if len(first) == 1:
            weight.fill_(high)
        inverse = area.clamp_min(1).to(dtype).reciprocal()[:, None]
        share = 1 / (max(len(filled), 1) * masks.height * masks.width)
        slot = slots_of(masks.mask) if area.is_cuda else None
        plan = masks.derived["contrastive"] = _Plan(area, inverse, share, first, second, weight, slot)
    return plan


def slots_of(mask: Int[Tensor, " P"]) -> Int[Tensor, " P"]:
    """Where a GPU sums each pair: the pairs of a mask are spread over `SLOTS` sums, so that few threads collide."""
    return torch.arange(len(mask), device=mask.device).remainder_(SLOTS).add_(mask, alpha=SLOTS).int()


class _Contrastive(torch.autograd.Function):
    """Both terms, with the gradient by hand.

    One gather and one scatter over the pairs then serve both terms, and half as many kernels are launched as autograd
    would: the sizes are small, so launching is what costs time on a GPU.
    """

    @staticmethod
    def forward(ctx, flat: Tensor, pixel: Tensor, mask: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
        unit = flat.index_select(0, pixel)
        mean = _segment_sum(unit, plan).mul_(plan.inverse_area)
        unit -= mean.index_select(0, mask)
        distance = _norm(unit)
        smooth = distance.sum() * plan.share
        tiny = torch.finfo(unit.dtype).tiny
        unit /= distance.clamp_min_(tiny)[:, None]  # unit vectors, or exactly 0

        apart = mean.index_select(0, plan.first) - mean.index_select(0, plan.second)
        gap = _norm(apart)
        value = (gap + 1).reciprocal_()
        rising, order = value.sort(stable=True)
        contrast = torch.dot(rising, plan.weight)

        ctx.save_for_backward(unit, pixel, mask, apart, gap.clamp_min_(tiny), value, order)
        ctx.plan, ctx.pixels = plan, len(flat)
        return smooth, contrast

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_smooth: Tensor, grad_contrast: Tensor) -> tuple[Tensor, None, None, None]:
        unit, pixel, mask, apart, gap, value, order = ctx.saved_tensors
        plan = ctx.plan
        # d value / d mean_first = -value^2 apart / gap, and 0 where the means coincide
        slope = torch.empty_like(value).scatter_(0, order, plan.weight)
        pull = apart * slope.mul_(value).mul_(value).div_(gap).mul_(grad_contrast)[:, None]
        scale = grad_smooth * plan.share
        through_mean = _segment_sum(unit, plan).mul_(-scale)
        through_mean.index_add_(0, plan.first, pull, alpha=-1).index_add_(0, plan.second, pull)
        grad = through_mean.mul_(plan.inverse_area).index_select(0, mask).addcmul_(unit, scale)
        return grad.new_zeros(ctx.pixels, grad.shape[1]).index_add_(0, pixel, grad), None, None, None


def _norm(x: Float[Tensor, "P F"]) -> Float[Tensor, " P"]:
    """Euclidean norm whose gradient at 0 is 0."""
    return torch.linalg.vector_norm(x, dim=-1)


def _segment_sum(value: Float[Tensor, "P F"], plan: _Plan) -> Float[Tensor, "M F"]:
    """Sum of the pairs of each mask; pairs are sorted by mask."""
    if plan.slot is not None:
        parts = value.new_zeros(len(plan.area) * SLOTS, value.shape[1]).index_add_(0, plan.slot, value)
        return parts.view(len(plan.area), SLOTS, -1).sum(1)
    # Double precision: a running float sum over a large mask drifts by more than the tolerance of the loss.
    return torch.segment_reduce(value.double(), "sum", lengths=plan.area, unsafe=True).to(value.dtype)


def _check(feature: Tensor, masks: MaskSet) -> None:
    if feature.ndim != 3 or feature.shape[:2] != (masks.height, masks.width):
        raise ValueError(f"features {tuple(feature.shape)} do not match masks of {masks.height} x {masks.width} pixels")
