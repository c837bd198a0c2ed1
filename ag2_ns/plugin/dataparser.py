"""One dataparser for the folders people have: transforms.json, NeRF-synthetic, COLMAP, AG2aussian and LERF layouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.data.utils import dataparsers_utils
from PIL import UnidentifiedImageError

from ag2_ns.core.errors import UnsupportedLens, UserError
from ag2_ns.ops.lens import Lens
from ag2_ns.plugin.bad_pictures import PHONES, unreadable
from ag2_ns.plugin.capture import Capture, Frame, say_once
from ag2_ns.plugin.colmap import FOLDERS, chosen_model, read_colmap
from ag2_ns.plugin.missing_pictures import over_present, present_files
from ag2_ns.plugin.placing import from_world, place
from ag2_ns.plugin.sizes import check_factor, largest_factor_on_disk, pictures, rounding, smaller
from ag2_ns.plugin.transforms import SPLIT_FILES, read_transforms

LENSES = "lenses"
"""Under this name the metadata of outputs holds the lens of each picture (`ag2_ns.ops.lens.Lens`)."""

MASKS = "masks"
"""Likewise the mask file of each picture, or None."""

CROPS = "crop_radii"
"""Likewise beyond how many pixels from its centre each picture shows nothing, or None."""

FILE_FRAME = "file_frame"
"""Likewise the transform (3 x 4) and the scale that take the frame of the capture's file to the run's, where that frame
is not the original world's; None where it is."""

OFFSET = "world_offset"
"""Likewise what was subtracted from coordinates of the original world (float64 [3])."""


@dataclass
class AG2DataParserConfig(DataParserConfig):
    """Reads transforms.json, NeRF-synthetic files or a COLMAP model, whichever the folder holds."""

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
    colmap_path: Path | None = None
    """Which COLMAP model of several, for instance sparse/1; unset takes the one with most views."""
    undoes_lenses: tyro.conf.Suppress[bool] = False
    """Set by this package's datamanager, which undoes any lens and needs no mask for each picture."""


def scene_layout(data: Path, colmap_path: Path | None = None) -> tuple[Literal["transforms", "colmap"], Path]:
    """Which kind of scene `data` is, and where its transforms.json or COLMAP model lies.

    Args:
        data: the scene's folder, or a transforms.json.
        colmap_path: the COLMAP model to take, relative to that folder.

    Raises:
        UserError: there is no such folder, or nothing in it that can be read.
    """
    if not data.exists():
        raise UserError(f"{data}: no such folder; name the folder of a scene (or make one with `ag2 example {data}`)")
    if data.is_file():
        if data.suffix == ".json":
            return "transforms", data
        raise UserError(f"{data}: not a folder or a transforms.json; name the scene's folder with --data")
    if colmap_path is None and (data / "transforms.json").is_file():
        return "transforms", data / "transforms.json"
    if colmap_path is None and any((data / name).is_file() for name in SPLIT_FILES.values()):
        return "transforms", data
    model = chosen_model(data, colmap_path)
    if model is not None:
        return "colmap", model
    raise UserError(
        f"{data}: neither transforms.json nor transforms_train.json nor a COLMAP model ({', '.join(FOLDERS[:-1])}) in "
        "it; run ns-process-data on your images first, or name the folder that holds their poses"
    )


def read_capture(data: Path, colmap_path: Path | None = None) -> tuple[str, Path, Capture]:
    """Which kind of scene `data` is, its folder, and the capture in it.

    Raises:
        UserError: see `scene_layout`, `read_transforms` and `read_colmap`.
    """
    kind, where = scene_layout(data, colmap_path)
    folder = data.parent if data.is_file() else data
    return kind, folder, read_transforms(where) if kind == "transforms" else read_colmap(folder, where)


