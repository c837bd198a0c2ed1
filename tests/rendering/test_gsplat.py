from __future__ import annotations

import sys
import types
from inspect import signature

import pytest
import torch
from own_process import run_script

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.rendering import render
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.rendering.gsplat import SIGMAS_OF_TWO, GsplatRasterizer

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


def relative(a, b):
    return ((a.cpu().double() - b.cpu().double()).norm() / b.double().norm().clamp(min=1e-12)).item()


def on_cuda(scene):
    return [t.detach().cuda().requires_grad_() for t in scene.tensors], scene.view.to("cuda")


@pytest.fixture(scope="module")
def backend():
    return GsplatRasterizer()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_cuda_construction_says_so():
    with pytest.raises(UserError, match="needs a CUDA device"):
        GsplatRasterizer()


def test_a_missing_extension_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pytest.importorskip("gsplat")
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", types.SimpleNamespace(_C=None))
    with pytest.raises(UserError, match="no compiled CUDA extension: install") as error:
        GsplatRasterizer()
    assert "\n" not in str(error.value)


def test_a_failing_build_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pytest.importorskip("gsplat")
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None)  # importing it raises ImportError
    with pytest.raises(UserError, match="does not load"):
        GsplatRasterizer()


class GsplatOnCpu:
    """gsplat's operators by name, on the CPU, in the signatures of one version, for a scene that fits into one tile."""

    def __init__(self, two_radii: bool):
        self.two_radii = two_radii
        self.calls = []

    def fully_fused_projection(
        self, means, covars, quats, scales, viewmats, Ks, width, height, eps2d=0.3, near_plane=0.01
    ):
        from ag2_ns.rendering.projection import project

        self.calls.append("project")
        p = project(means, quats, scales, View(viewmats[0], Ks[0], width, height), near=near_plane, blur=eps2d)
        radii = torch.stack((p.radii, (p.radii - 1).clamp(min=0)), -1) if self.two_radii else p.radii
        return radii[None], p.means2d[None], p.depths[None], p.conics[None], None

    def isect_tiles(self, means2d, radii, depths, tile_size, tiles_x, tiles_y):
        assert radii.shape == (depths.shape + (2,) if self.two_radii else depths.shape)
        self.calls.append("sort")
        radii = radii[0, :, 0] if self.two_radii else radii[0]
        order = torch.argsort(depths[0])
        return None, torch.zeros(0), order[radii[order] > 0].int()

    def isect_offset_encode(self, keys, cameras, tiles_x, tiles_y):
        return torch.zeros(cameras, tiles_y, tiles_x, dtype=torch.int32)

    def rasterize_to_pixels(
        self, means2d, conics, colors, opacities, width, height, tile_size, offsets, members, masks, packed, absgrad
    ):
        assert packed and means2d.dim() == 2 and colors.shape[-1] <= 32
        self.calls.append(("composite", colors.shape[-1], absgrad))
        ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        light, out = torch.ones(height, width, dtype=colors.dtype), 0.0
        for g in members.tolist():
            dx, dy = means2d[g, 0] - xs.to(colors.dtype), means2d[g, 1] - ys.to(colors.dtype)
            sigma = 0.5 * (conics[g, 0] * dx**2 + conics[g, 2] * dy**2) + conics[g, 1] * dx * dy
            alpha = (opacities[g] * torch.exp(-sigma)).clamp(max=0.999)
            alpha = torch.where(alpha >= 1 / 255, alpha, 0.0)
            out = out + (alpha * light)[..., None] * colors[g]
            light = light * (1 - alpha)
        return out[None], 1 - light[None, ..., None]


