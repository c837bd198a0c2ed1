"""Predicted Gaussians as a splat and as a scene to train on: coloured by the pictures they were predicted from."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from plyfile import PlyData, PlyElement
from torch import Tensor
from torch.nn.functional import grid_sample

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.io.atomic import write_atomic
from ag2_ns.io.surround import Record
from ag2_ns.ops.sh import rgb_to_sh


def coloured(gaussians: Gaussians, images: list[UInt8[np.ndarray, "H W 3"]], views: list[View]) -> Gaussians:
    """Gaussians with the colours of the pixels that show their centres; V x Q of them, view by view."""
    each = len(gaussians) // len(views)
    colours = []
    for v, (image, view) in enumerate(zip(images, views)):
        means = gaussians.means[v * each : (v + 1) * each]
        camera = means @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
        pixel = camera @ view.K.T
        pixel = pixel[:, :2] / pixel[:, 2:].clamp_min(1e-6) / means.new_tensor([view.width, view.height])
        picture = torch.from_numpy(np.array(image)).to(means).movedim(-1, 0)[None] / 255
        found = grid_sample(picture, (2 * pixel - 1)[None, None], padding_mode="border", align_corners=False)
        colours.append(found[0, :, 0].T)
    sh = rgb_to_sh(torch.cat(colours))[:, None]
    return Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, sh)


def solid(gaussians: Gaussians, least: float) -> Tensor:
    """Which Gaussians are worth keeping as things: opaque enough."""
    return gaussians.opacities >= least


def write_scene(
    folder: Path, records: list[Record], points: Float[np.ndarray, "N 3"], colours: UInt8[np.ndarray, "N 3"]
) -> None:
    """A scene that `ns-train ag2aussian --data` starts from: the pictures, their poses, and Gaussians as its points.

    Args:
        folder: where it goes.
        records: frames of one drive.
        points: in the ego frame of the first record.
        colours: of the points.
    """
    base = torch.linalg.inv(records[0].ego2global)
    frames = []
    for k, record in enumerate(records):
        for camera in record.cameras:
            name = f"images/{k:04d}_{camera.name}{camera.image.suffix}"
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(camera.image, target)
            except OSError:
                shutil.copyfile(camera.image, target)
            pose = base @ record.ego2global @ camera.cam2ego
            pose[:, 1:3] *= -1  # nerfstudio's cameras look along -z
            K = camera.cam2img
            frames.append({
                "file_path": name, "transform_matrix": pose.tolist(), "w": camera.width, "h": camera.height,
                "fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2]),
            })  # fmt: skip
    rows = np.empty(len(points), [(c, "f4") for c in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])
    for i, c in enumerate("xyz"):
        rows[c] = points[:, i]
    for i, c in enumerate(("red", "green", "blue")):
        rows[c] = colours[:, i]
    content = io.BytesIO()
    PlyData([PlyElement.describe(rows, "vertex")]).write(content)
    write_atomic(folder / "sparse_pc.ply", content.getvalue())
    meta = {"camera_model": "OPENCV", "ply_file_path": "sparse_pc.ply", "frames": frames}
    write_atomic(folder / "transforms.json", json.dumps(meta, indent=1).encode())
