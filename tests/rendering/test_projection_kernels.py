"""The compiled projection against the plain one, values and gradients."""

import pytest
import torch

from ag2_ns.core.view import View
from ag2_ns.ops.rotations import rotation_matrices
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.rendering.projection import project


def scene(count: int, dtype: torch.dtype, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(count, 3, generator=g) + torch.tensor([0.0, 0.0, 3.0])
    quats, scales = torch.randn(count, 4, generator=g), 0.02 + 0.3 * torch.rand(count, 3, generator=g)
    opacities, values = 0.05 + 0.9 * torch.rand(count, generator=g), torch.rand(count, 3, generator=g)
    return [t.to(dtype).requires_grad_() for t in (means, quats, scales, opacities, values)]


def view(dtype: torch.dtype, trained: bool) -> View:
    pose = torch.eye(4, dtype=dtype)
    pose[:3, :3] = rotation_matrices(torch.tensor([[0.9, 0.2, -0.3, 0.1]], dtype=dtype))[0]
    pose[:3, 3] = torch.tensor([0.1, -0.2, 0.3])
    K = torch.tensor([[30.0, 0, 17], [0, 33.0, 11], [0, 0, 1]], dtype=dtype)
    return View(pose.requires_grad_(trained), K, 36, 24)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pictures_and_gradients_are_those_of_the_plain_projection(dtype):
    """A camera that is trained takes the plain one."""
    found = []
    for trained in (False, True):
        leaves = scene(400, dtype)
        raster = CpuRasterizer().rasterize(*leaves, view(dtype, trained))
        weight = torch.rand(24, 36, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
        ((raster.values * weight).sum() + raster.alpha.square().sum()).backward()
        found.append((raster, [leaf.grad for leaf in leaves]))
    (ours, grads), (plain, expected) = found
    assert torch.equal(ours.radii, plain.radii) and (ours.radii > 0).sum() > 50 and (ours.radii == 0).any()
    rtol, atol = (1e-9, 1e-9) if dtype == torch.float64 else (2e-3, 2e-4)
    torch.testing.assert_close(ours.values, plain.values, rtol=rtol, atol=atol)
    for a, b in zip(grads, expected):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol * float(b.abs().max().clamp(min=1)))


def test_what_is_projected_is_drawn_where_the_plain_projection_puts_it():
    leaves = scene(50, torch.float64, seed=3)
    camera = view(torch.float64, False)
    raster, plain = CpuRasterizer().rasterize(*leaves, camera), project(*leaves[:3], camera)
    torch.testing.assert_close(raster.means2d, plain.means2d)
    assert torch.equal(raster.radii, plain.radii)
