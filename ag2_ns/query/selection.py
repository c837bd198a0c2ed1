"""The one answer that every query returns and every consumer takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """A set of Gaussians, by the anchors that carry them.

    Click, text, box, image and sentence queries all end here; the viewer, rendering, evaluation, edits and export all
    start here.
    """

    anchor_score: Float[Tensor, " A"]
    """How well each anchor answers the query, 0 to 1."""
    anchor_mask: Bool[Tensor, " A"]
    """The anchors selected."""
    gaussian_mask: Bool[Tensor, " N"]
    """The Gaussians selected."""
    label: str
    """What was asked, for legends and file names."""
    score: float
    """Confidence in the selection as a whole, 0 to 1; 0 for an empty one."""
    nodes: tuple[int, ...] = ()
    """Instance-tree nodes whose union this is; empty where the selection did not come from the tree."""
    level: float | None = None
    """Granularity from 0 (parts) to 1 (groups) at which it was made, where that applies."""

    @property
    def empty(self) -> bool:
        """Whether nothing is selected."""
        return not bool(self.anchor_mask.any())

    @staticmethod
    def nothing(num_anchors: int, num_gaussians: int, label: str, device: torch.device | str = "cpu") -> Selection:
        """The empty selection."""
        return Selection(
            torch.zeros(num_anchors, device=device),
            torch.zeros(num_anchors, dtype=torch.bool, device=device),
            torch.zeros(num_gaussians, dtype=torch.bool, device=device),
            label,
            0.0,
        )
