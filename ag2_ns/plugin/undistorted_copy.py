"""A scene as it is served, written as plain pictures and straight cameras that any program understands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic, write_png
from ag2_ns.io.ply import write_points
from ag2_ns.ops.lens import Pinhole
from ag2_ns.plugin.bad_pictures import unreadable
from ag2_ns.plugin.capture import Capture, Frame
from ag2_ns.plugin.dataparser import OFFSET, read_capture
from ag2_ns.plugin.sizes import smaller
from ag2_ns.plugin.transforms import SPLITS
from ag2_ns.plugin.undistorted import ServedImages, ServedView


def write_undistorted(
    data: Path,
    views: ServedImages,
    folder: Path,
    colmap_path: Path | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> None:
    """Write images/, masks/ and depths/ where there are any, sparse_pc.ply and, when all is there, transforms.json.

    Poses and points stay in the capture's frame, in double precision; its splits are listed.

    Args:
        data: the scene.
        views: what it serves.
        folder: where the copy goes.
        colmap_path: the COLMAP model of several.
        progress: called with views done, views in all, and the current view's name.

    Raises:
        UserError: a picture or a mask cannot be read, or nothing can be written.
    """
    _, source, capture = read_capture(data, colmap_path)
    factor = round(views.downscale)
    frames = {smaller(frame.file, source, factor): frame for frame in capture.frames}
    written: dict[Path, dict[str, Any]] = {}
    for index, view in enumerate(views):
        progress(index, len(views), view.name)
        written[view.file] = _write_view(view, frames[view.file], source, factor, folder)
    progress(len(views), len(views), "")
    meta: dict[str, Any] = {"camera_model": "PINHOLE"}
    meta |= _shared(list(written.values()))
    if capture.applied is not None:
        meta["applied_transform"] = capture.applied.tolist()
    if capture.applied_scale != 1:
        meta["applied_scale"] = capture.applied_scale
    if capture.orientation is not None:
        meta["orientation_override"] = capture.orientation
    far = any(bool(outputs.metadata[OFFSET].any()) for outputs in views.outputs.values())
    if _write_points(capture, folder / "sparse_pc.ply", far):
        meta["ply_file_path"] = "sparse_pc.ply"
    for split in SPLITS:
        files = views.outputs[split].image_filenames
        meta[f"{split}_filenames"] = [written[file]["file_path"] for file in files]
    meta["frames"] = list(written.values())
    write_atomic(folder / "transforms.json", json.dumps(meta, indent=1).encode())


def _write_view(view: ServedView, frame: Frame, source: Path, factor: int, folder: Path) -> dict[str, Any]:
    """Write a view's files; returns its frame."""
    out: dict[str, Any] = {"file_path": f"images/{view.name}.png"}
    write_png(folder / out["file_path"], view.load())
    mask = view.dataset.get_mask(view.index)
    if mask is not None:
        out["mask_path"] = f"masks/{view.name}.png"
        write_png(folder / out["mask_path"], mask[..., 0].numpy().astype(np.uint8) * 255)
    if frame.depth is not None:
        depth = _depth(smaller(frame.depth, source, factor, "depths"), view)
        out["depth_file_path"] = f"depths/{view.name}.png"
        write_png(folder / out["depth_file_path"], depth)
    return out | _intrinsics(view.undistortion.camera) | {"transform_matrix": frame.pose.tolist()}


def _depth(file: Path, view: ServedView) -> np.ndarray:
    """A depth picture, undistorted by the nearest pixel."""
    try:
        with Image.open(file) as image:
            values = np.array(image)
    except Exception as error:
        raise unreadable(file, error, "depth picture") from None
    camera = view.undistortion.distorted
    if values.shape[:2] != (camera.height, camera.width):
        raise UserError(
            f"{file}: the depth has {values.shape[1]}x{values.shape[0]} pixels, its picture "
            f"{camera.width}x{camera.height}; make it on the picture or remove its depth_file_path"
        )
    if values.dtype == np.int32:  # Pillow's 16-bit grey
        values = values.astype(np.uint16)
    return view.undistortion.labels(values)


def _intrinsics(camera: Pinhole) -> dict[str, float]:
    c = camera
    numbers = {"fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy}
    single = {key: float(np.float32(value)) for key, value in numbers.items()}  # as training has them
    return single | {"w": c.width, "h": c.height}


def _shared(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Intrinsics that all frames have in common, taken out of them."""
    keys = ("fl_x", "fl_y", "cx", "cy", "w", "h")
    if len({tuple(frame[key] for key in keys) for frame in frames}) != 1:
        return {}
    first = {key: frames[0][key] for key in keys}
    for frame in frames:
        for key in keys:
            del frame[key]
    return first


def _write_points(capture: Capture, path: Path, far: bool) -> bool:
    """Write the point cloud; returns whether there is one."""
    points = capture.points()
    if points is None or not len(points.xyz):
        return False
    write_points(path, points.xyz.astype(np.float64 if far else np.float32), points.rgb)
    return True
