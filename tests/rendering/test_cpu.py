from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.rendering.projection import project

CPU = CpuRasterizer()


def dense_raster(dense, leaves, view, means2d=None):
    p = project(*leaves[:3], view)
    means2d = p.means2d if means2d is None else means2d
    return dense(means2d, p.conics, leaves[3], leaves[4], p.depths, p.radii, view.width, view.height)


def relative(a, b):
    return ((a - b).norm() / b.norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@pytest.mark.parametrize("channels, opacity", [(1, 0.0), (5, 3.0)])
def test_values_and_gradients_equal_the_dense_reference(scene_factory, dense, dtype, tolerance, channels, opacity):
    scene = scene_factory(count=150, channels=channels, opacity=opacity, pixels=4.0)
    exact = scene.leaves()
    ours = [t.detach().to(dtype).requires_grad_() for t in exact]
    view = View(scene.view.viewmat.to(dtype), scene.view.K.to(dtype), scene.view.width, scene.view.height)
    raster = CPU.rasterize(*ours, view)
    out, alpha = dense_raster(dense, exact, scene.view)
    assert raster.values.shape == out.shape and raster.alpha.shape == alpha.shape
    assert alpha.max() > (0.99 if opacity else 0.5)
    assert relative(raster.values, out) < tolerance and relative(raster.alpha, alpha) < tolerance
    weights = [torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=dtype) for t in (out, alpha)]
    torch.autograd.backward([raster.values, raster.alpha], weights)
    torch.autograd.backward([out, alpha], [w.double() for w in weights])
    for a, b in zip(ours, exact):
        assert a.grad.dtype == dtype and relative(a.grad, b.grad) < tolerance


def test_agrees_with_gsplats_reference_projection(scene_factory, dense):
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    scene = scene_factory(count=120, dtype=torch.float32, channels=4)
    ours, theirs = scene.leaves(), scene.leaves()
    raster = CPU.rasterize(*ours, scene.view)
    covars, _ = reference._quat_scale_to_covar_preci(theirs[1], theirs[2], compute_preci=False)
    radii, means2d, depths, conics, _ = reference._fully_fused_projection(
        theirs[0], covars, scene.view.viewmat[None], scene.view.K[None], scene.view.width, scene.view.height
    )
    out, alpha = dense(means2d[0], conics[0], *theirs[3:], depths[0], radii[0], scene.view.width, scene.view.height)
    assert torch.equal(raster.radii, radii[0])
    assert relative(raster.values, out) < 1e-3 and relative(raster.alpha, alpha) < 1e-3
    weight = torch.randn_like(out)
    (raster.values * weight).sum().backward()
    (out * weight).sum().backward()
    for a, b in zip(ours, theirs):
        assert relative(a.grad, b.grad) < 1e-3


def test_gradcheck(scene_factory):
    scene = scene_factory(count=5, channels=2, width=9, height=7, seed=2, pixels=1.5)
    view = scene.view

    def outputs(*tensors):
        raster = CPU.rasterize(*tensors, view)
        return raster.values, raster.alpha

    assert (CPU.rasterize(*scene.tensors, view).radii > 0).sum() >= 3
    assert torch.autograd.gradcheck(outputs, scene.leaves(), atol=1e-6)


def test_means2d_keeps_its_gradient_and_the_absolute_one(scene_factory, dense):
    scene = scene_factory(count=40)
    leaves = scene.leaves()
    raster = CPU.rasterize(*leaves, scene.view, absgrad=True)
    raster.means2d.retain_grad()
    weight = torch.randn_like(raster.values)
    (raster.values * weight).sum().backward()
    view = scene.view
    exact = scene.leaves()
    per_pixel = raster.means2d.detach()[:, None, None].repeat(1, view.height, view.width, 1).requires_grad_()
    out, _ = dense_raster(dense, exact, view, per_pixel)
    (out * weight).sum().backward()
    torch.testing.assert_close(raster.means2d.grad, per_pixel.grad.sum((1, 2)))
    torch.testing.assert_close(raster.means2d.absgrad, per_pixel.grad.abs().sum((1, 2)))


