"""Captures described by a transforms.json, or by transforms_train.json and its kin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.notice import notice
from ag2_ns.io.ply import read_points
from ag2_ns.plugin import intrinsics
from ag2_ns.plugin.bad_pictures import unreadable
from ag2_ns.plugin.capture import Capture, Frame, Points, each_once, proper_pose
from ag2_ns.plugin.names import SUFFIXES, Locator, portable

SPLITS = {"train": (), "val": ("test",), "test": ("val",)}
"""The splits that may be listed, and which list stands in for one that is not."""

SPLIT_FILES = {split: f"transforms_{split}.json" for split in SPLITS}
"""A file for each split, as NeRF-synthetic scenes have them in place of one."""

CONVENTIONS = {"opengl": (1, 1, 1), "blender": (1, 1, 1), "nerf": (1, 1, 1), "nerfstudio": (1, 1, 1)}
CONVENTIONS |= {"opencv": (1, -1, -1), "colmap": (1, -1, -1), "mitsuba": (-1, 1, -1)}
"""Signs of a camera's axes, by what programs call their convention."""

COLMAP_APPLIED = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])
"""What ns-process-data did to COLMAP's world before it wrote `applied_transform`."""


def read_transforms(path: Path) -> Capture:
    """The capture of a transforms.json; a byte order mark is skipped, splits that are not listed are completed.

    Args:
        path: the file, or a folder of `SPLIT_FILES`.

    Raises:
        UserError: it is not JSON, holds fewer than two frames, a frame without a name or a finite pose, a camera that
            says too little or what cannot be used, or lists pictures that no frame has.
    """
    if path.is_dir():
        return _from_split_files(path)
    meta = _json(path)
    folder = path.parent
    frames, names = _frames(path, folder, meta)
    _at_least_two(path, frames)
    applied, scale = _applied(path, meta)
    ply = meta.get("ply_file_path")
    place = Locator(folder).find(str(ply)) if ply else None
    return Capture(
        path,
        each_once(path, sorted(frames, key=lambda frame: frame.file)),
        _lists(path, meta, frames, names),
        applied,
        scale,
        _orientation(path, meta),
        points=lambda: None if place is None else ply_points(place),
    )


def _lists(
    path: Path, meta: Mapping[str, Any], frames: Sequence[Frame], names: Sequence[str]
) -> dict[str, frozenset[Path]] | None:
    """The pictures of each split, where the file lists any."""
    listed = {split: meta[f"{split}_filenames"] for split in SPLITS if f"{split}_filenames" in meta}
    if not listed:
        return None
    whole = {name: f"{name}{frame.file.suffix}" for name, frame in zip(names, frames) if not Path(name).suffix}
    spelled = {split: [whole.get(portable(name), portable(name)) for name in given] for split, given in listed.items()}
    names = [whole.get(name, name) for name in names]
    files = {Path(name): frame.file for name, frame in zip(names, frames)}
    complete = complete_splits(spelled, names, {split: f"{path}: {split}_filenames" for split in spelled})
    return {split: frozenset(files[Path(name)] for name in part) for split, part in complete.items()}


def _from_split_files(folder: Path) -> Capture:
    """A capture with a file for each split."""
    frames: list[Frame] = []
    lists: dict[str, frozenset[Path]] = {}
    present = {split: folder / name for split, name in SPLIT_FILES.items() if (folder / name).is_file()}
    for split, path in present.items():
        found, _ = _frames(path, folder, _json(path))
        lists[split] = frozenset(frame.file for frame in found)
        frames += found
    _at_least_two(folder, frames)
    rest = frozenset(frame.file for frame in frames if not any(frame.file in listed for listed in lists.values()))
    complete = {
        split: next((lists[name] for name in (split, *others) if name in lists), rest)
        for split, others in SPLITS.items()
    }
    first = next(iter(present.values()))
    applied, scale = _applied(first, _json(first))
    frames.sort(key=lambda frame: frame.file)
    return Capture(
        first,
        each_once(first, frames),
        complete,
        applied,
        scale,
        _orientation(first, _json(first)),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); write it again with ns-process-data") from error
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not frames or not isinstance(frames, list):
        raise UserError(f"{path}: no frames in it; write it again with ns-process-data")
    return meta


def _at_least_two(path: Path, frames: Sequence[Frame]) -> None:
    if len(frames) < 2:
        raise UserError(f"{path}: only one view; reconstruction needs at least two")


def _frames(path: Path, folder: Path, meta: Mapping[str, Any]) -> tuple[list[Frame], list[str]]:
    """The frames of a file, and their names as lists of splits call them."""
    locator = Locator(folder)
    common = intrinsics.stated(path, meta, "all frames")
    axes = _convention(path, meta)
    out, names = [], []
    sizes: list[tuple[int, int]] = []
    for number, frame in enumerate(meta["frames"]):
        pose = _pose(path, number, frame, axes)
        name = frame["file_path"]
        file = locator.find(name, SUFFIXES)

        def size(file: Path = file) -> tuple[int, int]:
            if not sizes:
                sizes.append(_picture_size(path, locator, meta, file))
            return sizes[0]

        values = intrinsics.merged(intrinsics.stated(path, frame, name), common)
        camera, lens = intrinsics.camera_of(path, name, values, size)
        sides = {key: locator.find(str(frame[key])) for key in ("mask_path", "depth_file_path") if frame.get(key)}
        crop = values.get("fisheye_crop_radius") if lens.model.startswith("fisheye") else None
        out.append(
            Frame(file, pose, camera, lens, sides.get("mask_path"), sides.get("depth_file_path"), crop_radius=crop)
        )
        names.append(portable(name))
    return out, names


