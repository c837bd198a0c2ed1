"""Boxes of any orientation around Gaussians, robust to floaters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.bounds import inliers
from ag2_ns.ops.jit import jit
from ag2_ns.ops.similarity import Similarity

Shape = Literal["box", "upright", "oriented", "hull"]
"""A box along the frame's axes, one turned about the vertical, one turned freely, or a convex hull."""


@dataclass(frozen=True)
class Box:
    """A box of any orientation."""

    centre: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]
    """Directions of its edges, one per row, right-handed."""
    size: Float[np.ndarray, "3"]
    """Edge lengths along `axes`, scene units."""

    def corners(self) -> Float[np.ndarray, "8 3"]:
        """The corners; bit k of a corner's number says at which end of axis k it lies."""
        signs = (np.arange(8)[:, None] >> np.arange(3) & 1) - 0.5
        return self.centre + (signs * self.size) @ self.axes

    def moved(self, frame: Similarity) -> Box:
        """The box in another frame."""
        centre = frame.points(torch.from_numpy(self.centre)[None].double())[0].numpy()
        axes = self.axes @ frame.rotation.numpy().T
        if np.linalg.det(axes) < 0:
            axes[2] *= -1  # a box is its own mirror image
        return Box(centre, axes, self.size * frame.scale)

    def shifted(self, offset: tuple[float, float, float]) -> Box:
        """The box elsewhere, in double precision."""
        return Box(self.centre.astype(np.float64) + np.array(offset), self.axes, self.size)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers: centre, axes as rows, size."""
        return {k: np.asarray(getattr(self, k), float).round(9).tolist() for k in ("centre", "axes", "size")}


def box_of(gaussians: Gaussians, shape: Shape = "box", up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> Box:
    """The box around Gaussians' centres, without floaters.

    Args:
        gaussians: at least one.
        shape: "box" along the axes; "upright" of least area seen along `up`; "oriented" of least volume. A "hull" has
            an upright box.
        up: the vertical.

    Raises:
        ValueError: no Gaussians.
    """
    points = solid_points(gaussians)
    if shape == "box":
        return box_along(points, np.eye(3))
    if shape == "oriented":
        return oriented_box(points)
    return upright_box(points, np.asarray(up, float))


def solid_points(gaussians: Gaussians) -> Float[np.ndarray, "N 3"]:
    """Centres of the Gaussians that are no floaters; all of them where that leaves none.

    Raises:
        ValueError: no Gaussians.
    """
    if len(gaussians) == 0:
        raise ValueError("a box of no Gaussians")
    points = gaussians.means.detach()
    kept = points[inliers(points, gaussians.opacities)]
    return (kept if len(kept) else points).double().cpu().numpy()


def box_along(points: Float[np.ndarray, "N 3"], axes: Float[np.ndarray, "3 3"]) -> Box:
    """The box around points along three given directions, one per row."""
    local = points @ axes.T
    low, high = local.min(0), local.max(0)
    return Box((low + high) / 2 @ axes, axes, high - low)


def upright_box(points: Float[np.ndarray, "N 3"], up: Float[np.ndarray, "3"]) -> Box:
    """The box of least area seen along `up`.

    One side of the smallest rectangle around a polygon lies along an edge of its hull (Freeman, Shapira 1975).
    """
    up = up / np.linalg.norm(up)
    first = np.cross(np.eye(3)[np.abs(up).argmin()], up)
    first /= np.linalg.norm(first)
    second = np.cross(up, first)
    flat = points @ np.stack([first, second], 1)
    try:
        ring = flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):
        return box_along(points, np.stack([first, second, up]))
    edge = np.roll(ring, -1, 0) - ring
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    across = np.stack([-edge[:, 1], edge[:, 0]], 1)
    area = np.ptp(ring @ edge.T, 0) * np.ptp(ring @ across.T, 0)
    x, y = edge[area.argmin()]
    return box_along(points, np.stack([x * first + y * second, -y * first + x * second, up]))


def oriented_box(points: Float[np.ndarray, "N 3"]) -> Box:
    """The box of least volume that lies flat on a face of the points' hull.

    Seen along the normal of a face, a side of the smallest rectangle lies along an edge of the outline, and the outline
    is made of edges of the hull between a face that is seen and one that is not.
    """
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError, IndexError):  # flat, or fewer than four points
        return upright_box(points, np.array([0.0, 0, 1]))
    normals = np.unique(hull.equations[:, :3].round(6), axis=0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # An edge lies in two faces, each of which lists the other behind the corner that is not of the edge.
    face, corner = (hull.neighbors > np.arange(len(hull.neighbors))[:, None]).nonzero()
    ends = hull.simplices[face[:, None], (corner[:, None] + [1, 2]) % 3]
    best = _least_volume(
        normals, hull.equations[face, :3], hull.equations[hull.neighbors[face, corner], :3],
        np.ascontiguousarray(points[ends[:, 0]]), np.ascontiguousarray(points[ends[:, 1]]), points[hull.vertices],
    )  # fmt: skip
    box = box_along(points, best)
    order = np.argsort(box.size)
    axes = box.axes[order]
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    return Box(box.centre, axes, box.size[order])


@jit
def _least_volume(normals, one, other, begin, end, corners):
    """Axes of the box of least volume (see `oriented_box`), from the faces' normals, for each edge the normals of its
    two faces and its ends, and the hull's corners.
    """
    out, least = np.eye(3), np.inf
    seen = np.empty(len(begin), np.int64)
    for f in range(len(normals)):
        nx, ny, nz = normals[f, 0], normals[f, 1], normals[f, 2]
        low, high = np.inf, -np.inf
        for k in range(len(corners)):
            z = nx * corners[k, 0] + ny * corners[k, 1] + nz * corners[k, 2]
            low, high = min(low, z), max(high, z)
        count = 0
        for e in range(len(begin)):
            a = nx * one[e, 0] + ny * one[e, 1] + nz * one[e, 2]
            b = nx * other[e, 0] + ny * other[e, 1] + nz * other[e, 2]
            if (a > -1e-9 and b < 1e-9) or (b > -1e-9 and a < 1e-9):
                seen[count] = e
                count += 1
        for i in range(count):
            e = seen[i]
            x, y, z = end[e, 0] - begin[e, 0], end[e, 1] - begin[e, 1], end[e, 2] - begin[e, 2]
            up = x * nx + y * ny + z * nz
            x, y, z = x - up * nx, y - up * ny, z - up * nz
            length = math.sqrt(x * x + y * y + z * z)
            if length < 1e-12:
                continue
            x, y, z = x / length, y / length, z / length
            u, v, w = ny * z - nz * y, nz * x - nx * z, nx * y - ny * x
            from_x, to_x, from_u, to_u = np.inf, -np.inf, np.inf, -np.inf
            for j in range(count):  # each corner of the outline begins or ends an edge of it
                k = seen[j]
                for ends in (begin, end):
                    along = x * ends[k, 0] + y * ends[k, 1] + z * ends[k, 2]
                    across = u * ends[k, 0] + v * ends[k, 1] + w * ends[k, 2]
                    from_x, to_x = min(from_x, along), max(to_x, along)
                    from_u, to_u = min(from_u, across), max(to_u, across)
            volume = (high - low) * (to_x - from_x) * (to_u - from_u)
            if volume < least:
                least = volume
                out[0, 0], out[0, 1], out[0, 2] = x, y, z
                out[1, 0], out[1, 1], out[1, 2] = u, v, w
                out[2, 0], out[2, 1], out[2, 2] = nx, ny, nz
    return out
