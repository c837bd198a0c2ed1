"""A smooth flight along a capture: where its cameras were, looking where they looked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import NamedView, View
from ag2_ns.rendering.orbit import look_at

SPACING = math.radians(30)
"""How far apart the cameras are that the flight passes: by so much turning, or as much moving (see `_steps`)."""

CALM = math.radians(3)
"""Most that a flight turns from one frame to the next, on average."""

JUMPS = 2.0
"""A capture whose way is longer than that from each camera to the next nearest by this factor has no order."""

FINE = 2000
"""Points of the path at which its length is measured."""


def in_order(views: Sequence[NamedView]) -> list[View]:
    """The cameras of a capture in the order of their pictures' names: shot_2 before shot_10."""
    return [v.view for v in sorted(views, key=lambda v: _natural(v.key))]


def flight(views: Sequence[View], frames: int) -> tuple[list[View], float]:
    """Cameras on a smooth path along a capture, evenly spaced, with the lens and the size of its first.

    The path is a cubic spline through some of the capture's cameras, in its order, or from each to the nearest where
    that order jumps about. It ends before the end of the capture where so few frames would have to turn too fast.

    Args:
        views: the capture's cameras, in order.
        frames: number of cameras on the path.

    Returns:
        (cameras, share of the capture's way that they cover).

    Raises:
        UserError: fewer than two views.
    """
    if len(views) < 2:
        raise UserError("a flight needs two cameras; add some, or follow a path of your own with --camera-path")
    poses = np.stack([v.viewmat.double().cpu().numpy() for v in views])
    eyes = -np.einsum("vji,vj->vi", poses[:, :3, :3], poses[:, :3, 3])
    rows = np.concatenate([eyes, poses[:, 2, :3], -poses[:, 1, :3]], axis=1)  # eye, ahead, up
    steps = _steps(rows, rows)
    nearest = _from_each_to_the_nearest(steps)
    if _length(steps, range(len(rows))) > JUMPS * _length(steps, nearest):
        rows, steps = rows[nearest], steps[np.ix_(nearest, nearest)]
    way = np.concatenate([[0.0], np.cumsum(np.diagonal(steps, 1))])
    path = _fine(_knots(rows, way))
    turned = np.concatenate([[0.0], np.cumsum(_angles(path[1:, 3:6], path[:-1, 3:6]))])
    last = max(1, int(np.searchsorted(turned, CALM * frames, side="right")) - 1)
    length = np.concatenate([[0.0], np.cumsum(np.diagonal(_steps(path[:-1], path[1:], rows)))])
    at = np.linspace(0.0, length[last], frames)
    chosen = np.stack([np.interp(at, length, column) for column in path.T], axis=1)
    first = views[0]
    size = (first.width, first.height)
    placed = torch.from_numpy(chosen).to(first.viewmat)
    flown = [look_at(row[:3], row[:3] + row[3:6], row[6:], first.K, size) for row in placed]
    return flown, float(length[last] / max(length[-1], 1e-12))


def _steps(
    a: Float[np.ndarray, "A 9"], b: Float[np.ndarray, "B 9"], scene: Float[np.ndarray, "V 9"] | None = None
) -> Float[np.ndarray, "A B"]:
    """How far poses are apart: the turning in radians and the moving, which counts 1 for the radius of the capture."""
    eyes = (a if scene is None else scene)[:, :3]
    radius = np.median(np.linalg.norm(eyes - eyes.mean(0), axis=1))
    moved = np.linalg.norm(a[:, None, :3] - b[None, :, :3], axis=2) / max(float(radius), 1e-9)
    return (moved + _angles(a[:, None, 3:6], b[None, :, 3:6])) / 2


def _angles(a: Float[np.ndarray, "... 3"], b: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
    cosine = (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
    return np.arccos(cosine.clip(-1, 1))


def _length(steps: Float[np.ndarray, "V V"], order: Sequence[int]) -> float:
    order = np.asarray(order)
    return float(steps[order[:-1], order[1:]].sum())


def _from_each_to_the_nearest(steps: Float[np.ndarray, "V V"]) -> list[int]:
    """An order that starts at the first camera and goes on to the nearest that is left."""
    order, left = [0], np.ones(len(steps), bool)
    left[0] = False
    while left.any():
        order.append(int(np.where(left, steps[order[-1]], np.inf).argmin()))
        left[order[-1]] = False
    return order


def _knots(rows: Float[np.ndarray, "V 9"], way: Float[np.ndarray, " V"]) -> CubicSpline:
    """A spline through cameras about `SPACING` apart, each smoothed with its neighbours: hands shake."""
    count = max(2, round(way[-1] / SPACING) + 1)
    near = [int(np.abs(way - at).argmin()) for at in np.linspace(0.0, way[-1], count)]
    knots = sorted({0, len(rows) - 1, *near})
    knots = [k for i, k in enumerate(knots) if i == 0 or way[k] > way[knots[i - 1]]]
    if len(knots) < 2:
        raise UserError("a flight needs cameras at two places; follow a path of your own with --camera-path")
    width = SPACING / 4
    weight = np.exp(-(((way[knots][:, None] - way[None]) / width) ** 2) / 2)
    smooth = weight @ rows / weight.sum(1, keepdims=True)
    return CubicSpline(way[knots], smooth, bc_type="natural")


def _fine(spline: CubicSpline) -> Float[np.ndarray, "P 9"]:
    return spline(np.linspace(spline.x[0], spline.x[-1], FINE))


def _natural(path: Path | str) -> list[tuple[int, str]]:
    """Sorts numbers in names by value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]
