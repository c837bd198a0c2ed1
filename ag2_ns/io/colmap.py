"""COLMAP models, text or binary: cameras, images and points, in double precision.

Format: https://colmap.github.io/format.html; camera models: COLMAP's src/colmap/sensor/models.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.ops.lens import COEFFICIENTS, Lens, Pinhole

PARAMETERS = {
    "SIMPLE_PINHOLE": ("pinhole", 1, ""),
    "PINHOLE": ("pinhole", 2, ""),
    "SIMPLE_RADIAL": ("opencv", 1, "k1"),
    "RADIAL": ("opencv", 1, "k1 k2"),
    "OPENCV": ("opencv", 2, "k1 k2 p1 p2"),
    "OPENCV_FISHEYE": ("fisheye", 2, "k1 k2 k3 k4"),
    "FULL_OPENCV": ("opencv", 2, "k1 k2 p1 p2 k3 k4 k5 k6"),
    "FOV": ("fov", 2, "omega"),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", 1, "k1"),
    "RADIAL_FISHEYE": ("fisheye", 1, "k1 k2"),
    "THIN_PRISM_FISHEYE": ("thin_prism_fisheye", 2, "k1 k2 p1 p2 k3 k4 sx1 sy1"),
    "RAD_TAN_THIN_PRISM_FISHEYE": ("fisheye624", 2, "k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
    "SIMPLE_DIVISION": ("division", 1, "k"),
    "DIVISION": ("division", 2, "k"),
    "SIMPLE_FISHEYE": ("fisheye", 1, ""),
    "FISHEYE": ("fisheye", 2, ""),
    "EUCM": ("eucm", 2, "alpha beta"),
}
"""COLMAP's camera models: the model of `ag2_ns.ops.lens`, how many focal lengths, and the coefficients that follow the
centre. The first sixteen stand in the order of their numbers in binary files."""

UNREADABLE = (ValueError, KeyError, IndexError, TypeError, OSError, struct.error, OverflowError, MemoryError)
"""What reading a damaged file raises."""


@dataclass(frozen=True)
class ColmapImage:
    """One registered image."""

    number: int
    name: str
    """Below the folder of images, as COLMAP wrote it."""
    rotation: Float[np.ndarray, "3 3"]
    """World to camera; x right, y down, z forward."""
    translation: Float[np.ndarray, "3"]
    camera: Pinhole
    lens: Lens


@dataclass(frozen=True)
class ColmapPoints:
    """The sparse points."""

    xyz: Float[np.ndarray, "N 3"]
    rgb: UInt8[np.ndarray, "N 3"]
    error: Float[np.ndarray, " N"]
    """Mean reprojection error, pixels."""
    track: Int[np.ndarray, " N"]
    """Images that see the point."""


def is_model(folder: Path) -> bool:
    """Whether a folder holds a COLMAP model."""
    return any((folder / f"cameras.{end}").is_file() for end in ("bin", "txt"))


def count_views(folder: Path) -> int:
    """How many images a model has; 0 where that cannot be read."""
    try:
        if _text(folder):
            return sum(1 for _ in _image_lines(folder / "images.txt"))
        with open(folder / "images.bin", "rb") as file:
            return struct.unpack("<Q", file.read(8))[0]
    except UNREADABLE:
        return 0


def read_images(folder: Path) -> list[ColmapImage]:
    """The registered images of a model by number.

    Raises:
        UserError: the model is damaged, or has a camera that is none of `PARAMETERS`.
    """
    try:
        cameras = dict(_cameras_txt(folder) if _text(folder) else _cameras_bin(folder))
        found = []
        for number, q, t, camera, name in _images_txt(folder) if _text(folder) else _images_bin(folder):
            found.append(ColmapImage(number, name, rotation_of(q), np.array(t, float), *cameras[camera]))
        return sorted(found, key=lambda image: image.number)
    except UNREADABLE as error:
        raise UserError(
            f"{folder}: not a readable COLMAP model ({first_line(error)}); export it from COLMAP again"
        ) from error


def read_points(folder: Path) -> ColmapPoints:
    """The sparse points of a model; none where it has no file of them.

    Raises:
        one of UNREADABLE: the file is damaged.
    """
    if (folder / "points3D.bin").is_file():
        rows = list(_points_bin(folder / "points3D.bin"))
    elif (folder / "points3D.txt").is_file():
        rows = list(_points_txt(folder / "points3D.txt"))
    else:
        rows = []
    if not rows:
        return ColmapPoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), np.zeros(0, np.int64))
    table = np.array(rows, dtype=float)
    return ColmapPoints(table[:, :3], table[:, 3:6].astype(np.uint8), table[:, 6], table[:, 7].astype(np.int64))


def rotation_of(q: tuple[float, float, float, float]) -> Float[np.ndarray, "3 3"]:
    """The rotation matrix of a quaternion w, x, y, z of length 1."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * y**2 - 2 * z**2, 2 * x * y - 2 * w * z, 2 * z * x + 2 * w * y],
            [2 * x * y + 2 * w * z, 1 - 2 * x**2 - 2 * z**2, 2 * y * z - 2 * w * x],
            [2 * z * x - 2 * w * y, 2 * y * z + 2 * w * x, 1 - 2 * x**2 - 2 * y**2],
        ]
    )


