"""A flat scene with exact ground truth: what every evaluation is tested on."""

import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View

WIDTH, HEIGHT = 64, 48


def wall() -> Gaussians:
    """An opaque wall of small Gaussians that fills the picture, its left half first."""
    x, y = torch.meshgrid(torch.linspace(-1.5, 1.5, 60), torch.linspace(-1.2, 1.2, 48), indexing="ij")
    means = torch.stack((x.flatten(), y.flatten(), torch.full((x.numel(),), 2.0)), 1)
    n = len(means)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    return Gaussians(means, quats, torch.full((n, 3), 0.04), torch.full((n,), 0.99), torch.zeros(n, 1, 3))


def view() -> View:
    """The camera that sees it from in front."""
    K = torch.tensor([[50.0, 0, WIDTH / 2], [0, 50, HEIGHT / 2], [0, 0, 1]])
    return View(torch.eye(4), K, WIDTH, HEIGHT)
