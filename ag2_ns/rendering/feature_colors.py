"""Colours for instance features that stay the same from frame to frame."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def color_projection(features: Float[Tensor, "A F"]) -> tuple[Float[Tensor, " F"], Float[Tensor, "F 3"]]:
    """Mean and projection that map the features of a run onto three colour axes.

    The axes are the principal ones, scaled so that two standard deviations span the colour range; signs are fixed by
    the largest component, so the same features always give the same colours.
    """
    mean = features.mean(0)
    centred = (features - mean).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(features)))
    axes = vectors.flip(-1)[:, :3]
    strongest = axes.abs().argmax(0)
    axes = axes * axes[strongest, torch.arange(axes.shape[1], device=axes.device)].sign()
    if axes.shape[1] < 3:
        axes = torch.nn.functional.pad(axes, (0, 3 - axes.shape[1]))
    spread = (centred @ axes).std(0).nan_to_num(0.0).clamp(min=1e-3)
    return mean, (axes / (4 * spread)).to(features)


def feature_colors(
    feature: Float[Tensor, "H W F"], alpha: Float[Tensor, "H W 1"], anchors: Float[Tensor, "A F"]
) -> Float[Tensor, "H W 3"]:
    """Colour a rendered feature map; pixels that show nothing are black.

    Args:
        feature: composited, not divided by alpha.
        alpha: accumulated opacity.
        anchors: L2-normalised features of the whole run, which fix the colours.
    """
    mean, projection = color_projection(anchors)
    value = feature / alpha.clamp(min=1e-6)
    return ((value - mean) @ projection + 0.5).clamp(0, 1) * alpha
