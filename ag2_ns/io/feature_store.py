"""The language features of every view's masks, one row per mask, in half precision."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float16
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.io.view_store import ViewStore, as_half


class FeatureStore(ViewStore):
    """One vector per mask and view. See `ag2_ns.io.view_store` for the layout.

    A view's features name the masks they belong to (`MaskStore.identity`), so features of older masks are refused.
    """

    kind: ClassVar[str] = "features"
    replacing: ClassVar[str] = "add --overwrite to replace it (the masks stay)"

    def has(self, stem: str, masks_identity: str | None = None, origin: str | None = None) -> bool:
        """Whether valid features of this view (of exactly these masks, read from this file) are stored."""
        try:
            meta, _ = self._load(stem)
        except UserError:
            return False
        same = origin is None or meta.get("origin", "") == origin
        return same and (masks_identity is None or meta["masks"] == masks_identity)

    def read(self, stem: str, masks_identity: str | None = None) -> Float16[Tensor, "M D"]:
        """Load the features of one view.

        Raises:
            UserError: they are missing, damaged, made with other settings or belong to other masks.
        """
        meta, arrays = self._load(stem, ("features",))
        if masks_identity is not None and meta["masks"] != masks_identity:
            raise UserError(f"{self.path(stem)}: belongs to other masks; renew it with: {self.command}")
        return torch.from_numpy(arrays["features"])

    def write(self, stem: str, features: Float16[Tensor, "M D"], masks_identity: str, origin: str = "") -> None:
        """Store the features of one view atomically (as half).

        Args:
            stem: the view.
            features: one row per mask.
            masks_identity: see `MaskStore.identity`.
            origin: a fingerprint of the file that they were read from, if any.
        """
        if features.dim() != 2:
            raise ValueError(f"features must be M x D, got {tuple(features.shape)}")
        self._write(stem, {"features": as_half(features)}, {"masks": masks_identity, "origin": origin})
