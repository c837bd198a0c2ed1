"""Losses on the rendered picture and on the anchors' geometry (AG2aussian, ICCV 2025, section 3)."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.rendering.render import over

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window, pixels; its standard deviation is 1.5."""

C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants for colours in [0, 1]."""


def ssim(a: Float[Tensor, "H W 3"], b: Float[Tensor, "H W 3"]) -> Tensor:
    """Mean structural similarity of two pictures in [0, 1] (Wang et al. 2004), without padding.

    Differentiable in `a` only, the prediction. In full precision always: in half of it dark places overflow.
    """
    with torch.autocast(a.device.type, enabled=False):
        kernels = a.is_cuda and a.dtype == b.dtype == torch.float32
        return (_SsimKernels if kernels else _Ssim).apply(a, b.detach())


class _Ssim(torch.autograd.Function):
    """SSIM with its gradient written out: recording some fifty small steps takes longer than doing them.

    With the local means mx and my and the second moments xx, yy and xy of two pictures, the similarity of a place is
    s = (p q) / (u v), where p = 2 mx my + c1, q = 2 (xy - mx my) + c2, u = mx^2 + my^2 + c1 and
    v = xx + yy - mx^2 - my^2 + c2; so
    ds/dmx = 2 my (q - p) / (u v) + 2 mx s (1/v - 1/u), ds/dxx = -s / v, ds/dxy = 2 p / (u v).
    """

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        x, y = a.permute(2, 0, 1), b.permute(2, 0, 1)
        # The five moments of all channels pass the separable window as one batch.
        mx, my, xx, yy, xy = window_means(torch.cat((x, y, x * x, y * y, x * y))).chunk(5)
        p = (mx * my).mul_(2)
        q = (2 * xy).sub_(p).add_(C2)
        p.add_(C1)
        u = (mx * mx).addcmul_(my, my)
        v = (xx + yy).sub_(u).add_(C2)
        u.add_(C1)
        share = (u * v).reciprocal_()
        similarity = (p * q).mul_(share)
        if ctx.needs_input_grad[0]:
            by_xx = (similarity / v).neg_()
            by_mx = (similarity / u).add_(by_xx).mul_(mx).neg_().addcmul_((q - p).mul_(share), my)
            ctx.save_for_backward(x, y, torch.cat((by_mx, by_xx, p * share)))
        return similarity.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        x, y, slopes = ctx.saved_tensors
        by_mx, by_xx, by_xy = _spread(slopes).chunk(3)
        total = by_mx.addcmul_(by_xx, x).addcmul_(by_xy, y)
        return total.mul_(grad * (6 / slopes.numel())).permute(1, 2, 0), None


class _SsimKernels(torch.autograd.Function):
    """The same in two kernels each way: matrix products with a band of eleven were a fifth of a step's kernel time."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        from ag2_ns.ops.ssim_triton import similarity

        a, b = a.contiguous(), b.contiguous()
        mean, slopes = similarity(a, b, _window(), C1, C2)
        ctx.save_for_backward(a, b, slopes)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        from ag2_ns.ops.ssim_triton import similarity_backward

        a, b, slopes = ctx.saved_tensors
        return similarity_backward(a, b, slopes, _window(), grad * (6 / slopes.numel())), None


@lru_cache
def _window() -> tuple[float, ...]:
    position = torch.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    return tuple(torch.softmax(-0.5 * (position / 1.5).double() ** 2, 0).tolist())


def window_means(x: Float[Tensor, "B H W"]) -> Float[Tensor, "B H-10 W-10"]:
    """SSIM's Gaussian window over every picture of a batch, as a banded matrix on either side.

    Libraries multiply matrices faster than they convolve many single-channel pictures and, above all, than they
    differentiate that: ten times on a CPU; on a GPU the convolutions were 40 % of a training step of 640 x 480.
    """
    rows, columns = (_band(size, x.dtype, x.device) for size in x.shape[-2:])
    return rows @ x @ columns.T


def _spread(x: Float[Tensor, "B H-10 W-10"]) -> Float[Tensor, "B H W"]:
    """The transpose of `window_means`: its gradient."""
    rows, columns = (_band(size + SSIM_WINDOW - 1, x.dtype, x.device) for size in x.shape[-2:])
    return rows.T @ x @ columns


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # else a picture scored first would leave a matrix that no training can use
def _band(size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "size-10 size"]:
    """The matrix whose rows are the window, each shifted by one."""
    window = torch.tensor(_window(), dtype=dtype)
    rows = torch.arange(size - SSIM_WINDOW + 1)[:, None]
    out = torch.zeros(len(rows), size, dtype=dtype)
    return out.scatter_(1, rows + torch.arange(SSIM_WINDOW), window.expand(len(rows), -1)).to(device)


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


def picture_losses(
    rgb: Float[Tensor, "H W 3"],
    alpha: Float[Tensor, "H W 1"],
    image: Float[Tensor, "H W C"] | UInt8[Tensor, "H W C"],
    background: Float[Tensor, " 3"],
    ssim_weight: float,
    cover_weight: float,
) -> Float[Tensor, " T"]:
    """`photometric_loss` of a rendered picture over its background, then, where it counts, `opacity_cover_loss`.

    Args:
        rgb: premultiplied colours.
        alpha: their opacity.
        image: the photograph, with or without an opacity of its own, in [0, 1] or [0, 255].
        background: behind both.
        ssim_weight: see `photometric_loss`.
        cover_weight: of the second; at 0 it is left out.
    """
    shown = over(rgb, alpha, background)
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    target = image[..., :3]
    if image.shape[-1] == 4:
        target = target * image[..., 3:] + (1 - image[..., 3:]) * background
    terms = [photometric_loss(shown, target, ssim_weight)]
    if cover_weight:
        terms.append(cover_weight * opacity_cover_loss(alpha))
    return torch.stack(terms)


def shrink_loss(
    opacities: Float[Tensor, " N"],
    scales: Float[Tensor, "N 3"],
    extent: float,
    opacity_weight: float,
    scale_weight: float,
) -> Tensor:
    """Mean opacity and mean scale, weighted: what is not needed fades and shrinks (3DGS-MCMC, Kheradmand et al. 2024).

    Args:
        opacities: of Gaussians.
        scales: their standard deviations, scene units.
        extent: of the scene.
        opacity_weight: of the mean opacity.
        scale_weight: of the mean scale as a share of the extent.
    """
    return opacity_weight * opacities.mean() + scale_weight / extent * scales.mean()


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
