"""What a few pixels show: each anchor's share of them, by rendering weights, occlusion and transparency included."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene_index import SceneIndex

PATCH = 3
"""Side of the square of pixels that a click looks at."""


def anchor_weights(
    index: SceneIndex, gaussians: Gaussians, rasterizer: Rasterizer, view: View, maps: Float[Tensor, "H W C"]
) -> Float[Tensor, "A C"]:
    """Weight (pixels) of every anchor inside maps over a view."""
    weight = rasterizer.lift(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, maps, view.to(gaussians.device)
    )
    out = torch.zeros(index.num_anchors, maps.shape[-1], device=weight.device, dtype=weight.dtype)
    return out.index_add_(0, index.gaussian_anchor, weight)


def pixel_view(view: View, x: float, y: float) -> View:
    """The camera cut down to the `PATCH` pixels around pixel (x, y): renders in no time."""
    K = view.K.clone()
    K[0, 2] += PATCH / 2 - (x + 0.5)
    K[1, 2] += PATCH / 2 - (y + 0.5)
    return View(view.viewmat, K, PATCH, PATCH)


def ray_view(origin: Float[Tensor, "3"], direction: Float[Tensor, "3"], *, pixels_per_radian: float = 600.0) -> View:
    """A camera of `PATCH` pixels that looks along a world ray.

    Args:
        origin: where the ray starts, scene units.
        direction: where it goes; any length but 0.
        pixels_per_radian: how fine a pixel is; about the width of an image.
    """
    z = torch.nn.functional.normalize(direction.detach().cpu().double(), dim=0)
    helper = torch.eye(3, dtype=torch.double)[int(z.abs().argmin())]
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, z), dim=0)
    rotation = torch.stack([x, torch.linalg.cross(z, x), z])
    viewmat = torch.eye(4, dtype=torch.double)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ origin.detach().cpu().double()
    f, c = pixels_per_radian, PATCH / 2
    K = torch.tensor([[f, 0, c], [0, f, c], [0, 0, 1.0]])
    return View(viewmat.float().to(direction.device), K.to(direction.device), PATCH, PATCH)