class AG2DataParser(DataParser):
    """Reads a capture, checks it, and says it in nerfstudio's terms."""

    config: AG2DataParserConfig

    @property
    def downscale_factor(self) -> int | None:
        """Downscale factor in use; nerfstudio sets it to 1 to avoid opening images."""
        return self.config.downscale_factor

    @downscale_factor.setter
    def downscale_factor(self, value: int | None) -> None:
        self._skip_images = True

    @property
    def _images_needed(self) -> bool:
        """Whether pictures must be there: exporting and rendering a camera path do without."""
        return not getattr(self, "_skip_images", False)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        c = self.config
        if c.downscale_factor is not None and c.downscale_factor < 1:
            raise UserError(f"--downscale-factor {c.downscale_factor}: give a whole number from 1")
        kind, folder, capture = read_capture(c.data, c.colmap_path)
        check_there = self._images_needed
        if kind == "colmap":
            example = next(pictures(folder / "images"), None)
            if example is None and check_there:
                phone = next((p for p in sorted((folder / "images").rglob("*")) if p.suffix.lower() in PHONES), None)
                if phone is not None:
                    raise unreadable(phone, UnidentifiedImageError())
                raise UserError(f"{folder / 'images'}: no images there; a COLMAP scene needs its pictures in images/")
            check_there = example is not None and check_there
            factor = 1 if example is None else self._factor(folder, example)
        else:
            factor = self._factor_of_transforms(folder, capture)
        files = [smaller(frame.file, folder, factor) for frame in capture.frames]
        check_cameras(capture)
        placed = place(capture, c.orientation_method, c.center_method, c.auto_scale_poses)
        if placed.offset.any():
            say_once(
                f"{capture.place}: coordinates are centred at {', '.join(f'{v:.3f}' for v in placed.offset)} before "
                "they are cut to single precision"
            )
        rows = self._rows(capture, files, split, check_there)
        chosen = [capture.frames[i] for i in rows]
        cameras = cameras_of(chosen, placed.poses[torch.tensor(rows, dtype=torch.long)])
        cameras.rescale_output_resolution(
            scaling_factor=1.0 / factor, scale_rounding_mode=rounding(folder, factor) if check_there else "floor"
        )
        if not c.undoes_lenses:
            check_nerfstudio(capture, chosen)
        masks = [frame.mask and smaller(frame.mask, folder, factor, "masks") for frame in chosen]
        depths = [frame.depth and smaller(frame.depth, folder, factor, "depths") for frame in chosen]
        points = capture.points() if c.load_points else None
        world = from_world(capture, placed)
        return DataparserOutputs(
            image_filenames=[files[i] for i in rows],
            cameras=cameras,
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
            mask_filenames=masks if masks and None not in masks else None,
            dataparser_scale=world["dataparser_scale"],
            dataparser_transform=world["dataparser_transform"],
            metadata={
                "depth_filenames": depths if depths and None not in depths else None,
                "depth_unit_scale_factor": 1e-3,
                "mask_color": None,
                LENSES: [frame.lens for frame in chosen],
                MASKS: masks,
                CROPS: [frame.crop_radius and frame.crop_radius / factor for frame in chosen],
                OFFSET: world["world_offset"],
                FILE_FRAME: world["file_frame"],
                **(placed.points(points) if points is not None else {}),
            },
        )

    def _factor(self, folder: Path, example: Path) -> int:
        factor = self.config.downscale_factor
        if factor is None:
            return largest_factor_on_disk(folder, example)
        check_factor(folder, factor)
        return factor

    def _factor_of_transforms(self, folder: Path, capture: Capture) -> int:
        """The factor in use: smaller pictures may lie anywhere that `smaller` finds them."""
        factor = self.config.downscale_factor
        if not self._images_needed:
            return factor or 1
        if factor is not None:
            check_factor(folder, factor)
            return factor
        example = next((frame.file for frame in capture.frames if frame.file.is_file()), None)
        if example is None:
            return 1
        limit = largest_factor_on_disk(folder, example)
        factor = 1
        while factor < limit and smaller(example, folder, factor * 2).exists():
            factor *= 2
        return factor

    def _rows(self, capture: Capture, files: list[Path], split: str, check_there: bool) -> list[int]:
        """Which frames a split has."""
        present = present_files(capture.place, files) if check_there else set(files)
        if capture.lists is not None:
            listed = capture.lists[split]
            rows = [i for i, f in enumerate(capture.frames) if f.file in listed and files[i] in present]
            if listed and not rows:
                raise UserError(
                    f"{capture.place}: no image of the {split} split is there; restore them or correct the lists"
                )
            return rows
        c = self.config
        function = getattr(dataparsers_utils, f"get_train_eval_split_{c.eval_mode}")
        options = {"fraction": (c.train_split_fraction,), "interval": (c.eval_interval,)}.get(c.eval_mode, ())
        train, held_out = over_present(present, function)(files, *options)
        return (train if split == "train" else held_out).tolist()


