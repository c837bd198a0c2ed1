"""Losses on the rendered picture and on the anchors' geometry (AG2aussian, ICCV 2025, section 3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pytorch_msssim import ssim
from torch import Tensor


def photometric_loss(
    prediction: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], ssim_weight: float = 0.2
) -> Tensor:
    """(1 - w) * L1 + w * (1 - SSIM), colours in [0, 1].

    Images smaller than SSIM's window of 11 pixels are compared by L1 alone.
    """
    l1 = (prediction - target).abs().mean()
    if min(prediction.shape[:2]) < 11:
        return l1
    similarity = ssim(prediction.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None], data_range=1.0)
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - similarity)


def near_anchor_loss(offset: Float[Tensor, "N 3"], scale: Float[Tensor, "N 3"], radius: Float[Tensor, "N 1"]) -> Tensor:
    """Keep children within reach of their anchor: mean(exp(relu(|offset| - 1)) - 1) + mean(relu(max scale - radius)).

    Args:
        offset: of the visible children, in radii.
        scale: their standard deviations, scene units.
        radius: their anchors' radii, scene units.
    """
    if offset.shape[0] == 0:
        return offset.sum()
    # A clamped square keeps the gradient of |offset| finite at 0, a clamped exponent keeps it finite far out.
    distance = offset.square().sum(-1).clamp(min=1e-12).sqrt()
    stray = torch.expm1((distance - 1).relu().clamp(max=10.0)).mean()
    oversize = (scale.amax(-1) - radius.squeeze(-1)).relu().mean()
    return stray + oversize


def opacity_cover_loss(alpha: Float[Tensor, "H W 1"]) -> Tensor:
    """Mean of 1 - alpha: every pixel of a photograph shows something."""
    return (1 - alpha).mean()
