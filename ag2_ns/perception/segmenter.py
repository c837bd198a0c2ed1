"""What a segmenter is, and the list of those there are.

Adding one is one class: give it `name`, `settings`, `options` and `segment`, and decorate it with
`@register_segmenter("name")` (or add a "module:Class" line below, so that its libraries are imported on first use).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet

T = TypeVar("T", bound=type)


@runtime_checkable
class Segmenter(Protocol):
    """Image to overlapping masks with scores."""

    name: str
    """As registered."""
    settings: dict
    """JSON: everything that changes the masks. Part of the stores' fingerprint."""
    options: dict
    """JSON: the keyword arguments that build this segmenter again."""

    def segment(self, image: np.ndarray, image_name: str) -> MaskSet:
        """Segment a uint8 image [H, W, 3].

        Args:
            image: the image exactly as it is served for training.
            image_name: its view key, for segmenters that look files up.

        Returns:
            Masks of the image's size, best first where the segmenter ranks them.
        """
        ...


SEGMENTERS: dict[str, str | type] = {
    "superpixel": "ag2_ns.perception.superpixel:SuperpixelSegmenter",
    "sam": "ag2_ns.perception.sam:SamSegmenter",
    "files": "ag2_ns.perception.files:FilesSegmenter",
    "langsplat": "ag2_ns.perception.langsplat:LangSplatSegmenter",
    "sam2": "ag2_ns.perception.sam2:Sam2Segmenter",
    "sam3": "ag2_ns.perception.sam3:Sam3Segmenter",
}
"""Classes, or "module:Class" imported on first use, by name."""


def register_segmenter(name: str) -> Callable[[T], T]:
    """Class decorator: make a segmenter available as `--segmenter NAME`."""
    return _registrar(SEGMENTERS, name)


def make_segmenter(name: str, **options: Any) -> Segmenter:
    """Build a segmenter by name.

    Raises:
        UserError: no such segmenter, or its own complaints (missing checkpoint, ...).
    """
    return resolve(SEGMENTERS, name, "segmenter")(**options)


def resolve(registry: dict[str, str | type], name: str, what: str) -> type:
    """The class registered under `name`, imported if need be."""
    entry = registry.get(name)
    if entry is None:
        raise UserError(f"there is no {what} called {name!r}; choose one of: {', '.join(registry)}")
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        entry = registry[name] = getattr(importlib.import_module(module), attribute)
    return entry


def _registrar(registry: dict[str, str | type], name: str) -> Callable[[T], T]:
    """A decorator that files a class under `name` and sets its `name`."""

    def register(cls: T) -> T:
        registry[name] = cls
        cls.name = name
        return cls

    return register
