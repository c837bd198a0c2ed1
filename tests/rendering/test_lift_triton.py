"""The CUDA kernel that lifts, run by Triton's interpreter where there is no CUDA device, against the CPU backend."""

import pytest
from own_process import run_script

pytest.importorskip("triton")

SCRIPT = """
import torch
from ag2_ns.core.view import View
from ag2_ns.rendering.base import BLUR, NEAR_PLANE
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.rendering.lift_triton import lift
from ag2_ns.rendering.projection import project

torch.manual_seed(0)
width, height, count, tile = 37, 35, 60, 16
means = torch.randn(count, 3) * 0.5 + torch.tensor([0.0, 0.0, 3.0])
quats, scales = torch.randn(count, 4), torch.rand(count, 3) * 0.3 + 0.02
opacities = torch.cat((torch.rand(count - 8) * 0.95 + 0.04, torch.full((8,), 0.9999)))
view = View(torch.eye(4), torch.tensor([[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]]), width, height)
maps = (torch.rand(height, width, 40) > 0.6).float()
seen = project(means, quats, scales, view, near=NEAR_PLANE, blur=BLUR)
order = torch.argsort(seen.depths)
order = order[seen.radii[order] > 0].int()
tiles = -(-height // tile), -(-width // tile)
offsets = torch.arange(tiles[0] * tiles[1]).int().reshape(tiles) * len(order)  # every Gaussian in every tile
members = order.repeat(offsets.numel())
found = lift(seen.means2d, seen.conics, opacities, offsets, members, maps, tile)
wanted = CpuRasterizer().lift(means, quats, scales, opacities, maps, view)
assert wanted.max() > 10 and torch.allclose(found, wanted, rtol=1e-4, atol=1e-4), (found - wanted).abs().max()
nothing = lift(seen.means2d, seen.conics, opacities, offsets * 0, members[:0], maps, tile)
assert nothing.shape == wanted.shape and not nothing.any()
print("agree")
"""


def test_the_kernel_agrees_with_the_cpu_backend():
    done = run_script(SCRIPT)
    assert done.stdout.strip() == "agree", done.stderr[-2000:]
