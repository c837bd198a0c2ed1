"""PLY files: point clouds in, Gaussians in and out, anchors and their graph out.

Gaussians use the property names that 3D Gaussian Splatting tools share: x y z, nx ny nz, f_dc_*, f_rest_* (all
coefficients of red, then green, then blue), opacity (logit), scale_* (logarithm), rot_* (w, x, y, z).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from plyfile import PlyData, PlyElement
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.sh import sh_to_rgb

log = logging.getLogger(__name__)

GREY = 128
"""Every channel of a point without colour."""

OPACITY_MARGIN = 1e-6
"""Opacities are kept this far from 0 and 1, where a logit is not finite."""

_SPLAT = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity")
_SPLAT += ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
_COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))


def read_points(
    path: str | Path, dtype: type = np.float32
) -> tuple[Float[np.ndarray, "N 3"], UInt8[np.ndarray, "N 3"]]:
    """Points and colours of a PLY point cloud, mesh or splat.

    Colours may be integers (8 or 16 bits) or floats in 0..1; a splat gives its constant colour, a file without colours
    grey. Points that are not finite are dropped, with a note in the log.

    Args:
        path: the file.
        dtype: of the positions; coordinates of surveys need np.float64.

    Returns:
        Positions in the file's frame and uint8 RGB, at least one point.

    Raises:
        UserError: no such file, not a PLY, cut short, or without points.
    """
    vertex = _read_vertices(Path(path))
    _require(vertex, ("x", "y", "z"), Path(path), "a point cloud")
    xyz = _columns(vertex, ("x", "y", "z"), dtype)
    keep = _finite(xyz, Path(path))
    return np.ascontiguousarray(xyz[keep]), np.ascontiguousarray(_colours(vertex)[keep])


def read_gaussians(path: str | Path) -> Gaussians:
    """The Gaussians of a 3D Gaussian Splatting file, activated, of any spherical harmonic degree from 0 to 3.

    Gaussians with a value that is not finite are dropped, with a note in the log.

    Raises:
        UserError: no such file, not a PLY, cut short, empty, or without the properties of a splat (named).
    """
    path = Path(path)
    vertex = _read_vertices(path)
    names = vertex.dtype.names or ()
    _require(vertex, _SPLAT, path, "a Gaussian splat")
    rest = sum(name.startswith("f_rest_") for name in names)
    bands = 1 + rest // 3
    if rest not in (0, 9, 24, 45):
        raise UserError(
            f"{path}: {rest} f_rest_* properties, but spherical harmonics of degree 0 to 3 have 0, 9, 24 or 45; "
            "export the splat again with one of these degrees"
        )
    order = tuple(f"f_rest_{i}" for i in range(rest))
    _require(vertex, order, path, "a Gaussian splat")
    table = _columns(vertex, _SPLAT + order)
    table = torch.from_numpy(table[_finite(table, path)])
    dc = table[:, None, 3:6]
    higher = table[:, len(_SPLAT) :].reshape(len(table), 3, bands - 1).transpose(1, 2)
    return Gaussians(
        means=table[:, 0:3].contiguous(),
        quats=table[:, 10:14].contiguous(),
        scales=table[:, 7:10].exp(),
        opacities=table[:, 6].sigmoid(),
        sh=torch.cat([dc, higher], 1).contiguous(),
    )


def write_gaussians(
    path: str | Path, gaussians: Gaussians, extra: dict[str, np.ndarray | Tensor] | None = None
) -> None:
    """Write a 3D Gaussian Splatting file, binary little endian, atomically.

    Args:
        path: the file; its folder is made when missing.
        gaussians: activated Gaussians of any device.
        extra: further scalar properties by name, one value per Gaussian: an instance id, a score. Booleans become
            uchar, integers int, floats float.

    Raises:
        ValueError: an extra property of the wrong length, shape, name or range.
    """
    g = gaussians.detach().to("cpu")
    count, bands = len(g), g.sh.shape[1]
    opacity = torch.logit(g.opacities.float(), eps=OPACITY_MARGIN)
    scales = g.scales.float().clamp_min(torch.finfo(torch.float32).tiny).log()
    rest = g.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (bands - 1))
    blocks = [
        (("x", "y", "z"), g.means),
        (("nx", "ny", "nz"), torch.zeros(count, 3)),
        (("f_dc_0", "f_dc_1", "f_dc_2"), g.sh[:, 0]),
        (tuple(f"f_rest_{i}" for i in range(rest.shape[1])), rest),
        (("opacity",), opacity[:, None]),
        (("scale_0", "scale_1", "scale_2"), scales),
        (("rot_0", "rot_1", "rot_2", "rot_3"), g.quats),
    ]
    columns = {name: _float(block[:, k]) for names, block in blocks for k, name in enumerate(names)}
    for name, values in (extra or {}).items():
        if name in columns or not name.isidentifier():
            raise ValueError(f"{name!r} cannot name an extra property")
        columns[name] = _property(name, values, count)
    _write(Path(path), [_element("vertex", columns, count)])


def write_points(path: str | Path, xyz: Float[np.ndarray, "N 3"], rgb: UInt8[np.ndarray, "N 3"]) -> None:
    """Write a point cloud, atomically.

    Args:
        path: the file; its folder is made when missing.
        xyz: positions; float64 is written as double.
        rgb: colours.
    """
    columns = {name: xyz[:, k] for k, name in enumerate("xyz")}
    columns |= {name: rgb[:, k] for k, name in enumerate(("red", "green", "blue"))}
    _write(Path(path), [_element("vertex", columns, len(xyz))])


def write_anchors(
    path: str | Path,
    xyz: Float[Tensor, "A 3"],
    radius: Float[Tensor, " A"],
    feature: Float[Tensor, "A F"],
    label: Int[Tensor, " A"],
    *,
    rgb: UInt8[Tensor, "A 3"] | None = None,
    edges: Int[Tensor, "2 E"] | None = None,
) -> None:
    """Write anchors as a point cloud with radius, feature_0 .. feature_{F-1} and label, atomically.

    Args:
        path: the file; its folder is made when missing.
        xyz: anchor centres, scene units.
        radius: how far children reach, scene units; A or A x 1.
        feature: instance features.
        label: super-anchor of every anchor, -1 for none.
        rgb: a colour per anchor, for viewers.
        edges: the anchor graph, written as PLY edges (vertex1, vertex2).
    """
    count = len(xyz)
    columns = {name: _float(xyz[:, k]) for k, name in enumerate("xyz")}
    if rgb is not None:
        channels = rgb.detach().cpu().numpy().astype("u1")
        columns |= {name: channels[:, k] for k, name in enumerate(("red", "green", "blue"))}
    columns["radius"] = _float(radius.reshape(count))
    columns |= {f"feature_{k}": _float(feature[:, k]) for k in range(feature.shape[1])}
    columns["label"] = _property("label", label, count)
    elements = [_element("vertex", columns, count)]
    if edges is not None:
        ends = {f"vertex{k + 1}": _property("edges", edges[k], edges.shape[1]) for k in range(2)}
        elements.append(_element("edge", ends, edges.shape[1]))
    _write(Path(path), elements)


def _read_vertices(path: Path) -> np.ndarray:
    """The vertex table, in memory; one message for each way in which a file can be unusable."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a PLY file")
    try:
        # Read fully, not mapped: the file may be replaced while its points are in use.
        ply = PlyData.read(str(path), mmap=False)
        vertex = ply["vertex"].data if "vertex" in ply else None
    except Exception as error:  # plyfile raises its own, numpy's and the decoder's errors for damaged files
        raise UserError(f"{path}: not a readable PLY file ({first_line(error)}); copy or export it again") from error
    if vertex is None or len(vertex) == 0:
        raise UserError(f"{path}: holds no points; export it again")
    return vertex


