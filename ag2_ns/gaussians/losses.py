"""Losses on the rendered picture and on the anchors' geometry (AG2aussian, ICCV 2025, section 3)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window, pixels; its standard deviation is 1.5."""


def ssim(a: Float[Tensor, "H W 3"], b: Float[Tensor, "H W 3"]) -> Tensor:
    """Mean structural similarity of two pictures in [0, 1] (Wang et al. 2004), without padding.

    The five moments of all channels pass the separable window as one batch: two convolutions instead of ten, which is
    what a training step of small pictures spends its time on.
    """
    x, y = a.permute(2, 0, 1), b.permute(2, 0, 1)
    moments = torch.cat((x, y, x * x, y * y, x * y))[:, None]
    mx, my, xx, yy, xy = _blurred(moments).squeeze(1).chunk(5)
    c1, c2 = 0.01**2, 0.03**2
    mxy, mx2, my2 = mx * my, mx * mx, my * my
    structure = (2 * (xy - mxy) + c2) / (xx - mx2 + yy - my2 + c2)
    return (structure * ((2 * mxy + c1) / (mx2 + my2 + c1))).mean()


def _blurred(x: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H-10 W-10"]:
    """SSIM's Gaussian window over every picture of a batch.

    On the CPU the window is a banded matrix on either side: libraries multiply matrices some ten times faster there
    than they convolve (and differentiate) many single-channel pictures.
    """
    position = torch.arange(SSIM_WINDOW, device=x.device, dtype=x.dtype) - SSIM_WINDOW // 2
    window = torch.softmax(-0.5 * (position / 1.5) ** 2, 0)
    if x.device.type == "cpu":
        return _band(window, x.shape[-2]) @ x @ _band(window, x.shape[-1]).T
    x = torch.nn.functional.conv2d(x, window[None, None, :, None])
    return torch.nn.functional.conv2d(x, window[None, None, None, :])


def _band(window: Float[Tensor, " K"], size: int) -> Float[Tensor, "size-K+1 size"]:
    """The matrix whose rows are `window`, each shifted by one."""
    rows = torch.arange(size - len(window) + 1)[:, None]
    out = window.new_zeros(len(rows), size)
    return out.scatter_(1, rows + torch.arange(len(window)), window.expand(len(rows), -1))


def photometric_loss(
    prediction: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], ssim_weight: float = 0.2
) -> Tensor:
    """(1 - w) * L1 + w * (1 - SSIM), colours in [0, 1].

    Images smaller than SSIM's window are compared by L1 alone.
    """
    l1 = (prediction - target).abs().mean()
    if min(prediction.shape[:2]) < SSIM_WINDOW:
        return l1
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim(prediction, target))


def near_anchor_loss(
    offset: Float[Tensor, "N 3"],
    scale: Float[Tensor, "N 3"],
    radius: Float[Tensor, "N 1"],
    visible: Bool[Tensor, " N"] | None = None,
) -> Tensor:
    """Keep children within reach of their anchor: mean(exp(relu(|offset| - 1)) - 1) + mean(relu(max scale - radius)).

    Args:
        offset: of the children, in radii.
        scale: their standard deviations, scene units.
        radius: their anchors' radii, scene units.
        visible: the children that count; all if None.
    """
    # A clamped square keeps the gradient of |offset| finite at 0, a clamped exponent keeps it finite far out.
    distance = offset.square().sum(-1).clamp(min=1e-12).sqrt()
    stray = torch.expm1((distance - 1).relu().clamp(max=10.0))
    loss = stray + (scale.amax(-1) - radius.squeeze(-1)).relu()
    weight = torch.ones_like(loss) if visible is None else visible.to(loss.dtype)
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def opacity_cover_loss(alpha: Float[Tensor, "H W 1"]) -> Tensor:
    """Mean of 1 - alpha: every pixel of a photograph shows something."""
    return (1 - alpha).mean()
