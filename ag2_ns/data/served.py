"""The images exactly as training serves them: undistorted, cropped and downscaled, one at a time.

nerfstudio's full-image datamanager undistorts images when it caches them, so masks made from the raw files would be
shifted. This module walks the same dataparser, dataset and undistortion without caching anything. A camera's
distortion is undone on the uint8 image: that is what the datamanager of this package serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ag2_ns.data.view_store import data_folder, view_key
from ag2_ns.errors import UserError

COLMAP_FOLDERS = ("colmap/sparse/0", "sparse/0", "sparse", "colmap/sparse", "colmap")
"""Where a COLMAP model is looked for, in this order."""


@dataclass(frozen=True)
class ServedView:
    """One image of the scene; nothing is read before `load`."""

    name: str
    """The view key (`ag2_ns.data.view_store.view_key`)."""
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
    """The downscale factor in force, which nerfstudio may have chosen itself."""

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


def find_dataparser(data: Path, downscale_factor: int | None = None) -> Any:
    """The configuration of the nerfstudio dataparser that reads a scene: transforms.json, else a COLMAP model.

    Raises:
        UserError: neither is there, or downscaled images are missing.
    """
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    if not data.exists():
        raise UserError(f"{data}: no such folder; give the folder that holds transforms.json or a COLMAP model")
    if data.suffix == ".json" or (data / "transforms.json").is_file():
        return NerfstudioDataParserConfig(data=data, downscale_factor=downscale_factor, load_3D_points=False)
    for folder in COLMAP_FOLDERS:
        if any((data / folder / f"images.{kind}").is_file() for kind in ("bin", "txt")):
            factor = _colmap_factor(data) if downscale_factor is None else downscale_factor
            if factor > 1 and not (data / f"images_{factor}").is_dir():
                raise UserError(
                    f"{data / f'images_{factor}'}: no such folder, and nerfstudio trains on images downscaled by "
                    f"{factor}; make it (ns-process-data does) or give another --downscale-factor"
                )
            return ColmapDataParserConfig(
                data=data, colmap_path=Path(folder), downscale_factor=factor, load_3D_points=False
            )
    raise UserError(f"{data}: holds neither transforms.json nor a COLMAP model (sparse/0 or colmap/sparse/0)")


def served_images(data: Path, dataparser: Any = None, downscale_factor: int | None = None) -> ServedImages:
    """List the images that training on `data` will serve, train split first, without reading them.

    Args:
        data: the scene's folder (or its transforms.json).
        dataparser: a nerfstudio dataparser configuration to use instead of the detected one.
        downscale_factor: as the dataparsers take it; None lets nerfstudio choose.

    Raises:
        UserError: the scene cannot be read, or two images would share a name.
    """
    from nerfstudio.data.datasets.base_dataset import InputDataset

    config = find_dataparser(Path(data), downscale_factor) if dataparser is None else dataparser
    parser = config.setup()
    views: dict[Path, ServedView] = {}
    names: dict[str, Path] = {}
    for split in ("train", "val"):
        try:
            outputs = parser.get_dataparser_outputs(split=split)
        except (AssertionError, KeyError, ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{data}: nerfstudio cannot read this scene ({str(error).splitlines()[0]})") from error
        dataset = InputDataset(outputs)
        for index, file in enumerate(outputs.image_filenames):
            if file in views:
                continue
            name = view_key(file, data)
            if name in names:
                raise UserError(f"{file}: would be stored under the same name as {names[name]}; rename one of them")
            names[name] = file
            views[file] = ServedView(name, file, dataset, index)
    factor = getattr(parser, "downscale_factor", None) or getattr(parser, "_downscale_factor", None) or 1
    return ServedImages(tuple(views.values()), float(factor))


def _colmap_factor(data: Path) -> int:
    """The downscale factor nerfstudio's COLMAP dataparser would choose: sides of 1600 pixels at most."""
    from nerfstudio.data.dataparsers.colmap_dataparser import MAX_AUTO_RESOLUTION
    from PIL import Image

    folder = data_folder(data) / "images"
    for file in sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ():
        try:
            with Image.open(file) as image:
                longest = max(image.size)
        except OSError:
            continue
        factor = 1
        while longest / factor > MAX_AUTO_RESOLUTION:
            factor *= 2
        return factor
    raise UserError(f"{folder}: no images; put the scene's images there")


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The image as segmenters see it: three channels, transparency over mid grey."""
    if image.shape[2] == 3:
        return np.ascontiguousarray(image)
    alpha = image[..., 3:].astype(np.float32) / 255
    return np.round(image[..., :3] * alpha + 127 * (1 - alpha)).astype(np.uint8)


def select_shard(views: Iterable, shard: tuple[int, int]) -> list:
    """Every n-th view, starting with the i-th, for `shard` = (i, n) with i from 1 to n."""
    index, count = shard
    return list(views)[index - 1 :: count]
