"""Image files of any pixel format as 8-bit RGB or RGBA."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from ag2_ns.core.errors import UserError

PLAIN = ("L", "RGB", "RGBA")
"""Pixel formats that nerfstudio reads as they are meant."""


class ImageDataset(InputDataset):
    """nerfstudio's images, where palettes, 16-bit grey, grey with alpha, bits and CMYK become RGB or RGBA as well."""

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "H W C"]:
        """One image; C is 3 or 4.

        Raises:
            UserError: its pixels are floating-point numbers.
        """
        file = self.image_filenames[image_idx]
        with Image.open(file) as image:
            if image.mode in PLAIN:
                return super().get_numpy_image(image_idx)
            if image.mode == "F":
                raise UserError(f"{file}: its pixels are floating-point numbers; save it with 8 bits per channel")
            picture = _eight_bit(image)
        if self.scale_factor != 1.0:
            size = tuple(int(n * self.scale_factor) for n in picture.size)
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.array(picture)


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image as RGB, or as RGBA where it has transparency."""
    if image.mode.startswith("I"):  # 16-bit grey
        grey = np.rint(np.asarray(image, np.float32) / 257).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    transparent = image.mode in ("LA", "La", "PA") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")
