"""Everything in an image by a grid of point prompts: the part that segment-anything's models have in common.

The steps are those of segment-anything's automatic mask generator (prompts, predicted IoU, stability, box suppression,
small regions, crops), in another order: masks are enlarged to the image only after the filter on predicted IoU, and
nothing goes through run-length codes in Python. Then the mask suppression of `ag2_ns.perception.mask_nms`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.mask_nms import CONTAINED, select_masks, suppress_masks


@dataclass(frozen=True)
class SamPreset:
    """Settings of the automatic mask generator, and of the suppression afterwards."""

    points_per_side: int = 32
    pred_iou: float = 0.88
    """Masks of which the model itself predicts a lower IoU go."""
    stability: float = 0.95
    """IoU of the masks at logits +1 and -1 must reach this."""
    crop_layers: int = 0
    """1: also four overlapping crops of the image."""
    crop_points_divisor: int = 1
    """Points per side of a crop are fewer by this factor."""
    min_region: int = 100
    """Islands and holes of fewer pixels are removed and filled."""
    box_iou: float = 0.7
    """Of two masks whose boxes overlap more, the lower predicted IoU goes."""
    contained: float | None = CONTAINED
    """Drop masks that are parts of larger ones (see `mask_nms`); None keeps parts and wholes."""


PRESETS = {
    "coarse": SamPreset(),
    "default": SamPreset(contained=None),
    "detail": SamPreset(pred_iou=0.7, stability=0.85, crop_layers=1, min_region=50),
}
"""coarse and detail are AG2aussian's published settings; default is coarse with the parts kept, for a hierarchy."""

EDGE = 20.0
"""Masks whose box comes this close (pixels) to the edge of a crop, but not of the image, are cut off there and go."""

POINTS_AT_ONCE = {"cuda": 256, "cpu": 32}
"""Point prompts decoded together."""


@dataclass
class _Found:
    """Masks of one crop, as pairs in the coordinates of the whole image."""

    masks: MaskSet
    pred_iou: Float[Tensor, " M"]
    stability: Float[Tensor, " M"]
    boxes: Float[Tensor, "M 4"]
    crop_area: float


