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
    width, height = int(int(camera.width.item()) * scale), int(int(camera.height.item()) * scale)
    K = torch.eye(3, device=c2w.device, dtype=c2w.dtype)
    K[0, 0], K[1, 1] = camera.fx.item() * scale, camera.fy.item() * scale
    K[0, 2], K[1, 2] = camera.cx.item() * scale, camera.cy.item() * scale
    return View(viewmat, K, width, height)
