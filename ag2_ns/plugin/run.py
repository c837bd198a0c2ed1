"""Open a trained or lifted run."""

from __future__ import annotations

import pickle
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ag2_ns.core.errors import UserError
from ag2_ns.splat.checkpoint import newest_checkpoint

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

    from ag2_ns.plugin.model import AG2Model
    from ag2_ns.plugin.pipeline import AG2Pipeline
    from ag2_ns.scene.scene import Scene
    from ag2_ns.session.session import Session


@dataclass
class LoadedRun:
    """A run with its pipeline: for what needs pictures or training. Everything else opens the scene (`ag2_ns.open`)."""

    config_path: Path
    config: TrainerConfig
    pipeline: AG2Pipeline

    @property
    def folder(self) -> Path:
        """Where config.yml lies."""
        return self.config_path.parent

    @property
    def model(self) -> AG2Model:
        """The model."""
        return self.pipeline.model

    @property
    def session(self) -> Session:
        """What is selected and edited."""
        return self.pipeline.session

    @property
    def scene(self) -> Scene:
        """The scene as trained."""
        return self.pipeline.live.scene()


def read_config(path: Path) -> TrainerConfig:
    """The configuration of a run.

    Raises:
        UserError: no such file, or not a configuration.
    """
    import yaml
    from nerfstudio.engine.trainer import TrainerConfig

    if path.is_dir():
        path = path / "config.yml"
    try:
        config = yaml.load(path.read_text(), Loader=yaml.Loader)  # nerfstudio's own format, as its commands read it
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the config.yml of a run") from None
    except (OSError, ValueError, TypeError, yaml.YAMLError, AttributeError, ModuleNotFoundError) as error:
        raise UserError(f"{path}: not a nerfstudio config.yml ({str(error).splitlines()[0]})") from error
    if not isinstance(config, TrainerConfig):
        raise UserError(f"{path}: not a nerfstudio config.yml; give the one beside nerfstudio_models")
    return config


def load_run(config_path: Path) -> LoadedRun:
    """Load a run of `ag2aussian` (trained or lifted); what nerfstudio says meanwhile goes to standard error.

    Raises:
        UserError: no such file, a run of another method, or a damaged checkpoint.
    """
    from nerfstudio.utils.eval_utils import eval_setup

    from ag2_ns.plugin.model import AG2Model

    config_path = Path(config_path)
    if config_path.is_dir():
        config_path = config_path / "config.yml"
    config = read_config(config_path)
    if not issubclass(getattr(config.pipeline.model, "_target", object), AG2Model):
        raise UserError(
            f"{config_path}: a run of {config.method_name}, not of ag2aussian; convert it with "
            f"`{shlex.join(['ag2', 'lift', '--load-config', str(config_path)])}`"
        )
    beside = newest_checkpoint(config_path.parent / config.relative_model_dir) is not None
    folder = config_path.parent if beside else config.get_checkpoint_dir()
    if not beside and newest_checkpoint(folder) is None:
        raise UserError(
            f"{folder}: no checkpoint there, nor beside {config_path}; work in the folder where the run was trained, "
            f"or correct output_dir in {config_path}"
        )

    def found(config: TrainerConfig) -> TrainerConfig:
        if beside:
            config.found_in = folder  # type: ignore[attr-defined]
        return config

    try:
        with redirect_stdout(sys.stderr):
            config, pipeline, _, _ = eval_setup(config_path, test_mode="test", update_config_callback=found)
    except (EOFError, RuntimeError, OSError, KeyError, AssertionError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{config_path}: the run cannot be loaded ({reason})") from error
    return LoadedRun(config_path, config, pipeline)
