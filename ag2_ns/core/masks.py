"""The masks of one view, as (pixel, mask) pairs: memory grows with mask pixels, and masks may overlap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class MaskSet:
    """M masks over an image of `height` x `width` pixels, as P pairs sorted by mask, then by pixel."""

    height: int
    width: int
    pixel: Int[Tensor, " P"]
    """Flat pixel index y * width + x of each pair, int64."""
    mask: Int[Tensor, " P"]
    """Mask index of each pair, int64, non-decreasing."""
    score: Float[Tensor, " M"]
    """The segmenter's confidence in each mask, 0 to 1."""
    derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was worked out once and is kept with the masks, say what a loss needs: objects that hold tensors."""

    def __len__(self) -> int:
        return self.score.shape[0]

    @property
    def areas(self) -> Int[Tensor, " M"]:
        """Pixels in each mask."""
        return torch.searchsorted(self.mask, torch.arange(len(self) + 1, device=self.mask.device)).diff()

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take, derived ones included."""
        held = [self.pixel, self.mask, self.score, *(t for kept in self.derived.values() for t in vars(kept).values())]
        return sum(t.nbytes for t in held if isinstance(t, torch.Tensor))

    @staticmethod
    def from_dense(masks: Bool[Tensor, "M H W"], score: Float[Tensor, " M"] | None = None) -> MaskSet:
        """Collect the pairs of M dense masks; `score` defaults to ones."""
        m, h, w = masks.shape
        mask, pixel = masks.reshape(m, h * w).nonzero(as_tuple=True)
        score = torch.ones(m, device=masks.device) if score is None else score
        return MaskSet(h, w, pixel, mask, score)

    def dense(self) -> Bool[Tensor, "M H W"]:
        """The masks as one boolean tensor: for tests, previews and small images."""
        out = torch.zeros(len(self), self.height * self.width, dtype=torch.bool, device=self.pixel.device)
        out[self.mask, self.pixel] = True
        return out.reshape(len(self), self.height, self.width)

    def to(self, device: torch.device | str) -> MaskSet:
        """The same masks on `device`."""
        return MaskSet(self.height, self.width, self.pixel.to(device), self.mask.to(device), self.score.to(device))
