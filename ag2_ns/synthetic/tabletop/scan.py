"""A dense scan of a table-top scene: surface points with colours and ids, as a depth camera would give them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.tabletop.generate import tabletop
from ag2_ns.synthetic.tabletop.render import render
from ag2_ns.synthetic.world import MARK, world_points


@dataclass(frozen=True)
class Scan:
    """N surface points, one per voxel, in the scene's world frame."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    label: Int[np.ndarray, " N"]
    """Id of the object (`labels.json`), 0 for the room."""


def scan(folder: Path, *, voxel: float = 0.012, views: int = 24, width: int = 240, height: int = 180) -> Scan:
    """Scan the scene in a folder that `generate` made, from poses around the table.

    Args:
        folder: the scene.
        voxel: edge of the cubes of which each keeps one point, scene units.
        views: pictures taken.
        width: pixels across.
        height: pixels down.

    Raises:
        UserError: not an example scene.
    """
    try:
        options = json.loads((Path(folder) / MARK).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder}: not a table-top scene (no {MARK}); make one with `ag2 example`") from None
    world = tabletop(options["seed"], options["objects"], views, width, height)
    lit = world.light_up()
    parts: list[tuple[np.ndarray, ...]] = []
    for pose in world.poses:
        frame = render(lit, pose, world.focal, width, height)
        xyz = world_points(frame.distance, pose, world.focal)
        ok = np.isfinite(xyz).all(2) & (frame.ids > 0)
        parts.append((xyz[ok], frame.rgb[ok], frame.ids[ok]))
    xyz, rgb, label = (np.concatenate(column) for column in zip(*parts))
    _, first = np.unique(np.floor(xyz / voxel).astype(np.int64), axis=0, return_index=True)
    return Scan(xyz[first].astype(np.float32), rgb[first], label[first].astype(np.int64))
