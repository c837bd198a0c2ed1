from __future__ import annotations

import pytest
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering import choose_rasterizer, render, sh_colours

CPU = choose_rasterizer("cpu", "cpu")
NEAR = 0.2


def gaussians_of(scene, degree=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    sh = torch.randn(len(scene.means), (degree + 1) ** 2, 3, generator=g, dtype=torch.float64)
    return Gaussians(*scene.tensors[:4], sh.to(scene.means.dtype))


def camera_z(scene):
    return scene.means @ scene.view.viewmat[2, :3] + scene.view.viewmat[2, 3]


def pixel_weights(scene):
    """H x W x N rendering weights."""
    return CPU.rasterize(*scene.tensors[:4], torch.eye(len(scene.means), dtype=torch.float64), scene.view).values


def test_every_output_equals_its_definition(scene_factory):
    scene = scene_factory(count=40, opacity=1.0)
    gaussians = gaussians_of(scene)
    feature = torch.randn(40, 5, dtype=torch.float64)
    out = render(gaussians, scene.view, CPU, feature=feature, distortion_near=NEAR)
    w, z = pixel_weights(scene), camera_z(scene)
    centre = -scene.view.viewmat[:3, :3].T @ scene.view.viewmat[:3, 3]
    torch.testing.assert_close(out.rgb, w @ sh_colours(gaussians.sh, gaussians.means - centre))
    torch.testing.assert_close(out.feature, w @ feature)
    torch.testing.assert_close(out.alpha[..., 0], w.sum(-1))
    expected_depth = torch.where(w.sum(-1) > 0, (w @ z) / w.sum(-1).clamp(min=1e-12), 0.0)
    torch.testing.assert_close(out.depth[..., 0], expected_depth)
    m = 1 - NEAR / z.clamp(min=NEAR)
    pairwise = 0.5 * torch.einsum("hwi,hwj,ij->hw", w, w, (m[:, None] - m[None]) ** 2)
    torch.testing.assert_close(out.distortion[..., 0], pairwise, atol=1e-12, rtol=1e-6)
    assert (out.alpha == 0).any() and (out.depth[out.alpha == 0] == 0).all()
    assert out.means2d.shape == (40, 2) and out.radii.shape == (40,)


def test_optional_outputs_are_left_out_and_change_nothing(scene_factory):
    scene = scene_factory(count=30)
    gaussians = gaussians_of(scene)
    lean = render(gaussians, scene.view, CPU)
    full = render(gaussians, scene.view, CPU, feature=torch.ones(30, 2, dtype=torch.float64), distortion_near=NEAR)
    assert lean.feature is None and lean.distortion is None
    for name in ("rgb", "depth", "alpha"):
        torch.testing.assert_close(getattr(lean, name), getattr(full, name))
    torch.testing.assert_close(full.feature, full.alpha.expand_as(full.feature))


def test_sh_degree_limits_the_bands(scene_factory):
    scene = scene_factory(count=30)
    gaussians = gaussians_of(scene)
    flat = Gaussians(*scene.tensors[:4], gaussians.sh[:, :1])
    torch.testing.assert_close(render(gaussians, scene.view, CPU, sh_degree=0).rgb, render(flat, scene.view, CPU).rgb)
    assert not torch.allclose(render(gaussians, scene.view, CPU).rgb, render(flat, scene.view, CPU).rgb)


def test_gradcheck_of_depth_and_distortion(scene_factory):
    scene = scene_factory(count=5, width=8, height=7, pixels=1.5, seed=2)
    gaussians = gaussians_of(scene, degree=1)

    def outputs(means, scales, opacities, sh, feature):
        moved = Gaussians(means, gaussians.quats, scales, opacities, sh)
        out = render(moved, scene.view, CPU, feature=feature, distortion_near=NEAR)
        return out.rgb, out.feature, out.depth, out.distortion

    tensors = (gaussians.means, gaussians.scales, gaussians.opacities, gaussians.sh)
    leaves = [t.clone().requires_grad_() for t in tensors]
    feature = torch.randn(5, 1, dtype=torch.float64, requires_grad=True)
    # The mean that the depths are taken relative to is held constant by autograd; the outputs do not depend on it.
    assert torch.autograd.gradcheck(outputs, (*leaves, feature), atol=1e-5)


def test_distortion_keeps_its_precision_far_away():
    """Two sheets 0.01 apart at depth 500: far below the float32 step of the squared depths."""
    view = View(torch.eye(4), torch.tensor([[2000.0, 0, 8], [0, 2000.0, 8], [0, 0, 1]]), 16, 16)
    sheets = Gaussians(
        torch.tensor([[0, 0, 500.0], [0, 0, 500.01]]),
        torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4),
        torch.full((2, 3), 100.0),
        torch.tensor([0.5, 0.8]),
        torch.zeros(2, 1, 3),
    )
    out = render(sheets, view, CPU, distortion_near=50.0)
    first, second = sheets.means[:, 2].double().tolist()
    wanted = 0.5 * 0.4 * (50 / first - 50 / second) ** 2
    torch.testing.assert_close(out.distortion, torch.full((16, 16, 1), wanted), rtol=0.02, atol=0)
    depth = first + (second - first) * 0.4 / 0.9
    torch.testing.assert_close(out.depth, torch.full((16, 16, 1), depth), rtol=1e-6, atol=0)


def test_distortion_is_bounded_and_knows_no_unit():
    """A sheet at 1 and one very far behind it cost no more than their weights, in any unit."""
    found = []
    for unit in (1.0, 100.0):
        view = View(torch.eye(4), torch.tensor([[20.0, 0, 8], [0, 20.0, 8], [0, 0, 1]]), 16, 16)
        sheets = Gaussians(
            torch.tensor([[0, 0, unit], [0, 0, 1e4 * unit]]),
            torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4),
            torch.tensor([[10 * unit], [1e5 * unit]]).expand(2, 3),
            torch.tensor([0.5, 0.8]),
            torch.zeros(2, 1, 3),
        )
        found.append(render(sheets, view, CPU, distortion_near=0.1 * unit).distortion)
    torch.testing.assert_close(found[0], found[1])
    assert found[0].max() <= 0.5 * 0.4 * 0.1**2


@pytest.mark.parametrize("near", [None, NEAR])
def test_no_gaussians(scene_factory, near):
    scene = scene_factory(count=0)
    feature = torch.zeros(0, 2, dtype=torch.float64)
    out = render(gaussians_of(scene), scene.view, CPU, distortion_near=near, feature=feature)
    for tensor in (out.rgb, out.feature, out.depth, out.alpha):
        assert tensor.shape[:2] == (scene.view.height, scene.view.width) and (tensor == 0).all()


def test_gradients_stay_finite_where_nothing_is_drawn(scene_factory):
    scene = scene_factory(count=3)
    leaves = [t.clone().requires_grad_() for t in scene.tensors[:4]]
    sh = torch.zeros(3, 1, 3, dtype=torch.float64, requires_grad=True)
    out = render(Gaussians(*leaves, sh), scene.view, CPU, distortion_near=NEAR, absgrad=True)
    out.means2d.retain_grad()
    (out.depth.sum() + out.distortion.sum() + out.rgb.sum()).backward()
    assert (out.alpha == 0).any()
    assert all(torch.isfinite(t.grad).all() for t in (*leaves, sh, out.means2d))
    assert torch.isfinite(out.means2d.absgrad).all()
