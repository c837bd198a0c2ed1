"""Drives of a car with cameras all around: what lies on the disk, and one frame of it in memory.

A folder of drives holds one folder a drive, each with a drive.json:

    {"scene_name": ..., "frames": [{"sample_token", "timestamp_s", "ego2global", "lidar": {"file", "lidar2ego"},
      "cameras": {"CAM_FRONT": {"file", "width", "height", "timestamp_s", "cam2img", "cam2ego", "ego2global"}, ...}}]}

Matrices map columns, X_to = M @ X_from, in metres; cameras look along z (x right, y down), the ego frame is x ahead,
y left, z up. Of the motion of the car between the LiDAR's and a camera's time, either the camera's own `ego2global`
tells, or `lidar2cam`; without both there is none. A lone calibration.json with one such frame is read too, and so is a
nuScenes root (`ag2_ns.io.nuscenes`).

Beside that, found by name where the frame names no file: depth/CAMERA/STEM.npy (height x width, metres along the
camera's axis), features/CAMERA/STEM.npy (C x h x w), gts/SCENE/TOKEN/labels.npz as Occ3D has them, in the drive's
folder or in the folder of drives. split.json {"train": [...], "val": [...]} names drives by their folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.view import View
from ag2_ns.io.occ3d import Labels, read_labels

DRIVE = "drive.json"
SINGLE = "calibration.json"
SPLIT = "split.json"


@dataclass(frozen=True)
class Camera:
    """One camera of one frame."""

    name: str
    image: Path
    width: int
    height: int
    cam2img: Float[Tensor, "3 3"]
    cam2ego: Float[Tensor, "4 4"]
    """Camera to the car at the frame's time: the motion until the picture was taken is in it."""
    mount: Float[Tensor, "4 4"]
    """Camera to the car at the picture's time: where it is fixed."""

    def view(self, width: int | None = None, height: int | None = None, *, ego_motion: bool = True) -> View:
        """The camera as a view from the ego frame, of a picture resized to `width` x `height`."""
        width, height = width or self.width, height or self.height
        K = self.cam2img.clone()
        K[0] *= width / self.width
        K[1] *= height / self.height
        return View(torch.linalg.inv(self.cam2ego if ego_motion else self.mount).float(), K.float(), width, height)


@dataclass(frozen=True)
class Record:
    """Where everything of one frame lies."""

    drive: str
    token: str
    timestamp: float
    folder: Path
    """Of the drive."""
    roots: tuple[Path, ...]
    """Folders in which depth, features and labels are looked for."""
    ego2global: Float[Tensor, "4 4"]
    cameras: tuple[Camera, ...]
    lidar: Path | None
    lidar2ego: Float[Tensor, "4 4"]
    given: dict[str, str]
    """Files that the frame names itself, such as `depth/CAM_FRONT`."""

    @property
    def name(self) -> str:
        """DRIVE/TOKEN."""
        return f"{self.drive}/{self.token}"

    def file(self, kind: str, camera: Camera) -> Path | None:
        """The .npy of a camera's depth or features, or None."""
        if f"{kind}/{camera.name}" in self.given:
            return self.folder / self.given[f"{kind}/{camera.name}"]
        for root in self.roots:
            for path in (
                root / kind / camera.name / f"{camera.image.stem}.npy",
                root / kind / f"{camera.image.stem}.npy",
            ):
                if path.is_file():
                    return path
        return None

    def target(self, kind: str, camera: Camera) -> Path:
        """Where the .npy of a camera's depth or features is to be written."""
        return self.folder / kind / camera.name / f"{camera.image.stem}.npy"

    def label(self) -> Path | None:
        """The frame's labels.npz, or None."""
        if "occupancy" in self.given:
            return self.folder / self.given["occupancy"]
        for root in self.roots:
            path = root / "gts" / self.drive / self.token / "labels.npz"
            if path.is_file():
                return path
        return None

    def labels(self) -> Labels | None:
        """The frame's occupancy, read; None where there is none."""
        path = self.label()
        return None if path is None else read_labels(path)


@dataclass(frozen=True)
class Drive:
    """Frames in the order of time."""

    name: str
    folder: Path
    frames: tuple[Record, ...]


@dataclass(frozen=True)
class Frame:
    """One instant as tensors: V views with depth and features."""

    record: Record
    views: tuple[View, ...]
    """At the size of `depth`."""
    depth: Float[Tensor, "V H W"]
    """Metres along the camera's axis; far or infinite for the sky."""
    features: Float[Tensor, "V C h w"]


