"""Bring your own masks: three layouts of files, recognised by what is in the folder.

- `FOLDER/<image>.pt`: AG2aussian's sparse tensors M x H x W.
- `FOLDER/<image>/*.png`: one binary image per mask, in the order of their names; they may overlap.
- `FOLDER/<image>.png` (or .tif, .bmp): one image of ids (8 or 16 bits, palette, or RGB), every id but 0 (black) is a
  mask; also as `FOLDER/<image>.jpg.png`, with the suffix of the picture, as COLMAP names masks.

`<image>` is the view's key: the image's path without `images/` and without suffix. Masks may have been made on the
picture as it lies on disk, or on the undistorted one that training is served: where a lens is undone, those of the
picture on disk are undone with it. Their order is kept.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.published_files import read_masks_sparse
from ag2_ns.io.view_store import file_hash
from ag2_ns.ops.lens import Undistortion
from ag2_ns.perception.segmenter import register_segmenter

ASPECT_TOLERANCE = 0.01
"""Masks of another size are resized (on request) when their aspect ratio differs by less than this share."""


ID_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
"""Formats that keep ids as they are."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""What a picture's name may end in before that of its masks."""

MANY_IDS = 64
"""More ids than a picture with few objects has."""

SPECK = 6
"""Pixels. Where there are `MANY_IDS` and half of them are no larger, they are mixed colours along edges."""

CLEARLY = 1.05
"""How much stronger the edges along masks must be for them to count as made on undistorted pictures."""

MadeOn = Literal["auto", "disk", "undistorted"]
"""Which pictures masks were made on."""

JUDGED_VIEWS, JUDGED_MASKS = 4, 32
"""So many views, and masks of each, are compared with the pictures where sizes do not tell what they were made on."""


@register_segmenter("files")
class FilesSegmenter:
    """Masks read from files; see the module for the layouts.

    Args:
        folder: where the masks are.
        resize: accept masks of another size with the same aspect ratio, by nearest neighbour.
        allow_missing: an image without a mask file has no masks, instead of being an error.
        made_on: the pictures on disk, or the undistorted ones. auto goes by size, and where both have the same by what
            `judge` finds.
    """

    def __init__(
        self, folder: Path | str, resize: bool = False, allow_missing: bool = False, made_on: MadeOn = "auto"
    ) -> None:
        self.folder = Path(folder)
        self.resize, self.allow_missing, self.made_on = resize, allow_missing, made_on
        self.undistortions: Mapping[str, Undistortion] = {}
        """How the pictures were undistorted, by view; set by what knows the cameras."""
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such folder of masks; give one with --masks-dir")
        chosen = {} if made_on == "auto" else {"made_on": made_on}
        self.settings = {"folder": self.folder.name} | chosen
        self.options = {"folder": os.path.abspath(folder), "resize": resize, "allow_missing": allow_missing} | chosen

    def segment(self, image: np.ndarray, image_name: str) -> MaskSet:
        """Read the masks of one image.

        Raises:
            UserError: no file, an unreadable file, or masks of another size.
        """
        size = (int(image.shape[0]), int(image.shape[1]))
        path, reader = self._find(image_name)
        if reader is None:
            if self.allow_missing:
                return MaskSet.from_dense(torch.zeros(0, *size, dtype=torch.bool))
            raise UserError(
                f"{self.folder / image_name}: no masks for this image (.pt, .png or a folder of .png); add them, or "
                "pass --allow-missing-masks to leave it without"
            )
        masks = reader(path)
        lens = self._lens(image_name)
        if lens is None:
            return self._fitted(path, masks, size)
        own, disk = (masks.height, masks.width), (lens.distorted.height, lens.distorted.width)
        if self.made_on == "undistorted" or (own == size and (own != disk or self._judged == "undistorted")):
            return self._fitted(path, masks, size)
        if own != disk and not (self.resize and _same_aspect(own, disk)):
            raise UserError(
                f"{path}: masks are {_by(own)} but the picture on disk is {_by(disk)}, undistorted {_by(size)}; make "
                "them on either (`ag2 undistort` writes the undistorted ones)"
            )
        return undistort_masks(masks if own == disk else resize_nearest(masks, *disk), lens)

    _judged: MadeOn = "disk"

    def judge(self, views: Sequence[tuple[str, np.ndarray]]) -> MadeOn | None:
        """Find out on which pictures the masks were made, where both have the same size and nobody said it.

        Masks belong where their edges are edges of the picture.

        Args:
            views: names and undistorted images of a few views.

        Returns:
            What was found, or None where there was nothing to find out.
        """
        if self.made_on != "auto":
            return None
        scores = {"disk": 0.0, "undistorted": 0.0}
        for name, image in views[:JUDGED_VIEWS]:
            lens, (path, reader) = self._lens(name), self._find(name)
            if lens is None or reader is None:
                continue
            masks = reader(path)
            own = (masks.height, masks.width)
            if own != image.shape[:2] or own != (lens.distorted.height, lens.distorted.width):
                continue
            scores["undistorted"] += _edge_strength(masks, image)
            scores["disk"] += _edge_strength(undistort_masks(masks, lens), image)
        if not any(scores.values()):
            return None
        clear = scores["undistorted"] > CLEARLY * scores["disk"]
        self._judged = "undistorted" if clear else "disk"
        return self._judged

    def _lens(self, image_name: str) -> Undistortion | None:
        """How an image was undistorted; None where it was not."""
        found = self.undistortions.get(image_name)
        return None if found is None or found.route == "none" else found

    def _fitted(self, path: Path, masks: MaskSet, size: tuple[int, int]) -> MaskSet:
        """Masks of the image's size."""
        own = (masks.height, masks.width)
        if own == size:
            return masks
        if not self.resize or not _same_aspect(own, size):
            remedy = (
                "pass --resize-masks to resize them"
                if _same_aspect(own, size)
                else "make them on the undistorted image (`ag2 undistort` writes it)"
            )
            raise UserError(f"{path}: masks are {_by(own)} but the image is {_by(size)}; {remedy}")
        return resize_nearest(masks, *size)

    def source(self, image_name: str) -> str:
        """What the masks of one image are read from, so that changed files are read again."""
        return files_print(self._find(image_name)[0])

    def _find(self, image_name: str) -> tuple[Path, Callable[[Path], MaskSet] | None]:
        """The file or folder that holds an image's masks, and the function that reads it."""
        base = self.folder / image_name
        pt = base.with_name(base.name + ".pt")
        if pt.is_file():
            return pt, read_masks_sparse
        if base.is_dir():
            return base, read_binary_folder
        for suffix in ID_SUFFIXES:
            path = base.with_name(base.name + suffix)
            if path.is_file():
                return path, read_id_image
        doubled = sorted(base.parent.glob(f"{glob.escape(base.name)}.*.png")) if base.parent.is_dir() else []
        for path in doubled:
            if Path(path.stem).suffix.lower() in PICTURE_SUFFIXES:
                return path, read_id_image
        return base, None


