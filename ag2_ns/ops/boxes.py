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
    """The box of least volume."""
    import trimesh

    try:
        to_origin, size = trimesh.bounds.oriented_bounds(points)
    except (QhullError, ValueError, IndexError, TypeError):  # flat, or fewer than four points
        return upright_box(points, np.array([0.0, 0, 1]))
    rotation, shift = np.asarray(to_origin)[:3, :3], np.asarray(to_origin)[:3, 3]
    axes = rotation.copy()
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    return Box(-rotation.T @ shift, axes, np.asarray(size, float))
