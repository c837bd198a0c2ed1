"""Boxes and convex hulls of instances, robust to floaters, as numbers and as glTF for robotics and other tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull, QhullError

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io.atomic import write_atomic
from ag2_ns.ops.boxes import Box, solid_points, upright_box


@dataclass(frozen=True)
class Hull:
    """A convex polyhedron."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""


def hull_of(gaussians: Gaussians) -> Hull:
    """The convex hull of Gaussians' centres, without floaters; a thin box where they are flat or too few.

    Raises:
        ValueError: no Gaussians.
    """
    points = solid_points(gaussians)
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        flat = upright_box(points, np.array([0.0, 0, 1]))
        least = 1e-3 * max(float(flat.size.max()), 1e-6)
        points = replace(flat, size=np.maximum(flat.size, least)).corners()
        hull = ConvexHull(points)
    used, faces = np.unique(hull.simplices, return_inverse=True)
    vertices, faces = points[used], faces.reshape(-1, 3)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * hull.equations[:, :3]).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return Hull(vertices, faces)


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
