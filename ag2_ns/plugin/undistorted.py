"""The undistorted pictures and cameras: exactly what training serves, without training.

Cameras follow from intrinsics alone; no picture is opened for them. Masks made on the files themselves would be
shifted where a lens is undone: `ag2 prepare` works on what is served here, and `ag2 undistort` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from ag2_ns.core.errors import UnsupportedLens, UserError, first_line
from ag2_ns.io.view_store import view_key
from ag2_ns.ops.lens import LensError, Pinhole, Undistortion, undistortion
from ag2_ns.plugin.intrinsics import REMEDY

if TYPE_CHECKING:
    from ag2_ns.plugin.images import ImageDataset


def undistortions(outputs: DataparserOutputs, cameras: Cameras | None = None) -> tuple[Undistortion, ...]:
    """How each picture of a split is made straight.

    Args:
        outputs: of any dataparser.
        cameras: its cameras at another scale.

    Raises:
        UnsupportedLens: a lens that cannot be undone.
    """
    from ag2_ns.plugin.dataparser import LENSES, lens_of_terms

    cameras = outputs.cameras if cameras is None else cameras
    count = len(outputs.image_filenames)
    if not count:
        return ()
    numbers = torch.cat([getattr(cameras, name).double() for name in ("fx", "fy", "cx", "cy")], dim=-1).tolist()
    sizes = torch.cat([cameras.width, cameras.height], dim=-1).tolist()
    kinds = cameras.camera_type.flatten().tolist()
    lenses = outputs.metadata.get(LENSES)
    if lenses is None:
        terms = cameras.distortion_params
        terms = [[0.0] * 6] * count if terms is None else terms[:, :6].tolist()
        strange = [k for k in kinds if k not in (CameraType.PERSPECTIVE.value, CameraType.FISHEYE.value)]
        if strange:
            raise UnsupportedLens(
                outputs.image_filenames[0], "only perspective and fisheye cameras can be splatted", REMEDY
            )
        lenses = [lens_of_terms(kind, row) for kind, row in zip(kinds, terms)]
    found = []
    for file, lens, row, size in zip(outputs.image_filenames, lenses, numbers, sizes):
        try:
            found.append(undistortion(lens, Pinhole(*row, *(int(n) for n in size))))
        except LensError as error:
            raise UnsupportedLens(file, str(error), REMEDY) from None
    return tuple(found)


def undistorted_cameras(outputs: DataparserOutputs, cameras: Cameras | None = None) -> Cameras:
    """The straight cameras of a split, in the order of its pictures.

    Args:
        outputs: of any dataparser.
        cameras: its cameras at another scale.

    Raises:
        UnsupportedLens: a lens that cannot be undone.
    """
    cameras = outputs.cameras if cameras is None else cameras
    straight = [found.camera for found in undistortions(outputs, cameras)]
    of = lambda name: torch.tensor([[getattr(c, name)] for c in straight]).reshape(-1, 1)  # noqa: E731
    return Cameras(
        camera_to_worlds=cameras.camera_to_worlds,
        fx=of("fx").float(),
        fy=of("fy").float(),
        cx=of("cx").float(),
        cy=of("cy").float(),
        width=of("width").int(),
        height=of("height").int(),
        distortion_params=torch.zeros(len(straight), 6),
        camera_type=CameraType.PERSPECTIVE,
        times=cameras.times,
        metadata={},
    )


@dataclass(frozen=True)
class ServedView:
    """One image of the scene; nothing is read before `load`."""

    name: str
    """The view key (`ag2_ns.io.view_store.view_key`)."""
    file: Path
    """The image file."""
    dataset: ImageDataset
    index: int

    @property
    def undistortion(self) -> Undistortion:
        """How its lens is undone."""
        return self.dataset.undistortions[self.index]

    @property
    def pose(self) -> np.ndarray:
        """Camera to the run's frame, float32 3 x 4; x right, y up, z backward."""
        return self.dataset.cameras.camera_to_worlds[self.index].numpy()

    def load(self) -> np.ndarray:
        """The served image, uint8 [H, W, 3 or 4].

        Raises:
            UserError: the file is missing or damaged, or its size is not the camera's.
        """
        return served_image(self.dataset, self.index)


@dataclass(frozen=True)
class ServedImages:
    """Every image of the train and eval splits, each once."""

    views: tuple[ServedView, ...]
    downscale: float
    """The downscale factor in force, which the dataparser may have chosen itself (see `served_downscale`)."""
    outputs: dict[str, DataparserOutputs]
    """What the dataparser said, by split."""

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self):
        return iter(self.views)


def served_image(dataset: ImageDataset, index: int) -> np.ndarray:
    """One undistorted uint8 image [H, W, 3 or 4].

    Raises:
        UserError: the image cannot be read, or is not of the camera's size.
    """
    image = dataset.get_data(index, image_type="uint8")["image"]
    if image.dtype != torch.uint8:
        image = image.round().clamp(0, 255).to(torch.uint8)
    return image.numpy()


def served_downscale(image_filenames: Sequence[Path]) -> float:
    """The downscale factor of images, from the `images_4` in their paths; 1 without one."""
    for part in Path(image_filenames[0]).parts[-2::-1] if len(image_filenames) else ():
        match = re.fullmatch(r"images_(\d+)", part)
        if match:
            return float(match[1])
    return 1.0


def served_images(
    data: Path, dataparser: Any = None, downscale_factor: int | None = None, colmap_path: Path | None = None
) -> ServedImages:
    """List the images that training on `data` will serve, train split first, without reading them.

    Args:
        data: the scene's folder (or its transforms.json).
        dataparser: a nerfstudio dataparser configuration to use instead of this package's own.
        downscale_factor: as the dataparsers take it; None chooses as they do.
        colmap_path: the COLMAP model of several; None takes the one with most views.

    Raises:
        UserError: the scene cannot be read, or two images would share a name.
    """
    from ag2_ns.plugin.dataparser import AG2DataParserConfig
    from ag2_ns.plugin.images import ImageDataset

    data = Path(data)
    if dataparser is None:
        dataparser = AG2DataParserConfig(
            data=data,
            downscale_factor=downscale_factor,
            load_points=False,
            colmap_path=colmap_path,
            undoes_lenses=True,
        )
    parser = dataparser.setup()
    views: dict[Path, ServedView] = {}
    names: dict[str, Path] = {}
    said: dict[str, DataparserOutputs] = {}
    for split in ("train", "val", "test"):
        try:
            outputs = said[split] = parser.get_dataparser_outputs(split=split)
        except RuntimeError as error:
            if "is missing" in str(error) and views:  # transforms.json lists no such split
                continue
            raise UserError(f"{data}: nerfstudio cannot read this scene ({first_line(error)})") from error
        except (AssertionError, KeyError, ValueError, OSError) as error:
            raise UserError(f"{data}: nerfstudio cannot read this scene ({first_line(error)})") from error
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
    return ServedImages(tuple(views.values()), served_downscale(list(views)), said)
