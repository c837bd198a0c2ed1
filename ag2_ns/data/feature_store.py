"""The language features of every view's masks, one row per mask, in half precision."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float16
from torch import Tensor

from ag2_ns.data.view_store import ViewStore, as_half
from ag2_ns.errors import UserError


class FeatureStore(ViewStore):
    """One vector per mask and view. See `ag2_ns.data.view_store` for the layout.

    A view's features name the masks they belong to (`MaskStore.identity`), so features of older masks are refused.
    """

    kind: ClassVar[str] = "features"

    def has(self, stem: str, masks_identity: str | None = None) -> bool:
        """Whether valid features of this view (and of exactly these masks) are stored."""
        try:
            meta, _ = self._load(stem)
        except UserError:
            return False
        return masks_identity is None or meta["masks"] == masks_identity

    def read(self, stem: str, masks_identity: str | None = None) -> Float16[Tensor, "M D"]:
        """Load the features of one view.

        Raises:
            UserError: they are missing, damaged, made with other settings or belong to other masks.
        """
        meta, arrays = self._load(stem, ("features",))
        if masks_identity is not None and meta["masks"] != masks_identity:
            raise UserError(f"{self.path(stem)}: belongs to other masks; renew it with: {self.command}")
        return torch.from_numpy(arrays["features"])

    def write(self, stem: str, features: Float16[Tensor, "M D"], masks_identity: str) -> None:
        """Store the features of one view atomically (as half)."""
        if features.dim() != 2:
            raise ValueError(f"features must be M x D, got {tuple(features.shape)}")
        self._write(stem, {"features": as_half(features)}, {"masks": masks_identity})
