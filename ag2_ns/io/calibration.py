"""Cameras around a point cloud: calibration files of cars and robots, and folders of poses, as pinhole views.

Three layouts are read:

- `calibration.json`: `cameras: {NAME: {file, width, height, cam2img, lidar2cam}}`, optionally `lidar: {file}` and
  `sweeps: [{file, sweep2lidar}]`. `lidar2cam` is the camera's own: on a moving car it holds the motion between the
  sweep and that camera's shutter, so two cameras need not agree on where the car was.
- `transforms.json` (nerfstudio) of perspective lenses, in the capture's own frame.
- OpenScene: `color/NAME.jpg`, `pose/NAME.npy|txt` (camera to world) and `K/NAME.npy`, or one `intrinsic*.txt`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.view import View

DISTORTION = ("k1", "k2", "p1", "p2", "k3")
"""Terms of a lens, in OpenCV's order; pictures are undistorted as they are read."""


@dataclass(frozen=True)
class Rig:
    """V cameras in the frame of a point cloud."""

    source: Path
    """The file or folder that it was read from."""
    names: tuple[str, ...]
    views: tuple[View, ...]
    images: tuple[Path, ...]
    cloud: Path | None = None
    """The point cloud that the calibration names, if any."""
    sweeps: tuple[tuple[Path, np.ndarray], ...] = ()
    """Further sweeps and their 4 x 4 pose in the cloud's frame."""
    lenses: tuple[tuple[float, ...], ...] = ()
    """Distortion of each camera (see `DISTORTION`); empty for none at all."""

    def __len__(self) -> int:
        return len(self.views)

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """One picture at the size of its view.

        Raises:
            UserError: it cannot be read, or has another shape than the camera.
        """
        path, view = self.images[index], self.views[index]
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path}: not a readable picture ({first_line(error)}); restore it") from None
        if picture.size != (view.width, view.height):
            if abs(picture.width / picture.height - view.width / view.height) > 0.01:
                raise UserError(
                    f"{path}: is {picture.width}x{picture.height} but its camera {view.width}x{view.height}; "
                    "the calibration is of another picture"
                )
            picture = picture.resize((view.width, view.height), Image.LANCZOS)
        lens = self.lenses[index] if self.lenses else ()
        if any(lens):
            import cv2

            return cv2.undistort(np.asarray(picture), view.K.double().numpy(), np.array(lens))
        return np.asarray(picture)

    def scaled(self, longest: int) -> Rig:
        """The same cameras with pictures of at most `longest` pixels on their longer side."""
        return replace(self, views=tuple(_scaled(v, longest) for v in self.views))


