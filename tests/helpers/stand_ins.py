"""A segmenter and an encoder that count their calls."""

from __future__ import annotations

import torch

from ag2_ns.core.masks import MaskSet


class Halves:
    """Left and right half of the image; counts its calls."""

    name, options = "halves", {}

    def __init__(self, **settings):
        self.settings, self.seen = settings, []

    def segment(self, image, image_name):
        self.seen.append(image_name)
        if image.max() == 0:
            return MaskSet.from_dense(torch.zeros(0, *image.shape[:2], dtype=torch.bool))
        left = torch.zeros(image.shape[:2], dtype=torch.bool)
        left[:, : image.shape[1] // 2] = True
        return MaskSet.from_dense(torch.stack([left, ~left]))


class Means:
    """Mean colour of each mask."""

    name, dim, options = "means", 3, {}

    def __init__(self, **settings):
        self.settings, self.seen = settings, []

    def encode_image(self, image, masks, image_name):
        self.seen.append(image_name)
        pixels = torch.from_numpy(image).float().reshape(-1, 3)
        return torch.stack([pixels[m.flatten()].mean(0) for m in masks.dense()]) if len(masks) else torch.zeros(0, 3)