def test_without_absgrad_there_is_none(scene_factory):
    scene = scene_factory(count=10)
    raster = CPU.rasterize(*scene.leaves(), scene.view)
    raster.values.sum().backward()
    assert not hasattr(raster.means2d, "absgrad")


def explicit_weights(dense, scene):
    """N x H x W rendering weights: composite a one-hot value per Gaussian."""
    p = project(*scene.tensors[:3], scene.view)
    one_hot = torch.eye(len(scene.means), dtype=torch.float64)
    args = (p.depths, p.radii, scene.view.width, scene.view.height)
    return dense(p.means2d, p.conics, scene.opacities, one_hot, *args)[0].permute(2, 0, 1)


def test_lift_equals_explicit_weights(scene_factory, dense):
    scene = scene_factory(count=50, opacity=1.0)
    masks = torch.rand(scene.view.height, scene.view.width, 4, dtype=torch.float64) > 0.5
    masks[..., -1] = True
    lifted = CPU.lift(*scene.tensors[:4], masks, scene.view)
    expected = torch.einsum("nhw,hwc->nc", explicit_weights(dense, scene), masks.double())
    torch.testing.assert_close(lifted, expected, rtol=1e-7, atol=1e-9)
    assert not lifted.requires_grad


def test_lift_in_chunks_of_channels_is_the_same(scene_factory, monkeypatch):
    scene = scene_factory(count=50)
    maps = torch.rand(scene.view.height, scene.view.width, 7, dtype=torch.float64)
    whole = CPU.lift(*scene.tensors[:4], maps, scene.view)
    monkeypatch.setattr("ag2_ns.rendering.cpu.LIFT_BYTES", 1)
    assert torch.equal(CPU.lift(*scene.tensors[:4], maps, scene.view), whole)


@pytest.mark.parametrize("count", [0, 4])
def test_nothing_to_draw_gives_zeros_and_zero_gradients(scene_factory, count):
    scene = scene_factory(count=count)
    leaves = scene.leaves()
    away = View(scene.view.viewmat.clone(), scene.view.K, scene.view.width, scene.view.height)
    away.viewmat[2] *= -1
    away.viewmat[2, 3] -= 100
    raster = CPU.rasterize(*leaves, away, absgrad=True)
    assert raster.values.abs().max() == 0 and raster.alpha.abs().max() == 0 and (raster.radii == 0).all()
    (raster.values.sum() + raster.alpha.sum()).backward()
    assert all(leaf.grad is not None and (leaf.grad == 0).all() for leaf in leaves)
    maps = torch.ones(away.height, away.width, 2, dtype=torch.float64)
    assert CPU.lift(*scene.tensors[:4], maps, away).shape == (count, 2)


def test_broken_and_extreme_gaussians_harm_no_other(scene_factory):
    scene = scene_factory(count=30, dtype=torch.float32)
    clean = CPU.rasterize(*scene.tensors, scene.view)
    extra = scene_factory(count=6, dtype=torch.float32, seed=9)
    means, quats, scales, opacities, values = (t.clone() for t in extra.tensors)
    means[0] = torch.nan
    scales[1] = torch.inf
    opacities[2] = torch.nan
    opacities[3] = 0.0
    means[4] = torch.inf
    quats[5], opacities[5] = 0.0, 1e-3
    both = [torch.cat(pair) for pair in zip(scene.tensors, (means, quats, scales, opacities, values))]
    raster = CPU.rasterize(*both, scene.view)
    assert torch.equal(raster.values, clean.values)


def test_a_gaussian_larger_than_the_image_fills_it():
    view = View(torch.eye(4), torch.tensor([[50.0, 0, 20], [0, 50.0, 15], [0, 0, 1]]), 40, 30)
    args = (torch.tensor([[0.0, 0, 1]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 1e4), torch.tensor([0.6]))
    raster = CPU.rasterize(*args, torch.ones(1, 2), view)
    torch.testing.assert_close(raster.alpha, torch.full((30, 40, 1), 0.6))


def test_results_do_not_depend_on_the_number_of_threads(scene_factory):
    scene = scene_factory(count=400, width=150, height=130, dtype=torch.float32, channels=6)

    def run():
        leaves = scene.leaves()
        raster = CPU.rasterize(*leaves, scene.view)
        (raster.values**2).sum().backward()
        return [
            raster.values,
            *(leaf.grad for leaf in leaves[3:]),
            CPU.lift(*scene.tensors[:4], raster.values, scene.view),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(3)
        three = run()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a.detach(), b.detach()) for a, b in zip(one, three))


