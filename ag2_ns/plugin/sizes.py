"""Smaller versions of a capture's pictures: which there are, and how their sizes were rounded."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.bad_pictures import unreadable

LONGEST = 1600
"""Pictures of more pixels on a side are served smaller where smaller ones are there."""


def pictures(folder: Path) -> Iterator[Path]:
    """The picture files in a folder and below it, by name: what else systems leave there is none."""
    known = Image.registered_extensions()
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file():
            yield path


def check_factor(data: Path, factor: int) -> None:
    """Refuse a downscale factor whose images do not exist.

    Raises:
        UserError: there is no folder of them.
    """
    folder = data / f"images_{factor}"
    if factor > 1 and not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; make it (ns-process-data does) or choose another --downscale-factor"
        )


def smaller(file: Path, data: Path, factor: int, kind: str = "images") -> Path:
    """Where the smaller version of a file lies: images_2/a/b.png of images/a/b.png, or else images_2/b.png.

    Args:
        file: at full size.
        data: the scene's folder.
        factor: how many times smaller.
        kind: images, masks or depths.
    """
    if factor == 1:
        return file
    folder = data / f"{kind}_{factor}"
    if file.is_relative_to(data / kind):
        inner = folder / file.relative_to(data / kind)
        if inner.parent == folder or inner.is_file():
            return inner
    return folder / file.name


def largest_factor_on_disk(data: Path, example: Path, limit: int = LONGEST) -> int:
    """The smallest power of two whose images_k folder exists and whose pictures have at most `limit` pixels a side.

    Where no such folder exists the full size is used: nothing is resized behind the user's back.
    """
    try:
        with Image.open(example) as image:
            longest = max(image.size)
    except OSError as error:
        raise unreadable(example, error) from error
    factor = 1
    while longest / factor > limit and (data / f"images_{factor * 2}").is_dir():
        factor *= 2
    return factor


def rounding(data: Path, factor: int) -> Literal["floor", "round", "ceil"]:
    """How the pictures in images_`factor` were rounded to whole pixels; datasets differ."""
    if factor == 1:
        return "floor"
    for small in pictures(data / f"images_{factor}"):
        full = next((data / "images").rglob(f"{glob.escape(small.stem)}.*"), None)
        if full is None:
            continue
        with Image.open(small) as a, Image.open(full) as b:
            sizes = [(n, m / factor) for n, m in zip(a.size, b.size)]
        for mode, rounded in (("floor", math.floor), ("round", round), ("ceil", math.ceil)):
            if all(n == rounded(m) for n, m in sizes):
                return mode
    return "floor"
