"""What a capture is, whichever program wrote it: pictures with poses and lenses, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ag2_ns.core.errors import UserError
from ag2_ns.core.notice import notice
from ag2_ns.ops.lens import Lens, Pinhole

say_once = lru_cache(maxsize=None)(notice)
"""A notice, once in a process: dataparsers are asked for every split."""

PROPER = 1e-2
"""How far the axes of a camera may be from orthogonal, and their lengths from each other."""

UNIT = 1e-3
"""Axes whose lengths differ from 1 by more are scaled: programs put an object's scale into its matrix."""


@dataclass(frozen=True)
class Frame:
    """One picture and the camera that took it."""

    file: Path
    """At full size."""
    pose: Float[np.ndarray, "4 4"]
    """Camera to the capture's frame; x right, y up, z backward."""
    camera: Pinhole
    """The linear part, at full size."""
    lens: Lens
    mask: Path | None = None
    depth: Path | None = None
    crop_radius: float | None = None
    """Of a fisheye: beyond so many pixels from the centre there is no picture."""


@dataclass(frozen=True)
class Points:
    """A point cloud in the capture's frame."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    error: Float[np.ndarray, " N"] | None = None
    track: np.ndarray | None = None


@dataclass(frozen=True)
class Capture:
    """A whole capture; nothing but text was read."""

    place: Path
    """The file or the folder that describes it."""
    frames: tuple[Frame, ...]
    lists: Mapping[str, frozenset[Path]] | None = None
    """The pictures of each split, where the capture lists them."""
    applied: Float[np.ndarray, "3 4"] | None = None
    """From the original world to the capture's frame."""
    applied_scale: float = 1.0
    """The capture's frame is so much larger."""
    orientation: str | None = None
    """How the scene is turned upright, where the capture says so."""
    points: Callable[[], Points | None] = lambda: None
    """Reads the point cloud; None (and a line) where there is none."""


def proper_pose(place: Path, name: object, pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """A pose whose axes are of length 1.

    Raises:
        UserError: its axes are not those of a camera.
    """
    axes = pose[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    mean = float(lengths.mean())
    square = mean > 0 and np.abs(axes.T @ axes / mean**2 - np.eye(3)).max() < PROPER
    if not square or np.linalg.det(axes) < 0:
        what = "mirrored" if square else "skewed"
        raise UserError(
            f"{place}: the axes of {name} are {what}; its pose must be a rotation and a place, export again"
        )
    if abs(mean - 1) > UNIT:
        pose = pose.copy()
        pose[:3, :3] = axes / lengths
    return pose


def each_once(place: Path, frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames without repetitions.

    Raises:
        UserError: a picture has two poses.
    """
    first: dict[Path, Frame] = {}
    again = []
    for frame in frames:
        known = first.setdefault(frame.file, frame)
        if known is not frame:
            if not np.allclose(known.pose, frame.pose, atol=1e-6):
                raise UserError(f"{place}: {frame.file} is listed twice with different poses; remove the wrong one")
            again.append(frame.file)
    if again:
        say_once(f"{place}: {len(again)} frames are listed twice and taken once, first {again[0]}")
    return tuple(first.values())