class PointGridSegmenter:
    """Segments by point prompts; subclasses hold the model.

    Args:
        preset: coarse, default or detail.
        points_per_side: overrides the preset's (fewer are faster and miss small things).
        device: where the model runs.
    """

    threshold: float = 0.0
    """Logits above it are inside."""

    def __init__(self, preset: str, points_per_side: int | None, device: str) -> None:
        if preset not in PRESETS:
            raise UserError(f"there is no preset {preset!r} of masks; choose one of: {', '.join(PRESETS)}")
        self.preset = PRESETS[preset]
        if points_per_side is not None:
            self.preset = replace(self.preset, points_per_side=points_per_side)
        self.device = torch.device(device)

    def describe(self) -> dict[str, Any]:
        """The settings that change the masks, but for the model's."""
        return asdict(self.preset)

    def embed(self, image: np.ndarray) -> tuple[Any, tuple[int, int]]:
        """What the model makes of a uint8 image, and the height and width that points are given in."""
        raise NotImplementedError

    def decode(
        self, embedding: Any, points: Float[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"]]:
        """K masks per point as logits at the model's own size, and their predicted IoU."""
        raise NotImplementedError

    def enlarge(
        self, logits: Float[Tensor, "M h w"], seen: tuple[int, int], size: tuple[int, int]
    ) -> Float[Tensor, "M H W"]:
        """Logits at the size of the image."""
        raise NotImplementedError

    @torch.no_grad()
    def segment(self, image: np.ndarray, image_name: str = "") -> MaskSet:
        """Masks of a uint8 image [H, W, 3], best first; the score is stability x predicted IoU."""
        from segment_anything.utils.amg import build_all_layer_point_grids, generate_crop_boxes

        height, width = image.shape[:2]
        preset = self.preset
        grids = build_all_layer_point_grids(preset.points_per_side, preset.crop_layers, preset.crop_points_divisor)
        crops, layers = generate_crop_boxes((height, width), preset.crop_layers, 512 / 1500)
        found = [self._segment_crop(image, crop, grids[layer]) for crop, layer in zip(crops, layers)]
        masks, pred_iou, stability, boxes = _join(found, height, width)
        if len(crops) > 1 and len(masks):
            # The same thing seen in several crops: smaller crops see it in more detail.
            priority = torch.cat([torch.full_like(f.pred_iou, 1 / f.crop_area) for f in found])
            keep = nms(boxes, priority, preset.box_iou)
            masks, pred_iou, stability = select_masks(masks, keep), pred_iou[keep], stability[keep]
        if preset.min_region and len(masks):
            masks, keep = clean_masks(masks, preset.min_region, preset.box_iou)
            pred_iou, stability = pred_iou[keep], stability[keep]
        score = pred_iou.clamp(0, 1) * stability
        kept = suppress_masks(masks, score, contained=preset.contained).nonzero()[:, 0]
        kept = kept[torch.argsort(score[kept], descending=True, stable=True)]
        return select_masks(masks, kept, score)

    def _segment_crop(self, image: np.ndarray, crop: list[int], grid: np.ndarray) -> _Found:
        """All masks of one crop that pass the filters, near duplicates dropped."""
        left, top, right, bottom = crop
        size = (bottom - top, right - left)
        embedding, seen = self.embed(np.ascontiguousarray(image[top:bottom, left:right]))
        points = torch.from_numpy(grid * np.array([[seen[1], seen[0]]])).float().to(self.device)
        parts = []
        for some in points.split(POINTS_AT_ONCE["cuda" if self.device.type == "cuda" else "cpu"]):
            parts.append(self._segment_points(embedding, some, seen, size, crop, image.shape[:2]))
        joined = _join(parts, *image.shape[:2])
        masks, pred_iou, stability, boxes = joined
        keep = nms(boxes, pred_iou, self.preset.box_iou)
        area = float((right - left) * (bottom - top))
        return _Found(select_masks(masks, keep), pred_iou[keep], stability[keep], boxes[keep], area)

    def _segment_points(
        self,
        embedding: Any,
        points: Float[Tensor, "B 2"],
        seen: tuple[int, int],
        size: tuple[int, int],
        crop: list[int],
        image_size: tuple[int, int],
    ) -> _Found:
        """The masks of some point prompts that pass the filters."""
        logits, pred_iou = self.decode(embedding, points)
        logits, pred_iou = logits.flatten(0, 1), pred_iou.flatten()
        good = pred_iou > self.preset.pred_iou
        logits, pred_iou = logits[good], pred_iou[good]
        threshold = self.threshold
        pixels, rows, stabilities, ious, boxes = [], [], [], [], []
        count = 0
        for some, iou in zip(logits.split(64), pred_iou.split(64)) if len(logits) else ():
            full = self.enlarge(some, seen, size)
            stability = (full > threshold + 1).sum((1, 2)) / (full > threshold - 1).sum((1, 2)).clamp(min=1)
            steady = stability >= self.preset.stability
            inside = full[steady] > threshold
            box = dense_boxes(inside) + torch.tensor([crop[0], crop[1]] * 2, device=self.device)
            whole = ~cut_off(box, crop, image_size) & inside.any(2).any(1)
            row, y, x = inside[whole].nonzero(as_tuple=True)
            pixels.append((y + crop[1]) * image_size[1] + x + crop[0])
            rows.append(row + count)
            count += int(whole.sum())
            stabilities.append(stability[steady][whole])
            ious.append(iou[steady][whole])
            boxes.append(box[whole].float())
        none = torch.zeros(0, device=self.device)
        masks = MaskSet(
            *image_size,
            torch.cat([none.long(), *pixels]).cpu(),
            torch.cat([none.long(), *rows]).cpu(),
            torch.ones(count),
        )
        return _Found(
            masks,
            torch.cat([none, *ious]).float().cpu(),
            torch.cat([none, *stabilities]).float().cpu(),
            torch.cat([none.reshape(0, 4), *boxes]).cpu(),
            0.0,
        )


def dense_boxes(masks: Bool[Tensor, "M H W"]) -> Int[Tensor, "M 4"]:
    """Left, top, right and bottom pixel (inclusive) of dense masks; meaningless for an empty one."""
    columns, rows = masks.any(1).int(), masks.any(2).int()
    height, width = masks.shape[1:]
    return torch.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            width - 1 - columns.flip(1).argmax(1),
            height - 1 - rows.flip(1).argmax(1),
        ],
        dim=1,
    )


