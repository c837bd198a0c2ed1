"""The scene that a model is at the moment: what a session shows and asks while it is trained, and what is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ag2_ns import __version__
from ag2_ns.core.errors import DamagedFile
from ag2_ns.core.view import NamedView
from ag2_ns.export.frame import world_frame
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.io.view_store import view_key
from ag2_ns.language.field import LanguageField
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.language.vocabulary import Vocabulary
from ag2_ns.plugin.dataparser import OFFSET
from ag2_ns.plugin.model import AG2Model
from ag2_ns.plugin.undistorted import served_downscale
from ag2_ns.plugin.views import view_of
from ag2_ns.scene.scene import Scene, Source, WorldFrame
from ag2_ns.scene.scene_file import FILE_NAME, read_language_field, read_vocabulary
from ag2_ns.splat.anchors import Anchors


class LiveScene:
    """Hands out the model's scene as a value: a new one whenever its tensors have changed since.

    Args:
        model: the model.
        datamanager: what it is trained on.
        folder: of its run; None where that is not known.
    """

    def __init__(self, model: AG2Model, datamanager: Any, folder: Path | None) -> None:
        self.model, self.datamanager, self.folder = model, datamanager, folder
        data = getattr(datamanager.config, "data", None)
        self._source = self._texts = None
        if data is not None:
            downscale = served_downscale(datamanager.train_dataset.image_filenames)
            self._source = Source(Path(data), downscale)
            self._texts = TextEncoder(Path(data), downscale, model.device.type, self._encoder)
        self._known: tuple[tuple, Scene] | None = None
        self.language_field: LanguageField | None = None
        """Made when training ends, or read from the run's scene file: it is in no checkpoint."""
        self.settings: dict[str, Any] = {}
        """See `Scene.settings`."""
        self._looked = False
        self._tree: InstanceTree | None = None  # the instances that the file's names are of
        self._named: Vocabulary | None = None

    def _encoder(self) -> torch.Tensor | None:
        index = self.model.scene_index()
        return None if index is None else index.encoder

    @torch.no_grad()
    def scene(self) -> Scene:
        """The present scene. Its tensors are not changed by training, which goes on in place."""
        model, index = self.model, self.model.scene_index()
        tensors = [model.anchor_xyz, model.anchor_radius, model.child_anchor, model.anchor_params["feature"]]
        versions = [(t.data_ptr(), t._version, len(t)) for t in (*tensors, *model.child_params.values())]
        key = (*versions, id(index), model.shown_degree(), id(self.language_field))
        if self._known is None or self._known[0] != key:
            self._known = (key, self._read())
        return self._known[1]

    def _read(self) -> Scene:
        model, index = self.model, self.model.scene_index()
        gaussians = model.gaussians().detach()
        if index is not None and index.num_gaussians != len(gaussians):
            index = None
        return Scene(
            replace(gaussians, quats=gaussians.quats.clone()),  # the one tensor that would be a parameter's own memory
            Anchors(model.anchor_xyz, model.anchor_radius, model.anchor_features().detach()),
            model.child_anchor,
            float(model.on_host("extent")),
            index,
            CaptureViews(self),  # type: ignore[arg-type]
            model.background_color.to(model.device),  # in training, nerfstudio would draw one
            model.shown_degree(),
            self._source,
            self._frame(),
            path=None if self.folder is None else self.folder / FILE_NAME,
            rasterizer_name=model.config.rasterizer,
            settings=self.settings,
            texts=self._texts,
            language_field=self._field_of(len(gaussians)),
            vocabulary=None if index is None else self._names_of(index.tree),
        )

    def _names_of(self, tree: InstanceTree) -> Vocabulary | None:
        """The names in the run's scene file (`ag2 name`), if they are of the present instances."""
        path = None if self.folder is None else self.folder / FILE_NAME
        if self._tree is None and path is not None and path.is_file():
            with suppress(DamagedFile):  # which commands that need it complain of
                self._named = read_vocabulary(path, tree.num_nodes)
        if self._tree is None:
            self._tree = tree
        return self._named if self._tree is tree else None

    def _field_of(self, count: int) -> LanguageField | None:
        """The language field, if it is of the present Gaussians."""
        path = None if self.folder is None else self.folder / FILE_NAME
        if self.language_field is None and not self._looked and path is not None and path.is_file():
            self._looked = True
            with suppress(DamagedFile):  # which commands that need it complain of
                self.language_field = read_language_field(path, self.model.device)
        field = self.language_field
        units = count if field is None or field.per_gaussian else self.model.anchor_xyz.shape[0]
        return field if field is not None and len(field) == units else None

    def _frame(self) -> WorldFrame | None:
        outputs = getattr(self.datamanager, "train_dataparser_outputs", None)
        if outputs is None:
            return None
        try:
            to_world = world_frame(outputs.dataparser_transform, float(outputs.dataparser_scale))
        except ValueError:
            return None  # another dataparser's, which is no similarity
        x, y, z = (float(v) for v in (outputs.metadata or {}).get(OFFSET, (0.0, 0.0, 0.0)))
        near = to_world.translation - torch.tensor([x, y, z], dtype=torch.double)
        return WorldFrame(replace(to_world, translation=near), (x, y, z))

    def finished(self, method: str, steps: int, seconds: dict[str, float]) -> Scene:
        """The scene as it is written: with all cameras, and how it was made.

        Args:
            method: name of the method.
            steps: that it was trained for.
            seconds: what took how long, by name.
        """
        made = {
            "method": method,
            "steps": steps,
            "ag2_ns": __version__,
            "torch": torch.__version__,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
        }
        scene = self.scene()
        return replace(scene, views=tuple(scene.views), provenance=made)


class CaptureViews(Sequence[NamedView]):
    """The cameras of a capture, made when they are first asked for: that may load pictures."""

    def __init__(self, live: LiveScene) -> None:
        self._live, self._views = live, ()

    def _all(self) -> tuple[NamedView, ...]:
        if not self._views:
            self._views = capture_views(self._live.model, self._live.datamanager)
        return self._views

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, key: Any) -> Any:
        return self._all()[key]


def capture_views(model: AG2Model, manager: Any) -> tuple[NamedView, ...]:
    """The cameras of the training and then of the held-out pictures, as served: undistorted, with the poses found.

    Args:
        model: whose camera optimizer may have moved the training cameras.
        manager: the datamanager.
    """
    splits = {"train": manager.train_dataset, "eval": manager.eval_dataset}
    files = [Path(f) for dataset in splits.values() for f in dataset.image_filenames]
    data = getattr(manager.config, "data", None) or Path(files[0]).parent
    plain = len({f.stem for f in files}) == len(set(files))
    views = []
    for split, dataset in splits.items():
        cameras = dataset.cameras.to(model.device)
        if split == "train":
            poses = model.training_views(cameras)
        else:
            poses = [view_of(cameras[i : i + 1]) for i in range(len(cameras))]
        for file, view in zip(map(Path, dataset.image_filenames), poses):
            key = view_key(file, data)
            views.append(NamedView(file.name if plain else key + file.suffix, key, split, view))
    return tuple(views)
