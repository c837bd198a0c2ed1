"""Masks and ids as image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from ag2_ns.core.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")

MARKED = 10
"""Grey level above which a pixel of a mask file is inside (OpenGaussian, AG2aussian, COS3D: masks saved as JPEG)."""


def read_grey(path: Path) -> UInt8[np.ndarray, "H W"]:
    """An image as 8-bit grey levels.

    Raises:
        UserError: not an image that can be read.
    """
    try:
        with Image.open(path) as file:
            if file.mode in ("I;16", "I"):
                return (np.asarray(file) > 0).astype(np.uint8) * 255
            return np.asarray(file.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({error}); restore it") from error


def read_mask(path: Path, above: int = MARKED) -> Bool[np.ndarray, "H W"]:
    """The pixels of a mask file that lie above a grey level."""
    return read_grey(path) > above


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, without decoding it.

    Raises:
        UserError: not an image that can be read.
    """
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable image ({error}); restore it") from error


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS) if folder.is_dir() else []
