"""Feature levels from one map of a plain vision transformer (Li et al. 2022, "ViTDet", section 3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of a map."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Normalise every pixel over its channels."""
        out = nn.functional.layer_norm(x.movedim(1, -1), x.shape[1:2], self.weight, self.bias, self.eps)
        return out.movedim(-1, 1)


class Neck(nn.Module):
    """Maps of 4, 2, 1 and 1/2 times the resolution of a map, each of `width` channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half, quarter = max(1, channels // 2), max(1, channels // 4)
        quadruple = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, 2),
            ChannelNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        )
        self.scales = nn.ModuleList(
            [quadruple, nn.ConvTranspose2d(channels, half, 2, 2), nn.Identity(), nn.MaxPool2d(2, ceil_mode=True)]
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, width, 1, bias=False),
                ChannelNorm(width),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                ChannelNorm(width),
            )
            for c in (quarter, half, channels, channels)
        )

    def forward(self, x: Float[Tensor, "B C h w"]) -> list[Float[Tensor, "B W ..."]]:
        """The four levels, finest first."""
        return [level(scale(x)) for scale, level in zip(self.scales, self.levels)]
