"""Open a trained (or lifted) run and ask it questions: what `ag2 query/eval/edit/export/render` share."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ag2_ns.data.served import served_downscale
from ag2_ns.errors import UserError
from ag2_ns.gaussians.checkpoint import newest_checkpoint
from ag2_ns.gaussians.views import view_of
from ag2_ns.query.box import select_box
from ag2_ns.query.click import select_click
from ag2_ns.query.selection import Selection
from ag2_ns.query.text import select_text
from ag2_ns.rasterizer.base import View
from ag2_ns.texts import TextEncoder

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from ag2_ns.gaussians.gaussians import Gaussians
    from ag2_ns.gaussians.model import AG2Model
    from ag2_ns.graph.scene_index import SceneIndex


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

    def require_index(self) -> SceneIndex:
        """The index.

        Raises:
            UserError: the run has none.
        """
        if self.index is None:
            raise UserError(
                f"{self.config_path}: this run has no instances yet; run `ag2 prepare {self.config.data}`, then "
                f"`ag2 lift --load-config {self.config_path}`"
            )
        return self.index

    def views(self, split: Literal["train", "eval"]) -> list[tuple[str, View]]:
        """Image names and cameras of a split, as they are served (undistorted)."""
        manager = self.pipeline.datamanager
        _ = manager.cached_train if split == "train" else manager.cached_eval
        dataset = manager.train_dataset if split == "train" else manager.eval_dataset
        cameras = dataset.cameras.to(self.model.device)
        names = [Path(f).name for f in dataset.image_filenames]
        return [(name, view_of(cameras[i : i + 1])) for i, name in enumerate(names)]

    def view(self, name: str) -> View:
        """The camera of an image, by file name, stem or position over the training and then the held-out images.

        Raises:
            UserError: no image is called so.
        """
        named = self.views("train") + self.views("eval")
        for candidate, view in named:
            if name in (candidate, Path(candidate).stem):
                return view
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
    except (OSError, yaml.YAMLError, AttributeError, ModuleNotFoundError) as error:
        raise UserError(f"{path}: not a nerfstudio config.yml ({str(error).splitlines()[0]})") from error
    if not isinstance(config, TrainerConfig):
        raise UserError(f"{path}: not a nerfstudio config.yml; give the one beside nerfstudio_models")
    return config


def load_run(config_path: Path) -> LoadedRun:
    """Load a run of `ag2aussian` (trained or lifted).

    Raises:
        UserError: no such file, a run of another method, or a damaged checkpoint.
    """
    from nerfstudio.utils.eval_utils import eval_setup

    from ag2_ns.gaussians.model import AG2Model

    config_path = Path(config_path)
    if config_path.is_dir():
        config_path = config_path / "config.yml"
    config = read_config(config_path)
    if not issubclass(getattr(config.pipeline.model, "_target", object), AG2Model):
        raise UserError(
            f"{config_path}: a run of {config.method_name}, not of ag2aussian; convert it with "
            f"`ag2 lift --load-config {config_path}`"
        )
    folder = config.get_checkpoint_dir()
    if newest_checkpoint(folder) is None:
        raise UserError(
            f"{folder}: no checkpoint there; work in the folder where the run was trained, or correct output_dir in "
            f"{config_path}"
        )
    try:
        config, pipeline, _, _ = eval_setup(config_path, test_mode="test")
    except (EOFError, RuntimeError, OSError, KeyError, AssertionError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{config_path}: the run cannot be loaded ({reason})") from error
    model = pipeline.model
    data = Path(config.pipeline.datamanager.data or config.data)
    downscale = served_downscale(pipeline.datamanager.train_dataset.image_filenames)
    texts = TextEncoder(data, downscale, model.device.type)
    return LoadedRun(config_path, config, pipeline, model, model.scene_index(), texts)


def text_selection(
    index: SceneIndex, texts: TextEncoder, text: str, *, several: bool | None = None, level: float | None = None
) -> Selection:
    """The selection that a text names, embedded by the encoder that prepared the scene.

    Raises:
        UserError: an empty text, a text that a closed list does not hold, or a level out of range.
    """
    device = index.anchor_xyz.device
    negatives = texts.negatives()
    return select_text(
        index,
        text,
        texts.embed(text).to(device),
        None if negatives is None else negatives.to(device),
        several=several,
        level=level,
    )


Click = tuple[str, float, float]
"""Image (see `LoadedRun.view`) and pixel: x, y."""

Box = tuple[str, float, float, float, float]
"""Image and rectangle in pixels: x0, y0, x1, y1."""


@torch.no_grad()
def select(
    run: LoadedRun,
    *,
    text: str | None = None,
    click: Click | None = None,
    box: Box | None = None,
    level: float | None = None,
    several: bool | None = None,
) -> Selection:
    """One selection from a text, a click or a box; `refine` takes further clicks.

    What is clicked or framed is called by the known text that names it, if any.

    Args:
        run: the run.
        text: words.
        click: image name and pixel (x, y).
        box: image name and corners (x0, y0, x1, y1) in pixels; parts outside of the image are cut off.
        level: granularity, 0 parts to 1 groups; for texts None looks at all levels, boxes always do.
        several: all instances that answer a text; by default when the words are plural.

    Raises:
        UserError: not exactly one of them was given, or what was given has no answer that makes sense.
    """
    if (text is not None) + (click is not None) + (box is not None) != 1:
        raise UserError(
            "give either a text (--text 'red mug'), a click (--click IMAGE X Y) or a box (--box IMAGE X0 Y0 X1 Y1)"
        )
    if text is not None:
        return text_selection(run.require_index(), run.texts, text, several=several, level=level)
    return _clicked(run, click, level) if box is None else _framed(run, box)


@torch.no_grad()
def refine(
    run: LoadedRun,
    found: Selection,
    *,
    add: Sequence[Click] = (),
    remove: Sequence[Click] = (),
    level: float | None = None,
) -> Selection:
    """A selection with what further clicks show added, and then with what others show taken away.

    Args:
        run: the run.
        found: the selection.
        add: clicks that add.
        remove: clicks that take away, from what was added, too; what is not selected stays so.
        level: granularity of the clicks, 0 parts to 1 groups; None is the level of objects.

    Raises:
        UserError: an empty selection, a click outside of its image or on nothing, or an unknown image.
    """
    if found.empty and (add or remove):
        raise UserError(f"{found.label}: nothing found ({found.reason}); --add and --remove need something to change")
    for click in add:
        more = _shown(run, click, level, "--add")
        found = found.union(more)
    for click in remove:
        found = found.without(_shown(run, click, level, "--remove"))
    return found


def _shown(run: LoadedRun, click: Click, level: float | None, option: str) -> Selection:
    """What a further click selects; `UserError` names its option where that is nothing."""
    name, x, y = click
    found = _clicked(run, click, level)
    if found.empty:
        raise UserError(f"{option} {name} {x:g} {y:g}: {found.reason}; click on a thing")
    return found


def _clicked(run: LoadedRun, click: Click, level: float | None) -> Selection:
    index, (name, x, y) = run.require_index(), click
    view = run.view(str(name))
    level = 0.5 if level is None else level
    return _called(run, select_click(index, run.gaussians, run.model.backend(), view, float(x), float(y), level))


def _framed(run: LoadedRun, box: Box) -> Selection:
    index, (name, *corners) = run.require_index(), box
    if not all(math.isfinite(v) for v in corners):
        raise UserError(f"box ({', '.join(f'{v:g}' for v in corners)}): give x0 y0 x1 y1 in pixels, as numbers")
    return _called(run, select_box(index, run.gaussians, run.model.backend(), run.view(str(name)), tuple(corners)))


def _called(run: LoadedRun, found: Selection) -> Selection:
    """The selection under the name of its instance, where a known text names it."""
    called = run.texts.name(run.require_index(), found.nodes[0]) if found.nodes else None
    return found if called is None else replace(found, label=called)


SELECTION_FORMAT = 1
"""Version of selection files."""


def save_selection(path: Path, selection: Selection, index: SceneIndex | None = None) -> None:
    """Write a selection as .npz (atomically, no pickle): packed bits of anchors and Gaussians, and its description.

    Args:
        path: the file.
        selection: what to write.
        index: the scene it selects in; its fingerprint goes into the file, so that another run refuses it.
    """
    import io

    import numpy as np

    from ag2_ns.data.atomic import write_atomic

    meta = {
        "format": SELECTION_FORMAT,
        "label": selection.label,
        "score": selection.score,
        "nodes": list(selection.nodes),
        "level": selection.level,
        "anchors": len(selection.anchor_mask),
        "gaussians": len(selection.gaussian_mask),
    }
    if index is not None:
        meta["digest"] = _digest(index)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        anchor_mask=np.packbits(selection.anchor_mask.cpu().numpy()),
        gaussian_mask=np.packbits(selection.gaussian_mask.cpu().numpy()),
        anchor_score=selection.anchor_score.cpu().numpy().astype(np.float16),
    )
    write_atomic(path, buffer.getvalue())


def _digest(index: SceneIndex) -> str:
    """What tells this scene's anchors from those of another run; the same on every device."""
    from ag2_ns.edit.edit_file import Fingerprint

    return Fingerprint.of(index.num_gaussians, index.anchor_xyz).digest


