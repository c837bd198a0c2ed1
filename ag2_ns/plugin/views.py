"""nerfstudio cameras as plain views."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ag2_ns.core.view import View

PINHOLE = "pinhole"
"""Under this name the metadata of a training camera holds its row of `pinholes`: on a GPU, reading that from the camera
would make every step wait for the one before."""

VIEWMAT = "viewmat"
"""Likewise its pose as a `View` has it, 1 x 16: metadata is cut and moved with the cameras, a row for each."""


def pinholes(cameras: Cameras) -> list[list[float]]:
    """fx, fy, cx, cy, width and height of every camera, on the host, in one transfer."""
    names = ("fx", "fy", "cx", "cy", "width", "height")
    return torch.stack([getattr(cameras, n).flatten().float() for n in names], 1).tolist()


def view_of(camera: Cameras, pose: Float[Tensor, "1 3 4"] | None = None, scale: float = 1.0) -> View:
    """The single camera of `camera` as a `View`.

    Args:
        camera: a batch of one camera (OpenGL convention: x right, y up, z backward).
        pose: camera to world in place of the camera's own, differentiable.
        scale: factor on the resolution; sizes are rounded down as nerfstudio does.
    """
    metadata = camera.metadata or {}
    viewmat = metadata.get(VIEWMAT) if pose is None else None
    if viewmat is None:
        viewmat = viewmat_of(camera.camera_to_worlds if pose is None else pose)
    viewmat = viewmat.reshape(4, 4)
    known = metadata.get(PINHOLE)
    fx, fy, cx, cy, width, height = pinholes(camera)[0] if known is None else known
    K = _intrinsics(fx * scale, fy * scale, cx * scale, cy * scale, viewmat.dtype, viewmat.device)
    return View(viewmat, K, int(width * scale), int(height * scale))


def viewmat_of(pose: Float[Tensor, "1 3 4"]) -> Float[Tensor, "4 4"]:
    """World to camera (x right, y down, z forward) from nerfstudio's camera to world."""
    c2w = pose.reshape(3, 4)
    rotation = torch.cat((c2w[:, :1], -c2w[:, 1:3]), dim=1).T
    viewmat = torch.nn.functional.pad(torch.cat((rotation, -rotation @ c2w[:, 3:]), dim=1), (0, 0, 0, 1))
    viewmat[3, 3] = 1.0
    return viewmat


@lru_cache(maxsize=4096)
@torch.inference_mode(False)  # else a matrix made for a picture could not be used in training
def _intrinsics(
    fx: float, fy: float, cx: float, cy: float, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "3 3"]:
    """Intrinsics on a device: sending them at every step would make the CPU wait until the GPU is done."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=dtype, device=device)
