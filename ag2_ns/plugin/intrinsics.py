"""The camera of a frame in a transforms.json: what the frame says, and what the file says for all frames.

Keys of nerfstudio, instant-ngp, and of the converters and add-ons around them. A frame's own value wins over the
file's, one by one. What says something of the camera and cannot be used is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ag2_ns.core.errors import UnsupportedLens, UserError
from ag2_ns.ops.lens import COEFFICIENTS, Lens, Pinhole

Stated = dict[str, Any]
"""What one level of the file says, under nerfstudio's names."""

ALIASES = {
    "fl_x": ("fx", "focal_x", "focal_length_x"),
    "fl_y": ("fy", "focal_y", "focal_length_y"),
    "cx": ("c_x", "principal_point_x"),
    "cy": ("c_y", "principal_point_y"),
    "w": ("width", "image_width", "img_w"),
    "h": ("height", "image_height", "img_h"),
    "camera_angle_x": ("fov_x_rad",),
    "camera_angle_y": ("fov_y_rad",),
    "camera_model": ("lens_model", "distortion_model"),
}
"""nerfstudio's names and those that other programs use for the same."""

MATRICES = ("intrinsic_matrix", "intrinsics", "camera_intrinsics", "K")
"""Keys of a 3 x 3 (or 4 x 4) camera matrix."""

MODELS = {
    "SIMPLE_PINHOLE": "brown",
    "PINHOLE": "brown",
    "SIMPLE_RADIAL": "brown",
    "RADIAL": "brown",
    "OPENCV": "brown",
    "PERSPECTIVE": "brown",
    "FULL_OPENCV": "opencv",
    "OPENCV_FISHEYE": "fisheye",
    "SIMPLE_RADIAL_FISHEYE": "fisheye",
    "RADIAL_FISHEYE": "fisheye",
    "SIMPLE_FISHEYE": "fisheye",
    "FISHEYE": "fisheye",
    "THIN_PRISM_FISHEYE": "thin_prism_fisheye",
    "RAD_TAN_THIN_PRISM_FISHEYE": "fisheye624",
    "FISHEYE624": "fisheye624",
    "FOV": "fov",
    "SIMPLE_DIVISION": "division",
    "DIVISION": "division",
    "EUCM": "eucm",
}
"""Names of camera models. `brown`: k1 to k4, p1 and p2, as nerfstudio takes them under any of these names."""

PANORAMAS = (
    "EQUIRECTANGULAR",
    "OMNIDIRECTIONALSTEREO_L",
    "OMNIDIRECTIONALSTEREO_R",
    "VR180_L",
    "VR180_R",
    "ORTHOPHOTO",
)
"""nerfstudio's camera models that no splat is drawn for."""

COEFFICIENT = re.compile(r"(k|p|b|s)\d|s[xy]\d|omega|xi|ftheta_p\d|skew")
"""Keys that state a lens."""

REMEDY = "undistort the pictures with the program that wrote it (`colmap image_undistorter`) and use what that writes"
"""What to do about a lens that nobody here can undo."""


def stated(path: Path, level: Mapping[str, Any], what: str) -> Stated:
    """What one level, the file's or a frame's, says of the camera.

    Args:
        path: the transforms.json.
        level: its content.
        what: how messages call that level.

    Raises:
        UserError: a value that is no number.
        UnsupportedLens: a lens or a shutter that cannot be undone.
    """
    found: Stated = {}
    for key, others in ALIASES.items():
        for name in (key, *others):
            if name in level and key not in found:
                found[key] = level[name] if key == "camera_model" else _number(path, what, name, level[name])
    for axis in "xy":  # instant-ngp: degrees
        if f"{axis}_fov" in level and f"camera_angle_{axis}" not in found:
            found[f"camera_angle_{axis}"] = math.radians(_number(path, what, f"{axis}_fov", level[f"{axis}_fov"]))
    _take_matrix(path, level, what, found)
    if level.get("is_fisheye") and "camera_model" not in found:
        found["camera_model"] = "OPENCV_FISHEYE"
    if any(level.get(key) for key in ("latlong", "equirectangular")):
        found["camera_model"] = "EQUIRECTANGULAR"
    for key, value in level.items():
        if COEFFICIENT.fullmatch(key) and not isinstance(value, (list, dict, str)):
            found[key] = _number(path, what, key, value)
    listed = level.get("distortion_params")
    if listed is not None:
        found |= _listed(path, what, listed)
    shutter = level.get("rolling_shutter")
    if shutter is not None and np.any(np.asarray(shutter, dtype=float)):
        raise UnsupportedLens(
            path, f"rolling_shutter of {what} cannot be undone", "remove that key to take the shutter for a global one"
        )
    if "fisheye_crop_radius" in level and level["fisheye_crop_radius"] is not None:
        found["fisheye_crop_radius"] = _number(path, what, "fisheye_crop_radius", level["fisheye_crop_radius"])
    return found


