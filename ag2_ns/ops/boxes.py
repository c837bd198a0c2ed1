"""Boxes of any orientation around Gaussians, robust to floaters."""

from __future__ import annotations

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
    two faces and its ends, and the hull's corners."""
    out, least = np.eye(3), np.inf
    seen = np.empty(len(begin), np.int64)
    for normal in normals:
        low, high = np.inf, -np.inf
        for point in corners:
            at = normal[0] * point[0] + normal[1] * point[1] + normal[2] * point[2]
            low, high = min(low, at), max(high, at)
        count = 0
        for e in range(len(begin)):
            a = normal[0] * one[e, 0] + normal[1] * one[e, 1] + normal[2] * one[e, 2]
            b = normal[0] * other[e, 0] + normal[1] * other[e, 1] + normal[2] * other[e, 2]
            if (a > -1e-9 and b < 1e-9) or (b > -1e-9 and a < 1e-9):
                seen[count] = e
                count += 1
        for e in seen[:count]:
            along = end[e] - begin[e]
            along -= normal * (along * normal).sum()
            length = np.sqrt((along * along).sum())
            if length < 1e-12:
                continue
            along /= length
            across = np.cross(normal, along)
            least_x, most_x, least_y, most_y = np.inf, -np.inf, np.inf, -np.inf
            for k in seen[:count]:
                x = along[0] * begin[k, 0] + along[1] * begin[k, 1] + along[2] * begin[k, 2]
                y = across[0] * begin[k, 0] + across[1] * begin[k, 1] + across[2] * begin[k, 2]
                least_x, most_x = min(least_x, x), max(most_x, x)
                least_y, most_y = min(least_y, y), max(most_y, y)
                x = along[0] * end[k, 0] + along[1] * end[k, 1] + along[2] * end[k, 2]
                y = across[0] * end[k, 0] + across[1] * end[k, 1] + across[2] * end[k, 2]
                least_x, most_x = min(least_x, x), max(most_x, x)
                least_y, most_y = min(least_y, y), max(most_y, y)
            volume = (high - low) * (most_x - least_x) * (most_y - least_y)
            if volume < least:
                least = volume
                out[0], out[1], out[2] = along, across, normal
    return out
