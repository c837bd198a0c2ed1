"""Decoded Gaussians: what rasterisers, exporters and queries work on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in the run's frame, activated (no logits, no logarithms)."""

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    """Rotations w, x, y, z; need not be normalised."""
    scales: Float[Tensor, "N 3"]
    """Standard deviations, scene units."""
    opacities: Float[Tensor, " N"]
    sh: Float[Tensor, "N K 3"]
    """Spherical harmonic coefficients, K = (degree + 1)^2, the first one the constant band."""

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.means.device

    def __getitem__(self, index: Bool[Tensor, " N"] | Int[Tensor, " K"]) -> Gaussians:
        """The Gaussians chosen by a boolean mask or by indices."""
        return Gaussians(
            self.means[index], self.quats[index], self.scales[index], self.opacities[index], self.sh[index]
        )

    def detach(self) -> Gaussians:
        """The same Gaussians outside of any autograd graph."""
        return Gaussians(
            self.means.detach(),
            self.quats.detach(),
            self.scales.detach(),
            self.opacities.detach(),
            self.sh.detach(),
        )

    def to(self, device: torch.device | str) -> Gaussians:
        """The same Gaussians on `device`."""
        return Gaussians(*(getattr(self, f).to(device) for f in ("means", "quats", "scales", "opacities", "sh")))
