"""Exact voxels of the street: classes by inside tests at 27 points a voxel, visibility by marching rays."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numba import njit

from ag2_ns.io.occ3d import FREE
from ag2_ns.ops.ray_march import march
from ag2_ns.ops.threads import for_ranges
from ag2_ns.ops.voxels import VoxelGrid
from ag2_ns.synthetic.street.sensors import cast
from ag2_ns.synthetic.tabletop.raytrace import _round_distance, _torus_distance, _transform
from ag2_ns.synthetic.tabletop.shapes import BOX, FRUSTUM, SPHERE, TORUS, Packed

FINE = 3
"""Inside tests along each edge of a voxel."""


@njit(cache=True)
def _inside(kind, p, a, b, c):
    """Whether a point of the unit shape's frame lies in it."""
    if kind == SPHERE:
        return a * a + b * b + c * c <= 1.0 and c <= p[0]
    if kind == BOX:
        return abs(a) <= 1.0 and abs(b) <= 1.0 and abs(c) <= 1.0
    if kind == FRUSTUM:
        radius = p[0] + (p[1] - p[0]) * c
        return 0.0 <= c <= 1.0 and a * a + b * b <= radius * radius
    if kind == TORUS:
        return _torus_distance(a, b, c, p[0], p[1]) <= 0.0
    return _round_distance(a, b, c, p[0], p[1], p[2], p[3]) <= 0.0


@njit(cache=True)
def _share(kind, p, m, x, y, z, step):
    """How many of a voxel's inside tests succeed; `m` maps the grid's frame to the unit shape's."""
    a, b, c = _transform(m, x, y, z, 1.0)
    if kind == BOX:  # most voxels lie wholly inside or outside of the ground and the houses
        ea = 0.5 * step * (abs(m[0, 0]) + abs(m[0, 1]) + abs(m[0, 2]))
        eb = 0.5 * step * (abs(m[1, 0]) + abs(m[1, 1]) + abs(m[1, 2]))
        ec = 0.5 * step * (abs(m[2, 0]) + abs(m[2, 1]) + abs(m[2, 2]))
        if abs(a) > 1.0 + ea or abs(b) > 1.0 + eb or abs(c) > 1.0 + ec:
            return 0
        if abs(a) < 1.0 - ea and abs(b) < 1.0 - eb and abs(c) < 1.0 - ec:
            return FINE**3
    count = 0
    for i in range(FINE):
        for j in range(FINE):
            for k in range(FINE):
                u = ((i + 0.5) / FINE - 0.5) * step
                v = ((j + 0.5) / FINE - 0.5) * step
                w = ((k + 0.5) / FINE - 0.5) * step
                count += _inside(
                    kind,
                    p,
                    a + m[0, 0] * u + m[0, 1] * v + m[0, 2] * w,
                    b + m[1, 0] * u + m[1, 1] * v + m[1, 2] * w,
                    c + m[2, 0] * u + m[2, 1] * v + m[2, 2] * w,
                )
    return count


@njit(cache=True, nogil=True)
def _fill(begin, end, boxes, body, kind, parameters, to_unit, kinds, low, step, most, out, owner):
    """The x slices begin .. end of the grid; `boxes` are the primitives' in the grid's frame."""
    ny, nz = out.shape[1], out.shape[2]
    for i in range(len(boxes)):
        box = boxes[i]
        x0 = max(begin, math.floor((box[0] - low[0]) / step))
        x1 = min(end, math.floor((box[3] - low[0]) / step) + 1)
        y0, y1 = max(0, math.floor((box[1] - low[1]) / step)), min(ny, math.floor((box[4] - low[1]) / step) + 1)
        z0, z1 = max(0, math.floor((box[2] - low[2]) / step)), min(nz, math.floor((box[5] - low[2]) / step) + 1)
        for u in range(x0, x1):
            for v in range(y0, y1):
                for w in range(z0, z1):
                    x, y, z = low[0] + (u + 0.5) * step, low[1] + (v + 0.5) * step, low[2] + (w + 0.5) * step
                    count = _share(kind[i], parameters[i], to_unit[i], x, y, z, step)
                    if count > most[u, v, w]:
                        most[u, v, w], out[u, v, w], owner[u, v, w] = count, kinds[body[i]], body[i]


def occupied(
    scene: Packed, kinds: Int[np.ndarray, " B"], ego: Float[np.ndarray, "4 4"], grid: VoxelGrid
) -> tuple[UInt8[np.ndarray, "X Y Z"], Int[np.ndarray, "X Y Z"]]:
    """Class of every voxel of the car's grid (that of the primitive which fills most of it), and the body there."""
    out = np.full(grid.shape, FREE, np.uint8)
    most, owner = np.zeros(grid.shape, np.int16), np.full(grid.shape, -1, np.int32)
    corners = scene.primitive_box[:, [[3 * (c >> k & 1) + k for k in range(3)] for c in range(8)]]
    turned = corners @ np.linalg.inv(ego)[:3, :3].T + np.linalg.inv(ego)[:3, 3]
    boxes = np.concatenate([turned.min(1), turned.max(1)], 1)
    body = np.repeat(np.arange(len(scene.box)), np.diff(scene.first))
    to_unit = np.ascontiguousarray(
        scene.inverse[:, :, :3] @ ego[:3] + scene.inverse[:, :, 3:] * np.array([0.0, 0, 0, 1])
    )
    for_ranges(
        _fill, grid.shape[0], boxes, body, scene.kind, scene.parameters, to_unit, np.asarray(kinds, np.uint8),
        np.array(grid.low), grid.voxel, most, out, owner, minimum=8,
    )  # fmt: skip
    return out, owner


def seen(
    scene: Packed,
    origins: Float[np.ndarray, "R 3"],
    directions: Float[np.ndarray, "R 3"],
    ego: Float[np.ndarray, "4 4"],
    grid: VoxelGrid,
) -> Bool[np.ndarray, "X Y Z"]:
    """Voxels of the car's grid that rays (given in the world) pass through or end in."""
    distance, _ = cast(scene, origins, directions)
    back = np.linalg.inv(ego)
    origins, directions = origins @ back[:3, :3].T + back[:3, 3], directions @ back[:3, :3].T
    return march(origins, directions, distance + 1e-4, grid)