def _take_matrix(path: Path, level: Mapping[str, Any], what: str, found: Stated) -> None:
    """Take focal lengths and centre from a camera matrix where they are not given otherwise."""
    for key in MATRICES:
        if key not in level:
            continue
        try:
            matrix = np.asarray(level[key], dtype=float)
        except (ValueError, TypeError):
            continue  # an object of the same name
        if matrix.shape not in ((3, 3), (4, 4), (3, 4)):
            continue
        if abs(matrix[0, 1]) > 1e-6 * abs(matrix[0, 0]):
            raise UnsupportedLens(path, f"{key} of {what} has skew", REMEDY)
        values = {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
        for name, value in values.items():
            found.setdefault(name, _number(path, what, key, value))


def _listed(path: Path, what: str, listed: Any) -> Stated:
    """The coefficients of nerfstudio's `distortion_params`."""
    try:
        values = [_number(path, what, "distortion_params", value) for value in listed]
    except TypeError:
        values = []
    orders = {6: ("k1", "k2", "k3", "k4", "p1", "p2"), 12: COEFFICIENTS["fisheye624"]}
    if len(values) not in orders:
        raise UserError(f"{path}: distortion_params of {what} is {listed}; give k1, k2, k3, k4, p1 and p2")
    return dict(zip(orders[len(values)], values))


def _number(path: Path, what: str, key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {key} of {what} is {value!r}; give a number") from None


def merged(own: Stated, common: Stated) -> Stated:
    """What holds for a frame: its own values, and the file's where it has none."""
    rest = dict(common)
    if own.keys() & {"fl_x", "camera_angle_x"}:
        ratio = common["fl_y"] / common["fl_x"] if common.get("fl_x") and common.get("fl_y") else 1.0
        for key in ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y"):
            rest.pop(key, None)
        if "fl_x" in own and not own.keys() & {"fl_y", "camera_angle_y"}:
            rest["fl_y"] = own["fl_x"] * ratio
    if own.get("camera_model", common.get("camera_model")) != common.get("camera_model"):
        rest = {key: value for key, value in rest.items() if not COEFFICIENT.fullmatch(key)}
    return rest | own


def camera_of(path: Path, name: str, values: Stated, size: Callable[[], tuple[int, int]]) -> tuple[Pinhole, Lens]:
    """The camera of a frame.

    Args:
        path: the transforms.json.
        name: the frame's picture, for messages.
        values: what holds for it (`merged`).
        size: asks the picture for its width and height; only where a field of view stands without them.

    Raises:
        UserError: something is missing or makes no sense.
        UnsupportedLens: a lens that cannot be undone.
    """
    lens = lens_of(path, name, values)
    if "fl_x" not in values and "camera_angle_x" in values:
        values = values | _from_angle(path, values, lens.model == "fisheye", size)
    elif "fl_x" in values:
        values = {"fl_y": values["fl_x"]} | values
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        if key not in values:
            raise UserError(
                f"{path}: no {key}, neither for all frames nor for {name}; write it again with ns-process-data"
            )
    numbers = [values[key] for key in ("fl_x", "fl_y", "cx", "cy")]
    return Pinhole(*numbers, int(values["w"]), int(values["h"])), lens


def lens_of(path: Path, name: str, values: Stated) -> Lens:
    """The lens of a frame.

    Raises:
        UserError: an unknown camera model.
        UnsupportedLens: a model that cannot be splatted, or a coefficient that the model does not have.
    """
    given = values.get("camera_model", "OPENCV")
    model = given.strip().upper() if isinstance(given, str) else given
    if model in PANORAMAS:
        raise UnsupportedLens(
            path,
            "only perspective and fisheye cameras can be splatted",
            "cut panoramas into perspective views (`ns-process-data images --camera-type equirectangular`)",
        )
    if model not in MODELS:
        raise UserError(f"{path}: unknown camera_model {given!r}; use one of {', '.join(MODELS)}")
    stated = {key: value for key, value in values.items() if COEFFICIENT.fullmatch(key) and value}
    kind = MODELS[model]
    if kind == "brown":
        kind = "polynomial" if "k4" in stated else "opencv"
        usable: tuple[str, ...] = COEFFICIENTS["polynomial"]
    else:
        usable = COEFFICIENTS[kind]
    strange = [key for key in stated if key not in usable]
    if strange:
        raise UnsupportedLens(
            path, f"{strange[0]} = {stated[strange[0]]:g} of {name} is no coefficient of camera_model {model}", REMEDY
        )
    return Lens(kind, tuple(float(np.float32(stated.get(key, 0.0))) for key in COEFFICIENTS[kind]))


def _from_angle(path: Path, values: Stated, fisheye: bool, size: Callable[[], tuple[int, int]]) -> Stated:
    """Intrinsics (pixels) of a camera described by its field of view: a pinhole, or an equidistant fisheye."""
    width, height = (values["w"], values["h"]) if "w" in values and "h" in values else size()
    width, height = float(width), float(height)
    focal: dict[str, float] = {}
    for axis, side in (("x", width), ("y", height)):
        angle = values.get(f"camera_angle_{axis}")
        if angle is None:  # square pixels
            focal[axis] = focal["x"]
        elif not 0 < angle < math.pi:
            raise UserError(f"{path}: camera_angle_{axis} is {angle:g}; give the field of view in radians, 0 to 3.14")
        else:
            focal[axis] = side / angle if fisheye else side / 2 / math.tan(angle / 2)
    found = {"fl_x": focal["x"], "fl_y": focal["y"], "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    return {key: value for key, value in found.items() if key not in values}
