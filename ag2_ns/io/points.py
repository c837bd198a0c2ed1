"""Point clouds from the files that LiDARs, scanners and data sets write, and their labels.

`read_cloud` tells formats apart by suffix and, for headerless `.bin`, by what the columns hold. Nothing in a file is
executed: `.pth` is unpickled with torch's restricted reader, which admits tensors and numpy arrays only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.io.atomic import replacing
from ag2_ns.io.calibration import Rig

Unit = Literal["m", "cm", "mm", "ft"]

METRES: dict[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "ft": 0.3048}
"""Units of length in metres."""

BIN_COLUMNS = {"nuscenes": 5, "kitti": 4, "scannet": 6}
"""Float columns of headerless files: x y z intensity ring; x y z reflectance; x y z r g b (mmdetection3d)."""


@dataclass(frozen=True)
class PointCloud:
    """N points with what the file says of them; metres, unless the caller said nothing of the unit."""

    xyz: Float[np.ndarray, "N 3"]
    """Float32; finite."""
    rgb: UInt8[np.ndarray, "N 3"] | None = None
    intensity: Float[np.ndarray, " N"] | None = None
    label: Int[np.ndarray, " N"] | None = None
    """Class of each point as the file numbers them; 255 in OpenScene's means none."""
    dropped: int = 0
    """Points left out because a coordinate was not a number."""
    kept: Bool[np.ndarray, " F"] | None = None
    """Which of the file's F points are here; None for all. Labels read from another file need it."""

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, index: np.ndarray | slice) -> PointCloud:
        """The points chosen by a mask, indices or a slice."""
        pick = lambda value: None if value is None else value[index]  # noqa: E731
        return PointCloud(self.xyz[index], pick(self.rgb), pick(self.intensity), pick(self.label))

    @property
    def extent(self) -> float:
        """Diagonal of the box that holds 98 % of the points along each axis."""
        low, high = np.percentile(self.xyz, (1, 99), axis=0)
        return float(np.linalg.norm(high - low))


def read_cloud(path: Path | str, unit: Unit = "m") -> PointCloud:
    """Read .ply, .pcd, .bin, .las, .laz, .npy, .npz, .pth, .pt, .xyz, .txt or .csv.

    Args:
        path: the file.
        unit: what its coordinates are in; they are turned into metres.

    Raises:
        UserError: no such file, an unknown or damaged one, or one without a single finite point.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if not path.is_file():
        raise UserError(f"{path}: no such point cloud; name a file ({', '.join(READERS)})")
    if reader is None:
        raise UserError(f"{path}: point clouds are read from {', '.join(READERS)}; convert it to one of them")
    try:
        cloud = reader(path)
    except UserError:
        raise
    except Exception as error:  # parsers of foreign formats raise whatever they run into
        raise UserError(f"{path}: damaged, or not a {path.suffix} point cloud ({first_line(error)})") from None
    return _finite(cloud, path, METRES[unit])


def read_sweeps(
    paths: Sequence[Path], to_reference: Sequence[Float[np.ndarray, "4 4"]], unit: Unit = "m"
) -> PointCloud:
    """Several sweeps as one cloud in the frame of the first.

    Args:
        paths: one file per sweep.
        to_reference: sweep to reference frame, column vectors; the identity for the first.
        unit: of the files.

    Raises:
        UserError: as `read_cloud`, or another number of poses than of sweeps.
    """
    if len(paths) != len(to_reference):
        raise UserError(f"{len(paths)} sweeps but {len(to_reference)} poses; give one pose per sweep")
    clouds = []
    for path, pose in zip(paths, to_reference):
        cloud = read_cloud(path, unit)
        xyz = cloud.xyz @ np.asarray(pose, np.float32)[:3, :3].T + np.asarray(pose, np.float32)[:3, 3]
        clouds.append(replace(cloud, xyz=xyz.astype(np.float32)))
    join = lambda name: (  # noqa: E731
        None if any(getattr(c, name) is None for c in clouds) else np.concatenate([getattr(c, name) for c in clouds])
    )
    return PointCloud(join("xyz"), join("rgb"), join("intensity"), join("label"), sum(c.dropped for c in clouds))


def read_rig_cloud(path: Path, rig: Rig, unit: Unit = "m") -> PointCloud:
    """A cloud, or with a folder the one that a calibration names, its further sweeps included.

    Raises:
        UserError: as `read_cloud`, or the calibration names no cloud.
    """
    if not path.is_dir():
        return read_cloud(path, unit)
    if rig.cloud is None:
        raise UserError(f"{rig.source}: names no point cloud; give its file with --points")
    if not rig.sweeps:
        return read_cloud(rig.cloud, unit)
    return read_sweeps([rig.cloud, *(p for p, _ in rig.sweeps)], [np.eye(4), *(m for _, m in rig.sweeps)], unit)


def read_labels(path: Path | str, cloud: PointCloud) -> Int[np.ndarray, " N"]:
    """The class ids of a cloud's points from a file beside it: SemanticKITTI `.label` or nuScenes `_lidarseg.bin`.

    Raises:
        UserError: the file is missing or has another number of points.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of labels; leave it out, or name the right one")
    if path.suffix == ".label":
        labels = (np.fromfile(path, "<u4") & 0xFFFF).astype(np.int64)
    elif path.suffix == ".npy":
        labels = np.load(path, allow_pickle=False).astype(np.int64).reshape(-1)
    else:
        labels = np.fromfile(path, np.uint8).astype(np.int64)
    expected = len(cloud) if cloud.kept is None else len(cloud.kept)
    if len(labels) != expected:
        raise UserError(f"{path}: {len(labels)} labels for {expected} points; name the labels of this very cloud")
    return labels if cloud.kept is None else labels[cloud.kept]


