import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.models import splatfacto
from tiny_model import FOCAL, HEIGHT, WIDTH, camera_ring

from ag2_ns.plugin.views import view_of

get_viewmat = getattr(splatfacto.get_viewmat, "__wrapped__", splatfacto.get_viewmat)


def test_the_view_matrix_is_splatfactos():
    for k in range(4):
        camera = camera_ring()[k : k + 1]
        expected = get_viewmat(camera.camera_to_worlds)[0]
        assert torch.allclose(view_of(camera).viewmat, expected, atol=1e-6)


def test_a_pose_of_its_own_is_differentiable():
    camera = camera_ring()[:1]
    pose = camera.camera_to_worlds.clone().requires_grad_()
    view_of(camera, pose).viewmat[:3].square().sum().backward()
    assert pose.grad.abs().sum() > 0 and view_of(camera).viewmat[3].tolist() == [0, 0, 0, 1]


def test_intrinsics_are_nerfstudios():
    camera = camera_ring()[:1]
    view = view_of(camera)
    assert torch.allclose(view.K, camera.get_intrinsics_matrices()[0])
    assert (view.width, view.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("scale", [0.5, 0.25, 1 / 3])
def test_scaling_is_nerfstudios_rescaling(scale):
    camera = camera_ring()[:1]
    view = view_of(camera, scale=scale)
    camera.rescale_output_resolution(scale)
    assert (view.width, view.height) == (int(camera.width), int(camera.height))
    assert torch.allclose(view.K, camera.get_intrinsics_matrices()[0], atol=1e-4)


def test_rays_hit_the_pixel_they_leave_from():
    """nerfstudio's own ray generation, projected back."""
    camera = camera_ring()[1:2]
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    view = view_of(camera)
    points = rays.origins + 1.7 * rays.directions
    local = points.reshape(-1, 3) @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    pixel = local @ view.K.T
    pixel = (pixel[:, :2] / pixel[:, 2:]).reshape(HEIGHT, WIDTH, 2)
    x, y = torch.meshgrid(torch.arange(WIDTH) + 0.5, torch.arange(HEIGHT) + 0.5, indexing="xy")
    assert torch.allclose(pixel, torch.stack((x, y), -1), atol=1e-3)


def test_a_lens_is_not_part_of_the_view():
    """Images are undistorted before training, so the view is the pinhole camera behind the lens."""
    lens = torch.tensor([[0.2, 0.01, 0.0, 0.0, 0.001, 0.0]])
    plain = camera_ring()[:1]
    distorted = Cameras(plain.camera_to_worlds, plain.fx, plain.fy, plain.cx, plain.cy, plain.width, plain.height, lens)
    assert distorted.camera_type[0] == CameraType.PERSPECTIVE.value
    a, b = view_of(plain), view_of(distorted)
    assert torch.equal(a.viewmat, b.viewmat) and torch.equal(a.K, b.K)


def test_an_adjusted_pose_is_differentiable():
    camera = camera_ring()[:1]
    pose = camera.camera_to_worlds.clone().requires_grad_()
    view = view_of(camera, pose)
    assert torch.allclose(view.viewmat, view_of(camera).viewmat)
    view.viewmat.square().sum().backward()
    assert pose.grad.abs().sum() > 0
    assert float(view.K[0, 0]) == FOCAL
