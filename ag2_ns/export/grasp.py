"""What a grasp planner asks of a thing: where it is, how it lies, what it stands on, and its surface.

`grasp.json` describes every instance, `grasp-NUMBER.ply` holds points of its surface with normals. Everything is
right-handed, in one frame that the JSON names: that of the capture's cameras where it is known (their `world`, whose
unit is a metre where the capture is metric, or becomes one with `--metres-per-unit`), else the run's. `up` is the
vertical in that frame. A pose is a position and a quaternion x, y, z, w, as ROS has them, whose rotation takes the axes
of the box (x the longest edge of its footprint, z up) to the frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from plyfile import PlyData, PlyElement
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.export.boxes import hull_of
from ag2_ns.export.formats import ExportJob, Written, counted, world_of
from ag2_ns.io.atomic import replacing, write_atomic
from ag2_ns.ops.bounds import inliers
from ag2_ns.ops.boxes import Box, box_of
from ag2_ns.ops.similarity import Similarity
from ag2_ns.rendering import render
from ag2_ns.rendering.base import Rasterizer

POINTS = 2000
"""Surface points of one instance at most."""

SOLID = 0.3
"""Opacity that a Gaussian of the surface has at least."""

NEIGHBOURS = 12
"""Points that a normal is fitted to."""

VIEWS = 24
"""Cameras that decide on which side of a surface free space is."""

SUPPORT = 0.02
"""The support is the height below which this share of the points lies."""

ROUND = 6
"""Decimals."""


@dataclass(frozen=True)
class Surface:
    """Points of a surface, with normals into free space."""

    points: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"]


@dataclass(frozen=True)
class Placement:
    """From the run's frame to that of the file: a similarity, an offset in double precision, and what to call it."""

    frame: Similarity
    offset: Float[np.ndarray, "3"]
    name: str
    units: str

    def points(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """Points of the run in the file's frame."""
        return self.frame.points(torch.from_numpy(np.asarray(points, float))).numpy() + self.offset

    def directions(self, vectors: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """Directions of the run in the file's frame."""
        return np.asarray(vectors, float) @ self.frame.rotation.double().numpy().T

    def box(self, box: Box) -> Box:
        """A box of the run in the file's frame."""
        moved = box.moved(self.frame)
        return Box(moved.centre + self.offset, moved.axes, moved.size)


def write(job: ExportJob) -> Written:
    """Write grasp.json and the surface of every instance that is shown."""
    place = placement(job)
    up = place.directions(np.array([[0.0, 0.0, 1.0]]))[0]
    views = _spread([v.view for v in job.scene.views], VIEWS)
    seen = depths_of(job.edited.gaussians, views, job.scene.rasterizer)
    things, written = [], []
    for number in sorted(job.shown):
        own = job.edited.gaussians[job.labelled.instance == number]
        surface = surface_of(own, seen)
        name = f"grasp-{number}.ply"
        moved = Surface(place.points(surface.points), place.directions(surface.normals))
        write_surface(job.folder / name, moved)
        written.append((job.folder / name, counted(len(moved.points), "surface point")))
        info = job.labelled.known[number]
        about = {"instance": number, "label": info.label, "score": info.score, "surface": name}
        things.append(about | describe(own, surface, place))
    content = {
        "format": "ag2-grasp",
        "version": 1,
        "frame": place.name,
        "units": place.units,
        "up": _plain(up),
        "things": things,
    }
    path = job.folder / "grasp.json"
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
    return [(path, f"{counted(len(things), 'thing')}, {place.name} frame, {place.units}"), *written]


def placement(job: ExportJob) -> Placement:
    """The frame of the file: the world's where it is known."""
    metres = job.options.metres_per_unit
    if job.scene.frame is None:
        scale = 1.0 if metres is None else metres
        own = Similarity.identity()
        frame = Similarity(own.rotation, scale, own.translation)
        return Placement(frame, np.zeros(3), "run", "scene units" if metres is None else "metres")
    world, offset = world_of(job.scene), np.array(job.scene.frame.offset, float)
    if metres is None:
        return Placement(world, offset, "world", "units of the capture's cameras (metres where they are metric)")
    scaled = Similarity(world.rotation, world.scale * metres, world.translation * metres)
    return Placement(scaled, offset * metres, "world", "metres")


def describe(gaussians: Gaussians, surface: Surface, place: Placement) -> dict[str, Any]:
    """Everything but the surface, as plain numbers in the file's frame.

    Args:
        gaussians: of one thing, in the run's frame, whose z is up.
        surface: its surface, in the run's frame.
        place: the file's frame.
    """
    points = surface.points if len(surface.points) >= 4 else solid_points(gaussians)
    centre = points.mean(0)
    values, vectors = np.linalg.eigh(np.cov((points - centre).T) if len(points) > 1 else np.zeros((3, 3)))
    axes = vectors.T[::-1].copy()
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    deviations = np.sqrt(np.clip(values[::-1], 0, None)) * place.frame.scale
    upright = _longest_first(place.box(box_of(gaussians, "upright")), place.directions(np.array([[0.0, 0, 1]]))[0])
    free, hull = place.box(box_of(gaussians, "oriented")), hull_of(gaussians)
    support = float(np.quantile(points[:, 2], SUPPORT))
    ring = footprint(points)
    outline = np.column_stack([ring, np.full(len(ring), support)])
    return {
        "centroid": _plain(place.points(centre[None])[0]),
        "pose": {
            "position": _plain(upright.centre),
            "orientation": _plain(Rotation.from_matrix(upright.axes.T).as_quat()),
        },
        "size": _plain(upright.size),
        "oriented_box": free.to_json(),
        "principal_axes": [
            {"direction": _plain(d), "deviation": round(float(s), ROUND)}
            for d, s in zip(place.directions(axes), deviations)
        ],
        "height": round(float(points[:, 2].max() - support) * place.frame.scale, ROUND),
        "footprint": _plain(place.points(outline)),
        "hull": {"vertices": _plain(place.points(hull.vertices)), "faces": hull.faces.tolist()},
    }


def footprint(points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "K 2"]:
    """Convex outline of points seen from above, counter-clockwise; of too few or collinear ones their box."""
    flat = points[:, :2]
    try:
        return flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):
        (x0, y0), (x1, y1) = flat.min(0), flat.max(0)
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def solid_points(gaussians: Gaussians) -> Float[np.ndarray, "P 3"]:
    """Centres without floaters and without what is nearly transparent, where enough are left."""
    kept = inliers(gaussians.means, gaussians.opacities)
    for mask in (kept & (gaussians.opacities >= SOLID), kept):
        if int(mask.sum()) >= 4:
            return gaussians.means[mask].detach().double().cpu().numpy()
    return gaussians.means.detach().double().cpu().numpy()


def surface_of(gaussians: Gaussians, seen: Sequence[tuple[View, Tensor]]) -> Surface:
    """Points of a thing's surface and the normals of the planes through their neighbours.

    A normal points to where a camera that sees the point is, or away from the middle where none does.

    Args:
        gaussians: of one thing.
        seen: cameras and the depth that each sees of the whole scene.
    """
    points = solid_points(gaussians)
    if len(points) > POINTS:
        points = points[np.random.default_rng(0).choice(len(points), POINTS, replace=False)]
    if len(points) < 4:
        return Surface(points, np.tile([0.0, 0.0, 1.0], (len(points), 1)))
    near = cKDTree(points).query(points, min(NEIGHBOURS, len(points)))
    around = points[near[1]]
    around = around - around.mean(1, keepdims=True)
    normals = np.linalg.svd(around, full_matrices=False)[2][:, -1]
    gap = float(np.median(near[0][:, 1:])) * 3
    towards = points - points.mean(0)
    best = np.zeros(len(points))
    for view, depth in seen:
        pose = view.viewmat.double().cpu().numpy()
        eye, local = -pose[:3, :3].T @ pose[:3, 3], points @ pose[:3, :3].T + pose[:3, 3]
        K = view.K.double().cpu().numpy()
        ahead = local[:, 2] > 1e-6
        pixel = np.floor((local[:, :2] / np.where(ahead, local[:, 2], 1.0)[:, None]) * [K[0, 0], K[1, 1]] + K[:2, 2])
        inside = ahead & (pixel >= 0).all(1) & (pixel < [view.width, view.height]).all(1)
        x, y = np.where(inside[:, None], pixel, 0).astype(int).T
        shown = inside & (local[:, 2] <= depth.cpu().numpy()[y, x] + gap)
        away = eye - points
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        facing = np.abs((normals * away).sum(1))
        better = shown & (facing > best)
        towards[better], best[better] = away[better], facing[better]
    sign = np.sign((normals * towards).sum(1))
    return Surface(points, normals * np.where(sign == 0, 1.0, sign)[:, None])


def write_surface(path, surface: Surface) -> None:
    """Points and normals as a binary PLY, atomically."""
    names = ("x", "y", "z", "nx", "ny", "nz")
    table = np.empty(len(surface.points), [(n, "<f8" if n in "xyz" else "<f4") for n in names])
    for name, column in zip(names, np.hstack([surface.points, surface.normals]).T):
        table[name] = column
    with replacing(path) as temporary:
        PlyData([PlyElement.describe(table, "vertex")], byte_order="<").write(str(temporary))


def depths_of(gaussians: Gaussians, views: Sequence[View], rasterizer: Rasterizer) -> list[tuple[View, Tensor]]:
    """Each view with its picture of depths, H x W, scene units."""
    return [(v, render(gaussians, v, rasterizer, sh_degree=0).depth[..., 0]) for v in views]


def _spread(views: Sequence[View], count: int) -> list[View]:
    step = max(1.0, len(views) / count)
    return [views[int(k * step)] for k in range(min(count, len(views)))]


def _longest_first(box: Box, up: Float[np.ndarray, "3"]) -> Box:
    """An upright box with z up and the longer edge of its footprint along x."""
    order = np.argsort(np.abs(box.axes @ up), kind="stable")
    flat = sorted(order[:2], key=lambda k: -box.size[k])
    z = box.axes[order[2]] * (1 if box.axes[order[2]] @ up >= 0 else -1)
    x = box.axes[flat[0]]
    axes = np.stack([x, np.cross(z, x), z])
    return Box(box.centre, axes, box.size[[flat[0], flat[1], order[2]]])


def _plain(values: np.ndarray) -> list:
    return np.asarray(values, float).round(ROUND).tolist()
