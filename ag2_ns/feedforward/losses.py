"""What predicted Gaussians are taught by: their own pictures of features and depth.

Values and their sources: GaussTR (CVPR 2025), section 3.3 and its code.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate

from ag2_ns.core.view import View
from ag2_ns.feedforward.config import FAR
from ag2_ns.feedforward.model import Batch, Predicted
from ag2_ns.rendering.base import Rasterizer

SKY_DEPTH = 0.001
"""Target of the accumulated depth where the depth is far: next to nothing is to be drawn there."""


def principal_axes(features: Float[Tensor, "M C"], channels: int, centred: bool = True) -> Float[Tensor, "C K"]:
    """The K <= C directions of largest variance; whole and exact, so that it is the same on every device."""
    rows = features.double()
    if centred:
        rows = rows - rows.mean(0)
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    return vectors.flip(-1)[:, :channels].to(features.dtype)


def step_axes(features: Float[Tensor, "M C"], channels: int) -> Float[Tensor, "C K"]:
    """The published basis: randomised, of this batch (4 iterations, double precision)."""
    count = min(channels, *features.shape)
    return torch.pca_lowrank(features.detach().double(), count, center=True, niter=4)[2].to(features.dtype)


def views_of(batch: Batch, index: int) -> list[View]:
    """The views of one frame of a batch."""
    height, width = batch.depth.shape[-2:]
    ego2cam = torch.linalg.inv(batch.cam2ego[index].double()).float()
    return [View(ego2cam[v], batch.K[index, v], width, height) for v in range(len(ego2cam))]


def render_views(
    predicted: Predicted, index: int, values: Float[Tensor, "N K"], views: list[View], rasterizer: Rasterizer
) -> tuple[Float[Tensor, "V H W K"], Float[Tensor, "V H W"]]:
    """Composited values and accumulated depth (sum of weight times depth, not divided by coverage) of every view."""
    g = predicted.gaussians(index)
    colours, depths = [], []
    for view in views:
        z = g.means @ view.viewmat[2, :3] + view.viewmat[2, 3]
        out = rasterizer.rasterize(
            g.means, g.quats, g.scales, g.opacities.clamp(1e-6, 1 - 1e-6), torch.cat((values, z[:, None]), 1), view
        ).values
        colours.append(out[..., :-1])
        depths.append(out[..., -1])
    return torch.stack(colours), torch.stack(depths)


def feature_loss(
    rendered: Float[Tensor, "V H W K"], target: Float[Tensor, "V K h w"], chunk: int = 64
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine, at full resolution: targets are resized bilinearly."""
    size = rendered.shape[1:3]
    dot, target_length = 0.0, 0.0
    for part, drawn in zip(target.split(chunk, 1), rendered.split(chunk, -1)):
        large = interpolate(part, size, mode="bilinear", align_corners=False).movedim(1, -1)
        dot = dot + (large * drawn).sum(-1)
        target_length = target_length + large.square().sum(-1)
    lengths = (target_length * rendered.square().sum(-1)).clamp_min(1e-12).sqrt()
    return 1 - (dot / lengths).mean()


def depth_loss(rendered: Float[Tensor, "V H W"], depth: Float[Tensor, "V H W"], l1: float) -> Float[Tensor, ""]:
    """SILog per view (Eigen et al. 2014, "Depth map prediction", section 3.2) + `l1` times the mean difference.

    Where depth is far, the target is next to nothing.
    """
    target = torch.where(depth >= FAR, torch.full_like(depth, SKY_DEPTH), depth).flatten(1)
    drawn = rendered.flatten(1)
    gap = torch.log(target + 1e-6) - torch.log(drawn.clamp_min(0) + 1e-6)
    silog = (gap.square().mean(1) - 0.5 * gap.mean(1).square()).clamp_min(1e-8).sqrt().mean()
    return silog + l1 * (drawn - target).abs().mean()


def segment_loss(scores: Float[Tensor, "V H W S"], labels: Int[Tensor, "V H W"]) -> Float[Tensor, ""]:
    """Cross entropy on masks; 0 is ignored."""
    return cross_entropy(scores.flatten(0, 2), labels.flatten().long(), ignore_index=0)


def occupancy_along_rays(
    density: Float[Tensor, "X Y Z"],
    seen: Int[Tensor, "X Y Z"],
    at_half: float,
    weight: Float[Tensor, "X Y Z"] | None = None,
) -> Float[Tensor, ""]:
    """How far voxels are from what rays say: 1 - soft IoU, plus cross entropy over the voxels seen.

    Args:
        density: of Gaussians.
        seen: 2 where rays end, 1 where they pass through, 0 where there were none.
        at_half: density that means full with probability 1/2: p = 1 - 2^(-density / at_half).
        weight: how much each full voxel counts in the cross entropy; all alike by default.
    """
    known = seen > 0
    full = (seen[known] == 2).float()
    rate = density[known] * (0.6931472 / at_half)
    p = 1 - torch.exp(-rate)
    overlap = (p * full).sum()
    iou = overlap / (p.sum() + full.sum() - overlap).clamp_min(1e-6)
    # Empty voxels are many times as many; the two kinds count alike.
    counted = full if weight is None else full * weight[known]
    missed = -(torch.log(p.clamp_min(1e-6)) * counted).sum() / counted.sum().clamp_min(1)
    filled = (rate.clamp_max(10.0) * (1 - full)).sum() / (1 - full).sum().clamp_min(1)
    return (1 - iou) + 0.1 * (missed + filled)


def rarity(
    features: Float[Tensor, "N C"], texts: Float[Tensor, "P C"], classes: Int[Tensor, " P"], power: float
) -> Float[Tensor, " P"]:
    """Weight of each prompt's class: its share of the features to the power of -`power`, 1 for the mean feature."""
    share = torch.bincount(classes[nearest(features, texts)], minlength=int(classes.max()) + 1) / len(features)
    weight = share.clamp_min(1 / len(features)) ** -power
    return (weight / (share * weight).sum())[classes].to(features)


def nearest(features: Float[Tensor, "N C"], texts: Float[Tensor, "P C"]) -> Int[Tensor, " N"]:
    """The text of the largest cosine."""
    return (features @ torch.nn.functional.normalize(texts, dim=1).T.to(features)).argmax(1)


def features_along_rays(
    values: Float[Tensor, "M C"], target: Float[Tensor, "M C"], weight: Float[Tensor, " M"]
) -> Float[Tensor, ""]:
    """Weighted mean of 1 - cosine between the features of full voxels and those that the rays carry there."""
    gap = 1 - cosine_similarity(values, target, dim=-1)
    return (gap * weight).sum() / weight.sum().clamp_min(1e-6)
