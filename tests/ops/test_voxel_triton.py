"""The CUDA kernels, run by Triton's interpreter where there is no CUDA device, against the plain form."""

import pytest
from own_process import run_script

pytest.importorskip("triton")

SCRIPT = """
import torch
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops import voxel_triton
from ag2_ns.ops.voxels import DENSITY_MIN, VoxelGrid, precision_and_reach, voxelise

voxel_triton.SHARE = 128
grid = VoxelGrid((-1.0, -0.8, -0.6), 0.2, (10, 8, 6))
g = torch.Generator().manual_seed(0)
def draw(*shape):
    return torch.rand(*shape, generator=g)
n = 5
fields = [draw(n, 3) * 2 - 1, draw(n, 4) - 0.5, 0.08 + 0.3 * draw(n, 3), 0.05 + 0.9 * draw(n), draw(n, 5) - 0.5]
weight = draw(*grid.shape, 5)
found = []
for triton in (True, False):
    means, quats, scales, opacities, values = own = [f.clone().requires_grad_() for f in fields]
    gaussians = Gaussians(means, quats, scales, opacities, torch.zeros(n, 1, 3))
    if triton:
        precision, reach = precision_and_reach(gaussians, 3.0)
        density, total = voxel_triton.voxel_sums(means, precision, opacities, values, reach, grid, 3.0)
        mean = total / density.clamp_min(DENSITY_MIN)[..., None]
    else:
        voxels = voxelise(gaussians, values, grid, method="plain")
        density, mean = voxels.density, voxels.values
    (density.sum() + (mean * weight).sum()).backward()
    found.append([density, mean, *(f.grad for f in own)])
for a, b in zip(*found):
    assert torch.allclose(a, b, rtol=2e-3, atol=2e-3), (a - b).abs().max()
print("agree")
"""


@pytest.mark.slow
def test_kernels_agree_with_the_plain_form():
    done = run_script(SCRIPT)
    assert done.stdout.strip() == "agree", done.stderr[-2000:]
