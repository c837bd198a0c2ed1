"""Ranges of different length, spread out: one row per number in them."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def spread(length: Int[Tensor, " K"], start: Int[Tensor, " K"] | None = None) -> tuple[Tensor, Tensor]:
    """Every (k, number) with start[k] <= number < start[k] + length[k], range after range.

    Args:
        length: of the ranges; not negative.
        start: where they begin; by default at 0.
    """
    which = torch.repeat_interleave(torch.arange(len(length), device=length.device), length)
    before = torch.cumsum(length, 0) - length
    first = -before if start is None else start - before
    return which, torch.arange(len(which), device=length.device) + first[which]