@pytest.mark.parametrize("two_radii", [False, True])
def test_wiring_with_both_radius_layouts(scene_factory, monkeypatch, two_radii):
    """Channels are chunked over one projection and one sort, and means2d collects the gradient of all chunks."""
    monkeypatch.setattr("ag2_ns.rendering.gsplat.require_cuda", lambda means: None)
    ops = GsplatOnCpu(two_radii)
    backend = GsplatRasterizer(ops)
    scene = scene_factory(count=12, channels=40, width=15, height=13, pixels=1.0, opacity=-1.0)
    ours, reference = scene.leaves(), scene.leaves()
    raster, expected = (
        backend.rasterize(*ours, scene.view, absgrad=True),
        CpuRasterizer().rasterize(*reference, scene.view),
    )
    assert ops.calls == ["project", "sort", ("composite", 32, True), ("composite", 8, False)]
    torch.testing.assert_close(raster.values, expected.values)
    torch.testing.assert_close(raster.alpha, expected.alpha)
    assert torch.equal(raster.radii, expected.radii)
    raster.means2d.retain_grad()
    expected.means2d.retain_grad()
    (raster.values**2).sum().backward()
    (expected.values**2).sum().backward()
    torch.testing.assert_close(raster.means2d.grad, expected.means2d.grad)
    for a, b in zip(ours, reference):
        torch.testing.assert_close(a.grad, b.grad)


REACH = """
import torch
from ag2_ns.rendering.base import ALPHA_MIN
from ag2_ns.rendering import gsplat, gsplat_triton

opacities = torch.cat((torch.rand(700, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 0.003, 1.0])))
for shape, sigmas in (((1, 703), 3.0), ((1, 703, 2), 3.33)):
    radii = torch.randint(0, 90, shape, generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    ours, plain = gsplat_triton.reach(radii, opacities, sigmas, ALPHA_MIN), gsplat.reach(radii, opacities)
    assert ours.dtype == torch.int32 and (ours - plain).abs().max() <= 1 and (ours != plain).sum() < 3
    assert (ours <= radii).all() and (ours[0, -1] == radii[0, -1]).all() and (ours[0, -3:-1] == 0).all()
print("equal")
"""


def test_the_reach_of_the_kernel_is_that_of_the_plain_form():
    pytest.importorskip("triton")
    done = run_script(REACH)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]


@pytest.fixture
def same_squares(monkeypatch):
    """Squares of the CPU backend as large as those of the gsplat that is installed."""
    from gsplat.cuda import _wrapper

    if "opacities" in signature(_wrapper.fully_fused_projection).parameters:  # since 1.5
        monkeypatch.setattr("ag2_ns.rendering.cpu.SIGMAS", SIGMAS_OF_TWO)


