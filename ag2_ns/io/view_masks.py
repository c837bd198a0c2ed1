"""Masks and features of served views, loaded when they are asked for and kept within a memory budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_store import image_print

MAX_COMING = 4
"""Views that may be on their way at once; those that nobody came for are forgotten."""


@dataclass(frozen=True)
class PreparedMasks:
    """What `ag2 prepare` made of one view."""

    masks: MaskSet
    features: Float16[Tensor, "M D"] | None
    """One row per mask; None where the scene was prepared without an encoder."""

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take."""
        return self.masks.nbytes + (0 if self.features is None else self.features.nbytes)


class ViewMasks:
    """The prepared masks of a scene, by view name; the least recently used leave when the budget is spent."""

    def __init__(
        self,
        masks: MaskStore,
        features: FeatureStore | None,
        device: torch.device | str = "cpu",
        budget: int = 2 << 30,
    ) -> None:
        """Serve from open stores.

        Args:
            masks: the scene's mask store.
            features: its feature store, or None.
            device: where the tensors go.
            budget: bytes that may be kept.
        """
        self.mask_store, self.feature_store = masks, features
        self.device, self.budget = torch.device(device), budget
        self._kept: OrderedDict[str, PreparedMasks] = OrderedDict()
        self._size: dict[str, int] = {}
        self._latest: str | None = None
        self._checked: set[str] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ag2-masks")
        self._coming: dict[str, Future] = {}

    @staticmethod
    def open(
        data: Path, downscale: float = 1, device: torch.device | str = "cpu", budget: int = 2 << 30
    ) -> ViewMasks | None:
        """The prepared masks beside the scene at `data`, or None where it was not prepared."""
        if not MaskStore.exists(data, downscale):
            return None
        features = FeatureStore.open(data, downscale) if FeatureStore.exists(data, downscale) else None
        return ViewMasks(MaskStore.open(data, downscale), features, device, budget)

    def get(self, name: str, image: Callable[[], np.ndarray | Tensor] | None = None) -> PreparedMasks:
        """Masks and features of a view.

        Args:
            name: the view key.
            image: gives the served uint8 image, against which the masks are checked the first time.

        Raises:
            UserError: they are missing, damaged or belong to another image; the message holds the remedy.
        """
        with self._lock:
            future = self._coming.pop(name, None)
            # Whoever had the one before may have kept more with it (`MaskSet.derived`).
            if self._latest in self._kept:
                self._size[self._latest] = self._kept[self._latest].nbytes
                self._make_room()
            self._latest = name
        if future is not None:
            return future.result()
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        return self._load(name, image)

    def _make_room(self) -> None:
        while self.kept_bytes > self.budget and len(self._kept) > 1:
            del self._size[self._kept.popitem(last=False)[0]]

    def settle(self) -> None:
        """Forget what has arrived and nobody came for: it was fetched to be checked.

        Raises:
            UserError: as `get`.
        """
        with self._lock:
            arrived = [self._coming.pop(name) for name, future in list(self._coming.items()) if future.done()]
        for future in arrived:
            future.result()

    def checked(self, name: str) -> bool:
        """Whether a view's masks have been loaded before, and compared with its image."""
        return name in self._checked

    def prefetch(self, name: str, image: Callable[[], np.ndarray | Tensor] | None = None) -> None:
        """Start to load a view that will be asked for soon."""
        with self._lock:
            if name in self._kept or name in self._coming:
                return
            while len(self._coming) >= MAX_COMING:
                self._coming.pop(next(iter(self._coming))).cancel()
            self._coming[name] = self._pool.submit(self._load, name, image)

    def _load(self, name: str, image: Callable[[], np.ndarray | Tensor] | None) -> PreparedMasks:
        digest = image_print(image()) if image is not None and name not in self._checked else None
        masks = self.mask_store.read(name, digest)
        features = None
        if self.feature_store is not None:
            features = self.feature_store.read(name, self.mask_store.identity(name)).to(self.device)
            if len(features) != len(masks):
                raise UserError(
                    f"{self.feature_store.path(name)}: {len(features)} rows for {len(masks)} masks; renew it with: "
                    f"{self.feature_store.command} --overwrite"
                )
        prepared = PreparedMasks(masks.to(self.device), features)
        with self._lock:
            self._checked.add(name)
            if name not in self._kept:
                self._kept[name] = prepared
                self._size[name] = prepared.nbytes
            self._make_room()
        return prepared

    @property
    def kept_bytes(self) -> int:
        """Memory in use."""
        return sum(self._size.values())

    @property
    def kept(self) -> dict[str, PreparedMasks]:
        """The views in memory, the one used last comes last."""
        with self._lock:
            return dict(self._kept)

    @property
    def coming(self) -> list[str]:
        """The views that were prefetched and not asked for yet."""
        with self._lock:
            return list(self._coming)

    def close(self) -> None:
        """Wait for what is on its way, and prefetch no more."""
        self._pool.shutdown()
