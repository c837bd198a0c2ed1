"""Gaussians into voxels: values against a loop, gradients, pieces, devices."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops import voxels
from ag2_ns.ops.rotations import quaternions, rotation_matrices
from ag2_ns.ops.voxels import VoxelGrid, voxelise

GRID = VoxelGrid((-1.0, -0.8, -0.6), 0.2, (10, 8, 6))


def some(count, seed=0, dtype=torch.double, device="cpu", spread=1.2):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.double)

    gaussians = Gaussians(
        (draw(count, 3) * 2 - 1) * spread,
        draw(count, 4) * 2 - 1,
        0.08 + 0.3 * draw(count, 3),
        0.05 + 0.9 * draw(count),
        torch.zeros(count, 1, 3, dtype=torch.double),
    )
    values = draw(count, 3) - 0.5
    cast = [getattr(gaussians, k).to(device, dtype) for k in ("means", "quats", "scales", "opacities", "sh")]
    return Gaussians(*cast), values.to(device, dtype)


def slow(gaussians, values, grid):
    """One voxel and one Gaussian at a time."""
    covariance = (
        rotation_matrices(gaussians.quats) * gaussians.scales[:, None] ** 2 @ rotation_matrices(gaussians.quats).mT
    )
    inverse = torch.linalg.inv(covariance)
    density, mean = torch.zeros(grid.shape, dtype=torch.double), torch.zeros(*grid.shape, 3, dtype=torch.double)
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            for k in range(grid.shape[2]):
                centre = torch.tensor([a + grid.voxel * (n + 0.5) for a, n in zip(grid.low, (i, j, k))]).double()
                offset = centre - gaussians.means
                m2 = torch.einsum("ni,nij,nj->n", offset, inverse, offset)
                weight = gaussians.opacities * torch.exp(-m2 / 2) * (m2 <= 9)
                density[i, j, k] = weight.sum()
                mean[i, j, k] = (weight[:, None] * values).sum(0) / max(float(weight.sum()), 1e-6)
    return density, mean


@pytest.mark.parametrize("method", ["auto", "plain"])
def test_equals_a_loop(method):
    gaussians, values = some(12)
    out = voxelise(gaussians, values, GRID, method=method)
    density, mean = slow(gaussians, values, GRID)
    assert torch.allclose(out.density, density, atol=1e-6)
    assert torch.allclose(out.values, mean, atol=1e-6)


@pytest.mark.parametrize("method", ["auto", "plain"])
def test_gradients_of_every_input(method):
    gaussians, values = some(3, seed=2)
    grid = VoxelGrid((-0.6, -0.6, -0.4), 0.4, (3, 3, 2))
    fields = [t.clone().requires_grad_() for t in (gaussians.means, gaussians.quats, gaussians.scales)]
    fields += [gaussians.opacities.clone().requires_grad_(), values.clone().requires_grad_()]

    def run(means, quats, scales, opacities, values):
        made = voxelise(Gaussians(means, quats, scales, opacities, gaussians.sh), values, grid, method=method)
        return made.density, made.values * made.density.clamp_min(1e-6)[..., None]

    assert torch.autograd.gradcheck(run, fields, eps=1e-6, atol=1e-5)


def test_density_at_a_lone_centre_is_its_opacity():
    centre = GRID.centres(torch.tensor([[4, 3, 2]]))
    lone = Gaussians(centre, torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.1), torch.tensor([0.7]), centre[None])
    out = voxelise(lone, torch.tensor([[2.0]]), GRID)
    assert float(out.density[4, 3, 2]) == pytest.approx(0.7, abs=1e-6)
    assert float(out.values[4, 3, 2, 0]) == pytest.approx(2.0, abs=1e-5)
    assert float(out.density[4, 3, 3]) == pytest.approx(0.7 * math.exp(-2), abs=1e-6)
    assert float(out.density[4, 3, 4]) == 0.0  # four sigmas away
    assert int((out.density > 0).sum()) == int((out.values[..., 0] > 0).sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 1000))
def test_a_shift_by_voxels_shifts_the_result(dx, dy, seed):
    gaussians, values = some(5, seed)
    moved = Gaussians(
        gaussians.means + torch.tensor([dx, dy, 0]).double() * GRID.voxel, *(
            getattr(gaussians, k) for k in ("quats", "scales", "opacities", "sh"))
    )  # fmt: skip
    there = VoxelGrid((GRID.low[0] + dx * GRID.voxel, GRID.low[1] + dy * GRID.voxel, GRID.low[2]), 0.2, GRID.shape)
    a, b = voxelise(gaussians, values, GRID), voxelise(moved, values, there)
    # A voxel that lies on the cut within rounding may fall on either side of it.
    near = (a.density - b.density).abs() > 1e-9
    assert int(near.sum()) <= 1 and float((a.density - b.density).abs().max()) < 0.012


def test_pieces_of_any_size_give_the_same(monkeypatch):
    gaussians, values = some(9)
    whole = voxelise(gaussians, values, GRID, method="plain")
    monkeypatch.setitem(voxels.PAIRS, "cpu", 7)
    assert torch.allclose(voxelise(gaussians, values, GRID, method="plain").density, whole.density)


def test_outside_and_none():
    gaussians, values = some(4)
    far = Gaussians(gaussians.means + 100, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    assert float(voxelise(far, values, GRID).density.abs().max()) == 0
    none = voxelise(gaussians[torch.zeros(4, dtype=torch.bool)], values[:0], GRID)
    assert none.values.shape == (*GRID.shape, 3) and float(none.density.sum()) == 0
    with pytest.raises(ValueError, match="values"):
        voxelise(gaussians, values[:2], GRID)


def test_parts_of_a_grid_are_the_grid():
    gaussians, values = some(12)
    whole = voxelise(gaussians, values, GRID).density
    for first, shape in GRID.bricks(4):
        own = tuple(slice(a, a + n) for a, n in zip(first, shape))
        assert torch.allclose(voxelise(gaussians, values, GRID.part(first, shape)).density, whole[own], atol=1e-6)


def test_index_and_centres_agree():
    index = torch.tensor([[0, 0, 0], [9, 7, 5], [3, 2, 1]])
    found, inside = GRID.index(GRID.centres(index))
    assert torch.equal(found, index) and bool(inside.all())
    assert not bool(GRID.index(torch.tensor([[-1.01, 0, 0]]))[1])


def test_quaternions_undo_matrices():
    quats = torch.nn.functional.normalize(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    matrices = rotation_matrices(quats)
    assert torch.allclose(rotation_matrices(quaternions(matrices)), matrices, atol=1e-5)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    gaussians, values = some(200, dtype=torch.float32)
    values = torch.cat([values] * 6, 1)  # 18 channels
    weight = torch.rand(*GRID.shape, 18, generator=torch.Generator().manual_seed(1))
    results = []
    for device in ("cpu", "cuda"):
        fields = [getattr(gaussians, k).to(device).clone().requires_grad_() for k in
                  ("means", "quats", "scales", "opacities")]  # fmt: skip
        own = values.to(device).clone().requires_grad_()
        out = voxelise(Gaussians(*fields, gaussians.sh.to(device)), own, GRID)
        (out.density.sum() + (out.values * weight.to(device)).sum()).backward()
        results.append([out.density, out.values, *(f.grad for f in fields), own.grad])
    for a, b in zip(*results):
        close = torch.isclose(a, b.cpu(), rtol=2e-3, atol=2e-3)
        assert float(close.float().mean()) > 0.995, (a - b.cpu()).abs().max()


def test_weights_at_centres_add_up_to_the_density():
    gaussians, values = some(12)
    out = voxelise(gaussians, values, GRID)
    weights = voxels.weights_at(gaussians, GRID.centres().reshape(-1, 3).double())
    assert torch.allclose(weights.sum(1).view(GRID.shape), out.density, atol=1e-5)
    mean = weights @ values / weights.sum(1).clamp_min(1e-6)[:, None]
    assert torch.allclose(mean.view(*GRID.shape, 3), out.values, atol=1e-5)
