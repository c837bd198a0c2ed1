"""One dataparser for the folders people have: nerfstudio's transforms.json, COLMAP, and AG2aussian / LERF layouts."""

from __future__ import annotations

import glob
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers import nerfstudio_dataparser
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParser, ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio, NerfstudioDataParserConfig
from PIL import Image
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.notice import notice
from ag2_ns.io.ply import read_points
from ag2_ns.plugin.missing_pictures import over_present, present_files
from ag2_ns.plugin.transforms import SPLITS, complete_splits, read_transforms

COLMAP_FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse")
"""Where COLMAP models are looked for, in this order."""


@dataclass
class AG2DataParserConfig(DataParserConfig):
    """Reads transforms.json or a COLMAP model, whichever the folder holds."""

    _target: type = field(default_factory=lambda: AG2DataParser)
    data: Path = Path()
    """Folder of the scene (or a transforms.json file)."""
    downscale_factor: int | None = None
    """Use images_2, images_4, …; unset picks the largest whose longer side is at most 1600 pixels."""
    eval_mode: Literal["fraction", "filename", "interval", "all"] = "interval"
    """How images are split into training and evaluation."""
    train_split_fraction: float = 0.9
    """Share of training images when eval_mode is fraction."""
    eval_interval: int = 8
    """Every how many images one is held out when eval_mode is interval."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """How the scene is turned upright."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """How the scene is centred."""
    auto_scale_poses: bool = True
    """Scale the scene so that all cameras lie within +/- 1."""
    load_points: bool = True
    """Start from the scene's point cloud where there is one."""


def scene_layout(data: Path) -> tuple[Literal["transforms", "colmap"], Path]:
    """Which kind of scene `data` is, and where its transforms.json or COLMAP model lies.

    Raises:
        UserError: there is no such folder, or nothing in it that can be read.
    """
    if not data.exists():
        raise UserError(f"{data}: no such folder; name the folder of a scene (or make one with `ag2 example {data}`)")
    if data.is_file():
        if data.suffix == ".json":
            return "transforms", data
        raise UserError(f"{data}: not a folder or a transforms.json; name the scene's folder with --data")
    if (data / "transforms.json").is_file():
        return "transforms", data / "transforms.json"
    for name in COLMAP_FOLDERS:
        folder = data / name
        if any((folder / f"cameras.{end}").is_file() for end in ("bin", "txt")):
            return "colmap", folder
    raise UserError(
        f"{data}: neither transforms.json nor a COLMAP model ({', '.join(COLMAP_FOLDERS)}) in it; "
        "run ns-process-data on your images first"
    )