def cut_off(boxes: Int[Tensor, "M 4"], crop: list[int], image_size: tuple[int, int]) -> Bool[Tensor, " M"]:
    """Which boxes end at an edge of the crop that is not an edge of the image."""
    crop_edges = torch.tensor(crop, device=boxes.device)
    image_edges = torch.tensor([0, 0, image_size[1], image_size[0]], device=boxes.device)
    return (((boxes - crop_edges).abs() <= EDGE) & ((boxes - image_edges).abs() > EDGE)).any(1)


def clean_masks(masks: MaskSet, min_region: int, box_iou: float) -> tuple[MaskSet, Int[Tensor, " K"]]:
    """Remove islands and fill holes of fewer than `min_region` pixels, then drop masks that became duplicates.

    Works on each mask's box, widened by `min_region` pixels: what reaches out of that is larger anyway.

    Returns:
        The K masks that remain, and their indices among the given.
    """
    from segment_anything.utils.amg import remove_small_regions

    height, width = masks.height, masks.width
    pixels, touched, boxes = [], [], []
    for pixel in masks.pixel.split(masks.areas.tolist()):
        y, x = (pixel // width).numpy(), (pixel % width).numpy()
        top, left = max(y.min() - min_region, 0), max(x.min() - min_region, 0)
        window = np.zeros(
            (min(y.max() + min_region + 1, height) - top, min(x.max() + min_region + 1, width) - left), bool
        )
        window[y - top, x - left] = True
        window, filled = remove_small_regions(window, min_region, "holes")
        window, removed = remove_small_regions(window, min_region, "islands")
        if filled or removed:
            y, x = window.nonzero()
            y, x = y + top, x + left
            pixel = torch.from_numpy(y * width + x)
        pixels.append(pixel)
        touched.append(float(filled or removed))
        boxes.append([x.min(), y.min(), x.max(), y.max()])
    counts = torch.tensor([len(p) for p in pixels])
    joined = MaskSet(height, width, torch.cat(pixels), torch.repeat_interleave(counts), masks.score)
    # Masks that needed no cleaning are preferred; the order of equals stays.
    order = torch.argsort(torch.tensor(touched), stable=True)
    ordered = torch.tensor(np.array(boxes), dtype=torch.float32)[order]
    keep = order[nms(ordered, torch.arange(len(order), 0, -1).float(), box_iou)].sort().values
    return select_masks(joined, keep), keep


def _join(parts: list[_Found], height: int, width: int) -> tuple[MaskSet, Tensor, Tensor, Tensor]:
    """Several sets of masks one after another."""
    offsets = np.cumsum([0] + [len(p.masks) for p in parts])
    masks = MaskSet(
        height,
        width,
        torch.cat([p.masks.pixel for p in parts]),
        torch.cat([p.masks.mask + int(o) for p, o in zip(parts, offsets)]),
        torch.cat([p.masks.score for p in parts]),
    )
    return (
        masks,
        torch.cat([p.pred_iou for p in parts]),
        torch.cat([p.stability for p in parts]),
        torch.cat([p.boxes for p in parts]),
    )