def read_rig(path: Path | str) -> Rig:
    """Open a calibration: its file, or the folder that holds it.

    Raises:
        UserError: there is none, it is damaged, or its cameras are not pinhole.
    """
    path = Path(path)
    if path.is_dir():
        for name in ("calibration.json", "transforms.json"):
            if (path / name).is_file():
                return read_rig(path / name)
        if (path / "color").is_dir() and (path / "pose").is_dir():
            return _openscene(path)
        raise UserError(
            f"{path}: no calibration in it; put calibration.json (cam2img and lidar2cam of each camera), "
            "transforms.json, or color/, pose/ and K/ there"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such calibration; name a folder or file with the cameras")
    try:
        content = json.loads(path.read_text())
        rig = _surround(path, content) if "cameras" in content else _transforms(path, content)
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a calibration ({first_line(error)}); mend it") from None
    except KeyError as missing:
        raise UserError(f"{path}: lacks {missing}; add it") from None
    if not len(rig):
        raise UserError(f"{path}: names no camera; add at least one")
    return rig


def _surround(path: Path, content: dict) -> Rig:
    names, views, images = [], [], []
    for name, camera in content["cameras"].items():
        K = _matrix(camera["cam2img"], 3, f"{path}: cam2img of {name}")
        pose = _matrix(camera["lidar2cam"], 4, f"{path}: lidar2cam of {name}")
        names.append(name)
        views.append(View(pose.float(), K.float(), int(camera["width"]), int(camera["height"])))
        images.append(path.parent / camera["file"])
    lidar = content.get("lidar", {})
    sweeps = tuple(
        (path.parent / s["file"], _matrix(s["sweep2lidar"], 4, f"{path}: sweep2lidar of {s['file']}").numpy())
        for s in content.get("sweeps", [])
    )
    cloud = path.parent / lidar["file"] if "file" in lidar else None
    return Rig(path, tuple(names), tuple(views), tuple(images), cloud, sweeps)


def _transforms(path: Path, content: dict) -> Rig:
    names, views, images, lenses = [], [], [], []
    for frame in content["frames"]:
        get = lambda key, default=None, frame=frame: frame.get(key, content.get(key, default))  # noqa: E731
        if "FISHEYE" in str(get("camera_model", "")).upper() or abs(float(get("k4", 0.0) or 0.0)) > 1e-6:
            raise UserError(f"{path}: fisheye lenses; undistort the pictures first, with `colmap image_undistorter`")
        lenses.append(tuple(float(get(key, 0.0) or 0.0) for key in DISTORTION))
        width, height = int(get("w")), int(get("h"))
        fx = get("fl_x") or width / (2 * math.tan(float(get("camera_angle_x")) / 2))
        fy = get("fl_y") or fx
        K = [[fx, 0, get("cx", width / 2)], [0, fy, get("cy", height / 2)], [0, 0, 1]]
        pose = _matrix(frame["transform_matrix"], 4, f"{path}: transform_matrix of {frame['file_path']}")
        pose = pose * pose.new_tensor([1.0, -1.0, -1.0, 1.0])  # OpenGL to OpenCV
        names.append(frame["file_path"])
        views.append(View(torch.linalg.inv(pose).float(), torch.tensor(K, dtype=torch.float32), width, height))
        images.append(path.parent / frame["file_path"])
    named = content.get("ply_file_path")
    cloud = path.parent / named if named else None
    return Rig(path, tuple(names), tuple(views), tuple(images), cloud, lenses=tuple(lenses))


def _openscene(folder: Path) -> Rig:
    names, views, images = [], [], []
    shared = next(iter(sorted([*folder.glob("intrinsic*.txt"), *folder.glob("intrinsic/intrinsic_color.txt")])), None)
    for image in sorted(p for p in (folder / "color").iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        pose = _load(folder / "pose" / image.stem)
        own = (folder / "K" / image.stem).with_suffix(".npy")
        K = np.load(own, allow_pickle=False) if own.is_file() else None if shared is None else np.loadtxt(shared)
        if K is None:
            raise UserError(f"{own}: no such file of intrinsics; put one per picture there, or intrinsic.txt")
        if not np.isfinite(pose).all():  # ScanNet marks frames whose tracking was lost so
            continue
        with Image.open(image) as file:
            width, height = file.size
        names.append(image.stem)
        viewmat = torch.linalg.inv(_matrix(pose, 4, f"{folder}: pose of {image.stem}"))
        K = _matrix(np.asarray(K)[:3, :3], 3, f"{folder}: K of {image.stem}").float()
        views.append(View(viewmat.float(), K, width, height))
        images.append(image)
    return Rig(folder, tuple(names), tuple(views), tuple(images))


def _load(stem: Path) -> np.ndarray:
    for suffix, read in ((".npy", lambda p: np.load(p, allow_pickle=False)), (".txt", np.loadtxt)):
        path = stem.with_suffix(suffix)
        if path.is_file():
            return np.asarray(read(path), np.float64)
    raise UserError(f"{stem}.npy: no such pose; each picture of color/ needs one")


def _matrix(values: object, size: int, what: str) -> Float[torch.Tensor, "S S"]:
    matrix = torch.as_tensor(np.asarray(values, np.float64))
    if matrix.shape == (3, 4) and size == 4:
        matrix = torch.cat([matrix, matrix.new_tensor([[0.0, 0, 0, 1]])])
    if matrix.shape != (size, size) or not bool(torch.isfinite(matrix).all()):
        raise UserError(f"{what} is not {size} x {size} finite numbers; mend it")
    return matrix


def _scaled(view: View, longest: int) -> View:
    factor = longest / max(view.width, view.height)
    if factor >= 1:
        return view
    width, height = round(view.width * factor), round(view.height * factor)
    K = view.K.clone()
    K[0] *= width / view.width
    K[1] *= height / view.height
    return View(view.viewmat, K, width, height)
