"""Masks from SAM 3 (Meta, 2025), through transformers: of everything by a grid of points, or of what words name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.mask_nms import select_masks, suppress_masks
from ag2_ns.perception.pretrained import colours_of, find_pretrained, load_pretrained, load_tokenizer, weights_print
from ag2_ns.perception.sam2 import PointPrompted, to_square
from ag2_ns.perception.segmenter import register_segmenter

HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the colours SAM 3 was trained with."""

WORD_SCORE = 0.3
"""Least confidence, times that the word is in the picture at all, of a mask that a word brings (the publisher's)."""

TOKENS = 32
"""Most tokens of a text."""

TYPES = ("sam3", "sam3_video", "sam3_tracker")
"""Kinds that the publisher's one file serves as."""


@register_segmenter("sam3")
class Sam3Segmenter(PointPrompted):
    """SAM 3.

    Without words its tracker is prompted by a grid of points. With words it finds every instance of each, and nothing
    else: masks for a vocabulary, or for a text query that brings its own.

    Args:
        checkpoint: a folder of the model, its publisher's name (facebook/sam3) where it is in the local cache, or what
            `ag2 prepare --download` fetched.
        preset: coarse, default or detail.
        device: where the model runs; bfloat16 on CUDA.
        points_per_side: overrides the preset's.
        words: texts to segment.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        preset: str = "default",
        device: str = "cpu",
        points_per_side: int | None = None,
        words: Sequence[str] = (),
    ) -> None:
        super().__init__(preset, points_per_side, device)
        self.words = tuple(dict.fromkeys(" ".join(word.split()) for word in words if word.strip()))
        self.folder = find_pretrained(checkpoint, "sam3", "sam3")
        self.mean, self.std = colours_of(self.folder, HALF, HALF)
        how = {"words": list(self.words), "least": WORD_SCORE} if self.words else self.describe()
        self.settings = {"weights": weights_print(self.folder), "side": self.side, **how}
        self.options = {
            "checkpoint": os.path.abspath(self.folder),
            "preset": preset,
            "points_per_side": points_per_side,
            "words": list(self.words),
        }

    @cached_property
    def model(self) -> Any:
        """The tracker, which takes points."""
        return load_pretrained("Sam3TrackerModel", self.folder, self.device, self.dtype, TYPES)

    @cached_property
    def finder(self) -> Any:
        """The detector, which takes words."""
        return load_pretrained("Sam3Model", self.folder, self.device, self.dtype, TYPES[:2])

    @cached_property
    def side(self) -> int:
        """Side of the square that the model sees, pixels."""
        config = (self.finder if self.words else self.model).config
        size = config.vision_config.backbone_config.image_size
        return int(size if isinstance(size, int) else size[0])

    @torch.no_grad()
    def segment(self, image: np.ndarray, image_name: str = "") -> MaskSet:
        """Masks of a uint8 image [H, W, 3], best first: of everything, or of the words that were given."""
        if not self.words:
            return super().segment(image, image_name)
        found = [self.find(image, word) for word in self.words]
        joined = _joined(found, image.shape[:2])
        kept = suppress_masks(joined, joined.score, min_score=0.0, contained=self.preset.contained).nonzero()[:, 0]
        kept = kept[torch.argsort(joined.score[kept], descending=True, stable=True)]
        return select_masks(joined, kept)

    @torch.no_grad()
    def find(self, image: np.ndarray, text: str, least: float = WORD_SCORE) -> MaskSet:
        """Every instance of what a text names, best first.

        Args:
            image: uint8 [H, W, 3].
            text: a noun phrase ("red mug").
            least: see `WORD_SCORE`.

        Raises:
            UserError: an empty text, or the model came without its tokenizer.
        """
        if not text.strip():
            raise UserError("sam3: the text is empty; name what to segment, for example 'red mug'")
        out = self.finder(vision_embeds=self._seen(image), **self._tokens(text))
        score = out.pred_logits[0].float().sigmoid()
        if out.presence_logits is not None:
            score = score * out.presence_logits[0].float().sigmoid()
        order = torch.argsort(score, descending=True, stable=True)
        order = order[score[order] > least]
        if len(order) == 0:
            return MaskSet.from_dense(torch.zeros(0, *image.shape[:2], dtype=torch.bool))
        logits = out.pred_masks[0][order].float()
        dense = interpolate(logits[None], image.shape[:2], mode="bilinear", align_corners=False)[0] > 0
        some = dense.flatten(1).any(1)
        return MaskSet.from_dense(dense[some].cpu(), score[order][some].cpu())

    def _seen(self, image: np.ndarray) -> Any:
        """What the model makes of an image; kept for the next word."""
        last = self.__dict__.get("_last")
        if last is None or last[0] is not image:
            pixels = to_square(image, self.side, self.mean, self.std, self.device, self.dtype)
            last = self.__dict__["_last"] = (image, self.finder.get_vision_features(pixels))
        return last[1]

    def _tokens(self, text: str) -> dict[str, torch.Tensor]:
        known = self.__dict__.setdefault("_known", {})
        if text not in known:
            tokens = self._tokenizer(
                text, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
            ).to(self.device)
            known[text] = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        return known[text]

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.folder)


def _joined(parts: Sequence[MaskSet], size: tuple[int, int]) -> MaskSet:
    """Several sets of masks one after another."""
    offsets = np.cumsum([0] + [len(p) for p in parts])
    return MaskSet(
        int(size[0]),
        int(size[1]),
        torch.cat([p.pixel for p in parts]),
        torch.cat([p.mask + int(o) for p, o in zip(parts, offsets)]),
        torch.cat([p.score for p in parts]),
    )
