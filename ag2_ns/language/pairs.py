"""What a trained instance field says of every mask, beside what an image-text encoder says of it (COS3D, stage 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet

BINS = 1 << 16
"""Distances are counted in so many bins between 0 and `FARTHEST`: their median is exact to 3e-5, in no memory."""

FARTHEST = 2.0
"""Largest distance between two vectors of unit length or less."""


@dataclass(frozen=True)
class InstancePairs:
    """M masks of all views: their instance feature, and their language."""

    instance: Float[Tensor, "M F"]
    """Mean of the rendered features over the mask's pixels, not normalised again."""
    language: Float[Tensor, "M D"]
    """Of unit length."""
    spread: float
    """Median over all masked pixels of the distance to their mask's mean: how tight the field is."""


def instance_pairs(
    views: Iterable[tuple[Float[Tensor, "H W F"], MaskSet, Float[Tensor, "M D"]]],
) -> InstancePairs:
    """Pairs from the rendered features, the masks and the masks' features of every view.

    Masks without pixels and masks without a feature (a row of zeros or of NaN) are left out.

    Raises:
        UserError: a view with another number of features than masks, features of different widths, or no pair at all.
    """
    means, languages = [], []
    histogram: Tensor | None = None
    for picture, masks, feature in views:
        if len(feature) != len(masks):
            raise UserError(
                f"there are {len(feature)} features for {len(masks)} masks in a view; run `ag2 prepare` again"
            )
        if len(masks) == 0:
            continue
        flat = picture.reshape(-1, picture.shape[-1])
        mean, distance = mask_means(flat, masks)
        counted = torch.bincount((distance * (BINS / FARTHEST)).long().clamp_(0, BINS - 1), minlength=BINS)
        histogram = counted if histogram is None else histogram + counted
        row = torch.nan_to_num(feature.to(flat.device, torch.float32))
        keep = (masks.areas.to(flat.device) > 0) & (row.abs().amax(1) > 0)
        means.append(mean[keep])
        languages.append(torch.nn.functional.normalize(row[keep], dim=1))
    if len({part.shape[1] for part in languages}) > 1:
        raise UserError("the views' features differ in width; run `ag2 prepare --overwrite` with one encoder")
    if not means or not sum(len(part) for part in means):
        raise UserError("no mask has a language feature; run `ag2 prepare` with an encoder, then lift again")
    return InstancePairs(torch.cat(means), torch.cat(languages), _median(histogram))


def mask_means(flat: Float[Tensor, "Q F"], masks: MaskSet) -> tuple[Float[Tensor, "M F"], Float[Tensor, " P"]]:
    """Mean feature of each mask over its pixels, and the distance of every (pixel, mask) pair to it."""
    pixel, mask = masks.pixel.to(flat.device), masks.mask.to(flat.device)
    value = flat.index_select(0, pixel)
    total = torch.zeros(len(masks), flat.shape[1], dtype=torch.float64, device=flat.device)
    total.index_add_(0, mask, value.double())
    area = torch.bincount(mask, minlength=len(masks)).clamp_min(1)
    mean = (total / area[:, None]).to(flat.dtype)
    return mean, torch.linalg.vector_norm(value - mean.index_select(0, mask), dim=1)


def _median(histogram: Tensor | None) -> float:
    """Middle of the bin that holds the lower median."""
    if histogram is None or int(histogram.sum()) == 0:
        return 0.0
    reached = torch.cumsum(histogram, 0)
    half = (int(reached[-1]) + 1) // 2
    place = int(torch.searchsorted(reached, torch.tensor(half, device=reached.device)))
    return (place + 0.5) * FARTHEST / BINS
