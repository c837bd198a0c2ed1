"""SigLIP and SigLIP 2 as image-text encoders of masked crops, through transformers (Zhai et al., ICCV 2023)."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.crops import masked_crops
from ag2_ns.perception.encoder import register_encoder
from ag2_ns.perception.pretrained import (
    colours_of,
    find_pretrained,
    load_pretrained,
    load_tokenizer,
    read_json,
    weights_print,
)
from ag2_ns.perception.prompts import RULES, fill, templates
from ag2_ns.perception.sam2 import precision
from ag2_ns.perception.text_cache import cached_texts

HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the colours SigLIP was trained with."""

BATCH = {"cuda": 256, "cpu": 16}
"""Crops encoded together."""


@register_encoder("siglip")
class SiglipEncoder:
    """SigLIP, or SigLIP 2 of a fixed resolution.

    Args:
        checkpoint: a folder of the model, its publisher's name (google/siglip2-base-patch16-224) where it is in the
            local cache, or what `ag2 prepare --download` fetched.
        prompts: prompt templates for texts, see `ag2_ns.perception.prompts`.
        device: where the model runs; bfloat16 on CUDA.
        cache: folder for text embeddings, default the user's cache.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        prompts: str = "photo",
        device: str = "cpu",
        cache: Path | None = None,
    ) -> None:
        self.folder = find_pretrained(checkpoint, "siglip", "siglip2-base")
        config = read_json(self.folder / "config.json")
        vision, text = config.get("vision_config", {}), config.get("text_config", {})
        if config.get("model_type") == "siglip2" and "num_patches" in vision:
            raise UserError(f"{self.folder}: a model for images of any shape; give one of a fixed resolution")
        self.device, self.templates = torch.device(device), templates(prompts)
        self.mean, self.std = colours_of(self.folder, HALF, HALF)
        self.size = int(vision.get("image_size", 224))
        self.tokens = int(text.get("max_position_embeddings", 64))
        self.dim = int(text.get("projection_size") or text.get("hidden_size") or vision.get("hidden_size", 768))
        self._cache = cache
        self.settings = {"weights": weights_print(self.folder), "dim": self.dim, "crop": self.size}
        self._text_key = {**self.settings, "templates": list(self.templates), "rules": RULES, "model": "siglip"}
        self.options = {"checkpoint": os.path.abspath(self.folder), "prompts": prompts}

    @torch.no_grad()
    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str = "") -> Float[Tensor, "M D"]:
        """One vector per mask from its crop on black; zero for an empty mask."""
        out = torch.zeros(len(masks), self.dim)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        batch = BATCH["cuda" if self.device.type == "cuda" else "cpu"]
        for index, crops in masked_crops(pixels, masks.to(self.device), self.size, batch):
            out[index.cpu()] = self.encode_crops(crops).cpu()
        return out

    @torch.no_grad()
    def encode_crops(self, crops: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Unit vectors of a batch of crops with values in 0..1, at the model's input size."""
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        batch = ((crops.to(self.device) - mean) / std).to(precision(self.device))
        return normalize(_pooled(self._model.get_image_features(pixel_values=batch)).float(), dim=1)

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """Unit vectors of texts, averaged over the prompt templates; from the disk cache where they are known.

        Raises:
            UserError: the model came without its tokenizer.
        """
        return (
            cached_texts(texts, self._text_key, self._encode_text, self._cache) if texts else torch.zeros(0, self.dim)
        )

    @torch.no_grad()
    def _encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        # Trained on lower case, padded to full length, without telling padding apart.
        prompts = [fill(template, text).lower() for text in texts for template in self.templates]
        rows = []
        for i in range(0, len(prompts), 64):
            tokens = self._tokenizer(
                prompts[i : i + 64], padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
            )
            found = _pooled(self._model.get_text_features(input_ids=tokens["input_ids"].to(self.device)))
            rows.append(normalize(found.float(), dim=1))
        return normalize(torch.cat(rows).view(len(texts), len(self.templates), -1).mean(1), dim=1).cpu()

    @cached_property
    def _model(self) -> Any:
        return load_pretrained("SiglipModel", self.folder, self.device, precision(self.device), ("siglip", "siglip2"))

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.folder)


def _pooled(out: Any) -> Tensor:
    """Pooled features, which versions of the library return alone or inside of an output."""
    return out if isinstance(out, Tensor) else out.pooler_output
