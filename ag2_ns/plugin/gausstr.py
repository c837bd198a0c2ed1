"""The feed-forward methods: `ns-train gausstr --data DRIVES` and its presets. Imports stay light."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from nerfstudio.configs.base_config import MachineConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ag2_ns.core.errors import UserError
from ag2_ns.feedforward.config import GaussTRConfig, published, small
from ag2_ns.plugin import compat
from ag2_ns.plugin.surround_datamanager import SurroundDataManagerConfig
from ag2_ns.plugin.surround_model import GaussTRModelConfig, GaussTRPipelineConfig
from ag2_ns.splat.checkpoint import refuse_broken_resume


@dataclass
class AdamWConfig(AdamOptimizerConfig):
    """Adam with decoupled weight decay."""

    _target: type = torch.optim.AdamW
    weight_decay: float = 5e-3


@dataclass
class WarmStepConfig(SchedulerConfig):
    """A linear warm-up, then one step down."""

    _target: type = field(default_factory=lambda: WarmStep)
    warmup: int = 200
    """Steps of the warm-up, from a thousandth of the rate."""
    drop_at: int = 20_000
    """Step from which the rate is a tenth."""


class WarmStep(Scheduler):
    """See `WarmStepConfig`."""

    config: WarmStepConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LRScheduler:
        """Factors of the rate as plain floats: checkpoints that hold numpy's cannot be loaded."""
        warmup, drop = self.config.warmup, self.config.drop_at

        def factor(step: int) -> float:
            rise = min(1.0, 1e-3 + (1 - 1e-3) * step / warmup) if warmup else 1.0
            return rise * (0.1 if step >= drop else 1.0)

        return LambdaLR(optimizer, factor)


@dataclass
class GaussTRTrainerConfig(TrainerConfig):
    """A run that looks at what it is given before it writes anything."""

    def get_base_dir(self) -> Path:
        """The folder of the run: where it was found (`found_in`), or else where it was trained."""
        found = getattr(self, "found_in", None)
        return super().get_base_dir() if found is None else found

    def get_checkpoint_dir(self) -> Path:
        """The folder of the checkpoints; nerfstudio asks for it before it loads one."""
        compat.apply()
        return super().get_checkpoint_dir()

    def check(self) -> None:
        """Refuse what training would fail on.

        Raises:
            UserError: no CUDA where it is asked for, no checkpoint to resume from, or no drives.
        """
        from ag2_ns.io.surround import read_drives

        compat.apply()
        if self.machine.device_type == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "CUDA was asked for but torch sees no CUDA device; add --machine.device-type cpu, "
                "or train gausstr-small, which is made for CPUs"
            )
        refuse_broken_resume(self.load_dir, self.load_step, self.load_checkpoint)
        data = self.pipeline.datamanager.data or self.data
        if data is None:
            raise UserError(
                "no data: give --data FOLDER, a folder of drives (ag2 example FOLDER --scene street makes one)"
            )
        read_drives(Path(data))

    def save_config(self) -> None:
        """Write config.yml, once the run has been checked."""
        self.check()
        super().save_config()


def _trainer(name: str, config: GaussTRConfig, steps: int, rate: float, batch: int, amp: bool) -> GaussTRTrainerConfig:
    return GaussTRTrainerConfig(
        method_name=name,
        max_num_iterations=steps,
        steps_per_eval_batch=0,
        steps_per_eval_image=max(1, steps // 4),
        steps_per_eval_all_images=steps,
        steps_per_save=2000,
        mixed_precision=amp,
        pipeline=GaussTRPipelineConfig(
            datamanager=SurroundDataManagerConfig(
                batch=batch, width=config.image[0], height=config.image[1], ego_motion=config.ego_motion
            ),
            model=GaussTRModelConfig(network=config.network, loss=config.loss, occupancy=config.occupancy),
        ),
        optimizers={
            "network": {
                "optimizer": AdamWConfig(lr=rate, max_norm=35.0),
                "scheduler": WarmStepConfig(warmup=min(200, steps // 10), drop_at=int(steps * 2 / 3)),
            }
        },
        vis="tensorboard",
    )


PUBLISHED_STEPS = 42_000
"""24 rounds of nuScenes' 28,130 training frames by 8 GPUs of 2 frames."""

gausstr = MethodSpecification(
    config=_trainer("gausstr", GaussTRConfig(), 6000, 2e-4, 1, True),
    description="GaussTR: semantic Gaussians and occupancy from surround cameras in one pass.",
)

_small = _trainer("gausstr-small", small(), 900, 1e-3, 1, False)
_small.pipeline.datamanager.mirror = True
_small.machine = MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu")

gausstr_small = MethodSpecification(config=_small, description="GaussTR for small streets on a laptop CPU.")

gausstr_published = MethodSpecification(
    config=_trainer("gausstr-published", published("talk2dino"), PUBLISHED_STEPS, 2e-4, 2, True),
    description="GaussTR with the published constants for DINOv2 features and Talk2DINO texts.",
)

gausstr_featup = MethodSpecification(
    config=_trainer("gausstr-featup", published("featup"), PUBLISHED_STEPS, 2e-4, 2, True),
    description="GaussTR with the published constants for FeatUp's CLIP features and masks.",
)
