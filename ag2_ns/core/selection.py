"""The one answer that every query returns and every consumer takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """Confidence in the selection as a whole, 0 to 1; of an empty one 0, or how well the best candidate answers."""
    nodes: tuple[int, ...] = ()
    """Instance-tree nodes whose union this is; empty where the selection did not come from the tree."""
    level: float | None = None
    """Granularity from 0 (parts) to 1 (groups) at which it was made, where that applies."""
    reason: str = ""
    """Why nothing is selected, for an empty selection."""

    @property
    def empty(self) -> bool:
        """Whether nothing is selected."""
        return not bool(self.anchor_mask.any())

    @staticmethod
    def nothing(
        num_anchors: int, num_gaussians: int, label: str, device: torch.device | str = "cpu", reason: str = "",
        score: float = 0.0,
    ) -> Selection:  # fmt: skip
        """The empty selection."""
        return Selection(
            torch.zeros(num_anchors, device=device),
            torch.zeros(num_anchors, dtype=torch.bool, device=device),
            torch.zeros(num_gaussians, dtype=torch.bool, device=device),
            label,
            score,
            reason=reason,
        )

    def union(self, other: Selection) -> Selection:
        """What either selects: adds a further click."""
        if other.empty:
            return self
        if self.empty:
            return other
        return replace(
            self,
            label=f"{self.label} + {other.label}",
            anchor_score=torch.maximum(self.anchor_score, other.anchor_score),
            anchor_mask=self.anchor_mask | other.anchor_mask,
            gaussian_mask=self.gaussian_mask | other.gaussian_mask,
            score=min(self.score, other.score),
            nodes=self.nodes + tuple(n for n in other.nodes if n not in self.nodes),
            reason="",
        )

    def without(self, other: Selection) -> Selection:
        """What this selects and the other does not: a click that removes.

        Where something of it goes, it is no longer the union of its nodes: `SceneIndex.without` finds those that it
        still is.
        """
        anchor_mask = self.anchor_mask & ~other.anchor_mask
        gaussian_mask = self.gaussian_mask & ~other.gaussian_mask
        gone = not bool(anchor_mask.any())
        return replace(
            self,
            anchor_score=torch.where(other.anchor_mask, torch.zeros_like(self.anchor_score), self.anchor_score),
            anchor_mask=anchor_mask,
            gaussian_mask=gaussian_mask,
            score=0.0 if gone else self.score,
            nodes=() if bool((self.anchor_mask & other.anchor_mask).any()) else self.nodes,
            reason="everything selected was removed again" if gone and not self.empty else self.reason,
        )
