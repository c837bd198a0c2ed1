"""The nerfstudio method `refersplat`: train a splat with instances, then ReferSplat's field on it, frozen."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from nerfstudio.plugins.types import MethodSpecification

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.notice import notice
from ag2_ns.eval.refer_job import train_referring
from ag2_ns.eval.refer_options import ReferOptions
from ag2_ns.plugin.methods import ag2aussian
from ag2_ns.plugin.pipeline import AG2Pipeline, AG2PipelineConfig
from ag2_ns.scene.scene_file import open_scene


@dataclass
class ReferSplatPipelineConfig(AG2PipelineConfig):
    """A pipeline that ends with a referring field."""

    _target: type = field(default_factory=lambda: ReferSplatPipeline)
    sentences: Path | None = None
    """sentences/ of an example scene, or a folder of Ref-LERF; by default `sentences` in the data's folder, or the
    data's folder itself where it has json/."""
    refer: ReferOptions = field(default_factory=ReferOptions)
    """How the field is trained."""


class ReferSplatPipeline(AG2Pipeline):
    """Trains the field once instances and scene are made."""

    def finish(self, method: str, steps: int, folder: Path) -> None:
        """Make instances and scene, then train the field; what goes wrong with that must not cost the splat."""
        super().finish(method, steps, folder)
        try:
            made = train_referring(open_scene(folder, self.device), self._sentences(), self.config.refer)
        except UserError as error:
            config = folder / "config.yml"
            notice(f"no referring field was trained: {first_line(error)}\nThe splat is kept; mend that, then run: "
                   f"ag2 refer-train --load-config {config} --sentences FOLDER", style="red")  # fmt: skip
            return
        notice(f"referring field: {made.path} ({made.steps} steps, {made.seconds:.0f} s)", style="green")

    def _sentences(self) -> Path:
        if self.config.sentences is not None:
            return self.config.sentences
        data = Path(self.config.datamanager.data or self.config.datamanager.dataparser.data)
        data = data if data.is_dir() else data.parent
        return data if (data / "json").is_dir() else data / "sentences"


def _config():
    config = deepcopy(ag2aussian.config)
    config.method_name = "refersplat"
    base = config.pipeline
    config.pipeline = ReferSplatPipelineConfig(datamanager=base.datamanager, model=base.model)
    return config


refersplat = MethodSpecification(
    config=_config(), description="ReferSplat: a field that answers sentences, on AG2aussian's splat and instances."
)
