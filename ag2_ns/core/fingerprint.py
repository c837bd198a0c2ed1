"""What tells the Gaussians of one run from those of another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Fingerprint:
    """What tells the Gaussians of one run from those of another."""

    gaussians: int
    anchors: int
    digest: str
    """SHA-256 of the anchor centres."""

    @staticmethod
    def of(num_gaussians: int, anchor_xyz: Float[Tensor, "A 3"]) -> Fingerprint:
        """The fingerprint of a run; the same on every device."""
        xyz = anchor_xyz.detach().cpu().to(torch.float32).contiguous().numpy()
        return Fingerprint(int(num_gaussians), len(xyz), hashlib.sha256(xyz.astype("<f4").tobytes()).hexdigest())