def read_drives(root: Path) -> list[Drive]:
    """The drives in a folder: one folder a drive, or a drive's own folder, one frame, or a nuScenes root.

    Raises:
        UserError: there are none, or one of them cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name a folder of drives, such as `ag2 example --scene street` makes")
    if any(root.glob("v1.0-*/scene.json")):
        from ag2_ns.io.nuscenes import read_nuscenes

        return read_nuscenes(root)
    if (root / DRIVE).is_file() or (root / SINGLE).is_file():
        return [_drive(root, root.parent)]
    found = sorted(p for p in root.iterdir() if (p / DRIVE).is_file() or (p / SINGLE).is_file())
    if not found:
        raise UserError(f"{root}: no drives in it (folders with a {DRIVE}); make some with ag2 example --scene street")
    return [_drive(p, root) for p in found]


def split_drives(root: Path, drives: list[Drive], share: float = 0.125) -> tuple[list[Drive], list[Drive]]:
    """Drives to train on and drives to evaluate: as split.json says, or else the last `share` of them for evaluation.

    A lone drive is used for both.

    Raises:
        UserError: split.json cannot be read or names drives that are not there.
    """
    path = Path(root) / SPLIT
    if path.is_file():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            wanted = [list(content[k]) for k in ("train", "val")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a split ({first_line(error)}); give lists 'train' and 'val'") from error
        known = {d.folder.name: d for d in drives} | {d.name: d for d in drives}
        lost = [n for names in wanted for n in names if n not in known]
        if lost:
            raise UserError(f"{path}: names the drive '{lost[0]}', which is not there; correct the split")
        return tuple([known[n] for n in names] for names in wanted)
    if len(drives) == 1:
        return drives, drives
    count = max(1, round(share * len(drives)))
    return drives[:-count], drives[-count:]


def find_frame(frames: Iterable[Record], wanted: str) -> Record:
    """The frame called DRIVE/TOKEN or TOKEN, or by its position from 0.

    Raises:
        UserError: there is none, or several have this token.
    """
    frames = list(frames)
    found = [f for f in frames if wanted in (f.name, f.token)]
    if not found and wanted.isdigit() and int(wanted) < len(frames):
        found = [frames[int(wanted)]]
    if len(found) == 1:
        return found[0]
    some = ", ".join(f.name for f in (found or frames)[:3])
    what = "several frames have this token" if found else f"no such frame among {len(frames)}"
    raise UserError(f"--frame {wanted}: {what}; there are {some}{' …' if len(found or frames) > 3 else ''}")


def load_frame(
    record: Record, width: int, height: int, *, ego_motion: bool = True, features: str = "features"
) -> Frame:
    """Read depth and features of a frame; depth is resized bilinearly to the size that the network works at.

    Args:
        record: the frame.
        width: pixels across of the views.
        height: pixels down.
        ego_motion: account for the car's motion between the cameras' times and the frame's.
        features: the folder of features.

    Raises:
        UserError: a file is missing, damaged or of another size; it is named.
    """
    depth = torch.stack([_resize(read_depth(record, c), width, height) for c in record.cameras])
    found = [read_array(record, features, c) for c in record.cameras]
    for camera, one in zip(record.cameras, found):
        if one.dim() != 3 or one.shape != found[0].shape:
            raise UserError(
                f"{record.file(features, camera)}: features are {'x'.join(map(str, one.shape))}, those of "
                f"{record.cameras[0].name} {'x'.join(map(str, found[0].shape))}; make all with one encoder"
            )
    views = tuple(c.view(width, height, ego_motion=ego_motion) for c in record.cameras)
    return Frame(record, views, depth, torch.stack(found))


def load_images(
    record: Record, width: int | None = None, height: int | None = None
) -> list[UInt8[np.ndarray, "H W 3"]]:
    """The pictures of a frame, resized if a size is given."""
    out = []
    for camera in record.cameras:
        try:
            with Image.open(camera.image) as image:
                if image.size != (camera.width, camera.height):
                    raise UserError(
                        f"{camera.image}: has {image.size[0]}x{image.size[1]} pixels, its camera {camera.width}x"
                        f"{camera.height}; correct the size in {DRIVE}"
                    )
                image = image.convert("RGB")
                if width is not None and height is not None:
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                out.append(np.asarray(image))
        except OSError as error:
            raise UserError(f"{camera.image}: not a readable picture ({first_line(error)}); restore it") from error
    return out


def read_array(record: Record, kind: str, camera: Camera) -> Float[Tensor, "..."]:
    """A camera's .npy as floats.

    Raises:
        UserError: missing, damaged or with numbers that are not finite (depth may be infinite).
    """
    path = record.file(kind, camera)
    if path is None:
        raise UserError(
            f"{record.target(kind, camera)}: no {kind} of {camera.name} in frame {record.name}; make it with "
            f"ag2 prepare {record.folder}"
        )
    try:
        values = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy ({first_line(error)}); make it again") from error
    if bool(torch.isnan(values).any()) or (kind != "depth" and not bool(torch.isfinite(values).all())):
        raise UserError(f"{path}: holds numbers that are not finite; make it again")
    return values


def read_depth(record: Record, camera: Camera) -> Float[Tensor, "H W"]:
    """A camera's depth, at the size of its picture.

    Raises:
        UserError: missing, damaged or of another size.
    """
    depth = read_array(record, "depth", camera)
    if depth.shape != (camera.height, camera.width):
        raise UserError(
            f"{record.file('depth', camera)}: depth of {'x'.join(map(str, depth.shape))} pixels (rows x columns), but "
            f"the picture has {camera.height}x{camera.width}; make it again from this picture"
        )
    return depth


def read_lidar(path: Path) -> Float[np.ndarray, "N 5"]:
    """A sweep of nuScenes: x, y, z in the LiDAR's frame, intensity, ring.

    Raises:
        UserError: missing or not whole rows of five numbers.
    """
    try:
        raw = np.fromfile(path, "<f4")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore it") from error
    if raw.size == 0 or raw.size % 5:
        raise UserError(f"{path}: not a sweep of x, y, z, intensity, ring as 32-bit floats; restore it")
    return raw.reshape(-1, 5)


def _resize(depth: Tensor, width: int, height: int) -> Tensor:
    if depth.shape == (height, width):
        return depth
    finite = depth.clamp_max(1e4)  # infinity times the weight 0 would be no number
    return torch.nn.functional.interpolate(finite[None, None], (height, width), mode="bilinear", align_corners=False)[
        0, 0
    ]


def _drive(folder: Path, root: Path) -> Drive:
    path = folder / DRIVE
    single = not path.is_file()
    path = folder / SINGLE if single else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = [content] if single else content["frames"]
        name = str(content.get("scene_name", folder.name))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a drive ({first_line(error)}); see the documentation of the layout") from error
    if not frames:
        raise UserError(f"{path}: holds no frames; remove the drive")
    roots = tuple(dict.fromkeys((folder, root)))
    records = tuple(_record(path, folder, roots, name, f) for f in frames)
    names = [c.name for c in records[0].cameras]
    for record in records:
        own = [c.name for c in record.cameras]
        lost = [n for n in names if n not in own]
        if own != names:
            what = f"lacks the camera {lost[0]}" if lost else "has other cameras than the drive's first frame"
            raise UserError(f"{path}: frame {record.token} {what}; give all frames the same cameras or remove it")
    return Drive(name, folder, tuple(sorted(records, key=lambda r: r.timestamp)))


def _record(path: Path, folder: Path, roots: tuple[Path, ...], drive: str, frame: dict[str, Any]) -> Record:
    token = "?"
    try:
        token = str(frame["sample_token"])
        ego = _matrix(frame.get("ego2global", np.eye(4)), 4)
        lidar = frame.get("lidar") or {}
        lidar2ego = _matrix(lidar.get("lidar2ego", np.eye(4)), 4)
        given, cameras = {}, []
        for name, c in frame["cameras"].items():
            cameras.append(camera(name, folder / c["file"], c, ego, lidar2ego))
            given |= {f"{k}/{name}": c[k] for k in ("depth", "features") if k in c}
        if "occupancy" in frame:
            given["occupancy"] = frame["occupancy"]
        file = folder / lidar["file"] if "file" in lidar else None
        time = float(frame.get("timestamp_s", 0.0))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{path}: frame {token} cannot be read ({what}); write the drive anew") from error
    if not cameras:
        raise UserError(f"{path}: frame {token} has no cameras; remove it")
    return Record(drive, token, time, folder, roots, ego, tuple(cameras), file, lidar2ego, given)


def camera(name: str, image: Path, content: dict[str, Any], ego: Tensor, lidar2ego: Tensor) -> Camera:
    """A camera from its JSON; `ego` is the car's pose (to the world) at the frame's time."""
    mount = _matrix(content["cam2ego"], 4)
    cam2ego = mount
    if "lidar2cam" in content:
        cam2ego = lidar2ego @ torch.linalg.inv(_matrix(content["lidar2cam"], 4))
    elif "ego2global" in content:
        cam2ego = torch.linalg.inv(ego) @ _matrix(content["ego2global"], 4) @ mount
    width, height = int(content["width"]), int(content["height"])
    return Camera(name, image, width, height, _matrix(content["cam2img"], 3), cam2ego, mount)


def _matrix(rows: Any, size: int) -> Tensor:
    matrix = torch.as_tensor(np.asarray(rows, float)).double()
    if matrix.shape != (size, size) or not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"a matrix is not {size}x{size} finite numbers")
    return matrix
