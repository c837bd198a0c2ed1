import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_gaussians import random_gaussians
from scipy.spatial.transform import Rotation

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.sh import sh_basis
from ag2_ns.ops.similarity import Similarity, rotate_sh, sh_rotation
from ag2_ns.rendering import View, render
from ag2_ns.rendering.cpu import CpuRasterizer


def rotation(seed, improper=False):
    r = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    return -r if improper else r


def directions(count=50, seed=3):
    d = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return torch.nn.functional.normalize(d, dim=1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("improper", [False, True])
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None)
def test_rotated_sh_seen_along_rotated_directions_is_the_original(degree, improper, seed):
    R, d = rotation(seed, improper), directions()
    sh = torch.randn((degree + 1) ** 2, 3, generator=torch.Generator().manual_seed(seed % 1000), dtype=torch.double)
    before = sh_basis(d, degree) @ sh
    after = sh_basis(d @ R.T, degree) @ rotate_sh(sh[None], R)[0]
    torch.testing.assert_close(after, before, atol=1e-10, rtol=0)


def test_sh_rotations_compose_and_are_orthogonal():
    a, b = rotation(1), rotation(2)
    A, B = sh_rotation(a, 3), sh_rotation(b, 3)
    torch.testing.assert_close(A @ A.T, torch.eye(16, dtype=torch.double), atol=1e-10, rtol=0)
    torch.testing.assert_close(sh_rotation(a @ b, 3), A @ B, atol=1e-10, rtol=0)


def test_a_quarter_turn_about_z_takes_the_x_band_to_the_y_band():
    R = torch.from_numpy(Rotation.from_euler("z", 90, degrees=True).as_matrix())
    sh = torch.zeros(1, 4, 3, dtype=torch.double)
    sh[0, 3] = 1.0  # -c x
    out = rotate_sh(sh, R)
    assert torch.allclose(out[0, 1], torch.ones(3, dtype=torch.double), atol=1e-10)  # -c y
    assert float(out[0, [0, 2, 3]].abs().max()) < 1e-10


@pytest.fixture
def gaussians():
    return random_gaussians(40)


def test_inverse_and_then(gaussians):
    a = Similarity.about((1, 2, 3), (0.3, 0.1, -0.5, 0.2), 1.7, (0.1, 0, -2))
    b = Similarity.about((0, -1, 0), (0.9, 0.1, 0.5, 0.2), 0.4, (3, 0, 0))
    x = gaussians.means.double()
    torch.testing.assert_close(a.inverse().points(a.points(x)), x)
    torch.testing.assert_close(a.then(b).points(x), b.points(a.points(x)))
    back = a.inverse().gaussians(a.gaussians(gaussians))
    torch.testing.assert_close(back.sh, gaussians.sh, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.scales, gaussians.scales)


def test_pivot_stays_where_it_is():
    s = Similarity.about((1, 2, 3), (0.3, 0.1, -0.5, 0.2), 2.5)
    pivot = torch.tensor([[1.0, 2, 3]], dtype=torch.double)
    torch.testing.assert_close(s.points(pivot), pivot)


@pytest.mark.parametrize("improper", [False, True])
def test_picture_from_a_camera_moved_along_is_unchanged(gaussians, improper):
    """Means, covariances and all bands at once: transform scene and camera together, nothing changes."""
    R = rotation(5)
    s = Similarity(-R if improper else R, 1.6, torch.tensor([0.4, -2.0, 1.0], dtype=torch.double))
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    viewmat = torch.eye(4)
    viewmat[2, 3] = 6.0
    view = View(viewmat, K, 64, 48)
    if improper:
        # -I mirrors the picture; undo it in the scene so that a proper camera can look at it.
        mirrored = Similarity(-torch.eye(3, dtype=torch.double), 1.0, torch.zeros(3, dtype=torch.double))
        moved = mirrored.then(s).gaussians(gaussians)
        assert torch.allclose(mirrored.gaussians(mirrored.gaussians(gaussians)).sh, gaussians.sh, atol=1e-6)
    else:
        moved = s.gaussians(gaussians)
    # x_cam = V x, x' = s R x + t: the camera of the new scene is V' = [V_R R^T | V_t s - V_R R^T t], depths times s.
    rotate = viewmat[:3, :3].double() @ R.T
    other = torch.eye(4, dtype=torch.double)
    other[:3, :3] = rotate
    other[:3, 3] = viewmat[:3, 3].double() * s.scale - rotate @ s.translation
    other = View(other.float(), K, 64, 48)
    raster = CpuRasterizer()
    a, b = render(gaussians, view, raster), render(moved, other, raster)
    assert float(a.alpha.max()) > 0.5
    torch.testing.assert_close(b.rgb, a.rgb, atol=2e-4, rtol=0)
    torch.testing.assert_close(b.depth, a.depth * s.scale, atol=2e-3, rtol=1e-3)


def test_large_world_coordinates_keep_their_precision():
    g = Gaussians(torch.zeros(1, 3, dtype=torch.double), torch.ones(1, 4), torch.ones(1, 3), torch.ones(1),
                  torch.zeros(1, 1, 3))  # fmt: skip
    s = Similarity.about((0, 0, 0), translation=(5e6, 4e5, 100.25))
    assert s.gaussians(g).means.tolist() == [[5e6, 4e5, 100.25]]


def test_quaternions_of_any_length_mean_their_direction():
    a = Similarity.about((0, 0, 0), (2.0, 0, 0, 2.0))
    b = Similarity.about((0, 0, 0), (math.sqrt(0.5), 0, 0, math.sqrt(0.5)))
    torch.testing.assert_close(a.rotation, b.rotation)
