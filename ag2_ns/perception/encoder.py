"""What an image-text encoder is, and the list of those there are.

Adding one is one class: give it the members of `Encoder` and decorate it with `@register_encoder("name")` (or add a
"module:Class" line below).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.masks import MaskSet
from ag2_ns.io.view_store import Manifest, data_folder
from ag2_ns.perception.segmenter import _registrar, resolve

T = TypeVar("T", bound=type)


@runtime_checkable
class Encoder(Protocol):
    """Masks and text to L2-normalised vectors of one space."""

    name: str
    """As registered."""
    dim: int
    """Length of the vectors."""
    settings: dict
    """JSON: everything that changes the vectors. Part of the stores' fingerprint."""
    options: dict
    """JSON: the keyword arguments that build this encoder again, for instance at query time."""

    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str) -> Float[Tensor, "M D"]:
        """One vector per mask of a uint8 image [H, W, 3]; a row is zero where the encoder has nothing to say."""
        ...

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """One vector per text; a row is zero where no word of the text is known.

        Encoders that do not know every word may say what can be asked for in an attribute `knows`, and what they ignore
        in a text in a method `unknown_words`, as `PaletteEncoder` does.

        Raises:
            UserError: the encoder can only answer a closed list of texts, and this is none of them.
        """
        ...


ENCODERS: dict[str, str | type] = {
    "palette": "ag2_ns.perception.palette:PaletteEncoder",
    "openclip": "ag2_ns.perception.openclip:OpenClipEncoder",
    "table": "ag2_ns.perception.table:TableEncoder",
    "kinds": "ag2_ns.perception.kinds:KindsEncoder",
    "langsplat": "ag2_ns.perception.langsplat:LangSplatEncoder",
    "siglip": "ag2_ns.perception.siglip:SiglipEncoder",
}
"""Classes, or "module:Class" imported on first use, by name."""


def register_encoder(name: str) -> Callable[[T], T]:
    """Class decorator: make an encoder available as `--encoder NAME`."""
    return _registrar(ENCODERS, name)


def make_encoder(name: str, **options: Any) -> Encoder:
    """Build an encoder by name; `make_encoder(manifest.maker, **manifest.options)` rebuilds a feature store's.

    Raises:
        UserError: no such encoder, or its own complaints (missing checkpoint, ...).
    """
    return resolve(ENCODERS, name, "encoder")(**options)


def encoder_of(manifest: Manifest, device: str = "cpu", data: Path | None = None) -> Encoder:
    """The encoder that made a feature store (`FeatureStore.open(...).manifest`), to ask it for texts.

    Args:
        manifest: what made the store.
        device: where the encoder works.
        data: the scene; files that were in its folder when it was prepared are found there after it has moved.

    Raises:
        UserError: what it needs (a checkpoint, a table) is no longer where it was.
    """
    cls = resolve(ENCODERS, manifest.maker, "encoder")
    options = {key: value if data is None else _found(value, data) for key, value in manifest.options.items()}
    if "device" in inspect.signature(cls).parameters:
        options["device"] = device
    return cls(**options)


def _found(value: Any, data: Path) -> Any:
    """An option; a path that is gone becomes that of the file so called in the scene's folder, if there is one."""
    if not isinstance(value, str) or not os.path.isabs(value) or os.path.exists(value):
        return value
    here = data_folder(data) / Path(value).name
    return os.path.abspath(here) if here.exists() else value
