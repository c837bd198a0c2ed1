"""Preview sheets: what the segmenter found, to be looked at before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ag2_ns.core.masks import MaskSet
from ag2_ns.io.atomic import write_png

GOLDEN = 0.618033988749895
"""Hues step by the golden ratio, so that neighbours in the list differ."""


def mask_colours(count: int) -> np.ndarray:
    """Distinct colours, uint8 [count, 3]; the first `k` are the same for every `count`."""
    from skimage.color import hsv2rgb

    k = np.arange(count)
    hsv = np.stack([(0.05 + k * GOLDEN) % 1, np.array([0.75, 0.5, 0.95])[k % 3], np.array([1.0, 0.9, 0.75])[k % 3]], -1)
    return (hsv2rgb(hsv.reshape(1, -1, 3))[0] * 255).astype(np.uint8) if count else np.zeros((0, 3), np.uint8)


def paint_masks(image: np.ndarray, masks: MaskSet, opacity: float = 0.55) -> np.ndarray:
    """An image with its masks coloured, small ones over large ones, each with a light outline.

    Args:
        image: uint8 [H, W, 3].
        masks: of the same size.
        opacity: of the colours, 0 to 1.
    """
    height, width = image.shape[:2]
    top = np.full(height * width, -1, np.int64)
    areas = masks.areas.tolist()
    pixels = [p.cpu().numpy() for p in masks.pixel.split(areas)]
    for index in np.argsort(areas, kind="stable")[::-1]:
        top[pixels[index]] = index
    top = top.reshape(height, width)
    colours = mask_colours(len(areas))
    out = image.astype(np.float32)
    inside = top >= 0
    out[inside] = (1 - opacity) * out[inside] + opacity * colours[top[inside]]
    edge = np.zeros((height, width), bool)
    edge[:, 1:] |= top[:, 1:] != top[:, :-1]
    edge[1:] |= top[1:] != top[:-1]
    out[edge] = 255
    return out.astype(np.uint8)


def layers(image: np.ndarray, masks: MaskSet, columns: int = 3) -> list[np.ndarray]:
    """The masks split by size over several pictures, so that wholes are not hidden below their parts."""
    areas = masks.areas
    order = areas.argsort(descending=True, stable=True)
    dense = masks.dense()
    groups: list[list[int]] = [[] for _ in range(columns)]
    covered = [np.zeros(image.shape[:2], bool) for _ in range(columns)]
    for index in order.tolist():
        mask = dense[index].cpu().numpy()
        size = max(int(mask.sum()), 1)
        for group, cover in zip(groups, covered):
            if (mask & cover).sum() < 0.2 * size or group is groups[-1]:
                group.append(index)
                cover |= mask
                break
    pictures = []
    for group in groups:
        part = MaskSet.from_dense(dense[sorted(group)], masks.score[sorted(group)])
        pictures.append(paint_masks(image, part))
    return pictures


def sheet(views: Sequence[tuple[str, np.ndarray, MaskSet]], width: int = 420) -> np.ndarray:
    """One row per view: the image, then its masks from wholes to parts. Returns uint8 [H, W, 3]."""
    rows = []
    for name, image, masks in views:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        cells = [image, *layers(image, masks)]
        row = Image.new("RGB", (len(cells) * (width + 6) - 6, height + 18), (24, 24, 24))
        ImageDraw.Draw(row).text((4, 3), f"{name}   {len(masks)} masks: wholes | parts | smaller parts", (220,) * 3)
        for k, cell in enumerate(cells):
            resized = Image.fromarray(cell).resize((width, height), Image.Resampling.BILINEAR)
            row.paste(resized, (k * (width + 6), 18))
        rows.append(np.asarray(row))
    return np.concatenate(rows, axis=0)


def write_sheet(path: Path, views: Sequence[tuple[str, np.ndarray, MaskSet]]) -> None:
    """Write a preview sheet as PNG, atomically."""
    write_png(path, sheet(views))
