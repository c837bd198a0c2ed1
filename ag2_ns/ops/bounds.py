"""Bounds of weighted points that a few floaters do not move."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TAIL = 0.02
"""Share of the opacity at either end of an axis that may be floaters."""


SLACK = 0.15
"""What lies beyond the rest by more than this share of its extent is left out."""


def inliers(
    points: Float[Tensor, "N 3"], weights: Float[Tensor, " N"], tail: float = TAIL, slack: float = SLACK
) -> Bool[Tensor, " N"]:
    """Which points are no floaters: along every axis, at most `slack` beyond the bulk that holds all but the `tail`s.

    Args:
        points: centres.
        weights: how much each counts: opacities.
        tail: share of the weight cut off at each end to find the bulk.
        slack: how far beyond it a point may lie, in extents of the bulk.
    """
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.bool, device=points.device)
    low, high = (weighted_quantile(points, weights, q) for q in (tail, 1 - tail))
    room = slack * (high - low)
    return ((points >= low - room) & (points <= high + room)).all(1)


def weighted_quantile(points: Float[Tensor, "N C"], weights: Float[Tensor, " N"], q: float) -> Float[Tensor, " C"]:
    """Quantile of each column, where values count by weight; the smallest value with at least `q` of the weight."""
    value, order = points.detach().sort(0)
    share = torch.cumsum(weights.detach().double().clamp_min(1e-12)[order], 0)
    share = share / share[-1:]
    at = torch.searchsorted(share.T.contiguous(), share.new_full((points.shape[1], 1), q)).clamp_max(len(points) - 1)
    return value.gather(0, at.T)[0]


def robust_bounds(
    points: Float[Tensor, "N 3"], weights: Float[Tensor, " N"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Lower and upper corner of the points without floaters.

    Raises:
        ValueError: no points.
    """
    kept = points.detach()[inliers(points, weights)]
    if len(kept) == 0:
        if len(points) == 0:
            raise ValueError("bounds of no points")
        kept = points.detach()
    return kept.amin(0), kept.amax(0)
