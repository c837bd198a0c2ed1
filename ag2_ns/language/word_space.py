"""Pictures of things compared by what words can say of them.

Image-text encoders give a picture more of its own looks, and of what all pictures share, than of what it shows: the
nearest crop of a scene to a picture of a cup is often one that mixes several things, whose looks average out. Within
the span of texts, with what is typical of the scene taken away, what it shows is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.language.node_language import NodeLanguage

LEAST = 0.05
"""Directions in which texts differ less than this share of their most are noise."""


@dataclass(frozen=True)
class WordSpace:
    """The span of some texts, seen from what is typical of a scene."""

    basis: Float[Tensor, "D r"]
    """Orthonormal."""
    typical: Float[Tensor, " r"]
    """Mean of the scene's nodes by trust."""

    @staticmethod
    def of(texts: Float[Tensor, "V D"], language: NodeLanguage) -> WordSpace:
        """The space of texts (embedded) and of a scene whose nodes have been described by the same encoder."""
        texts = normalize(texts.float(), dim=1)
        left, size, _ = torch.linalg.svd((texts - texts.mean(0)).T, full_matrices=False)
        basis = left[:, size > LEAST * size.max()]
        trust = language.trust.float()
        inside = normalize(language.feature.float(), dim=1) @ basis
        return WordSpace(basis, (inside * trust[:, None]).sum(0) / trust.sum().clamp_min(1e-9))

    def __call__(self, feature: Float[Tensor, "R D"]) -> Float[Tensor, "R r"]:
        """Features in this space, of unit length; those that are zero stay so."""
        inside = normalize(feature.float(), dim=1) @ self.basis - self.typical
        return normalize(inside, dim=1) * (feature != 0).any(1, keepdim=True)
