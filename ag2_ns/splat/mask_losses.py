"""Losses that make rendered instance features agree inside 2D masks and differ between them.

Masks stay (pixel, mask) pairs throughout: time and memory grow with the pixels that masks cover, never with
masks x height x width, and masks may overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.core.masks import MaskSet

SMOOTH_WEIGHT = 3.0
CONTRAST_WEIGHT = 0.5
"""AG2aussian, section 2: weights for instances (2.5 and 0.5 for finer parts)."""

RANK_WEIGHTS = (0.1, 1.0)
"""Weight of the most different and of the most similar pair of masks."""

SLOTS = 64
"""Partial sums per mask on a GPU."""


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
    check_sizes(feature, masks)
    plan = plan_of(masks, feature.dtype).tensors
    return contrastive_loss(feature, *plan, smooth_weight=smooth_weight, contrast_weight=contrast_weight)[0]


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
    check_sizes(feature, masks)
    return ContrastiveTerms(*_terms(feature, *plan_of(masks, feature.dtype).tensors))


def contrastive_loss(
    feature: Float[Tensor, "H W F"], *plan: Tensor, smooth_weight: float, contrast_weight: float
) -> Float[Tensor, " 1"]:
    """`mask_contrastive_loss` with the tensors of `plan_of`, of few different sizes on a GPU: made to be recorded."""
    smooth, contrast = _terms(feature, *plan)
    return (smooth_weight * smooth + contrast_weight * contrast)[None]


@dataclass(frozen=True)
class ContrastivePlan:
    """What the loss needs to know of a view's masks.

    On a GPU pairs, masks and pairs of masks are filled up to sizes that many views share, with ones that count for
    nothing: the last mask has no pixel of its own.
    """

    pixel: Int[Tensor, " P"]
    mask: Int[Tensor, " P"]
    inverse_area: Float[Tensor, "M 1"]
    """1 for masks without pixels, 0 for those that fill up."""
    share: Float[Tensor, ""]
    """One pixel's share of the smooth term: 1 / (filled masks x height x width)."""
    first: Int[Tensor, " Q"]
    second: Int[Tensor, " Q"]
    """Pairs of filled masks."""
    weight: Float[Tensor, " Q"]
    """Weight over number of pairs, by rising value of the pair."""
    area: Int[Tensor, " M"] | None = None
    """On a CPU."""
    slot: Int[Tensor, " P"] | None = None
    """On a GPU: where each pair is added up, `SLOTS` places per mask. Consecutive pairs go to different ones: no queue
    at one address, and short sums that stay exact enough."""
    own: Float[Tensor, "P 1"] | None = None
    """On a GPU: 0 for pairs that fill up, else 1."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those that there are, in this order."""
        return tuple(t for t in vars(self).values() if t is not None)

    def filled_up(self) -> ContrastivePlan:
        """The plan for a GPU."""
        pairs, masks = len(self.pixel), len(self.inverse_area)
        most, room = _power_above(masks), _room(pairs)
        couples = most * (most - 1) // 2

        def fill(values: Tensor, size: int, value: float) -> Tensor:
            rest = values.new_full((size - len(values), *values.shape[1:]), value)
            return torch.cat((values, rest)).to(values.dtype if values.is_floating_point() else torch.int32)

        mask = fill(self.mask, room, most - 1)
        return ContrastivePlan(
            pixel=fill(self.pixel, room, 0),
            mask=mask,
            inverse_area=fill(self.inverse_area, most, 0),
            share=self.share,
            first=fill(self.first, couples, most - 1),
            second=fill(self.second, couples, most - 1),
            weight=fill(self.weight, couples, 0),
            slot=torch.arange(room, device=mask.device).remainder_(SLOTS).add_(mask, alpha=SLOTS).int(),
            own=fill(self.inverse_area.new_ones(pairs, 1), room, 0),
        )


def _power_above(count: int) -> int:
    """The next power of two that is larger, at least 16."""
    return max(16, 1 << count.bit_length())


def _room(count: int) -> int:
    """The next power of two, or three quarters of it, that is not smaller, at least 1024."""
    whole = 1 << max(count - 1, 1023).bit_length()
    return whole * 3 // 4 if 1024 < count <= whole * 3 // 4 else whole


