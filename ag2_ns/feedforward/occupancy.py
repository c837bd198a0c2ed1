"""From Gaussians with image-text features to classes of voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.feedforward.config import OccupancyConfig
from ag2_ns.io.occ3d import FREE
from ag2_ns.io.text_table import SKY
from ag2_ns.ops.rotations import rotation_matrices
from ag2_ns.ops.voxels import DENSITY_MIN, VoxelGrid, voxelise

DENOISE_SHARPNESS, DENOISE_LEAST = 100.0, 0.1
"""Of prompt denoising (Zhou et al. 2023, "ZegCLIP"'s use in GaussTR's code)."""


@dataclass(frozen=True)
class OccupancyPrediction:
    """What is predicted for every voxel."""

    semantics: UInt8[Tensor, "X Y Z"]
    """Class, 17 for free."""
    density: Float[Tensor, "X Y Z"]
    probabilities: Float[Tensor, "X Y Z K"]
    """Of each class in `classes`."""
    classes: Int[Tensor, " K"]


def prompt_probabilities(
    features: Float[Tensor, "N C"], texts: Float[Tensor, "P C"], config: OccupancyConfig
) -> Float[Tensor, "N P"]:
    """Softmax over prompts."""
    if config.normalise:
        features = torch.nn.functional.normalize(features, dim=-1)
        texts = torch.nn.functional.normalize(texts, dim=-1)
    return (features @ texts.T.to(features) / config.temperature).softmax(-1)


def kept(gaussians: Gaussians, grid: VoxelGrid, config: OccupancyConfig) -> Tensor:
    """Which Gaussians count."""
    keep = gaussians.opacities > config.min_opacity
    if config.min_extent > 0:
        low, high = gaussians.means.new_tensor(grid.low), gaussians.means.new_tensor(grid.high)
        inside = ((gaussians.means >= low) & (gaussians.means <= high)).all(-1)
        axes = rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :]
        keep = keep & inside & (6 * axes.square().sum(-1).amin(-1) > config.min_extent)
    return keep


@torch.no_grad()
def occupancy(
    gaussians: Gaussians,
    features: Float[Tensor, "N C"],
    texts: Float[Tensor, "P C"],
    prompt_class: Int[Tensor, " P"],
    grid: VoxelGrid,
    config: OccupancyConfig,
) -> OccupancyPrediction:
    """Classify voxels; zero Gaussians in range leave all of it free.

    Args:
        gaussians: in the grid's frame.
        features: their image-text features.
        texts: features of the prompts.
        prompt_class: what each prompt means; prompts of one class are synonyms, those of class 17 the sky.
        grid: where.
        config: the rules.
    """
    keep = kept(gaussians, grid, config)
    probabilities = prompt_probabilities(features, texts, config)
    voxels = voxelise(gaussians[keep], probabilities[keep], grid)
    share = voxels.values
    if config.denoise:
        best = (DENOISE_SHARPNESS * share).softmax(-1).flatten(0, 2).amax(0)
        share = torch.where(best >= DENOISE_LEAST, share, torch.zeros_like(share))
    if config.softmax_again:
        share = share.softmax(-1)
    classes = torch.unique(prompt_class).to(share.device)
    joined = torch.stack([share[..., prompt_class.to(share.device) == c].amax(-1) for c in classes], -1)
    ranked = joined if config.sky else torch.where(classes == SKY, torch.full_like(joined, -1), joined)
    semantics = classes[ranked.argmax(-1)].to(torch.uint8)
    free = (voxels.density <= max(config.density, DENSITY_MIN)) | (semantics == SKY)
    semantics = torch.where(free, torch.full_like(semantics, FREE), semantics)
    return OccupancyPrediction(semantics, voxels.density, joined, classes)