def files_print(path: Path) -> str:
    """A fingerprint of a file, or of all files in a folder; empty where there is nothing."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    return ",".join(f"{p.name}:{file_hash(p)}" for p in files)


def read_id_image(path: Path) -> MaskSet:
    """Masks from one image of ids, by increasing id; 0 (black) is background."""
    ids = _open(path)
    if ids.ndim == 3:
        ids = ids[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    values, inverse, areas = np.unique(ids, return_inverse=True, return_counts=True)
    if len(values) > MANY_IDS and np.median(areas) <= SPECK:
        raise UserError(
            f"{path}: {len(values)} ids, half of them on {int(np.median(areas))} pixels or fewer: colours were mixed "
            "along edges; save and resize pictures of ids without smoothing, as PNG"
        )
    inverse = inverse.reshape(-1)
    order = np.argsort(inverse, kind="stable")
    mask, pixel = torch.from_numpy(inverse[order]), torch.from_numpy(order)
    if values[0] == 0:
        inside = mask > 0
        mask, pixel = mask[inside] - 1, pixel[inside]
    return MaskSet(*ids.shape, pixel, mask, torch.ones(len(values) - int(values[0] == 0)))


def read_binary_folder(path: Path) -> MaskSet:
    """Masks from a folder of binary images, by name; a pixel is inside where it exceeds half the file's maximum."""
    files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".png")
    if not files:
        raise UserError(f"{path}: no .png masks in this folder; add them or remove the folder")
    masks = []
    for file in files:
        content = _open(file)
        if content.ndim == 3:
            content = content[..., :3].max(-1)
        masks.append(content > content.max() / 2)
        if masks[-1].shape != masks[0].shape:
            raise UserError(f"{file}: is {_size(masks[-1])} but {files[0].name} is {_size(masks[0])}; mend one of them")
    return MaskSet.from_dense(torch.from_numpy(np.stack(masks)))


def resize_nearest(masks: MaskSet, height: int, width: int) -> MaskSet:
    """The masks at another image size, sampling the nearest source pixel."""
    rows = ((torch.arange(height) + 0.5) * masks.height / height).long()
    columns = ((torch.arange(width) + 0.5) * masks.width / width).long()
    return resample(masks, rows[:, None] * masks.width + columns)


def undistort_masks(masks: MaskSet, lens: Undistortion) -> MaskSet:
    """The masks of a distorted picture, on the undistorted one."""
    return resample(masks, torch.from_numpy(lens.nearest()))


def resample(masks: MaskSet, source: Int[torch.Tensor, "H W"]) -> MaskSet:
    """The masks on another pixel grid.

    Args:
        masks: the masks; all are kept, also those that come out empty.
        source: for each new pixel one of theirs, counted row by row; -1 for none.
    """
    height, width = source.shape
    source = source.reshape(-1)
    pixels, indices = [], []
    inside = torch.zeros(masks.height * masks.width + 1, dtype=torch.bool)  # the last stands for none
    for index, pixel in enumerate(masks.pixel.split(masks.areas.tolist())):
        inside.zero_()
        inside[pixel] = True
        pixels.append(inside[source].nonzero()[:, 0])
        indices.append(torch.full_like(pixels[-1], index))
    empty = torch.zeros(0, dtype=torch.int64)
    return MaskSet(height, width, torch.cat([empty, *pixels]), torch.cat([empty, *indices]), masks.score)


def _open(path: Path) -> np.ndarray:
    """An image's values as stored: indices for palette images."""
    try:
        with Image.open(path) as image:
            return np.array(image.getchannel("L") if image.mode == "LA" else image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


def _same_aspect(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes differ by scale only, up to rounding."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= ASPECT_TOLERANCE * a[1] * b[0]


def _edge_strength(masks: MaskSet, image: np.ndarray) -> float:
    """How strong the picture's own edges are along those of its masks (grey levels per pixel)."""
    grey = image[..., :3].mean(-1)
    rows, columns = np.gradient(grey)
    strength = np.hypot(rows, columns)
    values = []
    for mask in masks.dense()[:JUDGED_MASKS].numpy():
        edge = mask ^ ndimage.binary_erosion(mask, border_value=1)
        values.append(strength[edge])
    found = np.concatenate([np.zeros(0), *values])
    return float(found.mean()) if len(found) else 0.0


def _size(mask: np.ndarray) -> str:
    return _by(mask.shape)


def _by(size: tuple[int, int]) -> str:
    """Height and width as width x height."""
    return f"{size[1]}x{size[0]}"