def plan_of(masks: MaskSet, dtype: torch.dtype) -> ContrastivePlan:
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
        share = torch.tensor(1 / (max(len(filled), 1) * masks.height * masks.width), dtype=dtype, device=area.device)
        plan = ContrastivePlan(masks.pixel, masks.mask, inverse, share, first, second, weight, area)
        plan = masks.derived["contrastive"] = plan.filled_up() if area.is_cuda else plan
    return plan


def _terms(feature: Tensor, *plan: Tensor) -> tuple[Tensor, Tensor]:
    flat = feature.reshape(-1, feature.shape[-1])
    if len(plan[0]) == 0:
        return flat.sum() * 0, flat.sum() * 0
    return _Contrastive.apply(flat, *plan)


class _Contrastive(torch.autograd.Function):
    """Both terms, with the gradient by hand.

    One gather and one scatter over the pairs then serve both terms, and half as many kernels are launched as autograd
    would: the sizes are small, so launching is what costs time on a GPU.
    """

    @staticmethod
    def forward(ctx, flat, pixel, mask, inverse_area, share, first, second, weight, *sums):
        unit = flat.index_select(0, pixel)
        if len(sums) == 2:
            unit *= sums[1]
        mean = _segment_sum(unit, sums, len(inverse_area)).mul_(inverse_area)
        unit -= mean.index_select(0, mask)
        distance = _norm(unit)
        smooth = distance.sum() * share
        tiny = torch.finfo(unit.dtype).tiny
        unit /= distance.clamp_min_(tiny)[:, None]  # unit vectors, or exactly 0

        apart = mean.index_select(0, first) - mean.index_select(0, second)
        gap = _norm(apart)
        value = (gap + 1).reciprocal_()
        rising, order = value.sort(stable=True)  # pairs that fill up have the value 1 and come last
        contrast = (rising * weight).sum()  # not `torch.dot`: see `Graphed`

        ctx.save_for_backward(unit, apart, gap.clamp_min_(tiny), value, order)
        ctx.plan, ctx.pixels = (pixel, mask, inverse_area, share, first, second, weight, sums), len(flat)
        return smooth, contrast

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_smooth: Tensor, grad_contrast: Tensor) -> tuple[Tensor | None, ...]:
        unit, apart, gap, value, order = ctx.saved_tensors
        pixel, mask, inverse_area, share, first, second, weight, sums = ctx.plan
        # d value / d mean_first = -value^2 apart / gap, and 0 where the means coincide
        slope = torch.empty_like(value).scatter_(0, order, weight)
        pull = apart * slope.mul_(value).mul_(value).div_(gap).mul_(grad_contrast)[:, None]
        scale = grad_smooth * share
        through_mean = _segment_sum(unit, sums, len(inverse_area)).mul_(-scale)
        through_mean.index_add_(0, first, pull, alpha=-1).index_add_(0, second, pull)
        grad = through_mean.mul_(inverse_area).index_select(0, mask).addcmul_(unit, scale)
        return grad.new_zeros(ctx.pixels, grad.shape[1]).index_add_(0, pixel, grad), *(None,) * (7 + len(sums))


def _norm(x: Float[Tensor, "P F"]) -> Float[Tensor, " P"]:
    """Euclidean norm whose gradient at 0 is 0."""
    return torch.linalg.vector_norm(x, dim=-1)


def _segment_sum(value: Float[Tensor, "P F"], sums: tuple[Tensor, ...], masks: int) -> Float[Tensor, "M F"]:
    """Sum of the pairs of each mask, which are sorted by mask; `sums` ends a plan."""
    if len(sums) == 2:
        parts = value.new_zeros(masks * SLOTS, value.shape[1]).index_add_(0, sums[0], value)
        return parts.view(masks, SLOTS, -1).sum(1)
    # Double precision: a running float sum over a large mask drifts by more than the tolerance of the loss.
    return torch.segment_reduce(value.double(), "sum", lengths=sums[0], unsafe=True).to(value.dtype)


def check_sizes(feature: Tensor, masks: MaskSet) -> None:
    """Raises `ValueError` for features and masks of different sizes."""
    if feature.ndim != 3 or feature.shape[:2] != (masks.height, masks.width):
        raise ValueError(f"features {tuple(feature.shape)} do not match masks of {masks.height} x {masks.width} pixels")
