"""COS3D's adaptive prompt refinement: regions of like instance features grow around the best answers.

A score says how well each unit (Gaussian or anchor) answers; regions, not units, are selected. Starting from the best
unit that is left, the region of units with a similar instance feature is made smaller and smaller until it answers well
enough as a whole; then it is taken, else given up (arXiv 2510.20238, algorithm of the published code).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class RefinementConfig:
    """Thresholds of the refinement; the defaults are the published ones."""

    seed_score: float = 0.5
    """A region starts from a unit with a score above this: on `stretched` scores, from the top quarter of the query's
    range."""
    seed_opacity: float = 0.1
    """... and an opacity above this."""
    margins: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    """A region holds the units with a cosine to its seed above 1 - margin * spread, these margins one after another."""
    accept: float = 0.5
    """A region is taken when its mean score, weighted by opacity, reaches this."""
    most: int = 2000
    """Regions tried at most; each costs a pass over all units."""


PUBLISHED = RefinementConfig()

BETWEEN = 16
"""Regions grown on a GPU before it is asked whether any seed is left: to wait costs more than some passes in vain."""


def stretched(relevancy: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Relevancy stretched over the query's range: 0 for its lower half, 1 for the best unit (published).

    Something always gets 1, also where nothing is relevant: ask `relevancy` itself whether there is an answer at all.
    Values that are not finite (of units without language) count as the least.
    """
    finite = torch.isfinite(relevancy)
    if not bool(finite.any()):
        return torch.zeros_like(relevancy)
    low, high = relevancy[finite].min(), relevancy[finite].max()
    value = torch.where(finite, relevancy, low)
    return (2 * (value - low) / (high - low + 1e-9) - 1).clamp(0, 1)


def refine_prompt(
    score: Float[Tensor, " N"],
    feature: Float[Tensor, "N F"],
    opacity: Float[Tensor, " N"],
    spread: float,
    config: RefinementConfig = PUBLISHED,
) -> Bool[Tensor, " N"]:
    """The units that answer, by regions of like features.

    Args:
        score: 0 to 1, as `stretched` makes it.
        feature: instance features of unit length.
        opacity: of each unit, as a weight; may exceed 1 where a unit holds several Gaussians.
        spread: how tight the features are, see `InstancePairs.spread`.
        config: thresholds.
    """
    like = {"dtype": score.dtype, "device": score.device}
    margins = torch.tensor([[1 - c * spread] for c in config.margins], **like)
    feature, opacity = feature.to(score.dtype), opacity.to(score.dtype)
    totals = torch.stack((opacity, opacity * score))
    answer = torch.zeros_like(score, dtype=torch.bool)
    may_seed = (score > config.seed_score) & (opacity > config.seed_opacity)
    left = torch.where(may_seed, score, -1.0)  # scores of the seeds that are left
    taken = torch.zeros_like(score)  # far from everything once it was in a region
    # The first margin whose region answers; without any, the last one, whose region is given up.
    first = torch.arange(len(margins), 0, -1, **like)
    none = 0.5 * (first == 1).to(score.dtype)
    every = BETWEEN if score.is_cuda else 1
    for step in range(config.most if len(score) else 0):
        best, seed = left.max(0, keepdim=True)
        if step % every == 0 and float(best) < 0:
            break
        similar = torch.addmv(taken, feature, feature.index_select(0, seed)[0]) > margins  # a row for each margin
        weight, answered = totals @ similar.to(score.dtype).T
        answers = answered >= config.accept * weight.clamp_min(1e-12)
        order, stop = torch.where(answers, first, none).max(0, keepdim=True)
        region = similar.index_select(0, stop)[0]
        answer |= region & (torch.minimum(order - 1, best) >= 0)
        taken.masked_fill_(region, -4.0)
        left.masked_fill_(region, -1.0).index_fill_(0, seed, -1.0)
    return answer