def _picture_size(path: Path, locator: Locator, meta: Mapping[str, Any], file: Path) -> tuple[int, int]:
    """Width and height of a picture, or of the first that is there."""
    files = (file, *(locator.find(frame["file_path"], SUFFIXES) for frame in meta["frames"] if "file_path" in frame))
    picture = next((file for file in files if file.is_file()), None)
    if picture is None:
        raise UserError(f"{path}: camera_angle_x needs the pictures' size and there is none; add w and h")
    try:
        with Image.open(picture) as image:
            return image.size
    except OSError as error:
        raise unreadable(picture, error) from error


def _pose(path: Path, number: int, frame: Any, axes: tuple[int, int, int]) -> Float[np.ndarray, "4 4"]:
    """The pose of a frame.

    Raises:
        UserError: it has no name, or no pose that is one.
    """
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: frame {number} (from 0) has no file_path; name its picture or remove that frame")
    try:
        pose = np.asarray(frame["transform_matrix"], dtype=float)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {name} has no readable transform_matrix; remove that frame") from error
    if pose.shape not in ((4, 4), (3, 4)) or not np.isfinite(pose).all():
        raise UserError(f"{path}: the pose of {name} is not a finite 4x4 matrix; remove that frame")
    whole = np.eye(4)
    whole[:3] = pose[:3]
    whole[:3, :3] = whole[:3, :3] * axes
    return proper_pose(path, name, whole)


def _convention(path: Path, meta: Mapping[str, Any]) -> tuple[int, int, int]:
    """Signs that make a camera's axes x right, y up, z backward."""
    if meta.get("from_na"):  # NeuS2
        return CONVENTIONS["opencv"]
    if "normal_mts_args" in meta:  # instant-ngp takes it for the mark of Mitsuba's scenes
        return CONVENTIONS["mitsuba"]
    for key in ("camera_convention", "coordinate_convention", "pose_convention"):
        name = meta.get(key)
        if name is not None and str(name).lower() not in CONVENTIONS:
            raise UserError(f"{path}: unknown {key} {name!r}; use opengl (x right, y up, z backward) or opencv")
        if name is not None:
            return CONVENTIONS[str(name).lower()]
    return CONVENTIONS["opengl"]


def _applied(path: Path, meta: Mapping[str, Any]) -> tuple[Float[np.ndarray, "3 4"] | None, float]:
    """From the original world to the frame of the file."""
    scale = meta.get("applied_scale", 1.0)
    if not isinstance(scale, (int, float)) or not 0 < scale < float("inf"):
        raise UserError(f"{path}: applied_scale is {scale!r}; give a positive number")
    if "applied_transform" not in meta:
        outdated = (path.parent / "colmap/sparse/0").exists()
        return (COLMAP_APPLIED if outdated else None), float(scale)
    try:
        applied = np.asarray(meta["applied_transform"], dtype=float)[:3]
    except (ValueError, TypeError):
        applied = np.zeros(0)
    if applied.shape != (3, 4) or not np.isfinite(applied).all():
        raise UserError(f"{path}: applied_transform is no 3x4 matrix; write it again with ns-process-data")
    return applied, float(scale)


def _orientation(path: Path, meta: Mapping[str, Any]) -> str | None:
    method = meta.get("orientation_override")
    known = ("pca", "up", "vertical", "none")
    if method is not None and method not in known:
        raise UserError(f"{path}: orientation_override is {method!r}; use one of {', '.join(known)}")
    return method


def no_points(reason: str) -> None:
    """Nothing, and a line that says why."""
    notice(f"{reason}; starting from random points.")


def ply_points(path: Path) -> Points | None:
    """The points of a PLY file; None (and a line that says so) where it cannot be used."""
    if not path.is_file():
        return no_points(f"{path}: no such point cloud")
    try:
        return Points(*read_points(path, np.float64))
    except UserError as error:
        return no_points(first_line(error))


def complete_splits(
    given: Mapping[str, Sequence[str]], names: Sequence[str], where: Mapping[str, object]
) -> dict[str, Sequence[str]]:
    """The pictures of every split, where some splits are listed.

    Args:
        given: the lists, by split; empty lines count for nothing.
        names: the pictures of all frames.
        where: what each list is called in messages.

    Raises:
        UserError: a list names a picture that no frame has.
    """
    lists = {split: [name for name in listed if name] for split, listed in given.items()}
    known = {Path(name) for name in names}
    for split, listed in lists.items():
        unknown = [name for name in listed if Path(name) not in known]
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise UserError(
                f"{where[split]} lists {unknown[0]}{more}, which no frame has; name pictures as the frames do"
            )
    taken = {Path(name) for listed in lists.values() for name in listed}
    rest = [name for name in names if Path(name) not in taken]
    return {
        split: next((lists[name] for name in (split, *others) if name in lists), rest)
        for split, others in SPLITS.items()
    }
