"""The pictures that training serves: any pixel format as 8-bit RGB or RGBA, upright, with their lens undone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image, ImageOps

from ag2_ns.core.errors import UserError, WrongSize
from ag2_ns.core.notice import notice
from ag2_ns.ops.lens import Undistortion
from ag2_ns.plugin.bad_pictures import unreadable, wrong_size
from ag2_ns.plugin.dataparser import CROPS, MASKS
from ag2_ns.plugin.undistorted import undistorted_cameras, undistortions

PLAIN = ("L", "RGB", "RGBA")
"""Pixel formats that nerfstudio reads as they are meant."""

ORIENTATION = 0x0112
"""EXIF tag: how a picture is to be turned to be upright."""


class ImageDataset(InputDataset):
    """Undistorted pictures and the straight cameras that took them.

    Cameras are straight from the beginning, before any picture is read. Palettes, 16-bit grey, grey with alpha, bits
    and CMYK become RGB or RGBA; a picture whose camera is upright while its pixels lie is turned as its EXIF data say.

    Args:
        dataparser_outputs: of any dataparser.
        scale_factor: factor on the pictures' size.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        super().__init__(dataparser_outputs, scale_factor)
        self.distorted = self.cameras
        self.undistortions: tuple[Undistortion, ...] = undistortions(dataparser_outputs, self.distorted)
        self.cameras = undistorted_cameras(dataparser_outputs, self.distorted)
        files = dataparser_outputs.mask_filenames or [None] * len(self)
        self.mask_files: list[Path | None] = list(dataparser_outputs.metadata.get(MASKS, files))
        self.crops: list[float | None] = list(dataparser_outputs.metadata.get(CROPS, [None] * len(self)))

    def raw(self, image_idx: int) -> UInt8[np.ndarray, "H W C"]:
        """A picture as its camera took it: upright, scaled, its lens not undone; C is 3 or 4.

        Raises:
            UserError: it cannot be read, or has not the size of its camera.
        """
        file = Path(self.image_filenames[image_idx])
        camera = self.undistortions[image_idx].distorted
        picture = read_picture(file, self.scale_factor, (camera.width, camera.height))
        if picture.shape[1::-1] != (camera.width, camera.height):
            raise wrong_size(file, picture.shape[1::-1], (camera.width, camera.height))
        return picture

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "H W C"]:
        """An undistorted picture; C is 3 or 4.

        Raises:
            UserError: it cannot be read, or has not the size of its camera.
        """
        return np.ascontiguousarray(self.undistortions[image_idx].picture(self.raw(image_idx)))

    def get_mask(self, image_idx: int) -> Bool[torch.Tensor, "H W 1"] | None:
        """Where an undistorted picture counts; None where all of it does.

        Raises:
            UserError: the mask's file cannot be read, or has another size than the picture.
        """
        found = self.undistortions[image_idx]
        mask, camera = None, found.distorted
        if self.mask_files[image_idx] is not None:
            mask = read_mask(Path(self.mask_files[image_idx]), self.scale_factor, (camera.width, camera.height))
        crop = self.crops[image_idx]
        if crop is not None:
            x, y = np.arange(camera.width) + 0.5 - camera.cx, np.arange(camera.height) + 0.5 - camera.cy
            inside = np.hypot(x[None, :], y[:, None]) <= crop * self.scale_factor
            mask = inside if mask is None else mask & inside
        return None if mask is None else torch.from_numpy(np.ascontiguousarray(found.mask(mask)))[..., None]

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """A picture and, where it has one, its mask, as nerfstudio serves them.

        Raises:
            UserError: what cannot be served, with its file.
        """
        image = self.get_image_uint8(image_idx) if image_type == "uint8" else self.get_image_float32(image_idx)
        data = {"image_idx": image_idx, "image": image}
        mask = self.get_mask(image_idx)
        if mask is not None:
            data["mask"] = mask
            if self.mask_color:
                colour = torch.tensor(self.mask_color) * (255 if image_type == "uint8" else 1)
                data["image"] = torch.where(mask, image, colour.to(image.dtype))
        return data | self.get_metadata(data)


