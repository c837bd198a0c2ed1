import pytest
import torch

from ag2_ns.gaussians.losses import near_anchor_loss, opacity_cover_loss, photometric_loss


def test_photometric_is_zero_for_equal_pictures_and_matches_its_parts():
    picture = torch.rand(20, 24, 3)
    assert photometric_loss(picture, picture).item() == pytest.approx(0, abs=1e-6)
    other = torch.rand(20, 24, 3)
    assert photometric_loss(picture, other, 0.0).item() == pytest.approx((picture - other).abs().mean().item())
    assert photometric_loss(picture, other, 1.0).item() > 0.5


def test_tiny_pictures_use_l1_alone():
    a, b = torch.rand(8, 8, 3), torch.rand(8, 8, 3)
    assert photometric_loss(a, b).item() == pytest.approx((a - b).abs().mean().item())


def test_near_anchor_values():
    offset = torch.tensor([[0.0, 0, 0], [0, 2.0, 0]])
    scale = torch.tensor([[0.1, 0.4, 0.1], [0.1, 0.1, 0.1]])
    loss = near_anchor_loss(offset, scale, torch.full((2, 1), 0.2))
    assert loss.item() == pytest.approx((torch.e - 1) / 2 + 0.1, rel=1e-5)


def test_near_anchor_gradient_is_finite_everywhere():
    offset = torch.tensor([[0.0, 0, 0], [0, 1.0, 0], [1e4, 0, 0]], requires_grad=True)
    scale = torch.full((3, 3), 0.1, requires_grad=True)
    near_anchor_loss(offset, scale, torch.full((3, 1), 0.2)).backward()
    assert offset.grad.isfinite().all() and scale.grad.isfinite().all()


def test_near_anchor_gradcheck():
    offset = (torch.rand(5, 3, dtype=torch.float64) + 0.7).requires_grad_()
    scale = (torch.rand(5, 3, dtype=torch.float64) + 0.5).requires_grad_()
    radius = torch.full((5, 1), 0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda o, s: near_anchor_loss(o, s, radius), (offset, scale))


def test_near_anchor_of_nothing_is_zero():
    assert near_anchor_loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 1)).item() == 0


def test_opacity_cover():
    assert opacity_cover_loss(torch.full((4, 5, 1), 0.75)).item() == pytest.approx(0.25)