def write_cloud(path: Path, cloud: PointCloud, label: Int[np.ndarray, " N"] | None = None) -> None:
    """Write a binary .ply with colours and labels where there are any, atomically."""
    from plyfile import PlyData, PlyElement

    columns = {c: cloud.xyz[:, k].astype("<f4") for k, c in enumerate("xyz")}
    if cloud.rgb is not None:
        columns |= {c: cloud.rgb[:, k] for k, c in enumerate(("red", "green", "blue"))}
    if cloud.intensity is not None:
        columns["intensity"] = cloud.intensity.astype("<f4")
    if label is not None:
        columns["label"] = label.astype("<i4")
    rows = np.empty(len(cloud), [(name, values.dtype.str) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    with replacing(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary))


def _finite(cloud: PointCloud, path: Path, scale: float) -> PointCloud:
    """The cloud in metres without points that are no numbers."""
    xyz = np.asarray(cloud.xyz)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz):
        raise UserError(f"{path}: holds no points")
    ok = np.isfinite(xyz).all(1)
    # Float32 is exact to a millimetre only near the origin: georeferenced clouds are moved there by their caller.
    xyz = (xyz * scale).astype(np.float32)
    if not ok.any():
        raise UserError(f"{path}: not one of its {len(xyz)} points has finite coordinates")
    whole = replace(cloud, xyz=xyz)
    return whole if ok.all() else replace(whole[ok], dropped=int((~ok).sum()), kept=ok)


def _ply(path: Path) -> PointCloud:
    from plyfile import PlyData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vertex = PlyData.read(str(path))["vertex"].data
    names = vertex.dtype.names or ()
    xyz = np.stack([np.asarray(vertex[c], np.float64) for c in "xyz"], 1)
    rgb = None
    if {"red", "green", "blue"} <= set(names):
        rgb = _colours(np.stack([np.asarray(vertex[c]) for c in ("red", "green", "blue")], 1))
    label = next((np.asarray(vertex[n], np.int64) for n in ("label", "class", "semantic") if n in names), None)
    intensity = next((np.asarray(vertex[n], np.float32) for n in ("intensity", "reflectance") if n in names), None)
    return PointCloud(xyz, rgb, intensity, label)


def _pcd(path: Path) -> PointCloud:
    import open3d as o3d

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        table = o3d.t.io.read_point_cloud(str(path)).point
    xyz = table["positions"].numpy() if "positions" in table else np.zeros((0, 3))
    rgb = _colours(table["colors"].numpy()) if "colors" in table else None
    intensity = table["intensity"].numpy().reshape(-1).astype(np.float32) if "intensity" in table else None
    return PointCloud(xyz, rgb, intensity)


def _bin(path: Path) -> PointCloud:
    values = np.fromfile(path, "<f4")
    kind = _bin_kind(path, values)
    rows = values.reshape(-1, BIN_COLUMNS[kind])
    if kind == "scannet":
        return PointCloud(rows[:, :3], _colours(rows[:, 3:]))
    return PointCloud(rows[:, :3], intensity=rows[:, 3])


def _bin_kind(path: Path, values: np.ndarray) -> str:
    """Which data set a headerless file is of, by what its columns would hold.

    Raises:
        UserError: none of them.
    """

    def fits(kind: str) -> bool:
        columns = BIN_COLUMNS[kind]
        if not len(values) or len(values) % columns:
            return False
        rows = values.reshape(-1, columns)
        last, rest = rows[:, -1], rows[:, 3:]
        if kind == "nuscenes":  # the ring is a small whole number
            return bool(((last >= 0) & (last < 256) & (last == np.round(last))).all()) and len(np.unique(last)) > 1
        if kind == "kitti":
            return bool(((last >= 0) & (last <= 1)).mean() > 0.99)
        return bool(((rest >= 0) & (rest <= 255)).all())

    found = [kind for kind in BIN_COLUMNS if fits(kind)]
    if not found:
        raise UserError(
            f"{path}: float32 rows of 4 (KITTI), 5 (nuScenes) or 6 (x y z r g b) numbers are expected; convert it "
            "to .ply"
        )
    return found[0]


