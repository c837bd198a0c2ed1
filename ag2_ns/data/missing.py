"""Frames whose pictures are not on disk: in no split, but with a say in how the scene is turned and scaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ag2_ns.data.notice import notice
from ag2_ns.errors import UserError

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
    """A function that splits the `present` of the files it is given, and returns their indices among all."""

    def split_present(files: Sequence[Path], *options: Any) -> tuple[np.ndarray, ...]:
        kept = np.array([index for index, file in enumerate(files) if file in present], dtype=np.int64)
        return tuple(kept[indices] for indices in split([files[index] for index in kept], *options))

    return split_present
