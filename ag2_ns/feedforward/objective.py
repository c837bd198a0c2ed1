"""The whole training objective of one batch, over the heads of all layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.feedforward import losses
from ag2_ns.feedforward.config import LossConfig
from ag2_ns.feedforward.model import Batch, Predicted
from ag2_ns.feedforward.rays import RayTargets
from ag2_ns.ops.voxels import DENSITY_MIN, VoxelGrid, voxelise, weights_at
from ag2_ns.rendering.base import Rasterizer


def objective(
    layers: list[Predicted],
    batch: Batch,
    axes: Float[Tensor, "C K"],
    config: LossConfig,
    rasterizer: Rasterizer,
    rays: list[RayTargets] | None = None,
    grid: VoxelGrid | None = None,
    segments: Int[Tensor, "B V H W"] | None = None,
    segmenter: Callable[[Tensor], Tensor] | None = None,
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Losses by name, weighted, summed over layers, averaged over frames.

    Args:
        layers: what each layer predicts.
        batch: what it was predicted from: features and depth of all views are the targets.
        axes: principal axes in which features are rendered.
        config: weights.
        rasterizer: draws.
        rays: what rays say about each frame, where `config.rays` is not 0.
        grid: the voxels that `rays` speak of.
        segments: class of each pixel, 0 for unknown.
        segmenter: rendered features to scores of classes.
        weigh: how much voxels count, from their features; all alike by default.
    """
    with torch.autocast(batch.features.device.type, enabled=False):
        out: dict[str, Tensor] = {}

        def add(name: str, value: Tensor) -> None:
            out[name] = out.get(name, 0.0) + value / batch.features.shape[0]

        for b in range(batch.features.shape[0]):
            views = losses.views_of(batch, b)
            target = torch.einsum("vchw,ck->vkhw", batch.features[b].float(), axes)
            weight = None if weigh is None or rays is None else weigh(rays[b].features)
            for predicted in layers:
                values = predicted.features[b] @ axes
                if config.feature or config.depth or config.segment:
                    drawn, depth = losses.render_views(predicted, b, values, views, rasterizer)
                    add("feature", config.feature * losses.feature_loss(drawn, target))
                    add("depth", config.depth * losses.depth_loss(depth, batch.depth[b], config.depth_l1))
                    if config.segment and segments is not None and segmenter is not None:
                        add("segment", config.segment * losses.segment_loss(segmenter(drawn), segments[b]))
                if config.rays and rays is not None and grid is not None:
                    for name, value in _along_rays(predicted, b, values, axes, rays[b], grid, config, weight).items():
                        add(name, config.rays * value)
    return out


def _along_rays(
    predicted: Predicted,
    index: int,
    values: Float[Tensor, "N K"],
    axes: Float[Tensor, "C K"],
    rays: RayTargets,
    grid: VoxelGrid,
    config: LossConfig,
    weight: Float[Tensor, " M"] | None,
) -> dict[str, Tensor]:
    """Losses on voxels: density of all, features of some of those in which rays end."""
    gaussians = predicted.gaussians(index)
    density = voxelise(gaussians, values.new_ones(len(values), 1), grid).density
    some = torch.randperm(len(rays.index), device=rays.index.device)[: config.max_feature_voxels]
    weights = weights_at(gaussians, grid.centres(rays.index[some]))
    total = weights.sum(1)
    found = weights @ values / total.clamp_min(DENSITY_MIN)[:, None]
    sure, everywhere = (total.detach() / config.ray_density).clamp_max(1), None
    if weight is not None:
        everywhere = torch.ones_like(density).index_put(tuple(rays.index.T), weight)
        sure = sure * weight[some]
    gap = losses.features_along_rays(found, rays.features[some] @ axes, sure)
    return {
        "rays": losses.occupancy_along_rays(density, rays.seen, config.ray_density, everywhere),
        "rays_feature": config.rays_feature * gap,
    }
