"""nerfstudio cameras as plain views."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ag2_ns.rasterizer.base import View


def view_of(camera: Cameras, pose: Float[Tensor, "1 3 4"] | None = None, scale: float = 1.0) -> View:
    """The single camera of `camera` as a `View`.

    Args:
        camera: a batch of one camera (OpenGL convention: x right, y up, z backward).
        pose: camera to world in place of the camera's own, differentiable.
        scale: factor on the resolution; sizes are rounded down as nerfstudio does.
    """
    c2w = (camera.camera_to_worlds if pose is None else pose).reshape(3, 4)
    flip = c2w.new_tensor((1.0, -1.0, -1.0))
    rotation = (c2w[:, :3] * flip).T
    top = torch.cat((rotation, -rotation @ c2w[:, 3:]), dim=1)
    viewmat = torch.cat((top, top.new_tensor([[0.0, 0.0, 0.0, 1.0]])))
    # One transfer instead of six: each would make the CPU wait for the GPU.
    numbers = torch.cat([getattr(camera, n).flatten().float() for n in ("fx", "fy", "cx", "cy", "width", "height")])
    fx, fy, cx, cy, width, height = numbers.tolist()
    K = c2w.new_tensor([[fx * scale, 0, cx * scale], [0, fy * scale, cy * scale], [0, 0, 1]])
    return View(viewmat, K, int(width * scale), int(height * scale))
