from __future__ import annotations

import dataclasses

import pytest
import torch

from ag2_ns.core.view import View
from ag2_ns.rendering.projection import project

reference = pytest.importorskip("gsplat.cuda._torch_impl")


def project_with_gsplat(means, quats, scales, view):
    covars, _ = reference._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, conics, _ = reference._fully_fused_projection(
        means, covars, view.viewmat[None], view.K[None], view.width, view.height
    )
    return means2d[0], conics[0], depths[0], radii[0]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_values_and_gradients_equal_gsplats_reference(scene_factory, dtype, tolerance):
    scene = scene_factory(count=300, dtype=dtype)
    ours, theirs = scene.leaves()[:3], scene.leaves()[:3]
    projected = project(*ours, scene.view)
    means2d, conics, depths, radii = project_with_gsplat(*theirs, scene.view)
    assert torch.equal(projected.radii, radii)
    seen = projected.visible
    assert 200 < seen.sum() < 300
    pairs = ((projected.means2d, means2d), (projected.conics, conics), (projected.depths, depths))
    weights = [torch.randn_like(a[seen]) for a, _ in pairs]
    for a, b in pairs:
        torch.testing.assert_close(a[seen], b[seen], rtol=tolerance, atol=tolerance)
    sum((a[seen] * w).sum() for (a, _), w in zip(pairs, weights)).backward()
    sum((b[seen] * w).sum() for (_, b), w in zip(pairs, weights)).backward()
    for a, b in zip(ours, theirs):
        assert (a.grad - b.grad).norm() <= tolerance * b.grad.norm()


def test_gradcheck(scene_factory):
    scene = scene_factory(count=6, seed=3)
    means, quats, scales, *_ = scene.leaves()
    viewmat = scene.view.viewmat.clone().requires_grad_()

    def outputs(means, quats, scales, viewmat):
        p = project(means, quats, scales, dataclasses.replace(scene.view, viewmat=viewmat))
        return p.means2d, p.conics, p.depths

    assert torch.autograd.gradcheck(outputs, (means, quats, scales, viewmat), atol=1e-6)


def test_shapes_and_fillers_behind_the_camera(scene_factory):
    scene = scene_factory(count=20)
    means = scene.means.clone()
    means[3] = scene.view.viewmat[:3, :3].T @ -scene.view.viewmat[:3, 3]  # the camera centre itself
    means.requires_grad_()
    p = project(means, scene.quats, scene.scales, scene.view)
    assert p.means2d.shape == (20, 2) and p.conics.shape == (20, 3) and p.variances.shape == (20, 2)
    assert p.radii.dtype == torch.int32 and not p.variances.requires_grad
    assert p.radii[3] == 0 and (p.radii[::17] == 0).all()
    assert torch.isfinite(p.means2d).all() and torch.isfinite(p.conics).all()
    (p.means2d.sum() + p.conics.sum()).backward()
    assert torch.isfinite(means.grad).all()


def test_a_point_projects_to_its_pixel_and_a_sphere_to_a_circle():
    view = View(torch.eye(4), torch.tensor([[100.0, 0, 32], [0, 100.0, 24], [0, 0, 1]]), 64, 48)
    p = project(torch.tensor([[0.2, -0.1, 2.0]]), torch.tensor([[2.0, 0, 0, 0]]), torch.full((1, 3), 1e-9), view)
    torch.testing.assert_close(p.means2d, torch.tensor([[42.0, 19.0]]))
    torch.testing.assert_close(p.conics, torch.tensor([[1 / 0.3, 0, 1 / 0.3]]))
    p = project(torch.tensor([[0.0, 0.0, 2.0]]), torch.randn(1, 4), torch.full((1, 3), 0.1), view)
    torch.testing.assert_close(p.variances, torch.full((1, 2), 25.3))
    assert p.radii.item() == 16  # ceil(3 * sqrt(25.3 + 0.1)), 0.1 the floor of gsplat's eigenvalue root


def test_broken_gaussians_are_not_drawn(scene_factory):
    scene = scene_factory(count=10)
    means, scales = scene.means.clone(), scene.scales.clone()
    means[1], scales[2] = torch.nan, torch.nan
    radii = project(means, scene.quats, scales, scene.view).radii
    assert radii[1] == 0 and radii[2] == 0
