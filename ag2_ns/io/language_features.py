"""The language features of LangSplat, OpenGaussian and COS3D, read and written: `X_s.npy` and `X_f.npy` per image.

`X_s.npy` is a segment map of four levels x H x W (default, small, medium, large masks), whose value at a pixel is the
row of its mask in `X_f.npy`, or -1 where no mask is. `X_f.npy` holds M x D vectors of unit length, over all levels
together. X is the image's name without folders and suffix. Nothing in the files is executed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.atomic import write_atomic
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore

LEVELS = ("default", "s", "m", "l")
"""The planes of a segment map, in order."""

Level = Literal["all", "default", "s", "m", "l"]
"""One plane, or the masks of all of them."""

FOLDERS = (
    "language_features",
    "language_features_SAM2_local_large",
    "language_features_Semantic_SAM_local",
    "language_features_SigLip",
)
"""Names that prepared scenes use."""


@dataclass(frozen=True)
class LanguageFeatures:
    """The masks of one view at four levels, and the features of all of them."""

    segments: Int[Tensor, "4 H W"]
    """Row of `feature` at each pixel of each level, -1 for none."""
    feature: Float[Tensor, "M D"]

    def masks(self, level: Level = "all") -> tuple[MaskSet, Int[Tensor, " K"]]:
        """The masks of a level, by rising row, and the row of each in `feature`.

        All levels together give as many masks as there are rows, in their order; rows that occur nowhere are empty.
        """
        height, width = self.segments.shape[1:]
        planes = self.segments if level == "all" else self.segments[LEVELS.index(level)][None]
        flat = planes.reshape(len(planes), -1).long()
        plane, pixel = (flat >= 0).nonzero(as_tuple=True)
        # A mask that two levels share is one mask.
        pairs = torch.unique(flat[plane, pixel] * (height * width) + pixel)
        row, pixel = pairs // (height * width), pairs % (height * width)
        if level == "all":
            rows = torch.arange(len(self.feature))
            return MaskSet(height, width, pixel, row, torch.ones(len(rows))), rows
        rows, mask = torch.unique(row, return_inverse=True)
        return MaskSet(height, width, pixel, mask, torch.ones(len(rows))), rows


def language_features_of(masks: MaskSet, feature: Float[Tensor, "M D"]) -> LanguageFeatures:
    """Four levels from masks of one kind: s shows the smallest mask of a pixel, l the largest, m the middle one.

    The default level shows the mask with the best score, of equals the smallest. Rows are those of `feature`.

    Raises:
        ValueError: another number of features than masks.
    """
    if len(feature) != len(masks):
        raise ValueError(f"{len(feature)} features for {len(masks)} masks")
    size, m = masks.height * masks.width, len(masks)
    pixel, mask = masks.pixel.cpu(), masks.mask.cpu()
    area, score = masks.areas.cpu(), masks.score.cpu().double()
    rank = torch.empty(m, dtype=torch.long)
    rank[torch.argsort(area, stable=True)] = torch.arange(m)
    best = torch.empty(m, dtype=torch.long)
    best[np.lexsort((rank.numpy(), -score.numpy())).tolist()] = torch.arange(m)

    def shown(pixels: Tensor, key: Tensor, order: Tensor) -> Tensor:
        """At each pixel the mask of least key."""
        plane = torch.full((size,), m, dtype=torch.long).scatter_reduce_(0, pixels, key, "amin")
        return torch.cat((order, torch.tensor([-1])))[plane]

    by_rank, by_best = torch.argsort(rank), torch.argsort(best)
    small = shown(pixel, rank[mask], by_rank)
    large = shown(pixel, m - 1 - rank[mask], by_rank.flip(0))
    # The masks of each pixel by size; the lower one of two in the middle.
    order = torch.argsort(pixel * max(m, 1) + rank[mask])
    count = torch.bincount(pixel, minlength=size)
    start = torch.cumsum(count, 0) - count
    middle = torch.full((size,), -1, dtype=torch.long)
    inside = count > 0
    middle[inside] = mask[order][(start + (count - 1) // 2)[inside]]
    planes = torch.stack((shown(pixel, best[mask], by_best), small, middle, large))
    return LanguageFeatures(planes.view(4, masks.height, masks.width).int(), feature.detach().cpu().float())


def language_feature_paths(folder: Path, image: str) -> tuple[Path, Path]:
    """The two files of an image, by its name with or without folders and suffix."""
    stem = Path(image).name
    for name in (stem, Path(stem).stem):
        if (folder / f"{name}_s.npy").is_file():
            return folder / f"{name}_s.npy", folder / f"{name}_f.npy"
    return folder / f"{stem}_s.npy", folder / f"{stem}_f.npy"


def read_language_features(segments: Path, feature: Path | None = None) -> LanguageFeatures:
    """Read the files of one image.

    Args:
        segments: `X_s.npy`.
        feature: `X_f.npy`; beside it by default.

    Raises:
        UserError: a file is missing or damaged, has another number of levels, or names rows that do not exist.
    """
    segments = Path(segments)
    feature = segments.with_name(segments.name.removesuffix("_s.npy") + "_f.npy") if feature is None else Path(feature)
    planes, rows = _load(segments), _load(feature)
    if planes.ndim != 3 or planes.shape[0] != len(LEVELS):
        raise UserError(
            f"{segments}: expected {len(LEVELS)} levels x H x W ({', '.join(LEVELS)}), found {planes.shape}; "
            "write it with LangSplat's preprocess.py"
        )
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise UserError(f"{feature}: expected features M x D, found {rows.dtype} {rows.shape}; prepare it again")
    numbers = np.nan_to_num(planes, nan=-1)
    if (numbers != np.round(numbers)).any() or numbers.min(initial=-1) < -1 or numbers.max(initial=-1) >= len(rows):
        raise UserError(
            f"{segments}: holds {numbers.min():g} to {numbers.max():g} where {feature.name} has {len(rows)} rows; both "
            "must come from one preparation"
        )
    return LanguageFeatures(
        torch.from_numpy(numbers.astype(np.int32)), torch.from_numpy(np.ascontiguousarray(rows, np.float32))
    )


def write_language_features(folder: Path, image: str, content: LanguageFeatures) -> None:
    """Write `X_s.npy` (float32) and `X_f.npy` (float16), as LangSplat's preparation does, each atomically."""
    stem = Path(image).name
    stem = Path(stem).stem if Path(stem).suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") else stem
    feature = torch.nn.functional.normalize(content.feature.float(), dim=1)
    _save(folder / f"{stem}_f.npy", feature.numpy().astype(np.float16))
    _save(folder / f"{stem}_s.npy", content.segments.numpy().astype(np.float32))


def export_language_features(masks: MaskStore, features: FeatureStore | None, folder: Path) -> int:
    """Write a prepared scene as `folder/*_s.npy` and `folder/*_f.npy`. Returns the views written.

    Raises:
        UserError: no features, a view is damaged, or its features belong to other masks.
    """
    if features is None:
        raise UserError(f"{folder}: language features are of masks and an encoder; prepare with one (--encoder)")
    stems = masks.stems()
    for stem in stems:
        rows = features.read(stem, masks.identity(stem))
        write_language_features(folder, stem, language_features_of(masks.read(stem), rows))
    return len(stems)


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the folder of X_s.npy and X_f.npy with --masks-dir") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: damaged or not an .npy of numbers ({str(error).splitlines()[0]})") from None


def _save(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
