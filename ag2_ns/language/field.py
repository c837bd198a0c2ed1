"""A language field: for every anchor or Gaussian an instance feature and an image-text feature (COS3D, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.language.relevancy import TEMPERATURE

CHUNK = 1 << 16
"""Rows compared in single precision at a time on a CPU."""


@dataclass(frozen=True)
class LanguageField:
    """U units (anchors or Gaussians) with their instance and language features."""

    instance: Float[Tensor, "U F"]
    """Unit length, half precision."""
    language: Float[Tensor, "U D"]
    """Unit length, half precision; zero where there is none."""
    spread: float
    """How tight instance features are: see `InstancePairs.spread`."""
    per_gaussian: bool = False
    """Units are Gaussians, as published; else the scene's anchors."""

    def __len__(self) -> int:
        return self.instance.shape[0]

    @cached_property
    def direction(self) -> Float[Tensor, "U F"]:
        """Instance features of unit length in single precision; kept, since every question needs them."""
        return torch.nn.functional.normalize(self.instance.float(), dim=1)

    @cached_property
    def known(self) -> Bool[Tensor, " U"]:
        """Units that have language; kept likewise."""
        return (self.language != 0).any(1)

    def to(self, device: torch.device | str) -> LanguageField:
        """The same on `device`."""
        return LanguageField(self.instance.to(device), self.language.to(device), self.spread, self.per_gaussian)

    def cosines(self, vectors: Float[Tensor, "K D"]) -> Float[Tensor, "U K"]:
        """Cosine of every unit with some vectors.

        Raises:
            ValueError: vectors of another length than the field's.
        """
        if vectors.shape[1] != self.language.shape[1]:
            raise ValueError(f"vectors of length {vectors.shape[1]} for a field of {self.language.shape[1]}")
        columns = torch.nn.functional.normalize(vectors.to(self.language.device, torch.float32), dim=1).T
        if self.language.is_cuda:
            return (self.language @ columns.to(self.language.dtype)).float()  # summed in single precision there
        parts = [part.float() @ columns for part in self.language.split(CHUNK)]
        return torch.cat(parts) if parts else columns.new_zeros(0, columns.shape[1])

    def relevancy(self, vector: Float[Tensor, " D"], negatives: Float[Tensor, "K D"] | None) -> Float[Tensor, " U"]:
        """Relevancy of every unit, as `ag2_ns.language.relevancy.relevancy`; NaN where there is no language."""
        rivals = vector.new_zeros(0, len(vector)) if negatives is None else negatives.to(vector)
        cosine = self.cosines(torch.cat((vector[None], rivals)))
        known, positive = self.known, cosine[:, 0]
        if len(rivals):
            rival = cosine[:, 1:].amax(1)
        else:
            rival = positive[known].median() if bool(known.any()) else positive.new_zeros(())
        value = torch.sigmoid(TEMPERATURE * (positive - rival))
        return torch.where(known, value, torch.nan)

    def to_dict(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {"instance": self.instance, "language": self.language}

    @staticmethod
    def from_dict(tensors: Mapping[str, Tensor], spread: float, per_gaussian: bool) -> LanguageField:
        """The inverse of `to_dict`.

        Raises:
            KeyError: a tensor is missing.
        """
        return LanguageField(tensors["instance"], tensors["language"], spread, per_gaussian)
