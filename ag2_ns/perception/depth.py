"""Metric depth of a camera's picture: by a model of `transformers`, or from the LiDAR sweep of the same frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.io.surround import Camera, Record, read_lidar

FAR = 80.0
"""Depth of pixels that no LiDAR point is near, metres: sky, as far as one can tell."""

NEAR_POINT = 0.03
"""A pixel takes the depth of the nearest LiDAR point within this share of the picture's width."""


class DepthModel:
    """A metric depth model (Depth Anything V2 metric, ZoeDepth, ...) from a folder as `save_pretrained` writes it."""

    name = "model"

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        try:
            from transformers import AutoImageProcessor, AutoModelForDepthEstimation
        except ImportError:
            raise UserError("depth models need transformers; install it with pip install 'ag2-ns[surround]'") from None
        if not (Path(weights) / "config.json").is_file():
            raise UserError(f"{weights}: no config.json; name a folder with a depth model's config.json and weights")
        try:
            self._process = AutoImageProcessor.from_pretrained(str(weights), local_files_only=True, use_fast=False)
            self._model = AutoModelForDepthEstimation.from_pretrained(str(weights), local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"{weights}: not a depth model of transformers ({first_line(error)})") from error
        self._model = self._model.eval().to(device)
        self.settings = {"depth": self.name, "weights": str(weights)}

    @torch.no_grad()
    def depth(self, image: UInt8[np.ndarray, "H W 3"], record: Record, camera: Camera) -> Float[np.ndarray, "H W"]:
        """Metres along the camera's axis, at the picture's size."""
        inputs = self._process(images=image, return_tensors="pt").to(self._model.device)
        found = self._model(**inputs).predicted_depth
        found = torch.nn.functional.interpolate(found[:, None].float(), image.shape[:2], mode="bilinear")
        return found[0, 0].clamp_min(0).cpu().numpy()


class LidarDepth:
    """Depth of the nearest LiDAR point in the picture; for frames without a depth model."""

    name = "lidar"

    def __init__(self) -> None:
        self.settings = {"depth": self.name}

    def depth(self, image: UInt8[np.ndarray, "H W 3"], record: Record, camera: Camera) -> Float[np.ndarray, "H W"]:
        """Metres along the camera's axis, at the picture's size."""
        return lidar_depth(record, camera)


def project_lidar(record: Record, camera: Camera) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, " M"]]:
    """Pixels and depths (at least 1 m) of the sweep's points that lie in a camera's picture.

    Raises:
        UserError: the frame has no sweep.
    """
    if record.lidar is None:
        raise UserError(f"frame {record.name}: no LiDAR sweep to take depth from; name a model with --depth FOLDER")
    points = torch.from_numpy(read_lidar(record.lidar)[:, :3].astype(np.float64))
    ego = points @ record.lidar2ego[:3, :3].T + record.lidar2ego[:3, 3]
    ego2cam = torch.linalg.inv(camera.cam2ego)
    local = (ego @ ego2cam[:3, :3].T + ego2cam[:3, 3]).numpy()
    local = local[local[:, 2] > 1.0]
    pixel = local @ camera.cam2img.numpy().T
    pixel = pixel[:, :2] / pixel[:, 2:]
    inside = ((pixel >= 0) & (pixel < [camera.width, camera.height])).all(1)
    return pixel[inside], local[inside, 2]


def lidar_depth(record: Record, camera: Camera) -> Float[np.ndarray, "H W"]:
    """Every pixel takes the depth of the LiDAR point nearest in the picture; far from all points it is the sky's."""
    from scipy.spatial import cKDTree

    pixel, depth = project_lidar(record, camera)
    out = np.full((camera.height, camera.width), FAR, np.float32)
    if len(pixel):
        y, x = np.mgrid[: camera.height, : camera.width] + 0.5
        where = np.stack([x, y], -1).reshape(-1, 2)
        # Beams lie closer along a row than from row to row: distances down count half.
        scale = np.array([1.0, 0.5])
        away, nearest = cKDTree(pixel * scale).query(where * scale, distance_upper_bound=NEAR_POINT * camera.width)
        found = np.isfinite(away)
        out.reshape(-1)[found] = depth[nearest[found]]
    return out
