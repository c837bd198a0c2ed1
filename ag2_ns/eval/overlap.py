"""IoU and boundary IoU of many masks of one picture at once, on the device where they were drawn.

Masks are [H, W, P], the layout that rasterisers return. The figures are exactly those of `ag2_ns.eval.metrics`, which
compares one pair of masks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.eval.metrics import BOUNDARY, boundary_reach


def ious(a: Bool[Tensor, "H W P"], b: Bool[Tensor, "H W P"]) -> Float[Tensor, " P"]:
    """Intersection over union of P pairs of masks, in double precision; two empty masks are 1."""
    union = _count(a | b)
    return torch.where(union > 0, _count(a & b).double() / union, 1.0)


def boundaries(masks: Bool[Tensor, "H W P"], width: float = BOUNDARY) -> Bool[Tensor, "H W P"]:
    """The pixels of each mask near its contour, see `metrics.boundary`."""
    reach = boundary_reach(*masks.shape[:2], width)
    return masks & ~_over_windows(masks, reach, torch.bitwise_and, False)


def id_boundaries(ids: Int[Tensor, "H W"], width: float = BOUNDARY) -> Bool[Tensor, "H W"]:
    """The union of the boundaries of all ids (0 or more), each a mask of its own: one pass for all objects."""
    reach = boundary_reach(*ids.shape, width)
    return _over_windows(ids, reach, torch.minimum, -1) != _over_windows(ids, reach, torch.maximum, -1)


def _over_windows(image: Tensor, reach: int, combine: Callable[[Tensor, Tensor], Tensor], outside) -> Tensor:
    """Combine each pixel's square of 2 `reach` + 1 pixels a side (first two dimensions), `outside` beyond the border.

    A row or column of n pixels is combined of two that overlap, each half as long, so it takes log2(n) steps.
    """
    size = 2 * reach + 1
    for dim in (0, 1):
        shape = list(image.shape)
        shape[dim] = reach
        border = image.new_full(shape, outside)
        image = torch.cat((border, image, border), dim)
        done = 1
        while done < size:
            step = min(done, size - done)
            rest = image.shape[dim] - step
            image = combine(image.narrow(dim, 0, rest), image.narrow(dim, step, rest))
            done += step
    return image


def _count(masks: Bool[Tensor, "H W P"]) -> Int[Tensor, " P"]:
    """Pixels of each mask. Up to 255 rows are summed in bytes, some 50 times as fast on a CPU as in 64 bits."""
    return torch.stack([rows.sum(0, dtype=torch.uint8) for rows in masks.split(255)]).sum((0, 1))
