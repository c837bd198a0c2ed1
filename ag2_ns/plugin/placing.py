"""Poses and points of a capture in the frame of a run: centred, turned upright and scaled.

Coordinates far from the origin, as surveys have them, are centred in double precision before anything is cut to single.
For all others the arithmetic is nerfstudio's own, in the same order: what it placed before stays where it was, to the
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from torch import Tensor

from ag2_ns.plugin.capture import Capture, Points

FAR = 64.0
"""A capture is far from the origin where its centre is, by so many times the distance that its cameras have from it. In
single precision a coordinate is then still good to 1/250 000 of that distance, a hundredth of a pixel."""


@dataclass(frozen=True)
class Placement:
    """How a capture's frame becomes a run's: x -> scale * (rotation @ (x - offset) + shift)."""

    poses: Float[Tensor, "N 3 4"]
    """All cameras in the run's frame."""
    transform: Float[Tensor, "3 4"]
    """From the capture's frame, less its offset."""
    offset: Float[np.ndarray, "3"]
    """In the capture's frame, double precision; zeros where that is near the origin."""
    scale: float

    def points(self, points: Points) -> dict[str, Tensor]:
        """A point cloud as models of nerfstudio take it. Points that are not finite are left out."""
        xyz = torch.from_numpy((points.xyz - self.offset).astype(np.float32))
        xyz = (xyz @ self.transform[:3, :3].T + self.transform[:3, 3]) * self.scale
        found = {"points3D_xyz": xyz, "points3D_rgb": torch.as_tensor(points.rgb, dtype=torch.uint8)}
        if points.error is not None:
            found["points3D_error"] = torch.from_numpy(points.error.astype(np.float32))
        if points.track is not None:
            found["points3D_num_points2D"] = torch.from_numpy(points.track)
        finite = torch.isfinite(xyz).all(-1)
        return {key: value[finite] for key, value in found.items()} if len(xyz) else {}


def far_offset(centres: Sequence[np.ndarray]) -> Float[np.ndarray, "3"]:
    """What to subtract from coordinates before they are cut to single precision; zeros where nothing needs to be.

    Args:
        centres: where the cameras are.
    """
    places = np.asarray(centres, dtype=float)
    centre = places.mean(0)
    reach = float(np.linalg.norm(places - centre, axis=1).max())
    return np.round(centre, 3) if float(np.linalg.norm(centre)) > FAR * max(reach, 1e-9) else np.zeros(3)


def place(capture: Capture, orientation: str, center: str, auto_scale: bool) -> Placement:
    """Place a capture as nerfstudio's dataparsers do.

    Args:
        capture: all of it: which pictures are there, or in which split, moves nothing.
        orientation: pca, up, vertical or none.
        center: poses, focus or none.
        auto_scale: scale so that all cameras lie within +/- 1.
    """
    poses = np.array([frame.pose for frame in capture.frames])
    offset = far_offset(poses[:, :3, 3])
    poses[:, :3, 3] -= offset
    turned, transform = auto_orient_and_center_poses(
        torch.from_numpy(poses.astype(np.float32)), method=capture.orientation or orientation, center_method=center
    )
    scale = 1.0
    if auto_scale:
        scale /= float(torch.max(torch.abs(turned[:, :3, 3])))
    turned[:, :3, 3] *= scale
    return Placement(turned[:, :3], transform, offset, scale)


def from_world(capture: Capture, placed: Placement) -> dict[str, Any]:
    """How the original world, and the capture's own frame if that is another, become the run's frame.

    Returns `dataparser_transform`, `dataparser_scale`, `world_offset` and `file_frame` as outputs of a dataparser have
    them.

    The world is the one before `applied_transform` and `applied_scale`. The transform is of double precision, its
    rotation exactly orthogonal, where the world lies far from the origin: nerfstudio writes it to
    dataparser_transforms.json, which then gives all of the world back.
    """
    transform, offset = placed.transform, placed.offset
    applied = np.eye(4)[:3] if capture.applied is None else capture.applied
    world_offset = np.linalg.solve(applied[:, :3], offset / capture.applied_scale - applied[:, 3])
    if not offset.any():
        world_offset = np.zeros(3)
        if capture.applied is not None:
            whole = np.concatenate([applied, [[0, 0, 0, 1]]])
            before = transform.clone()
            before[:, 3] /= capture.applied_scale
            transform = before @ torch.tensor(whole.tolist(), dtype=transform.dtype)
        elif capture.applied_scale != 1:
            transform = transform.clone()
            transform[:, 3] /= capture.applied_scale
    else:
        u, _, v = torch.linalg.svd(transform[:, :3].double())
        rotation = (u @ v).numpy()
        shift = transform[:, 3].double().numpy() / capture.applied_scale
        linear = rotation @ applied[:, :3]
        transform = torch.from_numpy(np.concatenate([linear, (shift - linear @ world_offset)[:, None]], 1))
    return {
        "file_frame": _file_frame(capture, placed),
        "dataparser_transform": transform,
        "dataparser_scale": placed.scale * capture.applied_scale,
        "world_offset": torch.from_numpy(world_offset),
    }


def _file_frame(capture: Capture, placed: Placement) -> tuple[Float[Tensor, "3 4"], float] | None:
    """From the capture's own frame, in double precision; None where that is the original world."""
    if capture.applied is None and capture.applied_scale == 1:
        return None
    u, _, v = torch.linalg.svd(placed.transform[:, :3].double())
    rotation = u @ v
    shift = placed.transform[:, 3].double() - rotation @ torch.from_numpy(placed.offset)
    return torch.cat([rotation, shift[:, None]], 1), placed.scale
