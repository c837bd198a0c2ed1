"""nerfstudio's trainer and its configuration: looks at what it is given first, and ends with a scene."""

from __future__ import annotations

import gc
import shutil
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import writer
from torch.amp import GradScaler

from ag2_ns.core.errors import UserError
from ag2_ns.plugin import compat
from ag2_ns.plugin.datamanager import AG2DataManager, AG2DataManagerConfig, check_scene
from ag2_ns.plugin.events import PictureWriter
from ag2_ns.splat.checkpoint import newest_checkpoint, refuse_broken_resume, refuse_truncated
from ag2_ns.splat.optim import step_together


class AG2Trainer(Trainer):
    """Makes the instances and writes the scene once training has ended, before the last checkpoint is saved.

    That takes seconds; the viewer goes on meanwhile.
    """

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Set up training and load all pictures; where that fails nothing is left of the run.

        Raises:
            UserError: a picture or a mask cannot be served.
        """
        try:
            super().setup(test_mode)
            manager = self.pipeline.datamanager
            if test_mode != "inference" and isinstance(manager, AG2DataManager):
                _ = manager.cached_train, manager.cached_eval
        except Exception:
            if self.local_rank == 0:
                self.config.remove_new_folder()
            raise
        gc.freeze()  # all that is loaded by now stays: looking it through for garbage would halt training

    def setup_optimizers(self) -> Optimizers:
        """nerfstudio's optimizers, which step together where gradients are not scaled."""
        return JointOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def _update_viewer_state(self, step: int) -> None:
        # Called after a step's times and learning rates are noted, and before anything else is: event writers open
        # their file anew for each of them, which costs more than the times are worth where no line is printed.
        if step % self.config.logging.steps_per_log:
            noted = writer.EVENT_STORAGE
            noted[:] = [event for event in noted if event["write_type"] is not writer.EventType.SCALAR]
        super()._update_viewer_state(step)

    def eval_iteration(self, step: int) -> None:
        """Evaluate where it is due; pictures of it are written meanwhile."""
        super().eval_iteration(step)
        self._pictures.take()

    @cached_property
    def _pictures(self) -> PictureWriter:
        return PictureWriter()

    def _after_train(self) -> None:
        self._pictures.wait()
        if self.local_rank == 0:
            self.pipeline.finish(self.config.method_name, self.step + 1, self.base_dir)
        super()._after_train()


class JointOptimizers(Optimizers):
    """nerfstudio's optimizers by group, of which those that are alike take one step in one kernel."""

    def optimizer_scaler_step_some(self, grad_scaler: GradScaler, param_groups: list[str]) -> None:
        """One step of the named groups."""
        if grad_scaler.is_enabled():
            return super().optimizer_scaler_step_some(grad_scaler, param_groups)
        joint = [name for name in param_groups if self.config[name]["optimizer"].max_norm is None]
        super().optimizer_scaler_step_some(grad_scaler, [name for name in param_groups if name not in joint])
        step_together(self.optimizers[name] for name in joint)


LOCAL = "127.0.0.1"
"""Only programs of this machine reach it."""


@dataclass
class AG2ViewerConfig(ViewerConfig):
    """nerfstudio's viewer, reachable from this machine only unless another address is asked for."""

    websocket_host: str = LOCAL
    """Address that the viewer listens on; 0.0.0.0 lets every machine of the network in."""


@dataclass
class AG2TrainerConfig(TrainerConfig):
    """A run that tells its pipeline where it lies, and looks at what it is given before it writes anything."""

    _target: type = field(default_factory=lambda: AG2Trainer)
    cpu_without_cuda: tyro.conf.Suppress[bool] = False
    """Train on the CPU where torch sees no CUDA device."""

    def __setattr__(self, name: str, value: Any) -> None:
        # ns-viewer puts a viewer configuration of its own in place of ours, whose default lets the whole network in.
        if name == "viewer" and value.websocket_host == "0.0.0.0" and not any("websocket-host" in a for a in sys.argv):
            value.websocket_host = LOCAL
        super().__setattr__(name, value)

    def get_base_dir(self) -> Path:
        """The folder of the run: where it was found (`found_in`), or else where it was trained."""
        found = getattr(self, "found_in", None)
        return super().get_base_dir() if found is None else found

    def get_checkpoint_dir(self) -> Path:
        """The folder of the checkpoints; nerfstudio asks for it before it builds a pipeline.

        Raises:
            UserError: the newest checkpoint there is truncated, or a run that was trained before holds none.
        """
        compat.apply()
        self.pipeline.run_folder = str(self.get_base_dir())
        folder = super().get_checkpoint_dir()
        newest = newest_checkpoint(folder)
        if newest is not None:
            refuse_truncated(newest)
        elif folder.is_dir() and not getattr(self, "_started", False):
            raise UserError(f"{folder}: no checkpoint in it; train again, or give the config.yml of another run")
        return folder

    def check(self) -> None:
        """Refuse what training would fail on.

        Raises:
            UserError: no CUDA where it is asked for, no checkpoint to resume from, or a scene that cannot be read.
        """
        compat.apply()
        if self.machine.device_type == "cuda" and not torch.cuda.is_available():
            if self.cpu_without_cuda:
                self.machine.device_type = "cpu"
                return self.check()
            raise UserError(
                "CUDA was asked for but torch sees no CUDA device; add --machine.device-type cpu, "
                "or train ag2aussian-small, which is made for CPUs"
            )
        refuse_broken_resume(self.load_dir, self.load_step, self.load_checkpoint)
        if isinstance(self.pipeline.datamanager, AG2DataManagerConfig):
            check_scene(self.pipeline.datamanager)

    def remove_new_folder(self) -> None:
        """Remove the folder that `save_config` made, and those above it that are empty then."""
        made: Path | None = getattr(self, "_made", None)
        if made is None:
            return
        shutil.rmtree(made, ignore_errors=True)
        for parent in list(made.parents)[:2]:  # of the method and of the scene
            if not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()

    def save_config(self) -> None:
        """Write config.yml, without the folder: runs may be moved.

        Raises:
            UserError: see `check`; nothing is written then.
        """
        self.check()
        folder, self.pipeline.run_folder = self.pipeline.run_folder, ""
        made = not self.get_base_dir().exists()
        super().save_config()
        self._made = self.get_base_dir() if made else None
        self.pipeline.run_folder = folder
        self._started = True  # a run that begins may find an empty folder of checkpoints