def cameras_of(frames: list[Frame], poses: torch.Tensor) -> Cameras:
    """Cameras of nerfstudio, with their lenses as far as it has words for them.

    Args:
        frames: the frames.
        poses: their poses in the run's frame, N x 3 x 4.
    """
    of = lambda name: torch.tensor([[float(getattr(f.camera, name))] for f in frames]).reshape(-1, 1)  # noqa: E731
    crops = {f.crop_radius for f in frames} if any(f.crop_radius for f in frames) else set()
    return Cameras(
        camera_to_worlds=poses,
        fx=of("fx"),
        fy=of("fy"),
        cx=of("cx"),
        cy=of("cy"),
        width=of("width").int(),
        height=of("height").int(),
        distortion_params=torch.tensor([nerfstudio_terms(f.lens) or [0.0] * 6 for f in frames]).reshape(-1, 6),
        camera_type=torch.tensor([[camera_type(f.lens).value] for f in frames], dtype=torch.int64).reshape(-1, 1),
        metadata={"fisheye_crop_radius": next(iter(crops))} if len(crops) == 1 else {},
    )


def camera_type(lens: Lens) -> CameraType:
    """What nerfstudio calls a lens."""
    return (
        CameraType.FISHEYE if lens.model in ("fisheye", "thin_prism_fisheye", "fisheye624") else CameraType.PERSPECTIVE
    )


def nerfstudio_terms(lens: Lens) -> list[float] | None:
    """A lens as nerfstudio's k1, k2, k3, k4, p1, p2; None where it has no words for it."""
    c = lens.coefficients
    if lens.straight:
        return [0.0] * 6
    if lens.model == "opencv" and not any(c[5:]):
        return [c[0], c[1], c[4], 0.0, c[2], c[3]]
    if lens.model == "polynomial":
        return list(c)
    if lens.model == "fisheye":
        return [*c, 0.0, 0.0]
    return None


def lens_of_terms(kind: int, terms: list[float]) -> Lens:
    """The lens that nerfstudio's camera type and k1, k2, k3, k4, p1, p2 describe."""
    k1, k2, k3, k4, p1, p2 = terms
    if kind == CameraType.FISHEYE.value:
        return Lens("fisheye", (k1, k2, k3, k4))
    return Lens("polynomial", (k1, k2, k3, k4, p1, p2)) if k4 else Lens("opencv", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0))


def check_nerfstudio(capture: Capture, frames: list[Frame]) -> None:
    """Refuse what only this package's datamanager can serve.

    Raises:
        UnsupportedLens: a lens that nerfstudio has no words for.
        UserError: masks for some pictures only.
    """
    remedy = "make plain pictures of them with `ag2 undistort DATA OUT` and train on OUT"
    strange = next((f for f in frames if nerfstudio_terms(f.lens) is None), None)
    if strange is not None:
        raise UnsupportedLens(
            capture.place, f"nerfstudio's own datamanagers cannot undo the lens of {strange.file.name}", remedy
        )
    masked = [f for f in frames if f.mask is not None]
    if masked and len(masked) < len(frames):
        raise UserError(
            f"{capture.place}: {len(masked)} of {len(frames)} pictures have a mask, and nerfstudio's own datamanagers "
            f"need one for each; {remedy}"
        )


def check_cameras(capture: Capture) -> None:
    """Refuse cameras that nothing can be projected into.

    Raises:
        UserError: a focal length or a centre is not finite, or a focal length or a size is not positive.
    """
    for frame in capture.frames:
        c = frame.camera
        problem = None
        if not (0 < c.fx < float("inf") and 0 < c.fy < float("inf")):
            problem = "focal length is not a positive number"
        elif not all(abs(v) < float("inf") for v in (c.cx, c.cy)):
            problem = "centre is not a number"
        elif min(c.width, c.height) < 1:
            problem = f"size is {c.width}x{c.height}"
        if problem:
            raise UserError(f"{capture.place}: the camera of {frame.file.name}: its {problem}; remove that frame")
