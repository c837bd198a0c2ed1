"""IoU, boundary IoU and accuracies of predicted masks; a missing prediction counts 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

Mask = np.ndarray | torch.Tensor

BOUNDARY = 0.02
"""Width of the boundary, as a share of the image diagonal (Boundary IoU, Cheng et al., CVPR 2021)."""


def _array(mask: Mask) -> np.ndarray:
    return (mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)).astype(bool)


def iou(prediction: Mask | None, truth: Mask) -> float:
    """Intersection over union of two masks [H, W].

    A missing prediction (None) is 0; two empty masks are 1.

    Raises:
        ValueError: masks of different sizes.
    """
    if prediction is None:
        return 0.0
    p, t = _array(prediction), _array(truth)
    if p.shape != t.shape:
        raise ValueError(f"masks of different sizes: {p.shape} and {t.shape}")
    union = np.count_nonzero(p | t)
    return np.count_nonzero(p & t) / union if union else 1.0


def boundary_reach(height: int, width: int, share: float = BOUNDARY) -> int:
    """Pixels that make `share` of an image's diagonal; at least 1."""
    return max(1, round(share * math.hypot(height, width)))


def boundary(mask: Mask, width: float = BOUNDARY) -> np.ndarray:
    """The pixels of a mask that are at most `width` image diagonals (at least a pixel) away from its contour.

    The image border counts as contour, as in the published measure. [H, W] bool.
    """
    m = _array(mask)
    reach = boundary_reach(*m.shape, width)
    # Erosion by a 3x3 square `reach` times is a distance in the maximum norm.
    padded = np.pad(m, 1)
    distance = ndimage.distance_transform_cdt(padded, metric="chessboard")[1:-1, 1:-1]
    return m & (distance <= reach)


def boundary_iou(prediction: Mask | None, truth: Mask, width: float = BOUNDARY) -> float:
    """IoU of the two masks' boundaries (see `boundary`); a missing prediction is 0."""
    if prediction is None:
        return 0.0
    return iou(boundary(prediction, width), boundary(truth, width))


def accuracy(ious: Sequence[float], threshold: float) -> float:
    """Share of the IoUs above a threshold (Acc@0.25, Acc@0.5); 0 for none."""
    return float(np.mean(np.asarray(ious, float) > threshold)) if len(ious) else 0.0


def summary(ious: Sequence[float], boundary_ious: Sequence[float]) -> dict[str, float]:
    """Mean IoU, mean boundary IoU, Acc@0.25 and Acc@0.5 of one (prediction, truth) list."""
    return {
        "miou": float(np.mean(ious)) if len(ious) else 0.0,
        "mbiou": float(np.mean(boundary_ious)) if len(boundary_ious) else 0.0,
        "acc25": accuracy(ious, 0.25),
        "acc50": accuracy(ious, 0.5),
    }
