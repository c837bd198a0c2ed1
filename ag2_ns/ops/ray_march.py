"""Rays through a voxel grid: which voxels they pass through, and in which they end."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from ag2_ns.ops.jit import jit
from ag2_ns.ops.threads import for_ranges
from ag2_ns.ops.voxels import VoxelGrid


@jit
def _march(start, stop, origins, directions, distance, low, step, passed):
    """Visit voxels in the order of the ray (Amanatides and Woo 1987, "A fast voxel traversal algorithm")."""
    shape = np.array(passed.shape)
    position, leap = np.empty(3), np.empty(3)
    move, place = np.empty(3, np.int64), np.empty(3, np.int64)
    for r in range(start, stop):
        near, far = 0.0, distance[r]
        missed = False
        for k in range(3):
            o, d = (origins[r, k] - low[k]) / step, directions[r, k] / step
            if abs(d) < 1e-12:
                missed = missed or o < 0 or o >= shape[k]
            else:
                a, b = -o / d, (shape[k] - o) / d
                near, far = max(near, min(a, b)), min(far, max(a, b))
        if missed or near >= far:
            continue
        for k in range(3):
            o, d = (origins[r, k] - low[k]) / step, directions[r, k] / step
            position[k] = o + d * (near + 1e-7)
            place[k] = min(max(math.floor(position[k]), 0), shape[k] - 1)
            move[k] = 1 if d > 0 else -1
            leap[k] = ((place[k] + (d > 0)) - o) / d if abs(d) > 1e-12 else 1e12
        while True:
            passed[place[0], place[1], place[2]] = True
            k = 0 if leap[0] <= leap[1] and leap[0] <= leap[2] else 1 if leap[1] <= leap[2] else 2
            if leap[k] > far:
                break
            place[k] += move[k]
            if place[k] < 0 or place[k] >= shape[k]:
                break
            leap[k] += step / abs(directions[r, k])


def march(
    origins: Float[np.ndarray, "R 3"],
    directions: Float[np.ndarray, "R 3"],
    distance: Float[np.ndarray, " R"],
    grid: VoxelGrid,
    out: Bool[np.ndarray, "X Y Z"] | None = None,
) -> Bool[np.ndarray, "X Y Z"]:
    """Voxels that rays pass through until they end, that of the end included.

    Args:
        origins: where rays begin; anywhere.
        directions: of any length.
        distance: where they end, in lengths of their direction.
        grid: the voxels.
        out: marks to add to.
    """
    out = np.zeros(grid.shape, np.bool_) if out is None else out
    arrays = [np.ascontiguousarray(a, np.float64) for a in (origins, directions, distance)]
    for_ranges(_march, len(arrays[0]), *arrays, np.array(grid.low, np.float64), float(grid.voxel), out, minimum=512)
    return out
