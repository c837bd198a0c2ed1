"""What a query says about its Gaussian, and where that lies in space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from ag2_ns.feedforward.config import FAR, NetworkConfig
from ag2_ns.feedforward.decoder import logit, mlp

PUBLISHED_WIDTH = 1600
"""Pixels across the pictures in which `min_pixels` is given."""


class Head(nn.Module):
    """Offset and depth factor, scale, opacity and feature of every query."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        widths = (config.width, config.head_width)
        self.regress, self.scale = mlp(*widths, 3), mlp(*widths, 3)
        self.opacity, self.feature = mlp(*widths, 1), mlp(*widths, channels)
        nn.init.zeros_(self.regress[-1].weight)
        nn.init.zeros_(self.regress[-1].bias)
        if config.carry:
            nn.init.zeros_(self.feature[-1].weight)
            nn.init.zeros_(self.feature[-1].bias)

    def refine(
        self, query: Float[Tensor, "R Q W"], reference: Float[Tensor, "R Q 2"]
    ) -> tuple[Float[Tensor, "R Q 2"], Float[Tensor, "R Q 1"]]:
        """Reference points moved by the query's offset, and its depth factor."""
        moved = self.regress(query).float()
        return torch.sigmoid(moved[..., :2] + logit(reference.float())), moved[..., 2:]


def depth_at(depth: Float[Tensor, "R H W"], points: Float[Tensor, "R Q 2"], border: str) -> Float[Tensor, "R Q"]:
    """Depth, cut at 51.2 m, sampled bilinearly at x, y in 0 .. 1."""
    near = depth.clamp_max(FAR)[:, None]
    return grid_sample(near, (2 * points - 1)[:, None], padding_mode=border, align_corners=False)[:, 0, 0]


def feature_at(features: Float[Tensor, "R C h w"], points: Float[Tensor, "R Q 2"]) -> Float[Tensor, "R Q C"]:
    """Patch features sampled bilinearly at x, y in 0 .. 1."""
    grid = (2 * points - 1)[:, None]
    return grid_sample(features, grid, padding_mode="border", align_corners=False)[:, :, 0].mT


def lift(
    points: Float[Tensor, "R Q 2"],
    z: Float[Tensor, "R Q"],
    K: Float[Tensor, "R 3 3"],
    cam2ego: Float[Tensor, "R 4 4"],
    width: int,
    height: int,
) -> Float[Tensor, "R Q 3"]:
    """Points of pictures (x, y in 0 .. 1) at depth z, in the ego frame."""
    x = (points[..., 0] * width - K[:, None, 0, 2]) / K[:, None, 0, 0]
    y = (points[..., 1] * height - K[:, None, 1, 2]) / K[:, None, 1, 1]
    camera = torch.stack((x * z, y * z, z), -1)
    return camera @ cam2ego[:, :3, :3].mT + cam2ego[:, None, :3, 3]


def sizes(
    raw: Float[Tensor, "R Q 3"], depth: Float[Tensor, "R Q"], focal: Float[Tensor, " R"], config: NetworkConfig
) -> Float[Tensor, "R Q 3"]:
    """Standard deviations, metres: 1 to `max_factor` times `min_pixels` at the depth.

    Args:
        raw: what the head says.
        depth: metres.
        focal: focal length of each view in pixels of a picture `PUBLISHED_WIDTH` wide.
        config: the limits.
    """
    factor = 1 + (config.max_factor - 1) * torch.sigmoid(raw.float())
    return factor * (config.min_pixels * depth.clamp_min(1e-2) / focal[:, None])[..., None]
