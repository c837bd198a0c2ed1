import pytest
import torch
from own_process import run_script

from ag2_ns.splat.losses import (
    near_anchor_loss,
    opacity_cover_loss,
    photometric_loss,
    picture_losses,
    shrink_loss,
    ssim,
    window_means,
)


def test_photometric_is_zero_for_equal_pictures_and_matches_its_parts():
    picture = torch.rand(20, 24, 3)
    assert photometric_loss(picture, picture).item() == pytest.approx(0, abs=1e-6)
    other = torch.rand(20, 24, 3)
    assert photometric_loss(picture, other, 0.0).item() == pytest.approx((picture - other).abs().mean().item())
    assert photometric_loss(picture, other, 1.0).item() > 0.5


def test_tiny_pictures_use_l1_alone():
    a, b = torch.rand(8, 8, 3), torch.rand(8, 8, 3)
    assert photometric_loss(a, b).item() == pytest.approx((a - b).abs().mean().item())


def test_shrink_values():
    opacities, scales = torch.tensor([0.2, 0.6]), torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    assert shrink_loss(opacities, scales, 4.0, 0.1, 0.5).item() == pytest.approx(0.1 * 0.4 + 0.5 * 2.0 / 4.0)


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


KERNELS = """
import torch
from ag2_ns.ops.ssim_triton import similarity, similarity_backward
from ag2_ns.splat.losses import C1, C2, SSIM_WINDOW, ssim

g = torch.Generator().manual_seed(0)
window = torch.softmax(-0.5 * ((torch.arange(SSIM_WINDOW) - SSIM_WINDOW // 2) / 1.5) ** 2, 0).tolist()
for height, width, channels in ((23, 31, 3), (11, 11, 3), (14, 300, 1)):
    a, b = (torch.rand(height, width, channels, generator=g) for _ in range(2))
    expected = ssim(a.requires_grad_(), b)
    expected.backward()
    value, slopes = similarity(a.detach(), b, tuple(window), C1, C2)
    ours = similarity_backward(a.detach(), b, slopes, tuple(window), torch.tensor(6 / slopes.numel()))
    torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours, a.grad, rtol=1e-4, atol=1e-5 * float(a.grad.abs().max()))
print("equal")
"""


def test_ssim_of_the_kernels_is_that_of_the_plain_form():
    pytest.importorskip("triton")
    done = run_script(KERNELS)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]


@pytest.mark.gpu
def test_ssim_on_a_gpu_is_that_on_the_cpu():
    pairs = []
    for device in ("cpu", "cuda"):
        g = torch.Generator().manual_seed(0)
        a, b = (torch.rand(480, 640, 3, generator=g).to(device) for _ in range(2))
        value = ssim(a.requires_grad_(), b)
        (3 * value).backward()
        pairs.append((value.detach().cpu(), a.grad.cpu()))
    torch.testing.assert_close(pairs[0][0], pairs[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pairs[0][1], pairs[1][1], rtol=1e-3, atol=1e-4 * float(pairs[0][1].abs().max()))


def test_picture_losses_take_photographs_as_they_are_stored():
    g = torch.Generator().manual_seed(0)
    rgb, alpha = torch.rand(20, 24, 3, generator=g), torch.rand(20, 24, 1, generator=g)
    photo, background = torch.randint(0, 256, (20, 24, 4), generator=g, dtype=torch.uint8), torch.rand(3, generator=g)
    shown = (rgb + (1 - alpha) * background).clamp(0, 1)
    opaque, clear = photo[..., :3] / 255, photo[..., 3:] / 255
    for image, target in ((photo[..., :3], opaque), (photo, opaque * clear + (1 - clear) * background)):
        found = picture_losses(rgb, alpha, image, background, 0.2, 0.1)
        torch.testing.assert_close(
            found, torch.stack((photometric_loss(shown, target), 0.1 * opacity_cover_loss(alpha)))
        )
        assert torch.equal(found, picture_losses(rgb, alpha, image / 255, background, 0.2, 0.1))
    assert len(picture_losses(rgb, alpha, photo, background, 0.2, 0.0)) == 1


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
