"""transforms.json, checked and completed before nerfstudio reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.nerfstudio_dataparser import CAMERA_MODEL_TO_TYPE
from PIL import Image

from ag2_ns.core.errors import UserError

INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
"""What a camera cannot do without, for all frames or for each."""

SPLITS = {"train": (), "val": ("test",), "test": ("val",)}
"""The splits that may be listed, and which list stands in for one that is not."""


def read_transforms(path: Path) -> dict[str, Any]:
    """What a transforms.json says, in nerfstudio's terms.

    A byte order mark is skipped. Where `camera_angle_x` (radians) stands in place of a focal length, as Blender scenes
    have it, focal length and centre follow from it and the picture's width; `.png` is added to names that lack it.
    Splits that are not listed are completed.

    Raises:
        UserError: it is not JSON, holds fewer than two frames, a frame without a name or a finite 4x4 pose, an unknown
            camera model, no focal length, or lists pictures that no frame has.
    """
    try:
        meta = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); write it again with ns-process-data") from error
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not frames or not isinstance(frames, list):
        raise UserError(f"{path}: no frames in it; write it again with ns-process-data")
    if len(frames) < 2:
        raise UserError(f"{path}: only one view; reconstruction needs at least two")
    for number, frame in enumerate(frames):
        _check_frame(path, number, frame)
        name = frame["file_path"]
        if not (path.parent / name).is_file() and (path.parent / f"{name}.png").is_file():
            frame["file_path"] = f"{name}.png"
    _check_model(path, meta)
    if "camera_angle_x" in meta and _lacking("fl_x", meta):
        meta |= camera_from_angle(path, meta)
    for key in INTRINSICS:
        frame = _lacking(key, meta)
        if frame is not None:
            raise UserError(
                f"{path}: no {key}, neither for all frames nor for {frame['file_path']}; "
                "write it again with ns-process-data"
            )
    given = {split: meta[f"{split}_filenames"] for split in SPLITS if f"{split}_filenames" in meta}
    if given:
        where = {split: f"{path}: {split}_filenames" for split in given}
        lists = complete_splits(given, [frame["file_path"] for frame in frames], where)
        meta |= {f"{split}_filenames": names for split, names in lists.items()}
    return meta


def camera_from_angle(path: Path, meta: Mapping[str, Any]) -> dict[str, float]:
    """The intrinsics (pixels) of a camera that is described by its field of view: a pinhole, or an equidistant fisheye.

    Args:
        path: the transforms.json.
        meta: its content: `camera_angle_x`, perhaps `camera_angle_y`, and any intrinsics, which are kept.

    Raises:
        UserError: an angle is none, or the size is not given and no picture is there to tell it.
    """
    size = meta.get("w"), meta.get("h")
    if None in size:
        files = (path.parent / frame["file_path"] for frame in meta["frames"])
        picture = next((file for file in files if file.is_file()), None)
        if picture is None:
            raise UserError(f"{path}: camera_angle_x needs the pictures' size and there is none; add w and h")
        try:
            with Image.open(picture) as image:
                size = image.size
        except OSError as error:
            raise UserError(f"{picture}: not a readable image; replace it or remove its frame") from error
    width, height = (float(n) for n in size)
    fisheye = CAMERA_MODEL_TO_TYPE.get(meta.get("camera_model", "OPENCV")) == CameraType.FISHEYE
    focal = {}
    for axis, side in (("x", width), ("y", height)):
        angle = meta.get(f"camera_angle_{axis}")
        if angle is None:  # square pixels
            focal[axis] = focal["x"]
        elif not isinstance(angle, (int, float)) or not 0 < angle < math.pi:
            raise UserError(f"{path}: camera_angle_{axis} is {angle}; give the field of view in radians, 0 to 3.14")
        else:
            focal[axis] = side / angle if fisheye else side / 2 / math.tan(angle / 2)
    found = {"fl_x": focal["x"], "fl_y": focal["y"], "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    return {key: value for key, value in found.items() if _lacking(key, meta)}


def _lacking(key: str, meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first frame for which `key` is given nowhere."""
    return None if key in meta else next((frame for frame in meta["frames"] if key not in frame), None)


def _check_frame(path: Path, number: int, frame: Any) -> None:
    """Refuse a frame without a name or a pose."""
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: frame {number} (from 0) has no file_path; name its picture or remove that frame")
    try:
        pose = np.asarray(frame["transform_matrix"], dtype=float)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {name} has no readable transform_matrix; remove that frame") from error
    if pose.shape not in ((4, 4), (3, 4)) or not np.isfinite(pose).all():
        raise UserError(f"{path}: the pose of {name} is not a finite 4x4 matrix; remove that frame")


def _check_model(path: Path, meta: Mapping[str, Any]) -> None:
    """Refuse a camera model that nerfstudio does not know."""
    model = meta.get("camera_model", "OPENCV")
    if not isinstance(model, str) or model not in CAMERA_MODEL_TO_TYPE:
        usable = (CameraType.PERSPECTIVE, CameraType.FISHEYE)
        known = [name for name, kind in CAMERA_MODEL_TO_TYPE.items() if kind in usable]
        raise UserError(f"{path}: unknown camera_model {model!r}; use one of {', '.join(known)}")


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
