"""What a wild scene knows of itself, and of one of its views: masks and features are made from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class SceneTruth:
    """Names of everything that has one."""

    labels: dict[int, str]
    """Id of each thing to its text; twins share one."""
    parts: dict[int, str]
    """Number of each named part to its text."""
    part_of: dict[int, int]
    """Number of each part to the id of the thing that it belongs to."""
    groups: tuple[tuple[str, tuple[int, ...]], ...]
    """Named groups and the ids of their members."""
    supports: tuple[int, ...]
    """Ids of what other things stand on and that is seen in pieces: tables, shelves."""


@dataclass(frozen=True)
class ViewTruth:
    """One view."""

    rgb: UInt8[np.ndarray, "H W 3"]
    ids: Int[np.ndarray, "H W"]
    """Id of the thing at each pixel, 0 for none."""
    parts: Int[np.ndarray, "H W"]
    """Number of the part at each pixel, 0 for none."""
    distance: Float[np.ndarray, "H W"]
    """Distance from the camera."""
    surfaces: tuple[tuple[str, Bool[np.ndarray, "H W"]], ...]
    """Surfaces without an id, under a word for each: floor, walls, furniture and its pieces."""
