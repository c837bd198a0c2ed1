"""What a selection looks like from a view: its share of every pixel, occlusion included, and an overlay."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.base import Rasterizer

SELECTED = 0.5
"""A pixel shows the selection when its Gaussians hold more than this share of it (AG2aussian, evaluation)."""

DIM = 0.4
"""Brightness that is left outside of a selection."""

TINT = 0.35
"""Share of the selection's colour inside of it."""

HIGHLIGHT = (1.0, 0.5, 0.05)
"""Colour of a single selection."""


@torch.no_grad()
def selection_share(
    gaussians: Gaussians, chosen: Bool[Tensor, "N S"], view: View, rasterizer: Rasterizer
) -> Float[Tensor, "H W S"]:
    """Share of each pixel that S sets of Gaussians hold among all that is drawn in front of and behind them.

    Args:
        gaussians: the whole scene.
        chosen: S sets.
        view: the camera, on the same device.
        rasterizer: a backend for that device.
    """
    raster = rasterizer.rasterize(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, chosen.float(), view
    )
    return raster.values


def outline(mask: Bool[Tensor, "H W"], width: int) -> Bool[Tensor, "H W"]:
    """The pixels of a mask within `width` of its border; the picture's frame is no border."""
    kernel = 2 * width + 1
    outside = torch.nn.functional.max_pool2d((~mask).float()[None, None], kernel, 1, width)[0, 0] > 0
    return mask & outside


def overlay(
    rgb: Float[Tensor, "H W 3"], shares: Float[Tensor, "H W S"], colors: Float[Tensor, "S 3"]
) -> Float[Tensor, "H W 3"]:
    """The picture with S selections: tinted and outlined each in its colour, what is outside of all darkened.

    Args:
        rgb: the picture, 0 to 1.
        shares: each selection's share of each pixel, 0 to 1. All zero in all pixels darkens the whole picture; pass
            S = 0 for no selection.
        colors: their colours, 0 to 1.
    """
    if shares.shape[-1] == 0:
        return rgb
    width = max(1, round(min(rgb.shape[:2]) / 240))
    inside = shares.amax(-1, keepdim=True).clamp(0, 1)
    out = rgb * (DIM + (1 - DIM) * inside)
    for k in range(shares.shape[-1]):
        share, color = shares[..., k : k + 1].clamp(0, 1), colors[k]
        out = out + TINT * share * (color - out)
        edge = outline(share[..., 0] > SELECTED, width)
        out = torch.where(edge[..., None], color, out)
    return out.clamp(0, 1)


def to_uint8(image: Float[Tensor, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A colour picture in [0, 1] as bytes."""
    return (image.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


def marked(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    color: tuple[float, float, float] = HIGHLIGHT,
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of bytes with one mask marked; see `overlay`."""
    rgb, shares = torch.from_numpy(picture).float() / 255, torch.from_numpy(mask)[..., None].float()
    return to_uint8(overlay(rgb, shares, torch.tensor([color])))