def load_selection(path: Path, index: SceneIndex) -> Selection:
    """Read a selection of this scene.

    Raises:
        UserError: no such file, not a selection, or one of another run.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            anchors, gaussians, score = file["anchor_mask"], file["gaussian_mask"], file["anchor_score"]
            version = meta["format"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make a selection with `ag2 query`") from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a selection file ({error}); make it again with `ag2 query`") from None
    if version != SELECTION_FORMAT:
        raise UserError(
            f"{path}: written by another version (format {version}, this one reads {SELECTION_FORMAT}); make it again "
            "with `ag2 query`"
        )
    if (meta["anchors"], meta["gaussians"]) != (index.num_anchors, index.num_gaussians):
        raise UserError(
            f"{path}: selects among {meta['gaussians']} Gaussians, this run has {index.num_gaussians}; "
            "make it again on this run with `ag2 query`"
        )
    if meta.get("digest") not in (None, _digest(index)):  # files of before there was one have none
        raise UserError(
            f"{path}: selects in another run, of as many Gaussians; make it again on this run with `ag2 query`"
        )
    device = index.anchor_xyz.device

    def unpack(bits: np.ndarray, count: int) -> Tensor:
        return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool)).to(device)

    return Selection(
        torch.from_numpy(score.astype(np.float32)).to(device),
        unpack(anchors, meta["anchors"]),
        unpack(gaussians, meta["gaussians"]),
        meta["label"],
        meta["score"],
        tuple(meta["nodes"]),
        meta["level"],
    )