def _require(vertex: np.ndarray, names: tuple[str, ...], path: Path, kind: str) -> None:
    missing = [name for name in names if name not in (vertex.dtype.names or ())]
    if missing:
        raise UserError(f"{path}: not {kind}, it lacks {', '.join(missing)}; give a file that has these properties")
    lists = [name for name in names if vertex.dtype[name].kind == "O"]
    if lists:
        raise UserError(f"{path}: not {kind}, {', '.join(lists)} are lists; give a file with one value per point")


def _columns(vertex: np.ndarray, names: tuple[str, ...], dtype: type = np.float32) -> Float[np.ndarray, "N C"]:
    out = np.empty((len(vertex), len(names)), dtype)
    with np.errstate(over="ignore"):
        for k, name in enumerate(names):
            out[:, k] = vertex[name]
    return out


def _finite(table: np.ndarray, path: Path) -> np.ndarray:
    keep = np.isfinite(table).all(1)
    if not keep.any():
        raise UserError(f"{path}: every point has a value that is not finite; export it again")
    if not keep.all():
        log.warning("%s: dropped %d of %d points that are not finite", path, (~keep).sum(), len(keep))
    return keep


def _colours(vertex: np.ndarray) -> UInt8[np.ndarray, "N 3"]:
    names = vertex.dtype.names or ()
    for triple in _COLOURS:
        if all(name in names for name in triple):
            kind = vertex.dtype[triple[0]]
            colour = _columns(vertex, triple)
            if kind.kind == "f":
                colour = colour * 255
            elif kind.itemsize == 2:
                colour = colour / 257
            return np.clip(np.rint(np.nan_to_num(colour, nan=GREY)), 0, 255).astype(np.uint8)
    if all(f"f_dc_{k}" in names for k in range(3)):
        colour = sh_to_rgb(_columns(vertex, ("f_dc_0", "f_dc_1", "f_dc_2")))
        return np.clip(np.rint(np.nan_to_num(colour, nan=0.5) * 255), 0, 255).astype(np.uint8)
    return np.full((len(vertex), 3), GREY, np.uint8)


def _float(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype("<f4")


def _property(name: str, values: np.ndarray | Tensor, count: int) -> np.ndarray:
    """Values as a PLY scalar type; PLY has no integers of 64 bits."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != (count,):
        raise ValueError(f"property {name!r} must have shape ({count},), not {array.shape}")
    if array.dtype.kind == "b":
        return array.astype("u1")
    if array.dtype.kind in "iu":
        limits = np.iinfo(np.int32)
        if len(array) and (array.min() < limits.min or array.max() > limits.max):
            raise ValueError(f"property {name!r} does not fit 32 bits")
        return array.astype("<i4")
    if array.dtype.kind == "f":
        return array.astype("<f4")
    raise ValueError(f"property {name!r} must be boolean, integer or float, not {array.dtype}")


def _element(name: str, columns: dict[str, np.ndarray], count: int) -> PlyElement:
    table = np.empty(count, [(key, column.dtype.str) for key, column in columns.items()])
    for key, column in columns.items():
        table[key] = column
    return PlyElement.describe(table, name)


def _write(path: Path, elements: list[PlyElement]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            PlyData(elements, text=False, byte_order="<").write(file)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
