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

MaskLossKind = Literal["contrastive", "prototype"]
"""Published AG2aussian loss, or the prototype loss of COS3D."""

SMOOTH_WEIGHT = 3.0
CONTRAST_WEIGHT = 0.5
"""AG2aussian, section 2: weights for instances (2.5 and 0.5 for finer parts)."""

RANK_WEIGHTS = (0.1, 1.0)
"""Weight of the most different and of the most similar pair of masks."""

PROTOTYPE_SAMPLES = 4096
"""Pixel-mask pairs per view in the prototype loss."""

SLOTS = 64
"""Partial sums per mask on a GPU."""

TEMPERATURE_SCALE, TEMPERATURE_OFFSET, TEMPERATURE_MIN, TEMPERATURE_MAX = 10.0, 10.0, 0.5, 1.0
NORM_WEIGHT = 100.0
"""COS3D's constants: temperature of a prototype, weight of (|f| - 1)^2."""


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
    samples: int = PROTOTYPE_SAMPLES,
    generator: torch.Generator | None = None,
) -> MaskLoss:
    """The mask loss of the chosen kind; options of the other kind are ignored.

    Args:
        kind: "contrastive" or "prototype".
        feature: rendered instance features, any F >= 1, not normalised again.
        masks: the view's masks at the size of `feature`, on its device.
        smooth_weight: see `mask_contrastive_loss`.
        contrast_weight: see `mask_contrastive_loss`.
        samples: see `prototype_loss`.
        generator: see `prototype_loss`.

    Raises:
        ValueError: unknown kind, or features and masks of different sizes.
    """
    if kind == "contrastive":
        terms = mask_contrastive_terms(feature, masks)
        total = smooth_weight * terms.smooth + contrast_weight * terms.contrast
        return MaskLoss(total, {"smooth": terms.smooth.detach(), "contrast": terms.contrast.detach()})
    if kind == "prototype":
        protos = prototype_terms(feature, masks, samples, generator)
        total = protos.nce + NORM_WEIGHT * protos.norm
        return MaskLoss(total, {"nce": protos.nce.detach(), "norm": protos.norm.detach()})
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
    plan = masks.__dict__.get("_contrastive_plan")
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
        plan = masks.__dict__["_contrastive_plan"] = _Plan(area, inverse, share, first, second, weight, slot)
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


@dataclass(frozen=True)
class PrototypeTerms:
    """The two terms of the prototype loss, unweighted."""

    nce: Float[Tensor, ""]
    """Mean over sampled pairs of the negative log-probability of the right prototype."""
    norm: Float[Tensor, ""]
    """Mean over sampled pairs of (|f| - 1)^2."""


def prototype_loss(
    feature: Float[Tensor, "H W F"],
    masks: MaskSet,
    samples: int = PROTOTYPE_SAMPLES,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Contrast of sampled pixels against mask means, plus 100 (|f| - 1)^2 (COS3D, arXiv 2510.20238, instance field).

    Args:
        feature: rendered instance features.
        masks: masks at the size of `feature`, on its device; they may overlap.
        samples: (pixel, mask) pairs drawn with replacement; each once where there are fewer.
        generator: draws the pairs, on any device; the global one when missing.

    Raises:
        ValueError: features and masks of different sizes, or samples < 1.
    """
    terms = prototype_terms(feature, masks, samples, generator)
    return terms.nce + NORM_WEIGHT * terms.norm


def prototype_terms(
    feature: Float[Tensor, "H W F"], masks: MaskSet, samples: int, generator: torch.Generator | None = None
) -> PrototypeTerms:
    """Both terms of the prototype loss.

    Over the sampled pairs, the prototype u_k is the mean feature of mask k, with temperature
    phi_k = clip(10 sum |f - u_k| / (n_k log(n_k + 10)), 0.5, 1), which takes no gradient. A pair's loss is
    -log(exp(f.u_k / phi_k) / sum_l exp(f.u_l / phi_l)). Where masks overlap, the other masks that hold the pixel are
    left out of its sum: they are no negatives. Without mask pixels both terms are 0.
    """
    _check(feature, masks)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    flat = feature.reshape(-1, feature.shape[-1])
    pairs = len(masks.pixel)
    if pairs == 0:
        return PrototypeTerms(flat.sum() * 0, flat.sum() * 0)
    pixel, mask = masks.pixel, masks.mask
    if samples < pairs:
        device = pixel.device if generator is None else generator.device
        drawn = torch.randint(pairs, (samples,), generator=generator, device=device).to(pixel.device).sort().values
        pixel, mask = pixel[drawn], mask[drawn]
    present, own, count = torch.unique_consecutive(mask, return_inverse=True, return_counts=True)

    value = flat.index_select(0, pixel)
    prototype = value.new_zeros(len(present), value.shape[1]).index_add_(0, own, value) / count[:, None]
    with torch.no_grad():
        n = count.to(value.dtype)
        spread = value.new_zeros(len(present)).index_add_(0, own, _norm(value - prototype.index_select(0, own)))
        temperature = TEMPERATURE_SCALE * spread / (n * torch.log(n + TEMPERATURE_OFFSET))
        temperature = temperature.clamp(TEMPERATURE_MIN, TEMPERATURE_MAX)
    logit = value @ (prototype / temperature[:, None]).T
    also = _holds(masks, pixel, present)
    also[torch.arange(len(own), device=own.device), own] = False
    nce = torch.logsumexp(logit.masked_fill(also, float("-inf")), 1) - logit.gather(1, own[:, None]).squeeze(1)
    return PrototypeTerms(nce.mean(), ((_norm(value) - 1) ** 2).mean())


def _holds(masks: MaskSet, pixel: Int[Tensor, " S"], which: Int[Tensor, " K"]) -> Tensor:
    """S x K booleans: whether mask `which[k]` holds `pixel[s]`. The pairs are sorted, so each is one binary search."""
    size = masks.height * masks.width
    pairs = masks.mask * size + masks.pixel
    wanted = which * size + pixel[:, None]
    place = torch.searchsorted(pairs, wanted).clamp_(max=len(pairs) - 1)
    return pairs[place] == wanted


def _check(feature: Tensor, masks: MaskSet) -> None:
    if feature.ndim != 3 or feature.shape[:2] != (masks.height, masks.width):
        raise ValueError(f"features {tuple(feature.shape)} do not match masks of {masks.height} x {masks.width} pixels")
