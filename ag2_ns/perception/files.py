"""Bring your own masks: three layouts of files, recognised by what is in the folder.

- `FOLDER/<image>.pt`: AG2aussian's sparse tensors M x H x W.
- `FOLDER/<image>/*.png`: one binary image per mask, in the order of their names; they may overlap.
- `FOLDER/<image>.png`: one image of ids (8 or 16 bits, palette, or RGB), every id but 0 (black) is a mask.

`<image>` is the view's key: the image's path without `images/` and without suffix. The masks must belong to the image
as it is served for training, so undistorted and downscaled. Their order is kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.published_files import read_masks_sparse
from ag2_ns.io.view_store import file_hash
from ag2_ns.perception.segmenter import register_segmenter

ASPECT_TOLERANCE = 0.01
"""Masks of another size are resized (on request) when their aspect ratio differs by less than this share."""


@register_segmenter("files")
class FilesSegmenter:
    """Masks read from files; see the module for the layouts.

    Args:
        folder: where the masks are.
        resize: accept masks of another size with the same aspect ratio, by nearest neighbour.
        allow_missing: an image without a mask file has no masks, instead of being an error.
    """

    def __init__(self, folder: Path | str, resize: bool = False, allow_missing: bool = False):
        self.folder = Path(folder)
        self.resize, self.allow_missing = resize, allow_missing
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such folder of masks; give one with --masks-dir")
        self.settings = {"folder": self.folder.name}
        self.options = {"folder": os.path.abspath(folder), "resize": resize, "allow_missing": allow_missing}

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
        if (masks.height, masks.width) == size:
            return masks
        found = f"{masks.width}x{masks.height}"
        if not self.resize or not _same_aspect((masks.height, masks.width), size):
            remedy = (
                "pass --resize-masks to resize them"
                if _same_aspect((masks.height, masks.width), size)
                else "make them on the undistorted image"
            )
            raise UserError(f"{path}: masks are {found} but the image is {size[1]}x{size[0]}; {remedy}")
        return resize_nearest(masks, *size)

    def source(self, image_name: str) -> str:
        """What the masks of one image are read from, so that changed files are read again."""
        return files_print(self._find(image_name)[0])

    def _find(self, image_name: str):
        """The file or folder that holds an image's masks, and the function that reads it."""
        base = self.folder / image_name
        for path, reader in (
            (base.with_name(base.name + ".pt"), read_masks_sparse),
            (base, read_binary_folder),
            (base.with_name(base.name + ".png"), read_id_image),
        ):
            if path.is_dir() if reader is read_binary_folder else path.is_file():
                return path, reader
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
    values, inverse = np.unique(ids, return_inverse=True)
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
    source = (rows[:, None] * masks.width + columns).reshape(-1)
    pixels, indices = [], []
    inside = torch.zeros(masks.height * masks.width, dtype=torch.bool)
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


def _size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"
