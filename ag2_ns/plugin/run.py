"""Open a trained or lifted run."""

from __future__ import annotations

import pickle
import re
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.view_store import view_key, view_stem
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.plugin.views import view_of
from ag2_ns.splat.checkpoint import newest_checkpoint

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from ag2_ns.core.gaussians import Gaussians
    from ag2_ns.edit.apply import EditedScene
    from ag2_ns.edit.operations import Edit
    from ag2_ns.plugin.model import AG2Model
    from ag2_ns.scene.scene_index import SceneIndex


@dataclass
class LoadedRun:
    """A run that is ready to be asked."""

    config_path: Path
    config: TrainerConfig
    pipeline: Pipeline
    model: AG2Model
    index: SceneIndex | None
    """None before masks were lifted."""
    texts: TextEncoder

    @property
    def folder(self) -> Path:
        """Where config.yml lies."""
        return self.config_path.parent

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians of the checkpoint, detached."""
        return self.model.gaussians().detach()

    @property
    def scene(self) -> EditedScene:
        """The Gaussians as edited: what pictures show, so what clicks and boxes mean."""
        return self.model.AG2.session.scene()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What `scene` differs by from `gaussians`."""
        return self.model.AG2.session.edits()

    def as_trained(self) -> AbstractContextManager:
        """Inside, `scene` is the scene without edits."""
        return self.model.AG2.session.as_trained()

    def require_index(self) -> SceneIndex:
        """The index.

        Raises:
            UserError: the run has none.
        """
        if self.index is None:
            prepare = FeatureStore.command_for(self.texts.data, self.texts.downscale)
            raise UserError(
                f"{self.config_path}: this run has no instances yet; run `{prepare}`, then "
                f"`{shlex.join(['ag2', 'lift', '--load-config', str(self.config_path)])}`"
            )
        return self.index

    def views(self, split: Literal["train", "eval"]) -> list[tuple[str, View]]:
        """Image names and cameras of a split, as they are served (undistorted).

        Where two images of the scene have one name, names start with the folders below `images`.
        """
        manager = self.pipeline.datamanager
        _ = manager.cached_train if split == "train" else manager.cached_eval
        dataset = manager.train_dataset if split == "train" else manager.eval_dataset
        cameras = dataset.cameras.to(self.model.device)
        files = [*manager.train_dataset.image_filenames, *manager.eval_dataset.image_filenames]
        if len({Path(f).stem for f in files}) == len(set(files)):
            names = [Path(f).name for f in dataset.image_filenames]
        else:
            names = [self._with_folders(f) for f in dataset.image_filenames]
        return [(name, view_of(cameras[i : i + 1])) for i, name in enumerate(names)]

    def _with_folders(self, file: Path) -> str:
        """An image's name, starting with the folders below `images`."""
        return view_key(file, Path(self.config.pipeline.datamanager.data or self.config.data)) + Path(file).suffix

    def names_of(self, image: str) -> list[str]:
        """What `views` calls the images that somebody may mean.

        Args:
            image: a file name with or without suffix, after as many of its folders as tell it from others: frame_1,
                left/frame_1.png, images/left/frame_1.png. The path below `images` always means one image.
        """
        manager = self.pipeline.datamanager
        files = [*manager.train_dataset.image_filenames, *manager.eval_dataset.image_filenames]
        whole = [self._with_folders(file) for file in files]
        short = [name for split in ("train", "eval") for name, _ in self.views(split)]
        asked = re.sub(r"^(\./)?(images(_\d+)?/)?", "", image)
        exact, ending = {}, {}  # without repetition and in order
        for path, name in zip(whole, short):
            if asked in (path, view_stem(path), name, view_stem(name)):
                exact[name] = path
            elif f"/{path}".endswith(f"/{asked}") or f"/{view_stem(path)}".endswith(f"/{asked}"):
                ending[name] = path
        return list(exact or ending)

    def view(self, name: str) -> View:
        """The camera of an image, by its name (`names_of`) or position over the training and then the held-out images.

        Raises:
            UserError: no image is called so, or several are.
        """
        named = self.views("train") + self.views("eval")
        alike = self.names_of(name)
        if len(alike) == 1:
            return dict(named)[alike[0]]
        if alike:
            raise UserError(f"camera {name!r}: {len(alike)} images are called so; say which: {', '.join(alike[:4])}")
        if name.isdigit() and int(name) < len(named):
            return named[int(name)][1]
        raise UserError(
            f"camera {name!r}: no such image; give one of {named[0][0]} … {named[-1][0]} or 0 to {len(named) - 1}"
        )


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
    model = pipeline.model
    return LoadedRun(config_path, config, pipeline, model, model.scene_index(), model.AG2.session.texts)