@pytest.mark.usefixtures("same_squares")
class TestOnCuda:
    pytestmark = gpu

    @pytest.mark.parametrize("channels", [1, 3, 6, 12, 18, 32, 40])
    def test_values_and_gradients_equal_the_cpu_backend(self, backend, scene_factory, channels):
        scene = scene_factory(count=800, channels=channels, width=150, height=120, dtype=torch.float32)
        theirs, view = on_cuda(scene)
        ours = scene.leaves()
        one, two = backend.rasterize(*theirs, view), CpuRasterizer().rasterize(*ours, scene.view)
        drawn = one.radii.cpu() > 0
        assert (drawn & (two.radii == 0)).sum() < 8
        assert relative(one.values, two.values) < 1e-3 and relative(one.alpha, two.alpha) < 1e-3
        weight = torch.randn(two.values.shape, generator=torch.Generator().manual_seed(0))
        one.means2d.retain_grad(), two.means2d.retain_grad()
        ((one.values * weight.cuda()).sum() + one.alpha.sum()).backward()
        ((two.values * weight).sum() + two.alpha.sum()).backward()
        for a, b in zip(theirs, ours):
            assert relative(a.grad, b.grad) < 1e-3
        assert relative(one.means2d.grad, two.means2d.grad) < 1e-3

    def test_absgrad(self, backend, scene_factory):
        scene = scene_factory(count=500, channels=6, width=150, height=120, dtype=torch.float32)
        theirs, view = on_cuda(scene)
        ours = scene.leaves()
        one, two = (
            backend.rasterize(*theirs, view, absgrad=True),
            CpuRasterizer().rasterize(*ours, scene.view, absgrad=True),
        )
        one.values.sum().backward()
        two.values.sum().backward()
        assert relative(one.means2d.absgrad, two.means2d.absgrad) < 1e-3

    @pytest.mark.parametrize("channels", [1, 18, 70])
    def test_lift_equals_the_cpu_backend(self, backend, scene_factory, channels):
        scene = scene_factory(count=800, width=150, height=120, dtype=torch.float32)
        maps = torch.rand(120, 150, channels, generator=torch.Generator().manual_seed(0)) > 0.5
        theirs, view = on_cuda(scene)
        lifted = backend.lift(*theirs[:4], maps.cuda(), view)
        assert not lifted.requires_grad
        assert relative(lifted, CpuRasterizer().lift(*scene.tensors[:4], maps, scene.view)) < 1e-3

    def test_render_equals_the_cpu_backend(self, backend, scene_factory):
        from ag2_ns.core.gaussians import Gaussians

        scene = scene_factory(count=800, width=150, height=120, dtype=torch.float32, opacity=2.0)
        gaussians = Gaussians(*scene.tensors[:4], torch.randn(800, 16, 3))
        feature = torch.randn(800, 3)
        two = render(gaussians, scene.view, CpuRasterizer(), feature=feature, distortion_near=0.2)
        one = render(gaussians.to("cuda"), scene.view.to("cuda"), backend, feature=feature.cuda(), distortion_near=0.2)
        for name in ("rgb", "feature", "depth", "alpha", "distortion"):
            assert relative(getattr(one, name), getattr(two, name)) < 1e-3, name

    @pytest.mark.parametrize("count", [0, 3])
    def test_nothing_to_draw(self, backend, scene_factory, count):
        scene = scene_factory(count=count, dtype=torch.float32)
        leaves, view = on_cuda(scene)
        viewmat = view.viewmat.clone()
        viewmat[2] *= -1
        viewmat[2, 3] -= 100
        away = View(viewmat, view.K, view.width, view.height)
        raster = backend.rasterize(*leaves, away)
        assert raster.values.abs().max() == 0 and raster.alpha.abs().max() == 0
        (raster.values.sum() + raster.alpha.sum()).backward()
        assert all((leaf.grad == 0).all() for leaf in leaves)
        maps = torch.ones(view.height, view.width, 2, device="cuda")
        assert backend.lift(*leaves[:4], maps, away).shape == (count, 2)

    def test_cpu_tensors_are_refused(self, backend, scene_factory):
        scene = scene_factory(count=2, dtype=torch.float32)
        with pytest.raises(UserError, match="move to cuda"):
            backend.rasterize(*scene.tensors, scene.view)


def replayed(backend, means, quats, scales, opacities, values, view, capacity):
    projection = backend.project(means, quats, scales, opacities, view)
    tiles, pairs = backend.tiles(projection, view, capacity)
    return backend.composite(projection, opacities, values, view, True, tiles), int(pairs)


class TestTilesOfFixedSizeOnCuda:
    pytestmark = gpu

    @pytest.mark.parametrize("channels", [3, 6, 40])
    def test_pictures_and_gradients_are_those_of_gsplats_lists(self, backend, scene_factory, channels):
        scene = scene_factory(count=800, channels=channels, width=150, height=120, dtype=torch.float32)
        (one, view), (two, _) = on_cuda(scene), on_cuda(scene)
        found, pairs = replayed(backend, *one, view, 2**16)
        expected = backend.rasterize(*two, view, absgrad=True)
        assert 0 < pairs < 2**16
        torch.testing.assert_close(found.values, expected.values, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-5, atol=1e-6)
        for raster in (found, expected):
            raster.means2d.retain_grad()
            (raster.values.square().sum() + raster.alpha.sum()).backward()
        for a, b in zip([*one, found.means2d], [*two, expected.means2d]):
            assert relative(a.grad, b.grad.cpu()) < 1e-4
        assert relative(found.means2d.absgrad, expected.means2d.absgrad.cpu()) < 1e-4

    def test_where_there_is_no_room_the_farthest_are_left_out(self, backend, scene_factory):
        scene = scene_factory(count=800, channels=3, width=150, height=120, dtype=torch.float32)
        given, view = on_cuda(scene)
        found, pairs = replayed(backend, *given, view, 1024)
        assert pairs > 1024 and found.values.isfinite().all()
        assert (found.alpha <= backend.rasterize(*given, view).alpha + 1e-5).all()
