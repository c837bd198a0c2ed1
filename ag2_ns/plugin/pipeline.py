"""nerfstudio's pipeline with a session: what is selected and edited, the panel, and the scene that a run ends with.

nerfstudio's commands load a run through `eval_setup`, which tells neither pipeline nor model what it loads. It does ask
the run's configuration for the checkpoint's folder right before it builds the pipeline, and the pipeline for loading
the checkpoint; so the configuration passes its folder on to the pipeline's, and the pipeline opens what lies in it
(edits, a saved selection) once the model is loaded. The folder is the one that nerfstudio takes the checkpoint from.

Classes here are named in every config.yml: never rename or move them.
"""

from __future__ import annotations

import shlex
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.notice import notice
from ag2_ns.core.settings import changed_settings
from ag2_ns.edit.config import EditConfig
from ag2_ns.grouping.config import DEFAULTS as GROUPING
from ag2_ns.grouping.config import GroupingConfig
from ag2_ns.plugin import compat
from ag2_ns.query.config import QueryConfig
from ag2_ns.scene.build_field import LanguageFieldConfig


@dataclass
class AG2PipelineConfig(VanillaPipelineConfig):
    """A pipeline that knows the folder of its run."""

    _target: type = field(default_factory=lambda: AG2Pipeline)
    run_folder: tyro.conf.Suppress[str] = ""
    """Set by `AG2TrainerConfig`; edits and a saved selection are read from there and written there."""
    language: Literal["tree", "field"] = "tree"
    """Language of the instances alone, or also of every anchor or Gaussian, as a field (COS3D), when training ends."""
    language_field: LanguageFieldConfig = field(default_factory=LanguageFieldConfig)
    """How the field is made."""
    grouping: GroupingConfig = GROUPING
    """How anchors become instances, stored in the scene."""
    query: QueryConfig = field(default_factory=QueryConfig)
    """What counts as an answer, stored in the scene; a query may say otherwise."""
    edit: EditConfig = field(default_factory=EditConfig)
    """What editing takes along and mends, likewise."""


class AG2Pipeline(VanillaPipeline):
    """nerfstudio's pipeline with a session and its panel; measures the scene as trained."""

    config: AG2PipelineConfig

    def __init__(self, config: AG2PipelineConfig, *args: Any, **kwargs: Any) -> None:
        compat.apply()
        config.grouping.check()
        super().__init__(config, *args, **kwargs)
        from ag2_ns.plugin.live import LiveScene
        from ag2_ns.plugin.model import AG2Model
        from ag2_ns.plugin.panel import PanelModule
        from ag2_ns.session.session import Session

        self.session: Session | None = None
        if not isinstance(self.model, AG2Model):
            return
        self.live = LiveScene(self.model, self.datamanager, Path(config.run_folder) if config.run_folder else None)
        self.live.settings = changed_settings(config.grouping, config.query, config.edit)
        self.session = self.model.shown = Session(self.live)
        self.AG2 = PanelModule(self.session)  # the viewer finds it among the pipeline's attributes

    def train(self, mode: bool = True) -> AG2Pipeline:
        """As every module's; the trainer asks for it in every step, so nothing is done where nothing changes."""
        return self if mode and self.training and self.model.training else super().train(mode)

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load a checkpoint, then the edits and the query that go with it.

        Raises:
            UserError: edits of another run, or a query (environment variable AG2_QUERY) that cannot be answered.
        """
        super().load_pipeline(loaded_state, step)
        if self.session is not None:
            self.session.open()

    # Instances, and the scene that a run ends with.

    def build_instances(self, reach: float | None = None) -> None:
        """Lift the scene's masks onto the anchors and keep the resulting tree and language with the checkpoint.

        Args:
            reach: longest edge of the graph, see `ag2_ns.scene.build.merging_graph`.

        Raises:
            UserError: masks or features are damaged or of another image.
        """
        from ag2_ns.scene.build import index_scene

        model, manager = self.model, self.datamanager
        masks = manager.view_masks() if hasattr(manager, "view_masks") else None
        if model.config.instances == "none" or masks is None:
            return
        scene = self.live.scene()
        views = [v.view for v in scene.of_split("train")]
        encoder = None if masks.feature_store is None else masks.feature_store.manifest.to_bytes()
        prepared = lambda i: manager.prepared("train", i)  # noqa: E731
        model.set_scene_index(index_scene(scene, views, prepared, model.config.instances, reach=reach, encoder=encoder))

    def build_language_field(self, config: LanguageFieldConfig) -> None:
        """Train a language field on the scene's masks and keep it with the scene.

        Args:
            config: how.

        Raises:
            UserError: the masks have no features, or are damaged.
        """
        from ag2_ns.core.notice import view_progress
        from ag2_ns.scene.build_field import build_language_field

        manager, scene = self.datamanager, self.live.scene()
        index = scene.require_index()
        views = [v.view for v in scene.of_split("train")]
        with view_progress(config.instance.steps, "language field") as progress:
            self.live.language_field = build_language_field(
                scene.gaussians.detach(),
                views,
                lambda i: manager.prepared("train", i),
                scene.rasterizer,
                config,
                anchor=index.gaussian_anchor,
                anchor_xyz=index.anchor_xyz,
                edges=index.edges,
                progress=progress,
            )

    def finish(self, method: str, steps: int, folder: Path) -> None:
        """Make the instances and write the scene; what goes wrong with that must not cost the splat, saved after this.

        Args:
            method: name of the method.
            steps: that it was trained for.
            folder: of the run.
        """
        if self.session is None:
            return
        start = time.perf_counter()
        self.model.forget_recordings()
        try:
            self.build_instances()
            if self.config.language == "field" and self.live.scene().index is not None:
                self.build_language_field(self.config.language_field)
        except (UserError, MemoryError, torch.cuda.OutOfMemoryError) as error:
            lift = shlex.join(("ag2", "lift", "--load-config", str(folder / "config.yml")))
            notice(
                f"no instances were made: {first_line(error)}\nThe splat is kept; mend that, then run:\n{lift}",
                style="red",
            )
        try:
            self.write_scene(method, steps, folder, {"instances": time.perf_counter() - start})
        except UserError as error:
            notice(f"the scene file was not written: {error}", style="red")

    def write_scene(self, method: str, steps: int, folder: Path, seconds: dict[str, float]) -> Path:
        """Write the present scene into the run's folder; returns its path. Arguments as for `LiveScene.finished`.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        from ag2_ns.scene.scene_file import FILE_NAME, save_scene
        from ag2_ns.scene.with_facts import with_facts

        path = folder / FILE_NAME
        save_scene(path, with_facts(self.live.finished(method, steps, seconds)))
        return path

    # Measuring.

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

    def _as_trained(self) -> AbstractContextManager:
        return nullcontext() if self.session is None else self.session.as_trained()
