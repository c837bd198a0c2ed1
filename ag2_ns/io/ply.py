"""PLY files: point clouds in, Gaussians in and out, anchors and their graph out.

Gaussians use the property names that 3D Gaussian Splatting tools share: x y z, nx ny nz, f_dc_*, f_rest_* (all
coefficients of red, then green, then blue), opacity (logit), scale_* (logarithm), rot_* (w, x, y, z).
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
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

COMPRESSED = ("chunk", "vertex", "sh")
"""Elements of a compressed splat."""

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic."""

_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
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
    vertex = _vertices(Path(path), _open_ply(Path(path)))
    _require(vertex, ("x", "y", "z"), Path(path), "a point cloud")
    xyz = _columns(vertex, ("x", "y", "z"), dtype)
    keep = _finite(xyz, Path(path))
    return np.ascontiguousarray(xyz[keep]), np.ascontiguousarray(_colours(vertex)[keep])


def read_gaussians(path: str | Path, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Gaussians:
    """The Gaussians of a 3D Gaussian Splatting PLY, activated; see `ag2_ns.io.splat` for other formats.

    Read as well: compressed files of PlayCanvas and SuperSplat, plain colours (red, green, blue) in place of spherical
    harmonics, flat Gaussians with two scales (2D Gaussian Splatting), the 3D filter of Mip-Splatting. Bands beyond
    degree 3 are left out. A logit of +-infinity is an opacity of 1 or 0, a logarithm of -infinity a scale of 0;
    Gaussians with any other value that is not finite are dropped, with a note in the log.

    Args:
        path: the file.
        centre: subtracted from positions before they become single precision, where the file has more.

    Raises:
        UserError: no such file, not a PLY, cut short, empty, or without the properties of a splat (named).
    """
    path = Path(path)
    ply = _open_ply(path)
    if "chunk" in ply and "packed_position" in (ply["vertex"].data.dtype.names or ()):
        return moved(
            _checked_size(path, decode_compressed(*(ply[n].data if n in ply else None for n in COMPRESSED))), centre
        )
    vertex = _vertices(path, ply)
    names = vertex.dtype.names or ()
    colour = next((c for c in (_DC, *_COLOURS) if all(n in names for n in c)), _DC)
    scale = tuple(n for n in _SCALE if n in names or n != "scale_2")
    _require(vertex, ("x", "y", "z", *colour, "opacity", *scale, *_ROTATION), path, "a Gaussian splat")
    bands, order = _harmonics(path, vertex) if colour is _DC else (1, ())
    scales = _columns(vertex, scale)
    if len(scale) == 2:
        log.warning("%s: flat Gaussians, as 2D Gaussian Splatting writes them", path)
        scales = np.concatenate([scales, np.full((len(scales), 1), -np.inf, np.float32)], 1)
    opacity = _columns(vertex, ("opacity",))
    table = _columns(vertex, ("x", "y", "z", *_ROTATION, *order))
    if any(centre):
        table[:, :3] = _columns(vertex, ("x", "y", "z"), np.float64) - np.array(centre)
    dc = _columns(vertex, _DC) if colour is _DC else (_unit_colours(vertex, colour) - 0.5) / SH_C0
    meant = (np.where(np.isinf(opacity), 0, opacity), np.where(scales == -np.inf, 0, scales))
    keep = _finite(np.concatenate([table, dc, *meant], 1), path)
    with np.errstate(over="ignore"):
        scales, opacity = torch.from_numpy(scales[keep]).exp(), torch.from_numpy(opacity[keep, 0]).sigmoid()
    if "filter_3D" in names:
        scales, opacity = _filtered(scales, opacity, torch.from_numpy(_columns(vertex, ("filter_3D",))[keep]))
    rest = torch.from_numpy(table[keep, 7:]).reshape(int(keep.sum()), 3, bands - 1).transpose(1, 2)
    means, quats = torch.from_numpy(table[keep, :3]), torch.from_numpy(table[keep, 3:7])
    sh = torch.cat([torch.from_numpy(dc[keep].astype(np.float32))[:, None], rest], 1)
    return Gaussians(means.contiguous(), quats.contiguous(), scales, opacity, sh.contiguous())


def _harmonics(path: Path, vertex: np.ndarray) -> tuple[int, tuple[str, ...]]:
    """How many bands of spherical harmonics are read, and their properties, all of red first."""
    rest = sum(name.startswith("f_rest_") for name in vertex.dtype.names or ())
    given = 1 + rest // 3
    degree = round(given**0.5) - 1
    if rest % 3 or (degree + 1) ** 2 != given:
        raise UserError(
            f"{path}: {rest} f_rest_* properties, but spherical harmonics of degree 0 to 3 have 0, 9, 24 or 45; "
            "export the splat again with one of these degrees"
        )
    if degree > 3:
        log.warning("%s: spherical harmonics of degree %d are cut to degree 3", path, degree)
    bands = min(given, 16)
    order = tuple(f"f_rest_{c * (given - 1) + k}" for c in range(3) for k in range(bands - 1))
    _require(vertex, order, path, "a Gaussian splat")
    return bands, order


def _filtered(
    scales: Float[Tensor, "N 3"], opacity: Float[Tensor, " N"], size: Float[Tensor, "N 1"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """Scales and opacities under Mip-Splatting's 3D smoothing filter (Yu et al. 2024, section 4.1)."""
    wide = (scales.square() + size.square()).sqrt()
    return wide, opacity * (scales / wide.clamp_min(torch.finfo(torch.float32).tiny)).prod(1)


def decode_compressed(chunk: np.ndarray, vertex: np.ndarray, sh: np.ndarray | None) -> Gaussians:
    """The Gaussians of PlayCanvas's compressed PLY: 256 share a chunk with the ranges of their values.

    Args:
        chunk: min_* and max_* of x, y, z, scale_x, scale_y, scale_z and, in newer files, r, g, b.
        vertex: packed_position (11, 10, 11 bits), packed_rotation (2, 10, 10, 10: the largest component is left out),
            packed_scale (as positions), packed_color (4 x 8).
        sh: f_rest_* as bytes, or None.
    """
    owner = np.arange(len(vertex)) // 256

    def within(packed: np.ndarray, names: tuple[str, ...], bits: tuple[int, ...]) -> np.ndarray:
        out, shift = [], sum(bits)
        for name, count in zip(names, bits):
            shift -= count
            share = ((packed >> shift) & ((1 << count) - 1)).astype(np.float64) / ((1 << count) - 1)
            if f"min_{name}" in (chunk.dtype.names or ()):
                low, high = chunk[f"min_{name}"][owner], chunk[f"max_{name}"][owner]
                share = low + (high - low) * share
            out.append(share)
        return np.stack(out, 1)

    packed = {name: vertex[f"packed_{name}"].astype(np.uint32) for name in ("position", "rotation", "scale", "color")}
    means = within(packed["position"], ("x", "y", "z"), (11, 10, 11))
    scales = within(packed["scale"], ("scale_x", "scale_y", "scale_z"), (11, 10, 11))
    colour = within(packed["color"], ("r", "g", "b", "a"), (8, 8, 8, 8))
    small = (within(packed["rotation"] & 0x3FFFFFFF, ("", "", ""), (10, 10, 10)) - 0.5) * 2**0.5
    quats = with_largest(small, packed["rotation"] >> 30)
    coefficients = (colour[:, None, :3] - 0.5) / SH_C0
    if sh is not None and len(sh):
        count = len(sh.dtype.names) // 3
        raw = np.stack([sh[f"f_rest_{k}"] for k in range(3 * count)], 1).astype(np.float64)
        share = np.where(raw == 0, 0, np.where(raw == 255, 1, (raw + 0.5) / 256))
        rest = ((share - 0.5) * 8).reshape(-1, 3, count).transpose(0, 2, 1)
        coefficients = np.concatenate([coefficients, rest[:, :15]], 1)
    return gaussians_of(means, quats, np.exp(scales), colour[:, 3], coefficients)


def with_largest(small: Float[np.ndarray, "N 3"], which: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N 4"]:
    """Unit quaternions from three components, in order, and the place of the fourth, which is positive."""
    largest = np.sqrt(np.clip(1 - (small**2).sum(1), 0, None))
    out = np.empty((len(small), 4))
    for place in range(4):
        rows = which == place
        out[rows] = np.insert(small[rows], place, largest[rows], axis=1)
    return out


def gaussians_of(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, sh: np.ndarray
) -> Gaussians:
    """Gaussians from activated arrays of any precision; those with values that are not finite are dropped."""
    tensors = [
        torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in (means, quats, scales, opacities, sh)
    ]
    good = torch.stack([torch.isfinite(t).reshape(len(t), -1).all(1) for t in tensors]).all(0)
    return Gaussians(*(t[good] for t in tensors))


def moved(gaussians: Gaussians, centre: tuple[float, float, float]) -> Gaussians:
    """The Gaussians less a centre."""
    if not any(centre):
        return gaussians
    means = gaussians.means.double() - torch.tensor(centre, dtype=torch.double)
    return replace(gaussians, means=means.float())


def _checked_size(path: Path, gaussians: Gaussians) -> Gaussians:
    if not len(gaussians):
        raise UserError(f"{path}: every point has a value that is not finite; export it again")
    return gaussians


def write_gaussians(
    path: str | Path,
    gaussians: Gaussians,
    extra: dict[str, np.ndarray | Tensor] | None = None,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write a 3D Gaussian Splatting file, binary little endian, atomically.

    Args:
        path: the file; its folder is made when missing.
        gaussians: activated Gaussians of any device.
        extra: further scalar properties by name, one value per Gaussian: an instance id, a score. Booleans become
            uchar, integers int, floats float.
        offset: added to the positions, which are then of type double.

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
    columns |= _far(g.means, offset)
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
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
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
        offset: added to the positions, which are then of type double.
    """
    count = len(xyz)
    columns = {name: _float(xyz[:, k]) for k, name in enumerate("xyz")} | _far(xyz, offset)
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


def _open_ply(path: Path) -> PlyData:
    """A PLY file in memory; one message for each way in which a file can be unusable."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a PLY file")
    try:
        # Mapped, which reads a large file a thousand times faster than row by row, and copied below: the file may be
        # replaced while its points are in use.
        ply = PlyData.read(str(path), mmap="c")
        for element in ply.elements:
            if isinstance(element.data, np.memmap):
                element.data = np.array(element.data)
    except Exception as error:  # plyfile raises its own, numpy's and the decoder's errors for damaged files
        raise UserError(f"{path}: not a readable PLY file ({first_line(error)}); copy or export it again") from error
    return ply


def _vertices(path: Path, ply: PlyData) -> np.ndarray:
    vertex = ply["vertex"].data if "vertex" in ply else None
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
            colour = _unit_colours(vertex, triple)
            return np.clip(np.rint(np.nan_to_num(colour * 255, nan=GREY)), 0, 255).astype(np.uint8)
    if all(f"f_dc_{k}" in names for k in range(3)):
        colour = sh_to_rgb(_columns(vertex, ("f_dc_0", "f_dc_1", "f_dc_2")))
        return np.clip(np.rint(np.nan_to_num(colour, nan=0.5) * 255), 0, 255).astype(np.uint8)
    return np.full((len(vertex), 3), GREY, np.uint8)


def _unit_colours(vertex: np.ndarray, names: tuple[str, ...]) -> Float[np.ndarray, "N 3"]:
    """Colours from 0 to 1, whichever type they are stored as."""
    kind = vertex.dtype[names[0]]
    colour = _columns(vertex, names)
    return colour if kind.kind == "f" else colour / (65535 if kind.itemsize == 2 else 255)


def _far(xyz: Float[Tensor, "N 3"], offset: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """Positions with an offset, in double precision; nothing without one."""
    if not any(offset):
        return {}
    return {name: xyz[:, k].detach().cpu().double().numpy() + offset[k] for k, name in enumerate("xyz")}


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
