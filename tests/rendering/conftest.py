"""A random scene and a dense, slow compositing reference, shared by the rasteriser's tests."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import torch

from ag2_ns.core.view import View
from ag2_ns.rendering.base import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

GSPLAT_TILE = 16


@dataclass(frozen=True)
class Scene:
    means: torch.Tensor
    quats: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    values: torch.Tensor
    view: View

    @property
    def tensors(self):
        return tuple(getattr(self, f.name) for f in fields(self)[:5])

    def leaves(self):
        return [t.clone().requires_grad_() for t in self.tensors]


def make_scene(
    count=60, channels=3, width=45, height=37, seed=0, dtype=torch.float64, pixels=3.0, opacity=0.0, device="cpu"
) -> Scene:
    """Gaussians about `pixels` wide between depth 2 and 6, some of them outside of the image or behind the camera."""
    g = torch.Generator().manual_seed(seed)
    focal = 0.9 * width
    z = 2 + 4 * torch.rand(count, generator=g, dtype=torch.float64)
    z[::17] *= -1
    uv = (torch.rand(count, 2, generator=g, dtype=torch.float64) - 0.5) * 1.2
    uv = uv * torch.tensor([width / focal, height / focal], dtype=torch.float64)
    camera_means = torch.cat([uv * z[:, None], z[:, None]], dim=1)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation).sign()
    translation = torch.randn(3, generator=g, dtype=torch.float64)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, translation
    K = torch.tensor(
        [[focal, 0, 0.5 * width + 1.3], [0, 1.07 * focal, 0.5 * height - 0.7], [0, 0, 1]], dtype=torch.float64
    )
    tensors = (
        (camera_means - translation) @ rotation,
        torch.randn(count, 4, generator=g, dtype=torch.float64),
        torch.exp(0.5 * torch.randn(count, 3, generator=g, dtype=torch.float64)) * pixels * 4 / focal,
        torch.sigmoid(1.5 * torch.randn(count, generator=g, dtype=torch.float64) + opacity),
        torch.randn(count, channels, generator=g, dtype=torch.float64),
    )
    tensors = (t.to(device=device, dtype=dtype) for t in tensors)
    return Scene(*tensors, View(viewmat.to(device, dtype), K.to(device, dtype), width, height))


def dense_composite(means2d, conics, opacities, values, depths, radii, width, height):
    """Front-to-back compositing of every Gaussian over every pixel, with gsplat's rules; plain autograd.

    `means2d` is N x 2, or N x H x W x 2 with one copy per pixel (for absolute gradients).
    """
    dtype = values.dtype
    ys, xs = torch.meshgrid(
        torch.arange(height, dtype=dtype) + 0.5, torch.arange(width, dtype=dtype) + 0.5, indexing="ij"
    )
    tile_x, tile_y = torch.arange(width)[None] // GSPLAT_TILE, torch.arange(height)[:, None] // GSPLAT_TILE
    light = torch.ones(height, width, dtype=dtype)
    finished = torch.zeros(height, width, dtype=torch.bool)
    out = torch.zeros(height, width, values.shape[1], dtype=dtype)
    for g in torch.argsort(depths.detach(), stable=True).tolist():
        if radii[g] <= 0:
            continue
        mean = means2d[g].expand(height, width, 2)
        centre = mean[0, 0].detach()
        low, high = torch.floor((centre - radii[g]) / GSPLAT_TILE), torch.ceil((centre + radii[g]) / GSPLAT_TILE)
        inside = (tile_x >= low[0]) & (tile_x < high[0]) & (tile_y >= low[1]) & (tile_y < high[1])
        dx, dy = mean[..., 0] - xs, mean[..., 1] - ys
        sigma = 0.5 * (conics[g, 0] * dx * dx + conics[g, 2] * dy * dy) + conics[g, 1] * dx * dy
        alpha = (opacities[g] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
        hit = inside & (sigma >= 0) & (alpha >= ALPHA_MIN) & ~finished
        remaining = light * (1 - alpha)
        stop = hit & (remaining <= TRANSMITTANCE_MIN)
        finished = finished | stop
        hit = hit & ~stop
        out = out + torch.where(hit, alpha * light, 0.0)[..., None] * values[g]
        light = torch.where(hit, remaining, light)
    return out, (1 - light)[..., None]


@pytest.fixture(scope="session")
def scene_factory():
    return make_scene


@pytest.fixture(scope="session")
def dense():
    return dense_composite
