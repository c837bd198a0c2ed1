"""Masks and features for every view, resumable: the work behind `ag2 prepare`, free of nerfstudio."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.exchange import mend
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_store import Manifest, ViewStore, image_print
from ag2_ns.ops.processes import Task, Workers
from ag2_ns.perception.encoder import Encoder
from ag2_ns.perception.preview import write_sheet
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
    sheets: tuple[Path, ...]
    """Preview sheets written."""
    in_use: bool
    """False where other shards must be done before masks and features replace earlier ones."""
    orphaned: int
    """Views of this run that had features of earlier masks and got none: no encoder was given."""
    removed: bool
    """Whether those features were removed, with all others."""


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
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Summary:
    """Segment and encode every view into the stores beside the scene; views that are valid already are skipped.

    Every view is written atomically when it is done, so a run may be killed at any moment and started again. What is to
    replace masks or features that are in use replaces them when all views are done: a run that fails leaves those.

    Args:
        views: the images exactly as training will serve them.
        segmenter: makes the masks.
        encoder: makes one vector per mask; None makes masks only.
        data: the scene's folder.
        downscale: the downscale factor of the images; each has its own stores.
        overwrite: renew everything, also what another segmenter or encoder made. Where only the encoder is another
            than before, the masks are kept.
        shard: (i, n): do the i-th of n parts, i from 1.
        preview_every: write a preview sheet per that many views; 0 writes none.
        workers: processes that views are shared out to, one at a time each; segmenter and encoder are pickled for more
            than one.
        progress: called with views done, views in all, and the current view's name.

    Raises:
        UserError: stores made with other settings, or a view that cannot be read, segmented or encoded; earlier views
            are kept.
    """
    names = [view.name for view in views]
    masks_to, features_to = _stores(data, downscale, segmenter, encoder, names, overwrite)
    mine = select_shard(views, shard)
    job = _Job(segmenter, encoder, masks_to, features_to)
    preview = MaskStore.locate(data, downscale).parents[1] / "preview" / f"x{downscale:g}"
    sheets = _Sheets(mine, preview_every, preview)
    found: list[_Done | None] = [None] * len(mine)
    done = 0

    def tasks() -> Iterator[Task]:
        for index, view in enumerate(mine):
            yield from sheets.due()
            if progress is not None:
                progress(done, len(mine), view.name)
            served = view.load()
            sheets.see(index, served)
            yield index, "prepare", (view.name, served)

    with Workers(workers, job) if workers > 1 else nullcontext(_Here(job)) as hands:
        for index, result in chain(hands.run(tasks()), hands.run(sheets.due())):
            if index is not None:
                found[index], done = result, done + 1
                sheets.tick(index)
    if progress is not None:
        progress(len(mine), len(mine), "")
    segmented, encoded, skipped, total_masks = (sum(getattr(d, n) for d in found) for n in _Done.__annotations__)
    empty = tuple(view.name for view, d in zip(mine, found) if d.masks == 0)
    in_use = _put_in_place([store for store in (masks_to, features_to) if store is not None], names)
    orphans = _orphans(masks_to, [view.name for view in mine]) if encoder is None and in_use else 0
    removed = overwrite and orphans > 0
    if removed:
        shutil.rmtree(FeatureStore.locate(data, downscale), ignore_errors=True)
    folder = MaskStore.locate(data, downscale)
    return Summary(
        segmented, encoded, skipped, empty, total_masks, folder, tuple(sorted(sheets.written)), in_use, orphans, removed
    )


@dataclass(frozen=True)
class _Done:
    """What was done for a view."""

    segmented: bool
    encoded: bool
    skipped: bool
    masks: int


@dataclass(frozen=True)
class _Job:
    """What is done in this process or in others."""

    segmenter: Segmenter
    encoder: Encoder | None
    masks_to: MaskStore
    features_to: FeatureStore | None

    def prepare(self, name: str, served: np.ndarray) -> _Done:
        """Segment and encode a view where it is not valid already."""
        masks_to, features_to, encoder = self.masks_to, self.features_to, self.encoder
        image, content = as_rgb(served), image_print(served)
        origin = _origin(self.segmenter, name)
        described = "" if encoder is None else _origin(encoder, name)
        valid = masks_to.has(name, content, origin)
        masks = None if valid else _checked(self.segmenter.segment(image, name), image, name)
        encode = features_to is not None and not (valid and features_to.has(name, masks_to.identity(name), described))
        if encode:
            masks = masks_to.read(name, content) if masks is None else masks
            features = _features(encoder, image, masks, name)
        # Both are at hand before either is written: a view whose features fail stays as it was.
        identity = masks_to.identity(name) if valid else masks_to.write(name, masks, content, origin)
        if encode:
            features_to.write(name, features, identity, described)
        return _Done(not valid, encode, valid and not encode, masks_to.count(name) if masks is None else len(masks))

    def sheet(self, path: Path, views: list[tuple[str, np.ndarray]]) -> None:
        """Write a preview sheet of views that are done."""
        write_sheet(path, [(name, as_rgb(served), self.masks_to.read(name)) for name, served in views])


@dataclass(frozen=True)
class _Here:
    """Does the tasks of a job in this process; in place of `Workers`."""

    job: _Job

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Any, Any]]:
        """Yields (tag, result)."""
        for tag, name, arguments in tasks:
            yield tag, getattr(self.job, name)(*arguments)


class _Sheets:
    """Which preview sheets can be written: those whose views are all done.

    Args:
        views: of this run.
        every: views per sheet; 0 for no sheets.
        folder: of the sheets.
    """

    def __init__(self, views: Sequence[PreparedView], every: int, folder: Path) -> None:
        self._views, self._every, self._folder = views, every, folder
        starts = range(0, len(views), every) if every else ()
        self._left = {start: min(every, len(views) - start) for start in starts}
        self._shown = {start: self._chosen(start) for start in self._left}
        self._pictures: dict[int, np.ndarray] = {}
        self.written: list[Path] = []

    def _chosen(self, start: int) -> list[int]:
        """The views that a sheet shows."""
        size = min(self._every, len(self._views) - start)
        step = max(size / VIEWS_PER_SHEET, 1.0)
        return [start + int(k * step) for k in range(min(VIEWS_PER_SHEET, size))]

    def see(self, index: int, served: np.ndarray) -> None:
        """Keep the picture of a view that will be shown."""
        if self._every and index in self._shown[index - index % self._every]:
            self._pictures[index] = served

    def tick(self, index: int) -> None:
        """A view is done."""
        if self._every:
            self._left[index - index % self._every] -= 1

    def due(self) -> Iterator[Task]:
        """The tasks of the sheets that can be written now."""
        for start in [start for start, left in self._left.items() if left == 0]:
            del self._left[start]
            shown = [(self._views[index].name, self._pictures.pop(index)) for index in self._shown[start]]
            path = self._folder / (shown[0][0].replace("/", "-") + ".png")
            self.written.append(path)
            yield None, "sheet", (path, shown)


def _stores(
    data: Path,
    downscale: float,
    segmenter: Segmenter,
    encoder: Encoder | None,
    names: Sequence[str],
    overwrite: bool,
) -> tuple[MaskStore, FeatureStore | None]:
    """Where masks and features are written: into the stores in use, or to what will replace them.

    Raises:
        UserError: stores made with other settings are in use, and not to be overwritten.
    """
    for kind in (MaskStore, FeatureStore):
        mend(kind.locate(data, downscale))
    masks_by = Manifest(segmenter.name, segmenter.settings, segmenter.options)
    same_masks = MaskStore.made_by(data, masks_by, downscale)
    # What another shard has begun with the same settings is completed, not renewed.
    begun = same_masks and not MaskStore.open(data, downscale).holds(names)
    if encoder is None:
        renew = overwrite and MaskStore.exists(data, downscale) and not begun
        return MaskStore.create(data, masks_by, downscale, renew), None
    features_by = Manifest(encoder.name, encoder.settings, encoder.options)
    same_features = FeatureStore.made_by(data, features_by, downscale)
    if not overwrite:
        MaskStore.refuse_others(data, masks_by, downscale)
        FeatureStore.refuse_others(data, features_by, downscale)
    keeps_masks = begun or (same_masks and not same_features)
    renew_masks = overwrite and MaskStore.exists(data, downscale) and not keeps_masks
    masks_to = MaskStore.create(data, masks_by, downscale, renew_masks)
    renew_features = overwrite and not (begun and same_features)
    if not FeatureStore.exists(data, downscale):  # complete masks are in use without features until all are there
        renew_features = renew_masks or masks_to.holds(names)
    return masks_to, FeatureStore.create(data, features_by, downscale, renew_features)


def _put_in_place(stores: Sequence[ViewStore], names: Sequence[str]) -> bool:
    """Let stores that were renewed replace those in use if they hold all views. Returns whether none is left to."""
    renewed = [store for store in stores if store.renewed]
    if not all(store.holds(names) for store in renewed):
        return False
    for store in renewed:
        store.put_in_place()
    return True


def _orphans(masks: MaskStore, names: Sequence[str]) -> int:
    """How many of these views have features of other masks than those in use."""
    if not FeatureStore.exists(masks.data, masks.downscale):
        return 0
    try:
        features = FeatureStore.open(masks.data, masks.downscale)
    except UserError:
        return len(names)
    return sum(not features.has(name, masks.identity(name)) for name in names)


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


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The image as segmenters see it: three channels, transparency over mid grey."""
    if image.shape[2] == 3:
        return np.ascontiguousarray(image)
    alpha = image[..., 3:].astype(np.float32) / 255
    return np.round(image[..., :3] * alpha + 127 * (1 - alpha)).astype(np.uint8)


def select_shard(views: Iterable, shard: tuple[int, int]) -> list:
    """Every n-th view, starting with the i-th, for `shard` = (i, n) with i from 1 to n."""
    index, count = shard
    return list(views)[index - 1 :: count]
