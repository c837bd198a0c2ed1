"""Cameras, contact sheets and videos."""

import torch

from ag2_ns.cli.pictures import camera_of
from ag2_ns.gaussians.views import view_of
from ag2_ns.rasterizer.base import View
from ag2_ns.viewer.orbit import look_at


def test_a_view_as_nerfstudio_takes_it_is_the_same_view():
    K = torch.tensor([[60.0, 0, 31], [0, 58, 25], [0, 0, 1]])
    view = look_at(torch.tensor([1.0, 2, 3]), torch.tensor([0.3, 0, 0]), torch.tensor([0.1, 0, 1]), K, (64, 48))
    again: View = view_of(camera_of(view))
    torch.testing.assert_close(again.viewmat, view.viewmat, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.K, K)
    assert (again.width, again.height) == (64, 48)
