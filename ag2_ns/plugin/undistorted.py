"""The images exactly as training serves them: undistorted, cropped and downscaled, one at a time.

nerfstudio's full-image datamanager undistorts images when it caches them, so masks made from the raw files would be
shifted. This module walks the same dataparser, dataset and undistortion without caching anything. A camera's
distortion is undone on the uint8 image: that is what the datamanager of this package serves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.io.view_store import view_key


@dataclass(frozen=True)
class ServedView:
    """One image of the scene; nothing is read before `load`."""

    name: str
    """The view key (`ag2_ns.io.view_store.view_key`)."""
    file: Path
    """The image file."""
    dataset: Any
    index: int

    def load(self) -> np.ndarray:
        """The served image, uint8 [H, W, 3 or 4].

        Raises:
            UserError: the file is missing or damaged, or its size is not the camera's.
        """
        try:
            return served_image(self.dataset, self.index)
        except FileNotFoundError:
            raise UserError(f"{self.file}: no such image; restore it or remove it from the scene") from None
        except OSError as error:
            raise UserError(f"{self.file}: cannot be read as an image ({error})") from None


@dataclass(frozen=True)
class ServedImages:
    """Every image of the train and eval splits, each once."""

    views: tuple[ServedView, ...]
    downscale: float
    """The downscale factor in force, which the dataparser may have chosen itself (see `served_downscale`)."""

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self):
        return iter(self.views)


def served_image(dataset: Any, index: int) -> np.ndarray:
    """One undistorted uint8 image [H, W, 3 or 4] of a nerfstudio dataset whose cameras are still distorted.

    Raises:
        UserError: the image is not of the camera's size.
    """
    from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image

    data = dataset.get_data(index, image_type="uint8")
    camera = dataset.cameras[index].reshape(())
    image = data["image"]
    height, width = int(camera.height.item()), int(camera.width.item())
    if tuple(image.shape[:2]) != (height, width):
        raise UserError(
            f"{dataset.image_filenames[index]}: is {image.shape[1]}x{image.shape[0]} but the camera says "
            f"{width}x{height}; mend the camera's size or the downscaled images"
        )
    if image.dtype != torch.uint8:  # a coloured nerfstudio mask turns the image into floats
        image = image.round().clamp(0, 255).to(torch.uint8)
    if camera.distortion_params is None or bool(torch.all(camera.distortion_params == 0)):
        return image.numpy()
    intrinsics = camera.get_intrinsics_matrices().numpy()
    return _undistort_image(camera, camera.distortion_params.numpy(), data, image.numpy(), intrinsics)[1]


def served_downscale(image_filenames: Sequence[Path]) -> float:
    """The downscale factor of images, from the `images_4` in their paths; 1 without one."""
    for part in Path(image_filenames[0]).parts[-2::-1] if len(image_filenames) else ():
        match = re.fullmatch(r"images_(\d+)", part)
        if match:
            return float(match[1])
    return 1.0


def served_images(data: Path, dataparser: Any = None, downscale_factor: int | None = None) -> ServedImages:
    """List the images that training on `data` will serve, train split first, without reading them.

    Args:
        data: the scene's folder (or its transforms.json).
        dataparser: a nerfstudio dataparser configuration to use instead of this package's own.
        downscale_factor: as the dataparsers take it; None chooses as they do.

    Raises:
        UserError: the scene cannot be read, or two images would share a name.
    """
    from ag2_ns.plugin.dataparser import AG2DataParserConfig
    from ag2_ns.plugin.images import ImageDataset

    data = Path(data)
    if dataparser is None:
        dataparser = AG2DataParserConfig(data=data, downscale_factor=downscale_factor, load_points=False)
    parser = dataparser.setup()
    views: dict[Path, ServedView] = {}
    names: dict[str, Path] = {}
    for split in ("train", "val", "test"):
        try:
            outputs = parser.get_dataparser_outputs(split=split)
        except RuntimeError as error:
            if "is missing" in str(error) and views:  # transforms.json lists no such split
                continue
            raise UserError(f"{data}: nerfstudio cannot read this scene ({error})") from error
        except (AssertionError, KeyError, ValueError, OSError) as error:
            raise UserError(f"{data}: nerfstudio cannot read this scene ({str(error).splitlines()[0]})") from error
        dataset = ImageDataset(outputs)
        for index, file in enumerate(outputs.image_filenames):
            if file in views:
                continue
            name = view_key(file, data)
            if name in names:
                raise UserError(f"{file}: would be stored under the same name as {names[name]}; rename one of them")
            names[name] = file
            views[file] = ServedView(name, file, dataset, index)
    if not views:
        raise UserError(f"{data}: this scene has no images")
    return ServedImages(tuple(views.values()), served_downscale(list(views)))