def camera_of(model: str, width: int, height: int, parameters: list[float]) -> tuple[Pinhole, Lens]:
    """A COLMAP camera in this package's terms.

    Raises:
        UserError: the model is not known.
        ValueError: it has another number of parameters.
    """
    if model not in PARAMETERS:
        raise UserError(
            f"camera model {model}: no picture of it can be splatted; make perspective pictures with COLMAP "
            "(colmap image_undistorter, or its panorama example), and use the model that it writes"
        )
    kind, focals, names = PARAMETERS[model]
    order = names.split()
    if len(parameters) != focals + 2 + len(order):
        raise ValueError(f"{model} has {focals + 2 + len(order)} parameters, not {len(parameters)}")
    given = dict(zip(order, parameters[focals + 2 :]))
    lens = Lens(kind, tuple(float(np.float32(given.get(name, 0.0))) for name in COEFFICIENTS[kind]))
    fx, fy, (cx, cy) = parameters[0], parameters[focals - 1], parameters[focals : focals + 2]
    return Pinhole(fx, fy, cx, cy, width, height), lens


def _text(folder: Path) -> bool:
    """Text is read where both are there, as nerfstudio does."""
    return (folder / "cameras.txt").is_file()


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig") as file:
        for line in file:
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.strip()


def _image_lines(path: Path) -> Iterator[str]:
    """The first of the two lines of each image; the second may be empty."""
    with open(path, encoding="utf-8-sig") as file:
        for line in file:
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.strip()
                next(file, None)


def _cameras_txt(folder: Path) -> Iterator[tuple[int, tuple[Pinhole, Lens]]]:
    for line in _lines(folder / "cameras.txt"):
        number, model, width, height, *parameters = line.split()
        yield int(number), _named(folder, model, int(width), int(height), [float(p) for p in parameters])


def _cameras_bin(folder: Path) -> Iterator[tuple[int, tuple[Pinhole, Lens]]]:
    names = list(PARAMETERS)[:16]
    with open(folder / "cameras.bin", "rb") as file:
        for _ in range(*_unpack(file, "<Q")):
            number, model, width, height = _unpack(file, "<iiQQ")
            if not 0 <= model < len(names):
                _named(folder, f"number {model}", width, height, [])
            name = names[model]
            count = PARAMETERS[name][1] + 2 + len(PARAMETERS[name][2].split())
            yield number, _named(folder, name, width, height, list(_unpack(file, f"<{count}d")))


def _named(folder: Path, *camera: object) -> tuple[Pinhole, Lens]:
    try:
        return camera_of(*camera)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def _images_txt(folder: Path) -> Iterator[tuple]:
    for line in _image_lines(folder / "images.txt"):
        fields = line.split(maxsplit=9)
        q, t = [float(v) for v in fields[1:5]], [float(v) for v in fields[5:8]]
        yield int(fields[0]), q, t, int(fields[8]), fields[9]


def _images_bin(folder: Path) -> Iterator[tuple]:
    with open(folder / "images.bin", "rb") as file:
        for _ in range(*_unpack(file, "<Q")):
            number, *pose, camera = _unpack(file, "<i7di")
            name = bytearray()
            while (byte := file.read(1)) != b"\0":
                if not byte:
                    raise ValueError("images.bin ends in a name")
                name += byte
            (seen,) = _unpack(file, "<Q")
            file.seek(24 * seen, 1)
            yield number, pose[:4], pose[4:], camera, name.decode("utf-8", "surrogateescape")


def _points_txt(path: Path) -> Iterator[tuple]:
    for line in _lines(path):
        fields = line.split()
        yield *(float(v) for v in fields[1:8]), (len(fields) - 8) // 2


def _points_bin(path: Path) -> Iterator[tuple]:
    with open(path, "rb") as file:
        for _ in range(*_unpack(file, "<Q")):
            _, *values, track = _unpack(file, "<Q3d3BdQ")
            file.seek(8 * track, 1)
            yield *values, track


def _unpack(file, form: str) -> tuple:
    return struct.unpack(form, file.read(struct.calcsize(form)))
