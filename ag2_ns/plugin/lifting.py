"""Instances and language for a splat that exists already: a run of this package or of splatfacto, or a .ply."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ag2_ns.core.errors import UserError
from ag2_ns.core.settings import own_settings
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.models.base_model import ModelConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from ag2_ns.core.gaussians import Gaussians
    from ag2_ns.plugin.pipeline import AG2Pipeline
    from ag2_ns.scene.build_field import LanguageFieldConfig


@dataclass
class LiftJob:
    """What is lifted, onto what, and where the run goes."""

    load_config: Path | None = None
    """config.yml of a run of ag2aussian or splatfacto."""
    ply: Path | None = None
    """A splat: a 3DGS .ply, plain or compressed, a .splat or an .spz."""
    data: Path | None = None
    """The prepared scene of the splat (or another place of the run's scene)."""
    output_dir: Path = Path("outputs")
    """The run is written to OUTPUT_DIR/SCENE/ag2aussian/TIME."""
    frame: Literal["auto", "run", "world", "file"] = "auto"
    """Where the splat lies: in nerfstudio's normalised frame, in the capture's own (COLMAP's world), or in that of
    transforms.json before its applied_transform is undone; auto draws all and compares them with the pictures."""
    downscale_factor: int | None = None
    """Use masks of images_2, images_4, … (with --ply)."""
    colmap_path: Path | None = None
    """Which COLMAP model of several, for instance sparse/1 (with --ply)."""
    instances: Literal["lifting", "features", "both"] = "lifting"
    """What instances are made from: the masks; the features that a run of ag2aussian trained (as published); both."""
    language: Literal["tree", "field"] = "tree"
    """Language of the instances alone, or also of every anchor, as a field (COS3D), for `ag2 query --strategy`."""
    field_steps: int = 3000
    """Steps that the field's instance features are trained for."""
    field_units: Literal["anchor", "gaussian"] = "anchor"
    """What carries the field: anchors, or every Gaussian for itself (as published, and larger)."""
    regression: Literal["kernel", "mlp"] = "kernel"
    """From instance features to language: by the nearest masks, or by a small network."""
    grouping: GroupingConfig = DEFAULTS
    """How anchors become instances, where the run's own settings are not meant."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to work."""

    def lift(self, say: Callable[[str], object] = print) -> tuple[Path, AG2Pipeline, float]:
        """Lift; returns the new run's config.yml, its pipeline and the seconds from loaded scene to instances.

        Raises:
            UserError: options that contradict each other, no splat to lift, or no masks.
        """
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.io.mask_store import MaskStore
        from ag2_ns.plugin.compat import compile_when_called

        with compile_when_called():
            from ag2_ns.plugin.frames import in_run_frame
            from ag2_ns.plugin.methods import ag2aussian  # noqa: F401
            from ag2_ns.plugin.undistorted import served_downscale

        if self.field_steps < 1:
            raise UserError(f"--field-steps {self.field_steps}: give a number from 1")
        if (self.load_config is None) == (self.ply is None):
            raise UserError("give either a run (--load-config PATH/config.yml) or a splat (--ply FILE --data SCENE)")
        require_writable(self.output_dir)
        config, gaussians, own, dropped = self._source()
        for what in dropped:
            say(f"{self.load_config}: {what}")
        if own is None and self.instances != "lifting":
            raise UserError(
                f"--instances {self.instances}: only runs of ag2aussian have trained features; leave it out"
            )
        config.pipeline.model.instances = self.instances
        config.pipeline.grouping = replace(config.pipeline.grouping, **own_settings(self.grouping))
        pipeline = self._pipeline(config)
        start = time.perf_counter()
        reach = None
        if own is not None:
            pipeline.model.load_state_dict(own)
        else:
            if self.ply is not None:
                gaussians = in_run_frame(self.ply, Path(config.data), self.frame, pipeline, say)
            reach = self._adopt(gaussians, pipeline)
        if pipeline.datamanager.view_masks() is None:
            downscale = served_downscale(pipeline.datamanager.train_dataset.image_filenames)
            prepare = MaskStore.command_for(config.data, downscale)
            raise UserError(f"{config.data}: no masks to lift; run `{prepare}` first")
        if self.load_config is not None and self.data is not None:
            self._check_scene(pipeline.model.gaussians().detach(), pipeline)
        pipeline.build_instances(reach)
        times = {"instances": time.perf_counter() - start}
        if self.language == "field":
            pipeline.build_language_field(self._field())
            times["language field"] = time.perf_counter() - start - times["instances"]
        seconds = time.perf_counter() - start
        return write_run(config, pipeline, times), pipeline, seconds

    def _field(self) -> LanguageFieldConfig:
        """How the language field is made."""
        from ag2_ns.scene.build_field import field_config

        own: LanguageFieldConfig = field_config(self.field_steps)
        smoothing = "graph" if self.field_units == "anchor" else "nearest"
        return replace(own, units=self.field_units, regression=self.regression, smoothing=smoothing)

    # Where the splat comes from.

    def _source(self) -> tuple[TrainerConfig, Gaussians | None, dict | None, list[str]]:
        """The new run's configuration, foreign Gaussians or the state of a run of ours, and what is not taken over."""
        from ag2_ns.plugin.methods import ag2aussian

        if self.ply is not None:
            from ag2_ns.io.splat import read_splat

            if self.data is None:
                raise UserError(f"{self.ply}: name its prepared scene with --data")
            gaussians = read_splat(self.ply)
            config = deepcopy(ag2aussian.config)
            config.pipeline.datamanager.dataparser.downscale_factor = self.downscale_factor
            config.pipeline.datamanager.dataparser.colmap_path = self.colmap_path
            self._set_data(config, self.data)
            config.pipeline.model.sh_degree = round(gaussians.sh.shape[1] ** 0.5) - 1
            return config, gaussians, None, []
        return self._from_run()

    def _from_run(self) -> tuple[TrainerConfig, Gaussians | None, dict | None, list[str]]:
        from ag2_ns.plugin.methods import ag2aussian
        from ag2_ns.plugin.run import read_config

        source = read_config(self.load_config)
        state = read_model_state(source, self.load_config)
        if "child_params.offset" in state:
            config = deepcopy(source)
            gaussians, dropped = None, []
        elif "gauss_params.means" in state:
            config = deepcopy(ag2aussian.config)
            config.pipeline.datamanager.dataparser = deepcopy(source.pipeline.datamanager.dataparser)
            gaussians = splatfacto_gaussians(state)
            config.pipeline.model.sh_degree = round(gaussians.sh.shape[1] ** 0.5) - 1
            config.pipeline.model.background_color = source.pipeline.model.background_color
            dropped = dropped_settings(source.pipeline.model)
        else:
            raise UserError(f"{self.load_config}: a run of {source.method_name}; only splat runs can be lifted")
        data = self.data or source.pipeline.datamanager.data or source.data
        self._set_data(config, Path(data))
        return config, gaussians, (state if gaussians is None else None), dropped

    def _set_data(self, config: TrainerConfig, data: Path) -> None:
        config.data = data
        config.pipeline.datamanager.data = data
        config.output_dir = self.output_dir
        config.experiment_name = data.resolve().stem
        config.load_dir = config.load_checkpoint = config.load_config = None
        config.set_timestamp()
        config.timestamp += "-lifted"

    # Building the run.

    def _pipeline(self, config: TrainerConfig) -> Pipeline:
        from ag2_ns.ops.device import choose_device

        device = choose_device(self.device)
        config.machine.device_type = device  # type: ignore[assignment]
        if config.pipeline.model.rasterizer == "gsplat" and device == "cpu":
            config.pipeline.model.rasterizer = "auto"
        pipeline = config.pipeline.setup(device=device, test_mode="val")
        pipeline.eval()
        return pipeline

    def _adopt(self, gaussians: Gaussians, pipeline: Pipeline) -> float:
        """Give the model voxel anchors with these Gaussians; returns the reach of their graph."""
        from ag2_ns.splat.regroup import group_by_voxel

        model: Any = pipeline.model
        extent = float(model.extent)
        voxel = pipeline.config.grouping.voxel
        anchors, children = group_by_voxel(gaussians.to(model.device), extent, voxel)
        model.adopt(anchors, children, extent)
        return 2 * voxel * extent

    def _check_scene(self, gaussians: Gaussians, pipeline: Pipeline) -> None:
        """Refuse `data` that is not another place of the run's own scene.

        Raises:
            UserError: its cameras are normalised otherwise, so that the Gaussians lie elsewhere, or its pictures show
                something else.
        """
        from ag2_ns.export.frame import FILE_NAME, run_to_world, world_frame
        from ag2_ns.plugin.frames import SAME, fit_of

        assert self.load_config is not None
        folder = self.load_config if self.load_config.is_dir() else self.load_config.parent
        if (folder / FILE_NAME).is_file():
            outputs = pipeline.datamanager.train_dataparser_outputs
            here = world_frame(outputs.dataparser_transform, float(outputs.dataparser_scale))
            eyes = outputs.cameras.camera_to_worlds[:, :, 3].cpu().double()
            moved = run_to_world(folder / "config.yml").inverse().points(here.points(eyes)) - eyes
            if float(moved.norm(dim=-1).median()) > SAME * float(pipeline.model.extent):
                raise UserError(
                    f"{self.data}: its cameras are not those of {self.load_config}; name the scene that the run was "
                    "made from, with all of its pictures"
                )
        fit = fit_of(gaussians, pipeline)
        if not fit.convincing:
            raise UserError(
                f"{self.load_config}: does not look like the pictures of {self.data} (PSNR {fit.psnr:.1f} dB, one "
                f"colour per picture {fit.plain:.1f}); name the scene that the run was made from"
            )


def read_model_state(config: TrainerConfig, config_path: Path) -> dict[str, Any]:
    """The model's tensors from the newest checkpoint of a run.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    import pickle
    import zipfile

    import torch

    from ag2_ns.plugin.compat import allow_numpy_scalars
    from ag2_ns.splat.checkpoint import newest_checkpoint, refuse_truncated

    folder = config.get_checkpoint_dir()
    if not folder.is_dir():
        folder = (config_path if config_path.is_dir() else config_path.parent) / "nerfstudio_models"
    newest = newest_checkpoint(folder)
    if newest is None:
        raise UserError(f"{folder}: no checkpoint there; the run was moved or never saved one")
    refuse_truncated(newest)
    allow_numpy_scalars()  # the run may be of any method, whose configuration is not ours
    try:
        content = torch.load(newest, map_location="cpu", weights_only=True)
        state = content["pipeline"]
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise UserError(f"{newest}: damaged ({str(error).splitlines()[0]}); train the run again") from error
    return {k.removeprefix("_model."): v for k, v in state.items() if k.startswith("_model.")}


def dropped_settings(model: ModelConfig) -> list[str]:
    """What a splatfacto model was trained with and its Gaussians alone do not show, a line each."""
    lines = []
    if getattr(model, "rasterize_mode", "classic") != "classic":
        lines.append(
            f"rasterize_mode {model.rasterize_mode} is dropped; drawn as classic, small and far Gaussians are stronger"
        )
    mode = getattr(getattr(model, "camera_optimizer", None), "mode", "off")
    if mode != "off":
        lines.append(
            f"camera_optimizer {mode} is dropped; masks are lifted from the cameras as captured, as ns-eval takes them"
        )
    if getattr(model, "use_bilateral_grid", False):
        lines.append("use_bilateral_grid is dropped; colours are those of the splat, as ns-eval takes them")
    return lines


def splatfacto_gaussians(state: dict[str, Any]) -> Gaussians:
    """The Gaussians of a splatfacto checkpoint."""
    import torch

    from ag2_ns.core.gaussians import Gaussians
    from ag2_ns.ops.sh import rgb_to_sh

    get = lambda name: state[f"gauss_params.{name}"].float()  # noqa: E731
    dc, rest = get("features_dc"), get("features_rest")
    if rest.shape[1] == 0:  # splatfacto then trains the colour itself, as a logit
        dc = rgb_to_sh(dc.sigmoid())
    return Gaussians(
        get("means"),
        get("quats"),
        get("scales").exp(),
        get("opacities").sigmoid().squeeze(-1),
        torch.cat((dc[:, None], rest), dim=1),
    )


def write_run(config: TrainerConfig, pipeline: AG2Pipeline, seconds: dict[str, float] | None = None) -> Path:
    """Write config.yml, the checkpoint, nerfstudio's transforms and the scene as training would; returns config.yml.

    The run gets a folder of its own: where another was written in the same second, its time is given a number. It is
    whole or absent.

    Raises:
        UserError: the disk is full, or nothing can be written there.
    """
    import torch

    from ag2_ns.io.atomic import write_atomic

    step = config.pipeline.model.schedule_steps
    pipeline.model.schedule_length.fill_(step)
    pipeline.model.update_to_step(step)  # else the scene would be drawn with the bands of step 0
    folder, made = config.get_base_dir(), None
    try:
        folder = made = _new_folder(config)
        models = config.get_checkpoint_dir()
        models.mkdir(parents=True, exist_ok=True)
        content = {"step": step, "pipeline": pipeline.state_dict(), "optimizers": {}, "schedulers": {}, "scalers": {}}
        packed = io.BytesIO()  # given a file, torch hides what the system says of it
        torch.save(content, packed)
        write_atomic(models / f"step-{step:09d}.ckpt", packed.getbuffer())
        pipeline.datamanager.train_dataparser_outputs.save_dataparser_transform(folder / "dataparser_transforms.json")
        pipeline.write_scene(config.method_name, step, folder, seconds or {})
        config.save_config()
        made = None
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room there or name another --output-dir"
        ) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
    return folder / "config.yml"


def _new_folder(config: TrainerConfig) -> Path:
    """Make the run's folder, under another time where it exists."""
    stamp, count = config.timestamp, 1
    while True:
        try:
            config.get_base_dir().mkdir(parents=True)
            return config.get_base_dir()
        except FileExistsError:
            count += 1
            config.timestamp = f"{stamp}-{count}"
