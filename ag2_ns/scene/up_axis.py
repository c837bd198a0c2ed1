"""Which way is up: from how the cameras are held, corrected by the planes that things stand on.

People hold cameras level, so the direction that is most nearly square to all of the cameras' x axes is the vertical,
up to a few degrees. Tables and floors are exact: where a large plane lies within `PLANE_ANGLE` of the cameras'
vertical, its normal is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.view import View

PLANE_ANGLE = 20.0
"""Degrees between the cameras' vertical and a plane's normal beyond which the plane is a wall or a slope."""
PLANE_SHARE = 0.12
"""Share of the points that a plane must hold to be a floor or a table top; on table-tops the table has 0.25 to 0.4."""
THICKNESS = 0.006
"""How far from a plane its points may lie, in diagonals of the scene: a few voxels of the finest growth."""
TRIES, SAMPLE = 300, 4000
"""Planes tried, each through three points of a sample of this size."""


def camera_up(views: Sequence[View]) -> Float[np.ndarray, "3"] | None:
    """The vertical by the cameras, or None where they say nothing (fewer than one, or rolled in all directions)."""
    if not views:
        return None
    rows = np.stack([v.viewmat[:3, :3].double().cpu().numpy() for v in views])
    right, up = rows[:, 0], -rows[:, 1]
    mean = up.mean(0)
    if np.linalg.norm(mean) < 0.1:
        return None
    # With cameras all around, the axes' smallest principal direction is the vertical; from one side it is not unique.
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    if values[1] < 0.05:
        return mean / np.linalg.norm(mean)
    axis = vectors[:, 0]
    return axis * np.sign(axis @ mean)


def find_up(
    points: Float[Tensor, "N 3"],
    weights: Float[Tensor, " N"],
    views: Sequence[View] = (),
) -> Float[np.ndarray, "3"]:
    """The unit vector that points up.

    Args:
        points: centres of the scene's Gaussians.
        weights: their opacities.
        views: cameras of the scene; without any, +z is taken for the rough vertical, as nerfstudio orients scenes.
    """
    rough = camera_up(views)
    rough = np.array([0.0, 0.0, 1.0]) if rough is None else rough
    rng = np.random.default_rng(0)
    p, w = points.detach().double().cpu().numpy(), weights.detach().double().cpu().numpy()
    good = np.isfinite(p).all(1) & (w > 0.1)
    p = p[good]
    if len(p) < 50:
        return rough
    low, high = np.quantile(p, [0.02, 0.98], axis=0)
    p = p[((p >= low) & (p <= high)).all(1)]
    if len(p) < 50:
        return rough
    p = p[rng.permutation(len(p))[:SAMPLE]]
    reach = THICKNESS * float(np.linalg.norm(high - low))
    three = p[rng.integers(len(p), size=(TRIES, 3))]
    normal = np.cross(three[:, 1] - three[:, 0], three[:, 2] - three[:, 0])
    length = np.linalg.norm(normal, axis=1)
    normal = normal[length > 1e-12] / length[length > 1e-12, None]
    offset = (normal * three[length > 1e-12, 0]).sum(1)
    normal, offset = normal * np.sign(normal @ rough)[:, None], offset * np.sign(normal @ rough)
    upright = normal @ rough > np.cos(np.radians(PLANE_ANGLE))
    if not upright.any():
        return rough
    held = np.abs(p @ normal[upright].T - offset[upright]) < reach
    best = int(held.sum(0).argmax())
    if held[:, best].mean() < PLANE_SHARE:
        return rough
    axis, inside = normal[upright][best], held[:, best]
    for _ in range(3):
        on = p[inside]
        middle = on.mean(0)
        axis = np.linalg.svd(on - middle, full_matrices=False)[2][2]
        axis = axis * np.sign(axis @ rough)
        inside = np.abs((p - middle) @ axis) < reach
        if inside.sum() < 10:
            return rough
    return torch.nn.functional.normalize(torch.from_numpy(axis), dim=0).numpy()


def upright_frame(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Right-handed axes, one per row, the last of which is `up`."""
    up = np.asarray(up, float)
    up = up / np.linalg.norm(up)
    first = np.cross(np.eye(3)[np.abs(up).argmin()], up)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up])
