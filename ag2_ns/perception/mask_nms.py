"""Which of a segmenter's masks to keep, decided from exact pairwise intersections in one matrix product.

The rules are those of AG2aussian's (and LangSplat's) data, with their constants: see `suppress_masks`. The published
code compares masks pair by pair in Python, minutes per image. Here pixels that lie in exactly the same masks are
joined first (there are few such sets: masks are regions), so that the product has a few thousand columns instead of
one per pixel, at no loss.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.masks import MaskSet

IOU = 0.8
"""Of two masks that overlap more, the one with the lower score goes."""

SCORE = 0.7
"""Masks with stability x predicted IoU up to this go."""

CONTAINED = 0.5
"""A mask goes when it is contained in one of more than twice its size to this degree (see `containment`)."""

INSIDE = 0.85
"""Share of a mask that must lie in the other for it to count as contained at all."""

MIN_AREA = 25
"""Masks of up to this many pixels go."""

FALLBACK = 3
"""Where no mask at all passes a test, that many of the best scores do."""

CHUNK = 1 << 16
"""Columns of the product at a time: bounds its memory."""


def pairwise_intersections(masks: MaskSet) -> Float[Tensor, "M M"]:
    """Pixels that every pair of masks shares (areas on the diagonal), exact, float64.

    A pixel's set of masks is told by the sum of random 62-bit keys of its masks. Two different sets collide with a
    probability of about 1e-10 per image; the areas tell, and other keys are drawn then, with products in float64.
    """
    count, device = len(masks), masks.pixel.device
    areas = masks.areas.double()
    if len(masks.pixel) == 0:
        return torch.zeros(count, count, dtype=torch.float64, device=device)
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        keys = torch.randint(1 << 62, (count,), generator=generator).to(device)
        signature = torch.zeros(masks.height * masks.width, dtype=torch.int64, device=device)
        signature.index_add_(0, masks.pixel, keys[masks.mask])
        _, atom, size = torch.unique(signature, return_inverse=True, return_counts=True)
        # One pixel stands for each atom; its pairs say which masks hold the atom.
        speaker = torch.zeros_like(size).scatter_(0, atom, torch.arange(len(atom), device=device))
        speaks = torch.zeros(len(atom), dtype=torch.bool, device=device)
        speaks[speaker] = True
        chosen = speaks[masks.pixel]
        column, row = atom[masks.pixel[chosen]], masks.mask[chosen]
        inter = torch.zeros(count, count, dtype=torch.float64, device=device)
        for start in range(0, len(size), CHUNK):
            here = (column >= start) & (column < start + CHUNK)
            weight = size[start : start + CHUNK].float()
            member = torch.zeros(count, len(weight), device=device)
            member[row[here], column[here] - start] = 1
            inter += _exact_product(member * weight, member, in_double=seed > 0)
        if torch.equal(inter.diagonal(), areas):
            return inter
    raise RuntimeError("pairwise_intersections: eight sets of keys collided")


def _exact_product(a: Float[Tensor, "M K"], b: Float[Tensor, "M K"], in_double: bool) -> Float[Tensor, "M M"]:
    """`a @ b.T` for whole numbers, exact: in float32 while every sum stays below 2^24, else in float64.

    On CUDA always in float64, where float32 may mean TF32; on the CPU the same shows as a wrong diagonal.
    """
    if not in_double and a.device.type == "cpu" and float(a.sum(1).max()) < (1 << 24):
        return (a @ b.T).double()
    return a.double() @ b.double().T


def containment(inter: Float[Tensor, "M M"], area: Float[Tensor, " M"]) -> Float[Tensor, "M M"]:
    """How much mask j (column) is a part of mask i (row): 1 - (I / A_i)(I / A_j), else 0.

    Counted only where at least `INSIDE` of j lies in i while it fills less than half of i.
    """
    of_row, of_column = inter / area[:, None], inter / area[None, :]
    part = (of_row < 0.5) & (of_column >= INSIDE)
    return torch.where(part, 1 - of_row * of_column, 0.0)


def suppress_masks(
    masks: MaskSet,
    score: Float[Tensor, " M"],
    *,
    iou: float = IOU,
    min_score: float = SCORE,
    contained: float | None = CONTAINED,
    min_area: int = MIN_AREA,
) -> Bool[Tensor, " M"]:
    """Which masks to keep.

    A mask goes when one with a higher score (or the same score and a lower index) overlaps it with IoU > `iou`, kept or
    not; when its score is at most `min_score`; when it is a part of another to more than 1 - `contained`; or when it
    has at most `min_area` pixels. Where no mask passes the test on scores or on containment, the `FALLBACK` best do.

    Args:
        masks: M masks.
        score: stability x predicted IoU of each.
        iou: largest overlap with a better mask.
        min_score: scores must exceed it.
        contained: the published rule drops parts of larger masks; None keeps them, for a hierarchy of parts and wholes.
        min_area: pixels that must be exceeded.
    """
    count = len(masks)
    if count == 0:
        return torch.zeros(0, dtype=torch.bool, device=score.device)
    inter = pairwise_intersections(masks)
    area = inter.diagonal()
    safe = area.clamp(min=1)
    score = score.to(inter.device)
    order = torch.argsort(score, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=order.device)
    overlap = inter / (area[:, None] + area[None] - inter).clamp(min=1)
    better = rank[:, None] < rank[None]
    keep = ~((overlap > iou) & better).any(0)
    tests = [score > min_score]
    if contained is not None:
        part = containment(inter, safe) > 1 - contained
        tests += [~(part & better).any(0), ~(part & better.T).any(0)]
    for test in tests:
        if not bool(test.any()):
            test = test.clone()
            test[order[:FALLBACK]] = True
        keep &= test
    return keep & (area > min_area)


def select_masks(masks: MaskSet, index: Int[Tensor, " K"], score: Float[Tensor, " M"] | None = None) -> MaskSet:
    """The masks at `index`, in that order, with their scores (those of `score` where given)."""
    new = torch.full((len(masks),), -1, dtype=torch.int64, device=masks.mask.device)
    new[index] = torch.arange(len(index), device=index.device)
    target = new[masks.mask]
    inside = target >= 0
    target, pixel = target[inside], masks.pixel[inside]
    order = torch.argsort(target, stable=True)
    score = masks.score if score is None else score
    return MaskSet(masks.height, masks.width, pixel[order], target[order], score[index])
