"""The masks of every view, run-length encoded: small on disk, quick to load, overlapping allowed."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import numpy as np
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.view_store import ViewStore, same_image


def encode_runs(masks: MaskSet) -> dict[str, np.ndarray]:
    """Masks as runs of consecutive pixels, in a form that deflates well.

    A contour moves little from one row to the next, so start and length are stored as differences from the run before,
    and the bytes of those 32-bit differences are regrouped by significance.

    Returns:
        `runs` uint8 [2, 4, R] (start, length; byte planes), `count` int32 [M] (runs of each mask), `score` float32 [M].
    """
    pixel = masks.pixel.cpu().numpy()
    mask = masks.mask.cpu().numpy()
    first = np.ones(len(pixel), bool)
    first[1:] = (np.diff(pixel) != 1) | (np.diff(mask) != 0)
    begin = np.flatnonzero(first)
    start = pixel[begin]
    length = np.diff(begin, append=len(pixel))
    planes = np.empty((2, 4, len(begin)), np.uint8)
    for k, values in enumerate((start, length)):
        planes[k] = np.diff(values, prepend=0).astype("<i4").view(np.uint8).reshape(-1, 4).T
    return {
        "runs": planes,
        "count": np.bincount(mask[begin], minlength=len(masks)).astype(np.int32),
        "score": masks.score.detach().cpu().numpy().astype(np.float32),
    }


def decode_runs(arrays: dict[str, np.ndarray], height: int, width: int) -> MaskSet:
    """The inverse of `encode_runs`."""
    start, length = (
        np.cumsum(np.ascontiguousarray(planes.T).view("<i4").ravel(), dtype=np.int64) for planes in arrays["runs"]
    )
    total = int(length.sum())
    if len(start) and (start.min() < 0 or length.min() < 1 or (start + length).max() > height * width):
        raise ValueError("runs outside the image")
    # Pixel indices count up by one except where a new run starts: one cumulative sum restores them.
    step = np.ones(total, np.int64)
    if total:
        begin = np.cumsum(length) - length
        step[begin] = np.diff(start, prepend=0) - np.concatenate([[0], length[:-1] - 1])
    pixel = np.cumsum(step, out=step)
    run_mask = np.repeat(np.arange(len(arrays["count"])), arrays["count"])
    area = np.bincount(run_mask, weights=length, minlength=len(arrays["count"])).astype(np.int64)
    mask = torch.repeat_interleave(torch.from_numpy(area), output_size=total)
    return MaskSet(height, width, torch.from_numpy(pixel), mask, torch.from_numpy(arrays["score"].copy()))


def masks_hash(arrays: dict[str, np.ndarray], image: str) -> str:
    """A hash of encoded masks and their image: features remember what they were made from by it."""
    digest = hashlib.blake2b(image.encode(), digest_size=16)
    for name in ("runs", "count"):
        digest.update(np.ascontiguousarray(arrays[name]))
    return digest.hexdigest()


class MaskStore(ViewStore):
    """The masks of every view of a scene. See `ag2_ns.io.view_store` for the layout.

    ```
    store = MaskStore.open(Path("data/garden"))
    masks = store.read(view_key(image_filename, "data/garden"), image_print(image))
    ```
    """

    kind: ClassVar[str] = "masks"

    def has(self, stem: str, image: str | None = None, origin: str | None = None) -> bool:
        """Whether valid masks of this view (of this image, read from these files, where fingerprints are given) are
        stored.
        """
        try:
            meta, _ = self._load(stem)
        except UserError:
            return False
        same = origin is None or meta.get("origin", "") == origin
        return same and (image is None or same_image(meta["image"], image))

    def read(self, stem: str, image: str | None = None) -> MaskSet:
        """Load the masks of one view.

        Raises:
            UserError: they are missing, damaged, made with other settings or from another image; the message holds
                the command that mends it.
        """
        meta, arrays = self._load(stem, ("runs", "count", "score"))
        if image is not None and not same_image(meta["image"], image):
            raise UserError(
                f"{self.path(stem)}: made from another image than the one served now (other pixels, size or "
                f"distortion); renew it with: {self.command}"
            )
        try:
            return decode_runs(arrays, meta["height"], meta["width"])
        except (ValueError, IndexError) as error:
            raise UserError(f"{self.path(stem)}: damaged ({error}); renew it with: {self.command}") from None

    def identity(self, stem: str) -> str:
        """The hash of one view's masks and image, which its features carry."""
        return self._load(stem)[0]["masks"]

    def count(self, stem: str) -> int:
        """How many masks a view has, without decoding them."""
        return len(self._load(stem, ("count",))[1]["count"])

    def size(self, stem: str) -> tuple[int, int]:
        """Height and width of the image a view's masks were made from."""
        meta, _ = self._load(stem)
        return meta["height"], meta["width"]

    def write(self, stem: str, masks: MaskSet, image: str, origin: str = "") -> str:
        """Store the masks of one view atomically, replacing older ones. Returns their `identity`.

        Args:
            stem: the view.
            masks: its masks.
            image: the fingerprint of its image.
            origin: a fingerprint of the files that they were read from, if any.
        """
        arrays = encode_runs(masks)
        identity = masks_hash(arrays, image)
        meta = {"height": masks.height, "width": masks.width, "image": image, "masks": identity, "origin": origin}
        self._write(stem, arrays, meta)
        return identity