@contextmanager
def standing_in(**functions: Callable) -> Iterator[None]:
    """Inside, nerfstudio's transforms.json reader calls these in place of its own functions of the same names."""
    own = {name: getattr(nerfstudio_dataparser, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(nerfstudio_dataparser, name, function)
        yield
    finally:
        for name, function in own.items():
            setattr(nerfstudio_dataparser, name, function)


SPLITTERS = tuple(f"get_train_eval_split_{mode}" for mode in ("fraction", "filename", "interval", "all"))
"""nerfstudio's functions that split file names into training and evaluation."""


class _Transforms(Nerfstudio):
    """nerfstudio's transforms.json reader, without prompts, without open3d and without pictures that are not there."""

    def __init__(self, config: NerfstudioDataParserConfig, path: Path) -> None:
        super().__init__(config)
        self.prompted_user, self.create_pc = True, False
        self.path = path

    def read(self, split: str, images: bool) -> DataparserOutputs:
        """One split; with `images`, only frames whose pictures exist."""
        meta, folder = read_transforms(self.path), self.path.parent
        functions: dict[str, Callable] = {"load_from_json": lambda _: meta}
        if images:
            names = [Path(frame["file_path"]) for frame in meta["frames"]]
            # The first name that is asked for decides about the size of pictures, by opening it.
            first = next((name for name in names if (folder / name).is_file()), names[0])
            if (folder / first).is_file() or self.config.downscale_factor is not None:
                self._get_fname(first, folder)
            files = [self._get_fname(name, folder) if self.downscale_factor else folder / name for name in names]
            present = present_files(self.path, files)
            for key in (f"{s}_filenames" for s in SPLITS):
                if key in meta:
                    meta[key] = [name for name in meta[key] if self._get_fname(Path(name), folder) in present]
            functions |= {name: over_present(present, getattr(nerfstudio_dataparser, name)) for name in SPLITTERS}
        with standing_in(**functions):
            return self._generate_dataparser_outputs(split)

    def _load_3D_points(self, ply_file_path: Path, transform_matrix: Tensor, scale_factor: float) -> dict[str, Tensor]:
        return placed_points(ply_file_path, transform_matrix, scale_factor)


class _Colmap(ColmapDataParser):
    """nerfstudio's COLMAP reader, which says what is wrong with a model and does without its points and pictures.

    Args:
        config: as nerfstudio takes it, with a downscale factor.
        images: leave frames out whose pictures are not there.
    """

    def __init__(self, config: ColmapDataParserConfig, images: bool = True) -> None:
        super().__init__(config)
        self.images = images

    def _get_image_indices(self, image_filenames: list[Path], split: str) -> np.ndarray:
        data, factor = self.config.data, self.config.downscale_factor
        root = data / self.config.images_path
        names = [file.relative_to(root).as_posix() for file in image_filenames]
        present = set(image_filenames)
        if self.images:
            served = root if factor == 1 else root.with_name(f"{root.name}_{factor}")
            existing = present_files(data / self.config.colmap_path, [served / name for name in names])
            present = {root / file.relative_to(served) for file in existing}
        lists = {s: path for s in SPLITS if (path := data / f"{s}_list.txt").is_file()}
        if lists:
            given = {s: path.read_text(encoding="utf-8-sig").splitlines() for s, path in lists.items()}
            listed = {Path(name) for name in complete_splits(given, names, lists)[split]}
            kept = [i for i, file in enumerate(image_filenames) if file in present and Path(names[i]) in listed]
            if not kept:
                raise UserError(
                    f"{data}: no image of the {split} split is there; restore them or correct the *_list.txt"
                )
            return np.array(kept, dtype=np.int64)
        own = super()._get_image_indices
        parts = over_present(present, lambda files: [own(files, each) for each in SPLITS])(image_filenames)
        return parts[list(SPLITS).index(split)]

    def _get_all_images_and_cameras(self, recon_dir: Path) -> dict[str, Any]:
        try:
            meta = super()._get_all_images_and_cameras(recon_dir)
            if (recon_dir / "images.txt").is_file() and (recon_dir / "cameras.txt").is_file():
                names = colmap_image_names(recon_dir / "images.txt")
                for frame in meta["frames"]:
                    file = self.config.data / self.config.images_path / names[frame["colmap_im_id"]]
                    frame["file_path"] = file.as_posix()
        except UNREADABLE as error:
            raise UserError(
                f"{recon_dir}: not a readable COLMAP model ({first_line(error)}); export it from COLMAP again"
            ) from error
        frames = meta["frames"]
        if len(frames) < 2:
            raise UserError(f"{recon_dir}: only one view; reconstruction needs at least two")
        for frame in frames:
            if not np.isfinite(frame["transform_matrix"]).all():
                raise UserError(f"{recon_dir}: the pose of {frame['file_path']} is not finite; remove that image")
        return meta

    def _load_3D_points(self, colmap_path: Path, transform_matrix: Tensor, scale_factor: float) -> dict[str, Tensor]:
        if not any((colmap_path / f"points3D.{end}").is_file() for end in ("bin", "txt")):
            return no_points(f"{colmap_path}: no points3D file")
        try:
            points = super()._load_3D_points(colmap_path, transform_matrix, scale_factor)
        except UNREADABLE as error:
            empty = "mat1 and mat2" in str(error) or "dimension" in str(error)  # what torch says of no rows
            reason = "no points in points3D" if empty else f"points3D cannot be read ({first_line(error)})"
            return no_points(f"{colmap_path}: {reason}")
        return points if len(points["points3D_xyz"]) else no_points(f"{colmap_path}: no points in points3D")


UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AssertionError, RuntimeError, OSError, struct.error)
"""What nerfstudio's readers raise for damaged files."""


def colmap_image_names(path: Path) -> dict[int, str]:
    """Image names by number of a COLMAP images.txt, blanks in them kept: nerfstudio's reader ends names there.

    Raises:
        ValueError, IndexError, OSError: damaged.
    """
    names = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.lstrip().startswith("#"):
                fields = line.strip().split(maxsplit=9)
                names[int(fields[0])] = fields[9]
                next(file, None)  # its 2D points
    return names


def no_points(reason: str) -> dict[str, Tensor]:
    """Nothing, and a line that says why."""
    notice(f"{reason}; starting from random points.")
    return {}


def placed_points(path: Path, transform: Tensor, scale: float) -> dict[str, Tensor]:
    """The points of a PLY file in the run's frame; nothing (and a line that says so) where it cannot be used."""
    if not path.is_file():
        return no_points(f"{path}: no such point cloud")
    try:
        xyz, rgb = read_points(path)
    except UserError as error:
        return no_points(str(error))
    points = torch.as_tensor(xyz, dtype=torch.float32)
    points = (points @ transform[:3, :3].T + transform[:3, 3]) * scale
    return {"points3D_xyz": points, "points3D_rgb": torch.as_tensor(rgb, dtype=torch.uint8)}


class AG2DataParser(DataParser):
    """Picks nerfstudio's reader for the layout it finds, and checks what it reads."""

    config: AG2DataParserConfig

    @property
    def downscale_factor(self) -> int | None:
        """Downscale factor in use; nerfstudio sets it to 1 to avoid opening images."""
        return self.config.downscale_factor

    @downscale_factor.setter
    def downscale_factor(self, value: int | None) -> None:
        self._skip_images = True

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        if self.config.downscale_factor is not None and self.config.downscale_factor < 1:
            raise UserError(f"--downscale-factor {self.config.downscale_factor}: give a whole number from 1")
        kind, place = scene_layout(self.config.data)
        outputs = self._from_transforms(place, split) if kind == "transforms" else self._from_colmap(place, split)
        if len(outputs.image_filenames):
            check_cameras(place, outputs)
        if "points3D_xyz" in outputs.metadata:
            finite = torch.isfinite(outputs.metadata["points3D_xyz"]).all(-1)
            for key in [k for k in outputs.metadata if k.startswith("points3D_")]:
                value = outputs.metadata[key]
                if torch.is_tensor(value) and len(value) == len(finite):
                    outputs.metadata[key] = value[finite]
        return outputs

    def _shared_options(self) -> dict[str, Any]:
        c = self.config
        names = (
            "downscale_factor eval_mode train_split_fraction eval_interval "
            "orientation_method center_method auto_scale_poses"
        )
        return {name: getattr(c, name) for name in names.split()}

    @property
    def _images_needed(self) -> bool:
        """Whether pictures must be there: exporting and rendering a camera path do without."""
        return not getattr(self, "_skip_images", False)

    def _from_transforms(self, path: Path, split: str) -> DataparserOutputs:
        if self._images_needed and self.config.downscale_factor is not None:
            check_factor(path.parent, self.config.downscale_factor)
        config = NerfstudioDataParserConfig(
            data=path if self.config.data.is_file() else self.config.data,
            load_3D_points=self.config.load_points,
            **self._shared_options(),
        )
        parser = _Transforms(config, path)
        if not self._images_needed and config.downscale_factor is None:
            parser.downscale_factor = 1
        try:
            return parser.read(split, self._images_needed)
        except UNREADABLE as error:
            raise UserError(f"{path}: nerfstudio cannot read this scene ({first_line(error)})") from error

    def _from_colmap(self, folder: Path, split: str) -> DataparserOutputs:
        data = self.config.data
        images = data / "images"
        example = next(pictures(images), None)
        present = example is not None
        if not present and self._images_needed:
            raise UserError(f"{images}: no images there; a COLMAP scene needs its pictures in images/")
        factor = self.config.downscale_factor
        if not present:
            factor = 1
        elif factor is None:
            factor = largest_factor_on_disk(data, example)
        else:
            check_factor(data, factor)
        options = self._shared_options() | {
            "downscale_factor": factor,
            "downscale_rounding_mode": rounding(data, factor),
        }
        config = ColmapDataParserConfig(
            data=data, colmap_path=folder.relative_to(data), load_3D_points=self.config.load_points, **options
        )
        parser = _Colmap(config, images=present and self._images_needed)
        try:
            return parser._generate_dataparser_outputs(split)
        except UNREADABLE as error:
            raise UserError(f"{folder}: nerfstudio cannot read this scene ({first_line(error)})") from error


def pictures(folder: Path) -> Iterator[Path]:
    """The picture files in a folder and below it, by name: what else systems leave there is none."""
    known = Image.registered_extensions()
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file():
            yield path


def check_factor(data: Path, factor: int) -> None:
    """Refuse a downscale factor whose images do not exist.

    Raises:
        UserError: there is no folder of them.
    """
    folder = data / f"images_{factor}"
    if factor > 1 and not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; make it (ns-process-data does) or choose another --downscale-factor"
        )


