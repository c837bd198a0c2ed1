"""Every setting of the model. `config.yml` names this class by its path: it must stay where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nerfstudio.models.splatfacto import SplatfactoModelConfig

from ag2_ns.splat.growth import GrowthRule, PruneRule
from ag2_ns.splat.split import SplitRule


def _model_class() -> type:
    from ag2_ns.plugin.model import AG2Model

    return AG2Model


@dataclass
class AG2ModelConfig(SplatfactoModelConfig):
    """AG2aussian: anchors, children and an instance feature per anchor.

    Steps are those of a run of `schedule_steps` iterations; a run of another length stretches them in proportion.
    """

    _target: type = field(default_factory=_model_class)
    rasterizer: Literal["auto", "gsplat", "cpu"] = "auto"
    """Rasteriser backend; auto takes gsplat on CUDA and the CPU backend elsewhere."""
    record: bool = True
    """Record what a training step draws as CUDA graphs, where gsplat draws: fewer launches, more memory."""
    schedule_steps: int = 10000
    """Length of the run that the steps below are meant for."""
    feature_width: int = 3
    """Width of the instance feature of an anchor."""
    children_per_anchor: int = 1
    """Gaussians that an anchor starts with."""
    initial_opacity: float = 0.1
    """Opacity of the first Gaussians of a point cloud (0.01 published)."""
    random_opacity: float = 0.01
    """Opacity of the first Gaussians of random points, most of which show nothing."""
    max_initial_anchors: int = 200_000
    """Larger point clouds are thinned to this many anchors."""
    radius_cap: float = 1.0
    """Initial radii reach up to 16 voxels or this many median distances between neighbouring points."""
    num_random: int = 50_000
    """Points to start from when the scene has no point cloud."""
    max_gaussians: int = 3_000_000
    """Growth stops here."""
    offset_lr: float = 2e-2
    """Initial learning rate of offsets, in radii."""
    offset_lr_final: float = 2e-4
    """Final learning rate of offsets; log-linear in between."""
    num_downscales: int = 2
    """Training starts at 1 / 2^n of the resolution."""
    resolution_schedule: int = 2000
    """Steps per doubling of the resolution."""
    sh_degree_interval: int = 1000
    """Steps per spherical harmonic band."""
    grow_from: int = 500
    """First step of growth and pruning."""
    grow_until: int = 6000
    """Last step of growth; pruning ends here too."""
    grow_every: int = 100
    """Steps (not stretched) between growth steps."""
    grow_by: Literal["splits", "cells"] = "splits"
    """Children double and split where pictures ask for more, and anchors are made of them when growth ends; or
    children propose new anchors in the cells of three grids (published)."""
    splits: SplitRule = field(default_factory=SplitRule)
    """Constants of growth by splits."""
    anchor_voxel: float = 0.015
    """Edge of the voxels that make anchors when growth by splits ends, as a share of the extent."""
    growth: GrowthRule = field(default_factory=GrowthRule)
    """Constants of growth by cells."""
    prune: PruneRule = field(default_factory=lambda: PruneRule(max_scale=0.5, max_radius=float("inf")))
    """Constants of pruning."""
    prune_random: PruneRule = field(default_factory=PruneRule)
    """The same in scenes that begin with random points, where what is large floats before cameras."""
    opacity_reset_every: int = 3000
    """Steps (not stretched) between opacity resets while growth lasts."""
    pause_after_reset: int = 300
    """Steps (not stretched) without growth and pruning after a reset, for opacities to recover."""
    opacity_reset_to: float = 0.01
    """Upper bound of opacity after a reset."""
    near_anchor_weight: float = 0.0
    """Weight of the loss that keeps children near their anchor (0.5 published)."""
    opacity_cover_weight: float = 0.0
    """Weight of the loss that covers every pixel (0.1 published)."""
    opacity_cover_from: int = 1500
    """First step of that loss."""
    random_opacity_weight: float = 0.01
    """In scenes that begin with random points: weight of the mean opacity (0 published)."""
    random_scale_weight: float = 0.01
    """The same: weight of the mean scale, as a share of the extent (0 published)."""
    distortion_weight: float = 0.0
    """Weight of depth distortion (20 published)."""
    distortion_from: int = 5000
    """First step of depth distortion."""
    mask_loss: Literal["contrastive", "prototype", "none"] = "contrastive"
    """Loss that trains instance features on the masks of the view; prototype (COS3D) wants a feature_width of 16."""
    mask_loss_weight: float = 0.1
    """Its weight."""
    mask_loss_from: int = 6000
    """First step of that loss."""
    mask_loss_every: int = 2
    """Features are rendered and trained at one step in so many (1 published)."""
    smooth_weight: float = 3.0
    """Within-mask share of the contrastive loss."""
    contrast_weight: float = 0.5
    """Between-mask share of the contrastive loss."""
    propagation_weight: float = 0.01
    """Weight of feature smoothness along the anchor graph."""
    propagation_from: int = 9000
    """First step of that loss."""
    propagation_tau: float = 0.1
    """Bandwidth of the graph's weights: 0.1 for instances, 0.05 for finer parts."""
    instances: Literal["lifting", "features", "both", "none"] = "lifting"
    """What the instance tree that the end of training builds is made from: lifted masks, the trained features alone
    (super-anchors, as published), or lifted masks with the features as a further vote."""
    remove_invisible_at: tuple[int, ...] = (3000, 4500, 6000)
    """Steps after which Gaussians that no training view shows are dropped."""
    invisible_below: float = 1.0
    """A Gaussian is invisible when its rendering weight over all training views is below this many pixels."""
    least_shown: float = 0.01
    """At these steps the least shown Gaussians go, too, which make up this share of all rendering weight."""
    remove_hiding_at: tuple[int, ...] = (3000, 4500, 6000, 8000)
    """Steps after which Gaussians are dropped that would hide what is behind them from new views: they would show more
    to a camera beside those of training than to all of these together, before something else."""
    hiding_views: float = 4.0
    """Gaussians that at least so many training views show stay."""
