import pytest
import torch

from ag2_ns.splat.losses import near_anchor_loss, opacity_cover_loss, photometric_loss, ssim, window_means


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


def test_near_anchor_counts_the_visible_only():
    offset, scale, radius = torch.randn(6, 3) * 2, torch.rand(6, 3), torch.full((6, 1), 0.2)
    visible = torch.tensor([True, False, True, True, False, False])
    expected = near_anchor_loss(offset[visible], scale[visible], radius[visible])
    assert near_anchor_loss(offset, scale, radius, visible).item() == pytest.approx(expected.item(), rel=1e-6)
    assert near_anchor_loss(offset, scale, radius, torch.zeros(6, dtype=torch.bool)).item() == 0


def test_ssim_matches_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure as reference

    a = torch.rand(40, 50, 3, dtype=torch.float64)
    b = (a + 0.1 * torch.rand(40, 50, 3, dtype=torch.float64)).clamp(0, 1)
    image = [x.permute(2, 0, 1)[None] for x in (a, b)]
    _, full = reference(*image, data_range=1.0, return_full_image=True)
    inner = full[..., 5:-5, 5:-5].mean()
    assert ssim(a, b).item() == pytest.approx(inner.item(), rel=1e-6)


def test_banded_window_is_a_convolution():
    x = torch.rand(4, 1, 20, 23, dtype=torch.float64)
    position = torch.arange(11, dtype=torch.float64) - 5
    window = torch.softmax(-0.5 * (position / 1.5) ** 2, 0)
    expected = torch.nn.functional.conv2d(x, (window[:, None] * window)[None, None])
    torch.testing.assert_close(window_means(x), expected)


def test_ssim_gradcheck():
    a = torch.rand(12, 13, 3, dtype=torch.float64, requires_grad=True)
    b = torch.rand(12, 13, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), (a,))


@pytest.mark.parametrize("level", [0.0, 0.02, 0.5])
def test_ssim_of_dark_pictures_in_mixed_precision(level):
    a = (level + 0.01 * torch.rand(20, 20, 3)).requires_grad_()
    with torch.autocast("cpu", torch.float16):
        value = ssim(a, torch.full_like(a, level))
    value.backward()
    assert 0 <= float(value) <= 1 and a.grad.isfinite().all()


def test_near_anchor_of_nothing_is_zero():
    assert near_anchor_loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 1)).item() == 0


def test_opacity_cover():
    assert opacity_cover_loss(torch.full((4, 5, 1), 0.75)).item() == pytest.approx(0.25)