def check_cameras(place: Path, outputs: DataparserOutputs) -> None:
    """Refuse cameras that nothing can be projected into.

    Raises:
        UserError: panoramas; or a pose or a focal length is not finite, or a focal length is not positive.
    """
    cameras = outputs.cameras
    kinds = torch.tensor([CameraType.PERSPECTIVE.value, CameraType.FISHEYE.value])
    if len(cameras) and not torch.isin(cameras.camera_type.cpu(), kinds).all():
        raise UserError(
            f"{place}: only perspective and fisheye cameras can be splatted; cut panoramas into perspective views "
            "(`ns-process-data images --camera-type equirectangular`)"
        )
    focal = torch.cat((cameras.fx, cameras.fy), dim=-1)
    pose_ok = torch.isfinite(cameras.camera_to_worlds).flatten(1).all(1)
    focal_ok = (torch.isfinite(focal) & (focal > 0)).all(1)
    for ok, what in ((pose_ok, "pose is not finite"), (focal_ok, "focal length is not a positive number")):
        if not ok.all():
            name = outputs.image_filenames[int((~ok).nonzero()[0])].name
            raise UserError(f"{place}: the camera of {name}: its {what}; remove that frame")


def largest_factor_on_disk(data: Path, example: Path, limit: int = 1600) -> int:
    """The smallest power of two whose images_k folder exists and whose pictures have at most `limit` pixels a side.

    Where no such folder exists the full size is used: nothing is resized behind the user's back.
    """
    try:
        with Image.open(example) as image:
            longest = max(image.size)
    except OSError as error:
        raise UserError(f"{example}: not a readable image; replace or remove it") from error
    factor = 1
    while longest / factor > limit and (data / f"images_{factor * 2}").is_dir():
        factor *= 2
    return factor


def rounding(data: Path, factor: int) -> Literal["floor", "round", "ceil"]:
    """How the pictures in images_`factor` were rounded to whole pixels; datasets differ."""
    if factor == 1:
        return "floor"
    for small in pictures(data / f"images_{factor}"):
        full = next((data / "images").rglob(f"{glob.escape(small.stem)}.*"), None)
        if full is None:
            continue
        with Image.open(small) as a, Image.open(full) as b:
            sizes = [(n, m / factor) for n, m in zip(a.size, b.size)]
        for mode, rounded in (("floor", math.floor), ("round", round), ("ceil", math.ceil)):
            if all(n == rounded(m) for n, m in sizes):
                return mode
    return "floor"
