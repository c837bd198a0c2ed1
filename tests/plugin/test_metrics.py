import math

import pytest
import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from ag2_ns.plugin.metrics import ImageMetrics


@pytest.fixture
def pair(generator):
    target = torch.rand(24, 32, 3, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_psnr_and_ssim_are_torchmetrics(pair):
    a, b = (x.permute(2, 0, 1)[None] for x in pair)
    found = ImageMetrics()(*pair)
    assert found["psnr"] == pytest.approx(float(PeakSignalNoiseRatio(data_range=1.0)(a, b)), abs=1e-4)
    assert found["ssim"] == pytest.approx(float(StructuralSimilarityIndexMeasure(data_range=1.0)(a, b)), abs=1e-5)
    assert all(type(v) is float for v in found.values())


def test_equal_pictures_have_a_finite_psnr(pair):
    found = ImageMetrics()(pair[1], pair[1])
    assert found["psnr"] == pytest.approx(120, abs=0.1) and found["ssim"] == pytest.approx(1, abs=1e-4)
    assert math.isfinite(found["psnr"])


def test_psnr_keeps_its_gradient(pair):
    prediction = pair[0].clone().requires_grad_()
    ImageMetrics().psnr(prediction, pair[1]).backward()
    assert prediction.grad.abs().sum() > 0


def test_pictures_smaller_than_the_window_have_no_ssim(pair):
    assert set(ImageMetrics()(pair[0][:8], pair[1][:8])) == {"psnr"}


def test_lpips_is_left_out_with_one_line_and_no_download(pair, capsys, tmp_path):
    metrics = ImageMetrics()
    for _ in range(3):
        assert "lpips" not in metrics(*pair)
    assert capsys.readouterr().out.count("LPIPS is left out") == 1
    assert not list(tmp_path.rglob("*.pth"))


def test_lpips_is_measured_where_its_weights_are(pair, tmp_path):
    from torchvision.models import alexnet

    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), folder / "alexnet-owt-7be5be79.pth")
    big = [torch.nn.functional.interpolate(x.permute(2, 0, 1)[None], size=(64, 64))[0].permute(1, 2, 0) for x in pair]
    metrics = ImageMetrics()
    assert metrics(*big)["lpips"] > metrics(big[0], big[0])["lpips"] - 1e-6
    assert not isinstance(metrics, torch.nn.Module), "its weights must stay out of checkpoints"
