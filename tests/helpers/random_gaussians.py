"""Gaussians drawn at random."""

import torch

from ag2_ns.core.gaussians import Gaussians


def random_gaussians(count, degree=3, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=g, dtype=dtype),
        torch.randn(count, 4, generator=g, dtype=dtype),
        0.05 + 0.2 * torch.rand(count, 3, generator=g, dtype=dtype),
        0.2 + 0.7 * torch.rand(count, generator=g, dtype=dtype),
        0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g, dtype=dtype),
    )
