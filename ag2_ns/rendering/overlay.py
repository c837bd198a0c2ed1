"""What a selection looks like from a view: its share of every pixel, occlusion included, and an overlay."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.base import Rasterizer

SELECTED = 0.5
"""A pixel shows the selection when its Gaussians hold more than this share of it (AG2aussian, evaluation)."""


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


def outline(mask: Bool[np.ndarray, "H W"], width: int = 2) -> Bool[np.ndarray, "H W"]:
    """The pixels within `width` of a mask's border, inside it."""
    return mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)


def overlay(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    color: tuple[int, int, int] = (255, 64, 64),
    dim: float = 0.45,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, darker outside the mask, tinted inside and outlined."""
    out = picture.astype(np.float32)
    out[~mask] *= dim
    tint = np.asarray(color, np.float32)
    out[mask] = 0.7 * out[mask] + 0.3 * tint
    out[outline(mask)] = tint
    return out.round().astype(np.uint8)
