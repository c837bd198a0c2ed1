from __future__ import annotations

import math

import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.ops.sh import C0, sh_basis, sh_colours


def unit_directions(count, seed=0):
    d = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(d, dim=-1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_equal_gsplats_reference(degree):
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    directions = torch.randn(50, 3, dtype=torch.float64)
    sh = torch.randn(50, 16, 3, dtype=torch.float64)
    expected = (reference._spherical_harmonics(degree, directions, sh) + 0.5).clamp(min=0)
    assert (expected == 0).any() or degree == 0
    torch.testing.assert_close(sh_colours(sh, directions, degree), expected)


def test_basis_equals_scipys_complex_harmonics():
    special = pytest.importorskip("scipy.special")
    d = unit_directions(20)
    polar, azimuth = torch.arccos(d[:, 2]).numpy(), torch.atan2(d[:, 1], d[:, 0]).numpy()
    if hasattr(special, "sph_harm_y"):
        harmonic = lambda n, m: special.sph_harm_y(n, m, polar, azimuth)  # noqa: E731
    else:
        harmonic = lambda n, m: special.sph_harm(m, n, azimuth, polar)  # noqa: E731
    basis = sh_basis(d, 3)
    k = 0
    for n in range(4):
        for m in range(-n, n + 1):
            y = harmonic(n, abs(m))  # with the Condon-Shortley phase
            real = y.real if m == 0 else math.sqrt(2) * (y.imag if m < 0 else y.real)
            torch.testing.assert_close(basis[:, k], torch.from_numpy(real.copy()), rtol=1e-9, atol=1e-12)
            k += 1


def test_basis_is_orthonormal_on_the_sphere():
    d = unit_directions(200_000)
    basis = sh_basis(d, 3)
    gram = 4 * math.pi * basis.T @ basis / len(d)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=0.02)


def test_gradcheck():
    sh, d = torch.randn(4, 16, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, d: sh_colours(s, d), (sh.requires_grad_(), d.requires_grad_()))


def test_constant_band_alone():
    sh = torch.tensor([[[1.0, 0.0, -9.0]]])
    torch.testing.assert_close(sh_colours(sh, torch.zeros(1, 3)), torch.tensor([[0.5 + C0, 0.5, 0.0]]))


@pytest.mark.parametrize(
    "k, degree, match", [(4, 2, "stored to degree 1"), (25, 4, "from 0 to 3"), (5, None, "5 spher")]
)
def test_impossible_degrees(k, degree, match):
    with pytest.raises(UserError, match=match):
        sh_colours(torch.zeros(2, k, 3), torch.ones(2, 3), degree)
