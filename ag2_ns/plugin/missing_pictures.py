"""Frames whose pictures are not on disk: in no split, but with a say in how the scene is turned and scaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.core.notice import notice

Split = Callable[..., Sequence[np.ndarray]]
"""Files and options to the indices of those for training and those for evaluation."""


def present_files(place: Path, files: Sequence[Path]) -> set[Path]:
    """Which of a scene's pictures exist. Where some do not, one line says so, once in a process.

    Args:
        place: what names them: the transforms.json or the COLMAP model.
        files: the pictures of all frames, at the size that is served.

    Raises:
        UserError: fewer than two exist.
    """
    missing = [file for file in files if not file.is_file()]
    if len(missing) == len(files):
        raise UserError(f"{missing[0]}: no such image, nor any other that {place} names; restore the images folder")
    if len(files) - len(missing) < 2:
        raise UserError(
            f"{missing[0]}: no such image; {len(missing)} of {len(files)} that {place} names are missing and "
            "reconstruction needs at least two; restore them"
        )
    if missing:
        _say_once(f"{place}: {len(missing)} of {len(files)} images are missing and left out, first {missing[0]}")
    return set(files) - set(missing)


_say_once = lru_cache(maxsize=None)(notice)


def over_present(present: set[Path], split: Split) -> Split:
    """A function that splits the files it is given as if all were there, and returns the indices of those that are.

    So a picture that goes missing moves no other from evaluation to training. Only where a part would lose all of its
    pictures are those that are there split anew.
    """

    def split_present(files: Sequence[Path], *options: Any) -> tuple[np.ndarray, ...]:
        there = np.array([file in present for file in files], dtype=bool)
        parts = [np.asarray(part, dtype=np.int64) for part in split(files, *options)]
        left = [part[there[part]] for part in parts]
        if any(len(part) and not len(some) for part, some in zip(parts, left)):
            kept = there.nonzero()[0]
            again = split([files[index] for index in kept], *options)
            left = [kept[np.asarray(part, dtype=np.int64)] for part in again]
        return tuple(left)

    return split_present
