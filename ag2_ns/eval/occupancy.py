"""Occupancy against Occ3D labels: IoU, and the two mean IoUs that papers quote.

Only voxels that the cameras saw count. IoU is that of full against free. The mean over classes 0 to 16 holds two that
no camera-only prompt ever predicts (0 others, 12 other flat); newer papers quote the mean over the other 15, which is
17/15 of it where those two are 0. Both leave out classes that are neither there nor predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from ag2_ns.core.errors import UserError
from ag2_ns.io.occ3d import CLASSES, FREE, Labels

NEVER = (0, 12)
"""Classes without a prompt."""


@dataclass(frozen=True)
class OccupancyScore:
    """Counts over any number of frames."""

    confusion: Int[np.ndarray, "18 18"]
    """Voxels by class of the label (rows) and of the prediction (columns)."""

    @staticmethod
    def none() -> OccupancyScore:
        """No frame yet."""
        return OccupancyScore(np.zeros((FREE + 1, FREE + 1), np.int64))

    def __add__(self, other: OccupancyScore) -> OccupancyScore:
        return OccupancyScore(self.confusion + other.confusion)

    @property
    def iou(self) -> float:
        """Of full against free, 0 to 1; nan where nothing is full."""
        total, free = self.confusion.sum(), self.confusion[FREE, FREE]
        either = total - free
        return float(self.confusion[:FREE, :FREE].sum() / either) if either else float("nan")

    @property
    def class_iou(self) -> np.ndarray:
        """Of each of the classes 0 to 16; nan where a class is neither there nor predicted."""
        hit = np.diag(self.confusion)[:FREE].astype(float)
        either = (self.confusion.sum(0) + self.confusion.sum(1))[:FREE] - hit
        return np.divide(hit, either, out=np.full(FREE, np.nan), where=either > 0)

    @property
    def miou17(self) -> float:
        """Mean over the classes 0 to 16 that are there or predicted."""
        return _nanmean(self.class_iou)

    @property
    def miou15(self) -> float:
        """The same without 0 and 12."""
        return _nanmean(np.delete(self.class_iou, NEVER))

    def as_dict(self) -> dict[str, Any]:
        """IoUs in per cent; classes that are neither there nor predicted are None."""
        classes = {n: None if np.isnan(v) else 100 * float(v) for n, v in zip(CLASSES, self.class_iou)}
        return {"iou": 100 * self.iou, "miou17": 100 * self.miou17, "miou15": 100 * self.miou15, "classes": classes}


def score(prediction: UInt8[np.ndarray, "X Y Z"], truth: Labels) -> OccupancyScore:
    """Count one frame.

    Raises:
        UserError: the prediction is of another grid.
    """
    if prediction.shape != truth.semantics.shape:
        raise UserError(
            f"a prediction of {'x'.join(map(str, prediction.shape))} voxels cannot be compared with a label of "
            f"{'x'.join(map(str, truth.semantics.shape))}; predict on the label's grid"
        )
    pairs = truth.semantics[truth.mask_camera].astype(np.int64) * (FREE + 1) + prediction[truth.mask_camera]
    counts = np.bincount(pairs, minlength=(FREE + 1) ** 2)
    return OccupancyScore(counts.reshape(FREE + 1, FREE + 1))


def total(scores: Sequence[OccupancyScore]) -> OccupancyScore:
    """All frames together."""
    return sum(scores, OccupancyScore.none())


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
