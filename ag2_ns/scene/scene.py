"""One scene as a value: Gaussians, anchors, instances, language, cameras and where all that came from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import MissingInstances, UnknownView
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.settings import changed_settings
from ag2_ns.core.view import NamedView, View
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.language.field import LanguageField
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.language.vocabulary import Vocabulary
from ag2_ns.ops.similarity import Similarity
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.choose import RasterizerName, choose_rasterizer
from ag2_ns.scene.geometry import Facts
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.splat.anchors import Anchors

Config = TypeVar("Config")


@dataclass(frozen=True)
class Source:
    """What a scene was made from."""

    data: Path
    """The capture: a folder, or its transforms.json."""
    downscale: float = 1.0
    """Of its pictures."""


@dataclass(frozen=True)
class WorldFrame:
    """Where the run's frame lies in the world that the cameras were given in."""

    to_world: Similarity = field(default_factory=Similarity.identity)
    """From the run's frame to the world's, before `offset` is added."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What was subtracted from georeferenced positions before they became single precision; world units."""


@dataclass(frozen=True)
class Scene:
    """What every query, edit, export and evaluation works on. All tensors live on one device.

    A value: nothing in it changes. A run that is being trained hands out a new one whenever its tensors have changed.
    """

    gaussians: Gaussians
    """N Gaussians as trained, without edits."""
    anchors: Anchors
    """A anchors; features of unit length."""
    gaussian_anchor: Int[Tensor, " N"]
    """The anchor that each Gaussian was decoded from."""
    extent: float
    """Scene extent (3DGS): 1.1 times the largest distance of a training camera from their mean, scene units."""
    index: SceneIndex | None = None
    """Instances and language; None where no masks were lifted."""
    views: tuple[NamedView, ...] = ()
    """The capture's cameras, training and held out, as their pictures are seen in training (undistorted)."""
    background: Float[Tensor, "3"] | None = None
    """Colour behind everything, 0 to 1; black if None."""
    sh_degree: int | None = None
    """Highest band of spherical harmonics that is drawn; all that are stored if None."""
    source: Source | None = None
    """The capture; None where it is not known."""
    frame: WorldFrame | None = None
    """The world; None where it is not known."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Thresholds that differ from their defaults, by configuration and field (JSON)."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: method, steps, versions, times (JSON)."""
    path: Path | None = None
    """Its file, where it has one."""
    rasterizer_name: RasterizerName = "auto"
    """The backend that draws it."""
    texts: TextEncoder | None = None
    """The encoder that its language is by, opened when the first text is asked; None where the capture is not known."""
    vocabulary: Vocabulary | None = None
    """What its instances are called (`ag2 name`); None where they were not named."""
    language_field: LanguageField | None = None
    """Language of every anchor or Gaussian, beside that of the instances; None where none was made."""
    facts: Facts | None = None
    """Where its objects are and how they lie to each other, for sentences; None where whoever asks finds it."""

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.gaussians.device

    @cached_property
    def rasterizer(self) -> Rasterizer:
        """The backend that draws it, chosen when it is first asked for.

        Raises:
            UserError: the backend cannot run on this device.
        """
        return choose_rasterizer(self.rasterizer_name, self.device)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What tells this scene's Gaussians from those of another."""
        return Fingerprint.of(len(self.gaussians), self.anchors.xyz)

    @property
    def folder(self) -> Path | None:
        """Where its file lies: edits and selections are kept beside it."""
        return None if self.path is None else self.path.parent

    def config(self, kind: type[Config]) -> Config:
        """The thresholds of one kind (`QueryConfig`, `EditConfig`, …): the scene's own, or else the defaults."""
        own = self.settings.get(kind.section, {})
        return kind(**{f.name: own[f.name] for f in fields(kind) if f.name in own})

    def configured(self, *configs: Any) -> Scene:
        """The scene with what differs from the defaults in these configurations put in place."""
        settings = dict(self.settings)
        for section, changed in changed_settings(*configs).items():
            settings[section] = dict(settings.get(section, {})) | changed
        return replace(self, settings=settings)

    def require_index(self) -> SceneIndex:
        """The instances.

        Raises:
            MissingInstances: there are none.
        """
        if self.index is None:
            known = self.source is not None
            prepare = FeatureStore.command_for(self.source.data, self.source.downscale) if known else "ag2 prepare DATA"
            raise MissingInstances(self.path, prepare)
        return self.index

    def to(self, device: torch.device | str) -> Scene:
        """The same scene on `device`."""
        move = lambda value: None if value is None else value.to(device)  # noqa: E731
        a = self.anchors
        return replace(
            self,
            gaussians=self.gaussians.to(device),
            anchors=Anchors(a.xyz.to(device), a.radius.to(device), a.feature.to(device)),
            gaussian_anchor=self.gaussian_anchor.to(device),
            index=move(self.index),
            views=tuple(v.to(device) for v in self.views),
            background=move(self.background),
            language_field=move(self.language_field),
        )

    def nothing(self, label: str, reason: str) -> Selection:
        """The empty selection, with the reason."""
        return Selection.nothing(len(self.anchors), len(self.gaussians), label, self.device, reason)

    # Cameras.

    def of_split(self, split: Literal["train", "eval"]) -> list[NamedView]:
        """The cameras of a split, in the capture's order."""
        return [v for v in self.views if v.split == split]

    def names_of(self, image: str) -> list[str]:
        """The names of the cameras that somebody may mean; see `find_views`."""
        return [v.name for v in find_views(self.views, image)]

    def view(self, image: str | View) -> View:
        """The camera of a picture, by its name (see `find_views`) or by its number over training and held-out ones.

        Raises:
            UnknownView: no picture is called so, or several are.
        """
        return image if isinstance(image, View) else self.named_view(image).view

    def named_view(self, image: str) -> NamedView:
        """Like `view`, with the camera's name."""
        alike = find_views(self.views, image)
        if len(alike) == 1:
            return alike[0]
        if not alike and image.isdigit() and int(image) < len(self.views):
            return self.views[int(image)]
        raise UnknownView(image, [v.name for v in self.views], [v.name for v in alike])


def find_views(views: Sequence[NamedView], image: str) -> list[NamedView]:
    """The cameras whose picture somebody may mean by a name.

    Args:
        views: the cameras.
        image: a file name with or without suffix, after as many of its folders as tell it from others: frame_1,
            left/frame_1.png, images/left/frame_1.png. The path below `images` always means one picture. Either slash
            separates folders.
    """
    asked = re.sub(r"^(\./)?(images(_\d+)?/)?", "", image.replace("\\", "/"))
    exact, ending = [], []
    for view in views:
        suffix = Path(view.name).suffix
        paths = (view.key + suffix, view.key, view.name, view.name.removesuffix(suffix))
        if asked in paths:
            exact.append(view)
        elif any(f"/{path}".endswith(f"/{asked}") for path in paths[:2]):
            ending.append(view)
    return exact or ending
