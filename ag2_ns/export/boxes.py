"""Boxes and convex hulls of instances, robust to floaters, as numbers and as glTF for robotics and other tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from ag2_ns.data.atomic import write_atomic
from ag2_ns.edit.similarity import Similarity
from ag2_ns.errors import UserError
from ag2_ns.gaussians.gaussians import Gaussians

Shape = Literal["box", "upright", "oriented", "hull"]
"""A box along the frame's axes, one turned about the vertical, one turned freely, or a convex hull."""

TAIL = 0.02
"""Share of the opacity at either end of an axis that may be floaters."""

SLACK = 0.15
"""What lies beyond the rest by more than this share of its extent is left out."""


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

    def to_json(self) -> dict[str, Any]:
        """Plain numbers: centre, axes as rows, size."""
        return {k: np.asarray(getattr(self, k), float).round(9).tolist() for k in ("centre", "axes", "size")}


@dataclass(frozen=True)
class Hull:
    """A convex polyhedron."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""


def inliers(
    points: Float[Tensor, "N 3"], weights: Float[Tensor, " N"], tail: float = TAIL, slack: float = SLACK
) -> Bool[Tensor, " N"]:
    """Which points are no floaters: along every axis, at most `slack` beyond the bulk that holds all but the `tail`s.

    Args:
        points: centres.
        weights: how much each counts: opacities.
        tail: share of the weight cut off at each end to find the bulk.
        slack: how far beyond it a point may lie, in extents of the bulk.
    """
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.bool, device=points.device)
    low, high = (weighted_quantile(points, weights, q) for q in (tail, 1 - tail))
    room = slack * (high - low)
    return ((points >= low - room) & (points <= high + room)).all(1)


def weighted_quantile(points: Float[Tensor, "N C"], weights: Float[Tensor, " N"], q: float) -> Float[Tensor, " C"]:
    """Quantile of each column, where values count by weight; the smallest value with at least `q` of the weight."""
    value, order = points.detach().sort(0)
    share = torch.cumsum(weights.detach().double().clamp_min(1e-12)[order], 0)
    share = share / share[-1:]
    at = torch.searchsorted(share.T.contiguous(), share.new_full((points.shape[1], 1), q)).clamp_max(len(points) - 1)
    return value.gather(0, at.T)[0]


def robust_bounds(
    points: Float[Tensor, "N 3"], weights: Float[Tensor, " N"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Lower and upper corner of the points without floaters.

    Raises:
        ValueError: no points.
    """
    kept = points.detach()[inliers(points, weights)]
    if len(kept) == 0:
        if len(points) == 0:
            raise ValueError("bounds of no points")
        kept = points.detach()
    return kept.amin(0), kept.amax(0)


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
    points = _solid(gaussians)
    if shape == "box":
        return _box_along(points, np.eye(3))
    if shape == "oriented":
        return _oriented(points)
    return _upright(points, np.asarray(up, float))


def hull_of(gaussians: Gaussians) -> Hull:
    """The convex hull of Gaussians' centres, without floaters; a thin box where they are flat or too few.

    Raises:
        ValueError: no Gaussians.
    """
    points = _solid(gaussians)
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        flat = _upright(points, np.array([0.0, 0, 1]))
        least = 1e-3 * max(float(flat.size.max()), 1e-6)
        points = replace(flat, size=np.maximum(flat.size, least)).corners()
        hull = ConvexHull(points)
    used, faces = np.unique(hull.simplices, return_inverse=True)
    vertices, faces = points[used], faces.reshape(-1, 3)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * hull.equations[:, :3]).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return Hull(vertices, faces)


def _solid(gaussians: Gaussians) -> Float[np.ndarray, "N 3"]:
    if len(gaussians) == 0:
        raise ValueError("a box of no Gaussians")
    points = gaussians.means.detach()
    kept = points[inliers(points, gaussians.opacities)]
    return (kept if len(kept) else points).double().cpu().numpy()


def _box_along(points: Float[np.ndarray, "N 3"], axes: Float[np.ndarray, "3 3"]) -> Box:
    local = points @ axes.T
    low, high = local.min(0), local.max(0)
    return Box((low + high) / 2 @ axes, axes, high - low)


def _upright(points: Float[np.ndarray, "N 3"], up: Float[np.ndarray, "3"]) -> Box:
    """One side of the smallest rectangle around a polygon lies along an edge of its hull (Freeman, Shapira 1975)."""
    up = up / np.linalg.norm(up)
    first = np.cross(np.eye(3)[np.abs(up).argmin()], up)
    first /= np.linalg.norm(first)
    second = np.cross(up, first)
    flat = points @ np.stack([first, second], 1)
    try:
        ring = flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):
        return _box_along(points, np.stack([first, second, up]))
    edge = np.roll(ring, -1, 0) - ring
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    across = np.stack([-edge[:, 1], edge[:, 0]], 1)
    area = np.ptp(ring @ edge.T, 0) * np.ptp(ring @ across.T, 0)
    x, y = edge[area.argmin()]
    return _box_along(points, np.stack([x * first + y * second, -y * first + x * second, up]))


def _oriented(points: Float[np.ndarray, "N 3"]) -> Box:
    import trimesh

    try:
        to_origin, size = trimesh.bounds.oriented_bounds(points)
    except (QhullError, ValueError, IndexError):  # flat, or fewer than four points
        return _upright(points, np.array([0.0, 0, 1]))
    rotation, shift = np.asarray(to_origin)[:3, :3], np.asarray(to_origin)[:3, 3]
    axes = rotation.copy()
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    return Box(-rotation.T @ shift, axes, np.asarray(size, float))


def write_glb(
    path: str | Path,
    shapes: Mapping[str, Box | Hull],
    extras: Mapping[str, Mapping[str, Any]] | None = None,
    colours: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Write boxes and hulls as a binary glTF file, one named mesh each, atomically.

    Coordinates are those of the splat exported with it: no axes are swapped, so a viewer that takes y for up shows a
    z-up scene lying on its back.

    Args:
        path: the file; its folder is made when missing.
        shapes: by name.
        extras: application data by name, written as glTF `extras` of the node.
        colours: 0 to 255 by name; grey where missing.

    Raises:
        UserError: nothing to write, or the file cannot be written.
    """
    import trimesh

    if not shapes:
        raise UserError(f"{path}: no instance to write a shape of; choose a selection or another level")
    scene = trimesh.Scene()
    for name, shape in shapes.items():
        mesh = _mesh(shape)
        colour = [c / 255 for c in (colours or {}).get(name, (160, 160, 160))]
        mesh.visual = trimesh.visual.TextureVisuals(
            material=trimesh.visual.material.PBRMaterial(
                baseColorFactor=[*colour, 0.5], alphaMode="BLEND", doubleSided=True, metallicFactor=0.0
            )
        )
        mesh.metadata = {}
        scene.add_geometry(mesh, node_name=name, geom_name=name, metadata=dict((extras or {}).get(name, {})))
    write_atomic(Path(path), scene.export(file_type="glb"))


def _mesh(shape: Box | Hull) -> Any:
    import trimesh

    if isinstance(shape, Hull):
        return trimesh.Trimesh(shape.vertices, shape.faces, process=False)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = shape.axes.T, shape.centre
    return trimesh.creation.box(np.maximum(shape.size, 1e-9), pose)
