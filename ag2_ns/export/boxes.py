"""Boxes and convex hulls of instances, robust to floaters, as numbers and as glTF for robotics and other tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull, QhullError

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io.atomic import write_atomic
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


@dataclass(frozen=True)
class Hull:
    """A convex polyhedron."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""


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