def read_picture(file: Path, scale: float = 1.0, expected: tuple[int, int] | None = None) -> np.ndarray:
    """A picture file as uint8 H x W x 3 or 4.

    Args:
        file: the file.
        scale: factor on its size, bilinear, rounded down.
        expected: width and height of its camera, after scaling. A picture that has them exchanged is turned as its
            EXIF data say.

    Raises:
        UserError: it is missing, damaged, no picture, or its pixels are floating-point numbers.
    """
    try:
        with Image.open(file) as image:
            if image.mode == "F":
                raise UserError(f"{file}: its pixels are floating-point numbers; save it with 8 bits per channel")
            upright = _turned(image, scale, expected)
            if upright is None:
                return _array(image if image.mode in PLAIN else _eight_bit(image), scale)
            _say_turned(file.parent)
            return _array(upright if upright.mode in PLAIN else _eight_bit(upright), scale)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of every kind for damaged files
        raise unreadable(file, error) from None


def read_mask(file: Path, scale: float, expected: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A mask of any pixel format: true where it is not black; a transparent pixel counts as black.

    Args:
        file: the file.
        scale: factor on its size, by the nearest pixel.
        expected: width and height of its picture, after scaling.

    Raises:
        UserError: it is missing, damaged, or of another size than its picture.
    """
    try:
        with Image.open(file) as image:
            image = _turned(image, scale, expected) or image
            if scale != 1.0:
                size = tuple(int(n * scale) for n in image.size)
                image = image.resize(size, Image.Resampling.NEAREST)
            if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
                values = np.asarray(image.convert("RGBA"))
                mask = (values[..., :3].max(-1) > 0) & (values[..., 3] > 0)
            else:
                values = np.asarray(image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image)
                mask = values.astype(bool) if values.ndim == 2 else values.max(-1) > 0
    except Exception as error:
        raise unreadable(file, error, "mask") from None
    if mask.shape[::-1] != expected:
        raise WrongSize(
            file, mask.shape[::-1], expected, "make the mask on the picture itself, at the picture's full size"
        )
    return mask


def picture_size(file: Path, expected: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture as it is served, all of its bytes read; see `read_picture`.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with Image.open(file) as image:
            size = image.size
            turned = size != expected and size[::-1] == expected and _lies(image)
            image.draft(None, (size[0] // 8, size[1] // 8))  # JPEG: all bytes are read, few pixels made
            image.load()
    except Exception as error:
        raise unreadable(file, error) from None
    return size[::-1] if turned else size


def _lies(image: Image.Image) -> bool:
    """Whether EXIF data say that a picture is to be turned by 90 degrees."""
    return image.getexif().get(ORIENTATION) in (5, 6, 7, 8)


def _turned(image: Image.Image, scale: float, expected: tuple[int, int] | None) -> Image.Image | None:
    """The picture turned upright; None where it is to stay as it is."""
    size = image.size if scale == 1.0 else tuple(int(n * scale) for n in image.size)
    if expected is None or size == expected or size[::-1] != expected or not _lies(image):
        return None
    return ImageOps.exif_transpose(image)


@cache
def _say_turned(folder: Path) -> None:
    notice(f"{folder}: pictures lie on their side; they are turned as their EXIF data say, as their cameras are")


def _array(image: Image.Image, scale: float) -> UInt8[np.ndarray, "H W C"]:
    if scale != 1.0:
        image = image.resize(tuple(int(n * scale) for n in image.size), Image.Resampling.BILINEAR)
    pixels = np.array(image, dtype=np.uint8)
    return pixels[:, :, None].repeat(3, axis=2) if pixels.ndim == 2 else pixels


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image as RGB, or as RGBA where it has transparency."""
    if image.mode.startswith("I"):  # 16-bit grey
        grey = np.rint(np.asarray(image, np.float32) / 257).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    transparent = image.mode in ("LA", "La", "PA") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")
