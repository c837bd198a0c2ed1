"""How a model learns where its run lies and what data it was made from: hooks that nerfstudio has no place for.

nerfstudio's commands load a run through `eval_setup`, which tells neither pipeline nor model what it loads. It does ask
the run's configuration for the checkpoint's folder right before it builds the pipeline, and the pipeline for loading
the checkpoint; so the configuration passes its folder on to the pipeline's, and the pipeline opens what lies in it
(edits, a saved selection) once the model is loaded. The folder is the one that nerfstudio takes the checkpoint from.

Classes here are named in every config.yml: never rename or move them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.datamanager import AG2DataManagerConfig, check_scene
from ag2_ns.splat.checkpoint import newest_checkpoint, refuse_truncated


@dataclass
class AG2TrainerConfig(TrainerConfig):
    """A run that tells its pipeline where it lies, and looks at what it is given before it writes anything."""

    def get_base_dir(self) -> Path:
        """The folder of the run: where it was found (`found_in`), or else where it was trained."""
        found = getattr(self, "found_in", None)
        return super().get_base_dir() if found is None else found

    def get_checkpoint_dir(self) -> Path:
        """The folder of the checkpoints; nerfstudio asks for it before it builds a pipeline.

        Raises:
            UserError: the newest checkpoint there is truncated, or a run that was trained before holds none.
        """
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
        if self.machine.device_type == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "CUDA was asked for but torch sees no CUDA device; add --machine.device-type cpu, "
                "or train ag2aussian-small, which is made for CPUs"
            )
        if self.load_dir is not None:
            newest = newest_checkpoint(self.load_dir)
            if newest is None:
                raise UserError(f"{self.load_dir}: no checkpoint there; --load-dir takes a run's nerfstudio_models")
            step = self.load_step
            refuse_truncated(newest if step is None else self.load_dir / f"step-{step:09d}.ckpt")
        if self.load_checkpoint is not None:
            refuse_truncated(self.load_checkpoint)
        if isinstance(self.pipeline.datamanager, AG2DataManagerConfig):
            check_scene(self.pipeline.datamanager)

    def save_config(self) -> None:
        """Write config.yml, without the folder: runs may be moved.

        Raises:
            UserError: see `check`; nothing is written then.
        """
        self.check()
        folder, self.pipeline.run_folder = self.pipeline.run_folder, ""
        super().save_config()
        self.pipeline.run_folder = folder
        self._started = True  # a run that begins may find an empty folder of checkpoints


@dataclass
class AG2PipelineConfig(VanillaPipelineConfig):
    """A pipeline that knows the folder of its run."""

    _target: type = field(default_factory=lambda: AG2Pipeline)
    run_folder: tyro.conf.Suppress[str] = ""
    """Set by `AG2TrainerConfig`; edits and a saved selection are read from there and written there."""


class AG2Pipeline(VanillaPipeline):
    """nerfstudio's pipeline, whose model knows its data and its folder, and which measures the scene as trained."""

    config: AG2PipelineConfig

    def __init__(self, config: AG2PipelineConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        panel = getattr(self.model, "AG2", None)
        if panel is not None:
            panel.session.connect(self.datamanager, config.run_folder)

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load a checkpoint, then the edits and the query that go with it.

        Raises:
            UserError: edits of another run, or a query (environment variable AG2_QUERY) that cannot be answered.
        """
        super().load_pipeline(loaded_state, step)
        panel = getattr(self.model, "AG2", None)
        if panel is not None:
            panel.session.open()

    def get_eval_loss_dict(self, step: int) -> Any:
        """Losses of an evaluation view, of the scene as trained."""
        with self._as_trained():
            return super().get_eval_loss_dict(step)

    def get_eval_image_metrics_and_images(self, step: int) -> Any:
        """Metrics of an evaluation view, of the scene as trained."""
        with self._as_trained():
            return super().get_eval_image_metrics_and_images(step)

    def get_average_image_metrics(self, *args: Any, **kwargs: Any) -> Any:
        """Mean metrics, of the scene as trained: edits are no errors."""
        with self._as_trained():
            return super().get_average_image_metrics(*args, **kwargs)

    def _as_trained(self) -> Any:
        return self.model.AG2.session.as_trained()