def test_concurrent_python_threads(scene_factory):
    scene = scene_factory(count=300, width=100, height=80, dtype=torch.float32)

    def run():
        leaves = scene.leaves()
        raster = CPU.rasterize(*leaves, scene.view)
        raster.values.sum().backward()
        return raster.values.detach(), leaves[0].grad

    expected = run()
    failures = []

    def worker():
        for _ in range(10):
            got = run()
            if not all(torch.equal(a, b) for a, b in zip(got, expected)):
                failures.append(got)

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_tensors_elsewhere_are_refused(scene_factory):
    scene = scene_factory(count=2)
    with pytest.raises(UserError, match="meta"):
        CPU.rasterize(*(t.to("meta") for t in scene.tensors), scene.view)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), count=st.integers(0, 40), width=st.integers(1, 50), height=st.integers(1, 40),
    channels=st.integers(1, 4), pixels=st.floats(0.1, 30), opacity=st.floats(-3, 8),
)  # fmt: skip
def test_properties_of_random_scenes(scene_factory, seed, count, width, height, channels, pixels, opacity):
    scene = scene_factory(count, channels, width, height, seed, pixels=pixels, opacity=opacity)
    raster = CPU.rasterize(*scene.tensors, scene.view)
    assert raster.values.shape == (height, width, channels)
    assert (raster.alpha >= 0).all() and (raster.alpha <= 1).all()

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    shuffled = CPU.rasterize(*(t[order] for t in scene.tensors), scene.view)
    torch.testing.assert_close(shuffled.values, raster.values)
    torch.testing.assert_close(shuffled.radii, raster.radii[order])

    maps = torch.randn(height, width, channels, generator=generator, dtype=torch.float64)
    lifted = CPU.lift(*scene.tensors[:4], maps, scene.view)
    torch.testing.assert_close((lifted * scene.values).sum(), (raster.values * maps).sum())
    total = CPU.lift(*scene.tensors[:4], torch.ones(height, width, 1), scene.view)
    torch.testing.assert_close(total.sum(), raster.alpha.sum())


@settings(max_examples=20, deadline=None)
@given(x=st.floats(0.5, 19.5), y=st.floats(0.5, 14.5), size=st.floats(0.5, 4), opacity=st.floats(0.01, 1))
def test_one_gaussian_has_its_closed_form(x, y, size, opacity):
    view = View(torch.eye(4).double(), torch.tensor([[10.0, 0, 10], [0, 10.0, 7.5], [0, 0, 1]]).double(), 20, 15)
    mean = torch.tensor([[(x - 10) / 10 * 50, (y - 7.5) / 10 * 50, 50.0]], dtype=torch.float64)
    upright = torch.tensor([[1.0, 0, 0, 0]]).double()
    scales = torch.full((1, 3), size * 5.0, dtype=torch.float64)
    p = project(mean, upright, scales, view)
    opacities, values = torch.tensor([opacity]).double(), torch.tensor([[2.0]]).double()
    raster = CPU.rasterize(mean, upright, scales, opacities, values, view)
    ys, xs = torch.meshgrid(torch.arange(15.0).double() + 0.5, torch.arange(20.0).double() + 0.5, indexing="ij")
    a, b, c = p.conics[0]
    falloff = torch.exp(-0.5 * (a * (x - xs) ** 2 + c * (y - ys) ** 2) - b * (x - xs) * (y - ys))
    alpha = (opacity * falloff).clamp(max=0.999)
    radius = p.radii.item()
    near = ((xs // 16 * 16 < x + radius) & (xs // 16 * 16 + 16 > x - radius)
            & (ys // 16 * 16 < y + radius) & (ys // 16 * 16 + 16 > y - radius))  # fmt: skip
    expected = torch.where(near & (alpha >= 1 / 255), alpha, 0.0)
    torch.testing.assert_close(raster.alpha[..., 0], expected, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(raster.values[..., 0], 2 * expected, atol=1e-9, rtol=1e-6)
