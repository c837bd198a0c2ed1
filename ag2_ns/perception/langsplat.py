"""Scenes prepared for LangSplat, OpenGaussian or COS3D: their masks and features, without preparing again.

The folder holds `X_s.npy` and `X_f.npy` per image (see `ag2_ns.io.language_features`). Texts and pictures are embedded
by the model that made the features, where its weights are given.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.language_features import (
    FOLDERS,
    Level,
    language_feature_paths,
    read_language_features,
)
from ag2_ns.io.view_store import file_hash
from ag2_ns.perception.encoder import make_encoder, register_encoder
from ag2_ns.perception.files import resize_nearest
from ag2_ns.perception.segmenter import register_segmenter

MODEL = "ViT-B-16"
"""What LangSplat and COS3D embed with; the published weights are laion2b_s34b_b88k."""


def find_folder(data: Path) -> Path | None:
    """The folder of language features of a scene, if it has one."""
    return next((data / name for name in FOLDERS if any((data / name).glob("*_s.npy"))), None)


@register_segmenter("langsplat")
class LangSplatSegmenter:
    """Masks from segment maps.

    Args:
        folder: of `X_s.npy` and `X_f.npy`.
        level: default, s, m or l; all takes the masks of every level, as parts and wholes.
        resize: accept maps of another size with the same aspect ratio (LangSplat shrinks images above 1080 rows).
    """

    def __init__(self, folder: Path | str, level: Level = "all", resize: bool = False) -> None:
        self.folder, self.level, self.resize = _existing(folder), level, resize
        self.settings = {"folder": self.folder.name, "level": level}
        self.options = {"folder": os.path.abspath(folder), "level": level, "resize": resize}

    def segment(self, image: np.ndarray, image_name: str) -> MaskSet:
        """The masks of one image.

        Raises:
            UserError: no file, a damaged one, or a map of another size.
        """
        path, rows = language_feature_paths(self.folder, image_name)
        masks = read_language_features(path, rows).masks(self.level)[0]
        size = (int(image.shape[0]), int(image.shape[1]))
        if (masks.height, masks.width) == size:
            return masks
        same = abs(masks.height * size[1] - masks.width * size[0]) <= 0.01 * masks.height * size[1]
        if self.resize and same:
            return resize_nearest(masks, *size)
        remedy = "pass --resize-masks to resize it" if same else "it belongs to other images"
        raise UserError(f"{path}: is {masks.width}x{masks.height} but the image is {size[1]}x{size[0]}; {remedy}")

    def source(self, image_name: str) -> str:
        """What the masks of one image are read from, so that changed files are read again."""
        return _prints(self.folder, image_name)


@register_encoder("langsplat")
class LangSplatEncoder:
    """Features from files; texts and pictures by the model that made them.

    Args:
        folder: of `X_s.npy` and `X_f.npy`.
        level: as the segmenter's.
        by: the encoder for texts and pictures, openclip or siglip.
        options: its own options (model, checkpoint, ...).
        device: where it runs.
    """

    def __init__(
        self,
        folder: Path | str,
        level: Level = "all",
        by: str = "openclip",
        options: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.folder, self.level, self._by, self._device = _existing(folder), level, by, device
        self._given = dict(options or {})
        self.settings = {"folder": self.folder.name, "level": level, "dim": self.dim}
        self.options = {"folder": os.path.abspath(folder), "level": level, "by": by, "options": self._given}

    @property
    def encodes_pictures(self) -> bool:
        """Whether the weights for pictures are known."""
        return bool(self._given.get("checkpoint"))

    @cached_property
    def dim(self) -> int:
        """Length of the vectors, from the first file."""
        first = next(iter(sorted(self.folder.glob("*_s.npy"))), None)
        if first is None:
            raise UserError(f"{self.folder}: holds no X_s.npy; give the folder of language features with --masks-dir")
        return read_language_features(first).feature.shape[1]

    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str = "") -> Float[Tensor, "M D"]:
        """The features stored for an image's masks; of a picture that is none of the scene's, by the model.

        Raises:
            UserError: no or an unreadable file, or another number of masks than the map has.
        """
        if not image_name:
            return self._model.encode_image(image, masks, "")
        path, rows = language_feature_paths(self.folder, image_name)
        content = read_language_features(path, rows)
        _, rows = content.masks(self.level)
        if len(rows) != len(masks):
            raise UserError(
                f"{path}: {len(rows)} masks where the scene has {len(masks)}; prepare both with --segmenter langsplat"
            )
        if len(rows) and content.feature.shape[1] != self.dim:
            raise UserError(f"{path}: vectors of length {content.feature.shape[1]}, elsewhere {self.dim}")
        return normalize(content.feature[rows].reshape(-1, self.dim), dim=1)

    def source(self, image_name: str) -> str:
        """What the features of one image are read from."""
        return _prints(self.folder, image_name)

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """Texts by the model that made the features.

        Raises:
            UserError: its weights were not given.
        """
        return self._model.encode_text(texts) if texts else torch.zeros(0, self.dim)

    @cached_property
    def _model(self) -> Any:
        if not self.encodes_pictures:
            raise UserError(
                f"{self.folder}: these features come without a model for texts and pictures; prepare again with "
                f"--clip-model {MODEL} --clip-checkpoint laion2b_s34b_b88k (the published one), or another that made "
                "them"
            )
        encoder = make_encoder(self._by, **({"model": MODEL} | self._given | {"device": self._device}))
        if encoder.dim != self.dim:
            raise UserError(
                f"{self.folder}: vectors of length {self.dim}, but {self._given.get('model', MODEL)} makes "
                f"{encoder.dim}; give the model that made them"
            )
        return encoder


def _existing(folder: Path | str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of language features; give one with --masks-dir")
    return folder


def _prints(folder: Path, image_name: str) -> str:
    return ",".join(file_hash(path) for path in language_feature_paths(folder, image_name) if path.is_file())
