"""Masked crops for image-text encoders: the mask's box on a black background, at the encoder's input size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from ag2_ns.core.masks import MaskSet


def mask_boxes(masks: MaskSet) -> Int[Tensor, "M 4"]:
    """Left, top, right and bottom (exclusive) of every mask in pixels; zeros for an empty one."""
    count = len(masks)
    row, column = masks.pixel // masks.width, masks.pixel % masks.width
    box = torch.zeros(4, count, dtype=torch.int64, device=masks.pixel.device)
    for k, (values, reduce) in enumerate(((column, "amin"), (row, "amin"), (column, "amax"), (row, "amax"))):
        box[k].scatter_reduce_(0, masks.mask, values, reduce, include_self=False)
    box[2:] += (masks.areas > 0).long()
    return box.T.contiguous()


def masked_crops(
    image: UInt8[Tensor, "H W 3"],
    masks: MaskSet,
    size: int,
    batch: int = 64,
) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, "B 3 S S"]]]:
    """Crops of every non-empty mask in batches, in 0..1.

    The mask's bounding box is cut out, pixels outside the mask are black, the box is centred in a black square (so the
    aspect ratio stays) and resized with antialiasing, as AG2aussian's published code prepares its features.

    Yields:
        The indices of the masks in this batch, and their crops on the image's device.
    """
    boxes = mask_boxes(masks).tolist()
    pixels = masks.pixel.split(masks.areas.tolist())
    present = [i for i, pixel in enumerate(pixels) if len(pixel)]
    flat = image.reshape(-1, image.shape[-1])[:, :3]
    for start in range(0, len(present), batch):
        indices = present[start : start + batch]
        crops = torch.zeros(len(indices), 3, size, size, device=image.device)
        for k, index in enumerate(indices):
            left, top, right, bottom = boxes[index]
            width, height = right - left, bottom - top
            side = max(width, height)
            pixel = pixels[index].to(image.device)
            row = pixel // masks.width - top + (side - height) // 2
            column = pixel % masks.width - left + (side - width) // 2
            square = torch.zeros(3, side * side, device=image.device)
            square[:, row * side + column] = flat[pixel].T.float() / 255
            square = square.view(1, 3, side, side)
            if side != size:
                square = interpolate(square, (size, size), mode="bicubic", antialias=True, align_corners=False)
            crops[k] = square[0].clamp_(0, 1)
        yield torch.tensor(indices, device=image.device), crops
