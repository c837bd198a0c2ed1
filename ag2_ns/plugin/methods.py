"""The methods that this package adds to nerfstudio. Imports stay light: every ns-* command loads this module."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.plugins.types import MethodSpecification

from ag2_ns.plugin.compat import look_no_sources_up
from ag2_ns.plugin.datamanager import AG2DataManagerConfig
from ag2_ns.plugin.dataparser import AG2DataParserConfig
from ag2_ns.plugin.model_config import AG2ModelConfig
from ag2_ns.plugin.pipeline import AG2PipelineConfig
from ag2_ns.plugin.trainer import AG2TrainerConfig, AG2ViewerConfig
from ag2_ns.query.config import QueryConfig
from ag2_ns.scene.build_field import LanguageFieldConfig
from ag2_ns.splat.growth import GrowthRule, PruneRule
from ag2_ns.splat.instance_field import InstanceFieldConfig
from ag2_ns.splat.optim import LeanAdam
from ag2_ns.splat.split import SplitRule

look_no_sources_up()

LEARNING_RATES = {
    "offset": 2e-2,  # the model sets this one at every step
    "sh_dc": 2.5e-3,
    "sh_rest": 1.25e-4,
    "log_scale": 5e-3,
    "quat": 1e-3,
    "opacity_logit": 0.05,
    "anchor_feature": 0.05,
}
"""Adam learning rates by parameter group (AG2aussian's published values, except for offsets)."""


FAST_RATES = {"sh_dc": 5e-3, "sh_rest": 2.5e-4, "log_scale": 1e-2, "quat": 2e-3}
"""Rates for runs of a thousand steps or so, which end before the others settle."""


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam whose step is one kernel per parameter group."""

    _target: type = LeanAdam
    fused: bool = True


def _optimizers(**overrides: float) -> dict:
    groups = {
        name: {"optimizer": FusedAdamConfig(lr=overrides.get(name, lr), eps=1e-15), "scheduler": None}
        for name, lr in LEARNING_RATES.items()
    }
    groups["camera_opt"] = {
        "optimizer": AdamOptimizerConfig(lr=1e-4, eps=1e-15),
        "scheduler": ExponentialDecaySchedulerConfig(
            lr_final=5e-7, max_steps=30000, warmup_steps=1000, lr_pre_warmup=0
        ),
    }
    return groups


def _trainer(method_name: str, steps: int, model: AG2ModelConfig, **overrides: float) -> AG2TrainerConfig:
    return AG2TrainerConfig(
        method_name=method_name,
        max_num_iterations=steps,
        steps_per_eval_image=500,
        steps_per_eval_batch=0,
        steps_per_eval_all_images=steps,
        steps_per_save=2000,
        mixed_precision=False,
        pipeline=AG2PipelineConfig(
            datamanager=AG2DataManagerConfig(dataparser=AG2DataParserConfig(), cache_images_type="uint8"),
            model=model,
        ),
        optimizers=_optimizers(**overrides),
        viewer=AG2ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    )


_model = AG2ModelConfig()

_small = replace(
    _model,
    schedule_steps=1500,
    num_downscales=1,
    max_initial_anchors=12_000,
    radius_cap=20.0,
    num_random=8000,
    max_gaussians=40_000,
    children_per_anchor=3,
    splits=SplitRule(few=0),
    sh_degree=1,
    grow_from=225,
    grow_until=900,
    grow_every=50,
    prune=PruneRule(max_scale=1.0),
    prune_random=PruneRule(max_scale=1.0),
    mask_loss_from=900,
    propagation_from=1350,
    resolution_schedule=225,
    sh_degree_interval=450,
    opacity_reset_every=10_000,
    remove_invisible_at=(930,),
    remove_hiding_at=(),
    invisible_below=1.0,
)

_published = replace(
    _model,
    schedule_steps=35000,
    grow_by="cells",
    children_per_anchor=5,
    initial_opacity=0.01,
    radius_cap=0.0,
    near_anchor_weight=0.5,
    opacity_cover_weight=0.1,
    random_opacity_weight=0.0,
    random_scale_weight=0.0,
    least_shown=0.0,
    offset_lr=5e-3,  # 1e-3 to 1e-4 times the extent, which is about 5 in captures that are not normalised
    offset_lr_final=5e-4,
    num_downscales=0,
    grow_until=20000,
    growth=GrowthRule(spread=3.0),
    prune=PruneRule(min_child_opacity=0.0, min_recovered_opacity=0.0),
    prune_random=PruneRule(min_child_opacity=0.0, min_recovered_opacity=0.0),
    pause_after_reset=0,
    opacity_cover_from=3000,
    distortion_weight=20.0,
    distortion_from=10000,
    mask_loss_from=5000,
    mask_loss_every=1,
    propagation_from=30000,
    remove_invisible_at=(14990, 30001),
    remove_hiding_at=(),
    instances="features",
    background_color="black",
)

ag2aussian = MethodSpecification(
    config=_trainer("ag2aussian", 10000, _model),
    description="AG2aussian: anchor-graph Gaussians with instances to click, name and edit.",
)

ag2aussian_small = MethodSpecification(
    config=replace(
        _trainer("ag2aussian-small", 1500, _small, **FAST_RATES),
        cpu_without_cuda=True,
    ),
    description="AG2aussian with budgets for a laptop CPU.",
)

ag2aussian_published = MethodSpecification(
    config=_trainer("ag2aussian-published", 35000, _published),
    description="AG2aussian with the published schedule and constants, for comparisons.",
)

_cos3d = replace(_model, mask_loss="none", propagation_weight=0.0)
"""The splat alone: the field is trained once it is frozen."""


def _cos3d_trainer() -> AG2TrainerConfig:
    config = _trainer("cos3d", 10000, _cos3d)
    config.pipeline.language, config.pipeline.query = "field", QueryConfig(strategy="collaborative")
    config.pipeline.language_field = LanguageFieldConfig(
        units="gaussian", instance=InstanceFieldConfig(steps=10_000), smoothing="nearest"
    )
    return config


cos3d = MethodSpecification(
    config=_cos3d_trainer(),
    description="COS3D: a language field regressed from an instance field, answers refined by prompts.",
)
