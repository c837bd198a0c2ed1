"""Masks and features for every view, resumable: the work behind `ag2 prepare`, free of nerfstudio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ag2_ns.data.feature_store import FeatureStore
from ag2_ns.data.mask_store import MaskStore
from ag2_ns.data.masks import MaskSet
from ag2_ns.data.preview import write_sheet
from ag2_ns.data.served import as_rgb, select_shard
from ag2_ns.data.view_store import Manifest, image_print
from ag2_ns.errors import UserError
from ag2_ns.perception.encoder import Encoder
from ag2_ns.perception.segmenter import Segmenter

VIEWS_PER_SHEET = 4
"""A preview sheet shows this many views, evenly spread over those it stands for."""


class PreparedView(Protocol):
    """An image and the name it is stored under."""

    name: str

    def load(self) -> np.ndarray:
        """The served image, uint8 [H, W, 3 or 4]."""
        ...


@dataclass(frozen=True)
class ImageView:
    """A view whose image is at hand."""

    name: str
    image: np.ndarray

    def load(self) -> np.ndarray:
        """The image."""
        return self.image


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    segmented: int
    """Views whose masks were made."""
    encoded: int
    """Views whose features were made."""
    skipped: int
    """Views that were valid already."""
    empty: tuple[str, ...]
    """Views without a single mask."""
    masks: int
    """Masks over all views of this run."""
    masks_folder: Path
    features_folder: Path
    sheets: tuple[Path, ...]
    """Preview sheets written."""


def prepare_views(
    views: Sequence[PreparedView],
    segmenter: Segmenter,
    encoder: Encoder | None,
    data: Path,
    *,
    downscale: float = 1,
    overwrite: bool = False,
    shard: tuple[int, int] = (1, 1),
    preview_every: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Summary:
    """Segment and encode every view into the stores beside the scene; views that are valid already are skipped.

    Every view is written atomically when it is done, so a run may be killed at any moment and started again.

    Args:
        views: the images exactly as training will serve them.
        segmenter: makes the masks.
        encoder: makes one vector per mask; None makes masks only.
        data: the scene's folder.
        downscale: the downscale factor of the images; each has its own stores.
        overwrite: renew everything, also what another segmenter or encoder made.
        shard: (i, n): do the i-th of n parts, i from 1.
        preview_every: write a preview sheet per that many views; 0 writes none.
        progress: called with views done, views in all, and the current view's name.

    Raises:
        UserError: stores made with other settings, or a view that cannot be read, segmented or encoded; earlier views
            are kept.
    """
    masks_to = MaskStore.create(data, Manifest(segmenter.name, segmenter.settings, segmenter.options), downscale,
                                overwrite)  # fmt: skip
    features_to = None
    if encoder is not None:
        manifest = Manifest(encoder.name, encoder.settings, encoder.options)
        features_to = FeatureStore.create(data, manifest, downscale, overwrite)
    mine = select_shard(views, shard)
    segmented = encoded = skipped = total_masks = 0
    empty: list[str] = []
    sheets: list[Path] = []
    shown: list[tuple[str, np.ndarray, MaskSet]] = []
    for index, view in enumerate(mine):
        if progress is not None:
            progress(index, len(mine), view.name)
        served = view.load()
        image, content = as_rgb(served), image_print(served)
        masks, made = None, False
        origin = _origin(segmenter, view.name)
        if not overwrite and masks_to.has(view.name, content, origin):
            identity = masks_to.identity(view.name)
        else:
            masks = _checked(segmenter.segment(image, view.name), image, view.name)
            identity = masks_to.write(view.name, masks, content, origin)
            segmented, made = segmented + 1, True
        described = "" if encoder is None else _origin(encoder, view.name)
        if features_to is not None and (overwrite or not features_to.has(view.name, identity, described)):
            masks = masks_to.read(view.name, content) if masks is None else masks
            features_to.write(view.name, _features(encoder, image, masks, view.name), identity, described)
            encoded, made = encoded + 1, True
        skipped += not made
        preview = preview_every > 0 and _is_shown(index, len(mine), preview_every)
        count = masks_to.count(view.name) if masks is None else len(masks)
        total_masks += count
        if count == 0:
            empty.append(view.name)
        if preview:
            shown.append((view.name, image, masks_to.read(view.name, content) if masks is None else masks))
        if shown and (index == len(mine) - 1 or (index + 1) % preview_every == 0):
            path = masks_to.folder.parents[1] / "preview" / masks_to.folder.parent.name
            path = path / (shown[0][0].replace("/", "-") + ".png")
            write_sheet(path, shown)
            sheets.append(path)
            shown = []
    if progress is not None:
        progress(len(mine), len(mine), "")
    return Summary(
        segmented, encoded, skipped, tuple(empty), total_masks, masks_to.folder,
        masks_to.folder.parent / "features", tuple(sheets),
    )  # fmt: skip


def _origin(maker: Segmenter | Encoder, name: str) -> str:
    """A fingerprint of the files that a maker reads a view's masks or features from; empty if it computes them."""
    source = getattr(maker, "source", None)
    return "" if source is None else source(name)


def _checked(masks: MaskSet, image: np.ndarray, name: str) -> MaskSet:
    """The masks, if they fit the image."""
    if (masks.height, masks.width) != image.shape[:2]:
        raise UserError(
            f"{name}: the segmenter returned masks of {masks.width}x{masks.height} for an image of "
            f"{image.shape[1]}x{image.shape[0]}; its masks must have the size of the image it is given"
        )
    return masks.to("cpu")


def _features(encoder: Encoder, image: np.ndarray, masks: MaskSet, name: str) -> torch.Tensor:
    """The encoder's vectors, checked."""
    features = encoder.encode_image(image, masks, name)
    if features.shape != (len(masks), encoder.dim):
        raise UserError(
            f"{name}: encoder {encoder.name} returned {tuple(features.shape)} for {len(masks)} masks and dimension "
            f"{encoder.dim}"
        )
    if not bool(torch.isfinite(features).all()):
        raise UserError(f"{name}: encoder {encoder.name} returned values that are not finite; check its checkpoint")
    return features


def _is_shown(index: int, count: int, every: int) -> bool:
    """Whether a view belongs on its preview sheet: `VIEWS_PER_SHEET` of every `every`, evenly spread."""
    start = index - index % every
    size = min(every, count - start)
    step = max(size / VIEWS_PER_SHEET, 1.0)
    return any(int(k * step) == index - start for k in range(min(VIEWS_PER_SHEET, size)))