def _las(path: Path) -> PointCloud:
    try:
        import laspy
    except ImportError:
        raise UserError(f"{path}: reading .las and .laz needs laspy; run `pip install 'ag2-ns[points]'`") from None
    las = laspy.read(str(path))
    names = set(las.point_format.dimension_names)
    xyz = np.asarray(las.xyz, np.float64)
    if len(xyz) and np.abs(xyz).max() > 1e4:  # a national grid: metres of float32 are exact near the origin only
        xyz = xyz - np.floor(xyz.mean(0))
    rgb = None
    if {"red", "green", "blue"} <= names:
        rgb = _colours(np.stack([np.asarray(las[c]) for c in ("red", "green", "blue")], 1))
    label = np.asarray(las.classification, np.int64) if "classification" in names else None
    return PointCloud(xyz, rgb, np.asarray(las.intensity, np.float32) if "intensity" in names else None, label)


def _numpy(path: Path) -> PointCloud:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return _table(content)
    names = {name.lower(): name for name in content.files}
    get = lambda *options: next((content[names[o]] for o in options if o in names), None)  # noqa: E731
    points = get("xyz", "points", "coords", "coord", "positions")
    if points is None:
        raise UserError(f"{path}: has {', '.join(content.files)}, no xyz; save the coordinates as 'xyz'")
    cloud = _table(points)
    rgb, label = get("rgb", "colors", "color"), get("label", "labels", "semantic", "semantic_nyu40")
    return replace(
        cloud,
        rgb=cloud.rgb if rgb is None else _colours(rgb),
        label=None if label is None else label.reshape(-1).astype(np.int64),
    )


def _text(path: Path) -> PointCloud:
    delimiter = "," if path.suffix.lower() == ".csv" else None
    return _table(np.loadtxt(path, delimiter=delimiter, ndmin=2, comments=("#", "x", "X", "/")))


def _table(rows: np.ndarray) -> PointCloud:
    """Columns x y z, with intensity as a fourth, or red green blue as three more."""
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] < 3:
        raise ValueError(f"rows of at least 3 numbers are expected, found an array of shape {rows.shape}")
    if rows.shape[1] in (4, 5):
        return PointCloud(rows[:, :3], intensity=rows[:, 3].astype(np.float32))
    return PointCloud(rows[:, :3], _colours(rows[:, 3:6]) if rows.shape[1] >= 6 else None)


def _openscene(path: Path) -> PointCloud:
    """OpenScene's tuple: coordinates, colours in -1 to 1 (or the number 0 for LiDAR), labels with 255 for none."""
    content = load_arrays(path)
    if isinstance(content, dict):
        content = tuple(content.values())
    if isinstance(content, np.ndarray):
        return _table(content)
    if not isinstance(content, (tuple, list)) or len(content) < 3:
        raise UserError(f"{path}: expected OpenScene's (coordinates, colours, labels)")
    xyz, colours, label = (np.asarray(part) for part in content[:3])
    rgb = None
    if colours.ndim == 2 and colours.shape == xyz.shape:
        rgb = _colours((colours + 1) / 2 if colours.min() < 0 else colours)
    return PointCloud(xyz, rgb, None, label.reshape(-1).astype(np.int64))


def load_arrays(path: Path) -> object:
    """What a `.pt` or `.pth` holds, tensors as arrays, without executing anything in it.

    Raises:
        UserError: it holds anything but tensors, arrays, numbers, tuples, lists and tables of them.
    """
    import torch

    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    admitted: list = [np.ndarray, np.dtype, *kinds]
    for home in ("numpy._core.multiarray", "numpy.core.multiarray"):
        try:
            module = __import__(home, fromlist=["_reconstruct"])
        except ImportError:
            continue
        for name in ("_reconstruct", "scalar"):
            admitted += [getattr(module, name), (getattr(module, name), f"numpy.core.multiarray.{name}")]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(admitted):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error).split(". ")[0]
        raise UserError(
            f"{path}: holds more than tensors and arrays, or is damaged ({reason}); export it anew"
        ) from None
    return _arrays(content)


def _arrays(content: object) -> object:
    import torch

    if isinstance(content, torch.Tensor):
        return content.numpy()
    if isinstance(content, (tuple, list)):
        return tuple(_arrays(part) for part in content)
    if isinstance(content, dict):
        return {key: _arrays(part) for key, part in content.items()}
    return content


def _colours(values: np.ndarray) -> UInt8[np.ndarray, "N 3"]:
    """Colours as bytes, from bytes, from 16 bits, or from 0 to 1."""
    values = np.nan_to_num(np.asarray(values, np.float64))
    top = float(values.max(initial=0.0))
    if top > 255:
        values = values / 257.0
    elif top <= 1.0:
        values = values * 255.0
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


READERS: dict[str, Callable[[Path], PointCloud]] = {
    ".ply": _ply, ".pcd": _pcd, ".bin": _bin, ".las": _las, ".laz": _las, ".npy": _numpy, ".npz": _numpy,
    ".pth": _openscene, ".pt": _openscene, ".xyz": _text, ".txt": _text, ".csv": _text,
}  # fmt: skip
"""Reader by suffix."""
