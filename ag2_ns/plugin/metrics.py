"""Image metrics without a download."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.notice import notice
from ag2_ns.splat.losses import SSIM_WINDOW, ssim

LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"
"""File that torchvision keeps in the torch hub cache once LPIPS has been used there."""


class ImageMetrics:
    """PSNR, SSIM and, when its weights are already on disk, LPIPS.

    Not a module: LPIPS weights must not enter checkpoints, which would make them unreadable where it is absent.
    """

    def __init__(self) -> None:
        self._lpips: torch.nn.Module | None = None
        self._asked = False

    def psnr(self, prediction: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> Tensor:
        """Peak signal-to-noise ratio in dB, colours in [0, 1]; no device synchronisation."""
        return -10 * (prediction - target).square().mean().clamp(min=1e-12).log10()

    def __call__(self, prediction: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> dict[str, float]:
        """All metrics of one picture."""
        a, b = prediction.clamp(0, 1), target.clamp(0, 1)
        out = {"psnr": float(self.psnr(prediction, target))}
        if min(prediction.shape[:2]) >= SSIM_WINDOW:
            out["ssim"] = float(ssim(_reflected(a), _reflected(b)))
        lpips = self._lpips_on(prediction.device)
        if lpips is not None:
            out["lpips"] = float(lpips(*(p.permute(2, 0, 1)[None] for p in (a, b))))
        return out

    def _lpips_on(self, device: torch.device) -> torch.nn.Module | None:
        if not self._asked:
            self._asked = True
            weights = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_BACKBONE
            if weights.is_file():
                from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

                self._lpips = LearnedPerceptualImagePatchSimilarity(normalize=True).to(device)
            else:
                line = f"LPIPS is left out: {weights} is not there (run any LPIPS metric online once to get it)."
                notice(line, style=None)
        return self._lpips


def _reflected(picture: Float[Tensor, "H W 3"]) -> Float[Tensor, "H+10 W+10 3"]:
    """The picture with mirrored borders, as torchmetrics takes it, whose import would halt training for seconds."""
    border = 4 * (SSIM_WINDOW // 2,)
    return torch.nn.functional.pad(picture.permute(2, 0, 1), border, mode="reflect").permute(1, 2, 0).contiguous()
