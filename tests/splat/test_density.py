import math

import pytest
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.splat.density import Shown, beside, hiding, visibility


def on_ring(degrees: float) -> View:
    """A camera on a circle of radius 3, which looks at its centre."""
    turn, back = torch.eye(4, dtype=torch.double), torch.eye(4, dtype=torch.double)
    a = math.radians(degrees)
    turn[0, 0] = turn[2, 2] = math.cos(a)
    turn[0, 2], turn[2, 0] = math.sin(a), -math.sin(a)
    back[2, 3] = 3.0
    return View(back @ turn, torch.eye(3), 4, 4)


def test_the_motion_from_the_nearest_camera_is_made_once_more():
    views = [on_ring(d) for d in (0.0, 20.0, 50.0)]
    found = beside(views, 64)
    for view, degrees in zip(found, (-20.0, 40.0, 80.0), strict=True):
        torch.testing.assert_close(view.viewmat, on_ring(degrees).viewmat)
        assert (view.width, view.height) == (4, 4)
    assert torch.equal(beside(views, 2)[1].viewmat, found[2].viewmat) and len(beside(views, 2)) == 2
    assert beside(views[:1], 64) == beside([], 64) == []


def test_what_cameras_show_of_each_gaussian():
    weights = torch.tensor([[4.0, 0, 3], [4.0, 0, 0], [4.0, 0, 1]])

    class Fake:
        def __init__(self):
            self.rows = iter(weights)

        def lift(self, *_):
            return next(self.rows)[:, None]

    gaussians = Gaussians(*(torch.zeros(3, *size) for size in ((3,), (4,), (3,), (), (1, 3))))
    shown = visibility(gaussians, [on_ring(0.0)] * 3, Fake())
    assert shown.total.tolist() == [12.0, 0.0, 4.0] and shown.most.tolist() == [4.0, 0.0, 3.0]
    assert shown.views.tolist() == pytest.approx([3.0, 0.0, 1.6])


def test_what_few_cameras_show_and_one_beside_them_would_be_full_of_hides_what_is_behind():
    wall, edge = 0.4 * torch.tensor([[-1.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0]]), torch.tensor([[0.0, 3.0, 0]])
    near = torch.tensor([[0.0, 0, 2.0], [0.0, 0.9, 2.0]])  # before the wall, and beside it before nothing
    means = torch.cat((wall, edge, near)).float()
    count = len(means)
    scales = torch.full((count, 3), 0.05)
    scales[:3] = 0.5
    scales[4:] = 0.02
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    gaussians = Gaussians(means, quats, scales, torch.full((count,), 0.999), torch.zeros(count, 1, 3))
    K = torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]])
    view = View(on_ring(0.0).viewmat.float(), K, 32, 32)
    little, much = torch.full((count,), 1e-3), torch.full((count,), 1e6)
    two, eight = torch.full((count,), 2.0), torch.full((count,), 8.0)

    def found(total, views):
        return hiding(Shown(total, views, total), gaussians, [view], CpuRasterizer(), 4.0)

    suspects = torch.where(torch.arange(count) < 4, much, little)
    assert found(suspects, two).tolist() == [False] * 4 + [True, False]
    assert not found(much, two).any() and not found(little, eight).any()
