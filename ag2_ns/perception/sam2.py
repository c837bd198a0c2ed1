"""Masks from SAM 2 (Ravi et al., ICLR 2025), through transformers; see `ag2_ns.perception.point_grid`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ag2_ns.perception.point_grid import PointGridSegmenter
from ag2_ns.perception.pretrained import colours_of, find_pretrained, load_pretrained, weights_print
from ag2_ns.perception.segmenter import register_segmenter

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Colour statistics SAM 2 was trained with."""


class PointPrompted(PointGridSegmenter):
    """Prompts a model of transformers by points: SAM 2, and SAM 3's tracker.

    Such models see the image squeezed to a square, without padding.
    """

    model: Any
    mean: list[float]
    std: list[float]
    side: int

    @property
    def dtype(self) -> torch.dtype:
        """Half the memory on a GPU."""
        return precision(self.device)

    def embed(self, image: np.ndarray) -> tuple[list[Tensor], tuple[int, int]]:
        """Feature maps of the image, and the square that points are given in."""
        pixels = to_square(image, self.side, self.mean, self.std, self.device, self.dtype)
        return self.model.get_image_embeddings(pixels), (self.side, self.side)

    def decode(
        self, embedding: list[Tensor], points: Float[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"]]:
        """Three masks per point."""
        out = self.model(
            input_points=points[None, :, None].to(self.dtype),
            input_labels=torch.ones(1, len(points), 1, dtype=torch.int, device=self.device),
            image_embeddings=embedding,
            multimask_output=True,
        )
        return out.pred_masks[0].float(), out.iou_scores[0].float()

    def enlarge(
        self, logits: Float[Tensor, "M h w"], seen: tuple[int, int], size: tuple[int, int]
    ) -> Float[Tensor, "M H W"]:
        """Undoes the squeezing."""
        return interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]


def precision(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs that have it, else single precision."""
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def to_square(
    image: np.ndarray, side: int, mean: list[float], std: list[float], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "1 3 S S"]:
    """A uint8 image [H, W, 3] squeezed to a square of the model's size and normalised."""
    pixels = torch.from_numpy(np.array(image[..., :3])).to(device).permute(2, 0, 1)[None].float() / 255
    pixels = interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
    centre, scale = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (mean, std))
    return ((pixels - centre) / scale).to(dtype)


@register_segmenter("sam2")
class Sam2Segmenter(PointPrompted):
    """SAM 2 or 2.1 of any size.

    Args:
        checkpoint: a folder of the model, its publisher's name (facebook/sam2.1-hiera-large) where it is in the local
            cache, or what `ag2 prepare --download` fetched.
        preset: coarse, default or detail.
        device: where the model runs; bfloat16 on CUDA.
        points_per_side: overrides the preset's.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        preset: str = "default",
        device: str = "cpu",
        points_per_side: int | None = None,
    ) -> None:
        super().__init__(preset, points_per_side, device)
        folder = find_pretrained(checkpoint, "sam2", "sam2.1-large")
        self.model = load_pretrained("Sam2Model", folder, self.device, self.dtype, ("sam2", "sam2_video"))
        self.mean, self.std = colours_of(folder, IMAGENET_MEAN, IMAGENET_STD)
        size = self.model.config.prompt_encoder_config.image_size
        self.side = int(size if isinstance(size, int) else size[0])
        self.settings = {"weights": weights_print(folder), "side": self.side, **self.describe()}
        self.options = {
            "checkpoint": os.path.abspath(folder),
            "preset": preset,
            "points_per_side": points_per_side,
        }
