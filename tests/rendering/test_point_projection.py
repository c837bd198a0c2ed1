import numpy as np
import torch
from shared_data import shared

from ag2_ns.core.view import View
from ag2_ns.rendering.point_projection import point_sizes, project_points

K = torch.tensor([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
VIEW = View(torch.eye(4), K, 64, 48)


def test_pixels_and_depths():
    found = project_points(torch.tensor([[0.0, 0, 2], [0.4, 0.2, 2], [0, 0, -1], [10, 0, 1]]), VIEW)
    assert found.pixel[:2].tolist() == [[32, 24], [42, 29]]
    assert found.visible.tolist() == [True, True, False, False]
    assert found.depth[:3].tolist() == [2, 2, -1]


def test_a_wall_hides_what_is_behind_it():
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, 30), torch.linspace(-0.5, 0.5, 30), indexing="ij")
    wall = torch.stack([x, y, torch.full_like(x, 2.0)], -1).reshape(-1, 3)
    behind = torch.stack([x * 2, y * 2, torch.full_like(x, 4.0)], -1).reshape(-1, 3) * 0.97
    points = torch.cat([wall, behind])
    size = torch.from_numpy(point_sizes(points.numpy())) * 2
    found = project_points(points, VIEW, size)
    assert found.visible[:900].all()
    assert found.visible[900:].float().mean() < 0.05
    assert project_points(points, VIEW, size, occlusion=False).visible.all()


def test_against_a_slow_depth_buffer():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(300, 3, generator=g) * torch.tensor([2.0, 2, 3]) + torch.tensor([-1.0, -1, 1])
    found = project_points(points, VIEW, torch.full((300,), 1e-6))
    inside = project_points(points, VIEW, occlusion=False).visible
    for n in inside.nonzero().squeeze(1).tolist():
        same = inside & (found.pixel == found.pixel[n]).all(1)
        assert bool(found.visible[n]) == bool(points[n, 2] <= points[same, 2].min() * 1.05)


def test_borders_and_nothing():
    edge = torch.tensor([[-1.27, 0.0, 2.0]])
    assert project_points(edge, VIEW).visible.all() and not project_points(edge, VIEW, border=5).visible.any()
    assert project_points(torch.zeros(0, 3), VIEW).visible.shape == (0,)


def test_sizes_follow_the_gaps():
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0), [0.0]), -1).reshape(-1, 3).astype(np.float32)
    assert np.allclose(point_sizes(grid * 2), 2 * point_sizes(grid), rtol=1e-4)
    assert point_sizes(grid[:1]).shape == (1,)


def test_lidar_points_fall_on_what_they_hit():
    from ag2_ns.io.calibration import read_rig
    from ag2_ns.io.points import read_cloud

    rig = read_rig(shared("nuscenes_sample"))
    xyz = torch.from_numpy(read_cloud(rig.cloud).xyz)
    seen = torch.stack([project_points(xyz, v, occlusion=False).visible for v in rig.views])
    assert abs(float(seen.any(0).float().mean()) - 0.58) < 0.02
    assert abs(float((seen.sum(0) > 1).float().mean()) - 0.056) < 0.01
