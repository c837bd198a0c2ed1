"""Captions by an image-to-text model of `transformers` (BLIP and its kin), from weights on disk.

One caption of the whole picture and, by default, one of each of its four quarters: small things are named in those
only. Nothing is downloaded, and weights are read from `.safetensors`, which execute nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.caption_tags import tags_of
from ag2_ns.perception.tagger import Tags, register_tagger


@register_tagger("captioner")
class CaptionerTagger:
    """Tags from captions of a picture and of its parts.

    Args:
        model: folder of a model and its processor (`config.json`, `model.safetensors`, …), for example a copy of
            Salesforce/blip-image-captioning-base.
        device: where the model works.
        grid: the picture is also captioned in grid x grid parts; 1 leaves that out.
        tokens: longest caption.
        beams: of the search.
        prompt: what the caption starts with, where the model takes one.
    """

    needs_image = True

    def __init__(
        self, model: Path | str, device: str = "cpu", grid: int = 2, tokens: int = 30, beams: int = 3, prompt: str = ""
    ):
        self.model, self.device = Path(model), device
        self.grid, self.tokens, self.beams, self.prompt = grid, tokens, beams, prompt
        self.settings = {"model": self.model.name, "grid": grid, "tokens": tokens, "beams": beams, "prompt": prompt}
        if not (self.model / "config.json").is_file():
            raise UserError(f"{model}: no captioning model there (config.json); name the folder of a downloaded one")
        try:
            from transformers import AutoModelForImageTextToText, AutoProcessor
            from transformers.utils import logging
        except ImportError:
            raise UserError("captions need transformers; run `pip install 'ag2-ns[captions]'`") from None
        logging.disable_progress_bar()
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._processor = AutoProcessor.from_pretrained(self.model, **options)
            loaded = AutoModelForImageTextToText.from_pretrained(self.model, use_safetensors=True, **options)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{model}: not a captioning model of transformers ({first_line(error)})") from None
        self._model = loaded.eval().to(device)

    def tag(self, image: np.ndarray, image_name: str, masks: MaskSet, features: Float[Tensor, "M D"]) -> Tags:
        """The nouns of the captions, by how many captions name them."""
        return tags_of(self.captions(image))

    @torch.no_grad()
    def captions(self, image: np.ndarray) -> list[str]:
        """One caption of the picture, then one per part."""
        from PIL import Image

        parts = [Image.fromarray(part) for part in (image, *_parts(image, self.grid))]
        text = {"text": [self.prompt] * len(parts)} if self.prompt else {}
        inputs = self._processor(images=parts, return_tensors="pt", **text).to(self.device)
        out = self._model.generate(**inputs, max_new_tokens=self.tokens, num_beams=self.beams)
        return [c.strip() for c in self._processor.batch_decode(out, skip_special_tokens=True)]


def _parts(image: np.ndarray, grid: int) -> list[np.ndarray]:
    """The picture in grid x grid parts; none for 1."""
    if grid < 2:
        return []
    rows = np.array_split(np.arange(image.shape[0]), grid)
    columns = np.array_split(np.arange(image.shape[1]), grid)
    return [image[r[0] : r[-1] + 1, c[0] : c[-1] + 1] for r in rows for c in columns if len(r) and len(c)]
