"""Masks from segment-anything (Kirillov et al., ICCV 2023), see `ag2_ns.perception.point_grid`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.io.view_store import file_hash
from ag2_ns.perception.point_grid import PointGridSegmenter
from ag2_ns.perception.sam_model import load_sam
from ag2_ns.perception.segmenter import register_segmenter
from ag2_ns.perception.weights import downloaded


@register_segmenter("sam")
class SamSegmenter(PointGridSegmenter):
    """segment-anything from a checkpoint.

    Args:
        checkpoint: path of a vit_b, vit_l or vit_h checkpoint (the size is recognised), or a name that
            `ag2 prepare --download` fetched.
        preset: coarse, default or detail.
        device: where the model runs; on CUDA the image encoder runs in bfloat16, the decoder in float32.
        points_per_side: overrides the preset's (fewer are faster and miss small things).
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        preset: str = "default",
        device: str = "cpu",
        points_per_side: int | None = None,
    ):
        super().__init__(preset, points_per_side, device)
        checkpoint = checkpoint if checkpoint is None else downloaded(str(checkpoint)) or checkpoint
        self.model, model_name = load_sam(checkpoint, device)
        self.threshold = self.model.mask_threshold
        self.settings = {"model": model_name, "weights": file_hash(Path(checkpoint)), **self.describe()}
        self.options = {"checkpoint": os.path.abspath(checkpoint), "preset": preset, "points_per_side": points_per_side}

    def embed(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int]]:
        """The image embedding, and the size of the image as the model sees it."""
        from segment_anything.utils.transforms import ResizeLongestSide

        resized = ResizeLongestSide(self.model.image_encoder.img_size).apply_image(image)
        tensor = torch.as_tensor(resized, device=self.device).permute(2, 0, 1)[None].contiguous()
        cuda = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext():
            embedding = self.model.image_encoder(self.model.preprocess(tensor.float()))
        return embedding.float(), tuple(tensor.shape[-2:])

    def decode(
        self, embedding: Tensor, points: Float[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B K"]]:
        """Three masks per point."""
        labels = torch.ones(len(points), 1, dtype=torch.int, device=self.device)
        sparse, dense = self.model.prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
        return self.model.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )

    def enlarge(
        self, logits: Float[Tensor, "M h w"], seen: tuple[int, int], size: tuple[int, int]
    ) -> Float[Tensor, "M H W"]:
        """Undoes the padding to a square."""
        return self.model.postprocess_masks(logits[:, None], seen, size)[:, 0]
