"""Points as structure from motion would leave them: on textured surfaces, with tracks, small noise, some outliers.

Candidates are pixels drawn with a probability that grows with the picture's gradient; each is lifted to its surface,
and every view that really sees the point (checked with a ray) observes it with probability 0.6, at most 20 views, with
0.4 px of noise. Points need three observations (two when there are fewer than six views). Positions carry noise of
0.4 px seen from the first view; 1.5 % are outliers at a wrong depth on the first view's ray, seen by two views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from ag2_ns.synthetic.tabletop.raytrace import cast
from ag2_ns.synthetic.tabletop.shapes import Packed

_SEEN, _LONGEST, _PIXEL_NOISE, _OUTLIERS = 0.6, 20, 0.4, 0.015
SPARE = 1.7
"""Candidates to draw per point wanted."""


@dataclass(frozen=True)
class Candidates:
    """Lifted pixels of one view."""

    points: Float[np.ndarray, "K 3"]
    colours: UInt8[np.ndarray, "K 3"]


@dataclass(frozen=True)
class Sparse:
    """A sparse reconstruction; tracks are flat and sorted by point."""

    points: Float[np.ndarray, "N 3"]
    colours: UInt8[np.ndarray, "N 3"]
    error: Float[np.ndarray, " N"]
    """Mean reprojection error in pixels."""
    track_point: Int[np.ndarray, " T"]
    track_view: Int[np.ndarray, " T"]
    track_xy: Float[np.ndarray, "T 2"]
    """Observed position in pixels, centre of the first pixel at 0.5."""


def wanted(views: int, width: int, height: int) -> int:
    """Points in a reconstruction: about 13 900 for 80 views of 640x480."""
    return int(25 * np.sqrt(width * height) * min(1.0, views / 30) ** 0.5)


def candidates(
    rgb: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "H W 3"], count: int, rng: np.random.Generator
) -> Candidates:
    """Draw `count` pixels of a view (or as many as it has) by their gradient, without repeats."""
    grey = rgb.mean(axis=2)
    down, right = np.gradient(grey)
    weight = np.sqrt(np.hypot(down, right)) + 0.15
    # Gumbel top-k: sampling without replacement in proportion to the weights.
    key = np.log(weight) + rng.gumbel(size=weight.shape)
    count = min(count, key.size)
    pick = np.sort(np.argpartition(key.ravel(), key.size - count)[key.size - count :])
    return Candidates(points.reshape(-1, 3)[pick], rgb.reshape(-1, 3)[pick])


def project(
    points: Float[np.ndarray, "N 3"], pose: Float[np.ndarray, "3 4"], focal: float, width: int, height: int
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Pixel positions and depths (positive in front) of world points in a view with OpenGL axes."""
    local = (points - pose[:, 3]) @ pose[:, :3]
    depth = -local[:, 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    xy = np.stack([local[:, 0] / safe * focal + width / 2, -local[:, 1] / safe * focal + height / 2], axis=1)
    return xy, depth


def reconstruct(
    scene: Packed,
    views: list[Candidates],
    poses: Float[np.ndarray, "V 3 4"],
    focal: float,
    width: int,
    height: int,
    rng: np.random.Generator,
) -> Sparse:
    """Tracks and noisy points from every view's candidates."""
    true = np.concatenate([v.points for v in views])
    colours = np.concatenate([v.colours for v in views])
    n, v = len(true), len(poses)
    xy = np.empty((v, n, 2))
    seen = np.zeros((v, n), bool)
    for i, pose in enumerate(poses):
        xy[i], depth = project(true, pose, focal, width, height)
        inside = (depth > 0) & (xy[i] > 1).all(1) & (xy[i] < [width - 1, height - 1]).all(1)
        pick = np.flatnonzero(inside & (rng.random(n) < _SEEN))
        way = true[pick] - pose[:, 3]
        reach = np.linalg.norm(way, axis=1)
        hit, _ = cast(scene, np.broadcast_to(pose[:, 3], way.shape), way / reach[:, None])
        seen[i, pick] = np.abs(hit - reach) < 2e-3 * reach
    # Keep at most `_LONGEST` views of each point, at random.
    rank = np.argsort(np.argsort(np.where(seen, rng.random(seen.shape), 2.0), axis=0), axis=0)
    seen &= rank < _LONGEST
    least = 3 if v >= 6 else 2
    good = np.flatnonzero(seen.sum(0) >= least)
    target = min(wanted(v, width, height), len(good))
    good = np.sort(rng.permutation(good)[:target])
    true, colours, seen, xy = true[good], colours[good], seen[:, good], xy[:, good]
    first = seen.argmax(0)
    reach = np.linalg.norm(true - poses[first, :, 3], axis=1)
    points = true + rng.standard_normal(true.shape) * (_PIXEL_NOISE * reach / focal)[:, None]
    wrong = np.flatnonzero(rng.random(len(true)) < _OUTLIERS)
    centre = poses[first[wrong], :, 3]
    points[wrong] = centre + (true[wrong] - centre) * np.exp(rng.normal(0, 0.35, len(wrong)))[:, None]
    return _tracks(points, colours, seen, xy, wrong, poses, (focal, width, height), rng)


def _tracks(points, colours, seen, xy, wrong, poses, lens, rng) -> Sparse:
    """Observations of every point; outliers are seen where they project, by their first two such views."""
    xy = xy + rng.normal(0, _PIXEL_NOISE, xy.shape)
    again = np.stack([project(points, pose, *lens)[0] for pose in poses])
    if len(wrong):
        front = np.stack([project(points[wrong], pose, *lens)[1] > 0 for pose in poses])
        inside = front & (again[:, wrong] > 1).all(2) & (again[:, wrong] < np.array(lens[1:]) - 1).all(2)
        inside &= np.cumsum(inside, axis=0) <= 2
        seen[:, wrong] = inside
        xy[:, wrong] = again[:, wrong] + rng.normal(0, _PIXEL_NOISE, (len(poses), len(wrong), 2))
    kept = np.flatnonzero(seen.sum(0) >= 2)
    points, colours, seen, xy, again = points[kept], colours[kept], seen[:, kept], xy[:, kept], again[:, kept]
    xy = np.clip(xy, 0.01, np.array(lens[1:]) - 0.01)
    point, view = np.nonzero(seen.T)
    where = xy[view, point]
    off = np.linalg.norm(where - again[view, point], axis=1)
    error = np.bincount(point, off, len(points)) / np.maximum(1, np.bincount(point, minlength=len(points)))
    return Sparse(points, colours, error, point, view, where)
