"""Splats of any program, recognised by what is in the file and not by its name.

Read: PLY (see `ag2_ns.io.ply.read_gaussians`), `.splat` and `.spz`. Other formats are named, with the way out.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io.ply import SH_C0, gaussians_of, moved, read_gaussians, with_largest

WAY_OUT = "open it in a splat editor (SuperSplat reads it) and export an uncompressed .ply"
"""What to do about formats that are not read."""

SPZ_MAGIC = 0x5053474E
"""`NGSP`, little endian."""

SPZ_COLOUR = 0.15
"""SPZ's scale of the constant band."""

SPLAT_ROW = np.dtype([("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rot", "u1", 4)])
"""32 bytes: positions, scales (not logarithms), colours and opacity, rotation w, x, y, z around 128."""

PLAUSIBLE = 0.9
"""Share of the rows of a `.splat` that must make sense: the format has no mark of its own."""


def read_splat(path: str | Path, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Gaussians:
    """The Gaussians of a file, activated, in the file's own frame.

    Args:
        path: the file.
        centre: subtracted from positions before they become single precision, where the file has more.

    Raises:
        UserError: no such file, damaged, or of a format that is not read (named).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a .ply, .splat or .spz")
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"ply"):
        return read_gaussians(path, centre)
    if head[:2] == b"\x1f\x8b":
        return moved(_read_spz(path), centre)
    name = _named(path, head)
    if name is not None:
        raise UserError(f"{path}: {name}, which is not read; {WAY_OUT}")
    found = _read_rows(path)
    if found is not None:
        return moved(found, centre)
    raise UserError(f"{path}: neither a PLY nor a .splat nor a .spz file by its content; {WAY_OUT}, or copy it again")


def doubts(gaussians: Gaussians) -> str:
    """What makes it unlikely that stored values are what the format says; empty where nothing does.

    Some programs write opacities and scales as they are where logits and logarithms belong.
    """
    found = []
    if len(gaussians) >= 16:
        if float(gaussians.opacities.min()) >= 0.5 and float(gaussians.opacities.max()) <= 0.7311:
            found.append("its opacities lie between 0 and 1 as stored, where logits do not")
        if float(gaussians.scales.min()) >= 1:
            found.append("its scales are all positive as stored, where logarithms are not")
    return " and ".join(found)


def _named(path: Path, head: bytes) -> str | None:
    """What a file is that is not read; None where that cannot be told."""
    if struct.unpack("<I", head[:4].ljust(4, b"\0"))[0] == SPZ_MAGIC:
        return "an SPZ file of version 4 or newer"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive (SOG, or a bundle of files)"
    if head.startswith(b"glTF") or path.suffix.lower() == ".gltf":
        return "a glTF file"
    if path.suffix.lower() in (".ksplat", ".sog", ".lcc", ".rad", ".spx"):
        return f"a {path.suffix.lower()} file"
    if head.lstrip()[:1] in (b"{", b"<"):
        return "a text file (JSON or XML)"
    if head.startswith(b"\x80") or path.suffix.lower() in (".pt", ".pth", ".ckpt"):
        return "a checkpoint of another program"
    return None


def _read_rows(path: Path) -> Gaussians | None:
    """A `.splat` of antimatter15's viewer; None where the file is none."""
    size = path.stat().st_size
    if size == 0 or size % SPLAT_ROW.itemsize:
        return None
    rows = np.fromfile(path, SPLAT_ROW)
    quats = (rows["rot"].astype(np.float64) - 128) / 128
    with np.errstate(all="ignore"):
        good = np.isfinite(rows["xyz"]).all(1) & np.isfinite(rows["scale"]).all(1) & (rows["scale"] >= 0).all(1)
        good &= np.abs(np.linalg.norm(quats, axis=1) - 1) < 0.1
        good &= np.abs(rows["xyz"]).max(1) < 1e9
    if good.mean() < PLAUSIBLE:
        return None
    rows, quats = rows[good], quats[good]
    colour = rows["rgba"].astype(np.float64) / 255
    return gaussians_of(rows["xyz"], quats, rows["scale"], colour[:, 3], (colour[:, None, :3] - 0.5) / SH_C0)


def _read_spz(path: Path) -> Gaussians:
    """Niantic's SPZ, versions 1 to 3 (load-spz.cc of its reference implementation)."""
    damaged = f"{path}: a damaged .spz file; copy or export it again"
    try:
        content = gzip.decompress(path.read_bytes())
        magic, version, count, degree, fraction, _, _ = struct.unpack("<IIIBBBB", content[:16])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(damaged) from error
    if magic != SPZ_MAGIC:
        raise UserError(f"{path}: a gzip archive that holds no SPZ; unpack it and give the splat in it")
    if version not in (1, 2, 3) or degree > 3:
        raise UserError(f"{path}: an SPZ file of version {version}, degree {degree}, which is not read; {WAY_OUT}")
    bands = (degree + 1) ** 2
    position = 6 if version == 1 else 9
    rotation = 4 if version == 3 else 3
    widths = (position, 1, 3, 3, rotation, 3 * (bands - 1))
    if count == 0 or len(content) < 16 + count * sum(widths):
        raise UserError(damaged)
    parts, start = [], 16
    for width in widths:
        parts.append(np.frombuffer(content, np.uint8, count * width, start).reshape(count, width))
        start += count * width
    xyz, alpha, colour, scale, turn, rest = parts
    if version == 1:
        means = xyz.reshape(-1).view("<f2").reshape(count, 3).astype(np.float64)
    else:
        cells = xyz.reshape(count, 3, 3).astype(np.int32)
        whole = cells[..., 0] | cells[..., 1] << 8 | cells[..., 2] << 16
        means = np.where(whole >= 1 << 23, whole - (1 << 24), whole) / float(1 << fraction)
    dc = (colour / 255.0 - 0.5) / SPZ_COLOUR
    sh = np.concatenate([dc[:, None], (rest.reshape(count, bands - 1, 3) - 128.0) / 128.0], 1)
    found = gaussians_of(means, _spz_rotation(turn), np.exp(scale / 16.0 - 10), alpha[:, 0] / 255.0, sh)
    if not len(found):
        raise UserError(damaged)
    return found


def _spz_rotation(turn: np.ndarray) -> np.ndarray:
    """Quaternions w, x, y, z: three bytes of x, y, z, or 2 + 3 x 10 bits without the largest component."""
    if turn.shape[1] == 3:
        xyz = turn / 127.5 - 1
        w = np.sqrt(np.clip(1 - (xyz**2).sum(1), 0, None))
        return np.concatenate([w[:, None], xyz], 1)
    packed = np.ascontiguousarray(turn).view("<u4")[:, 0].astype(np.int64)
    small = np.empty((len(packed), 3))
    for k in range(3):
        bits = packed >> (20 - 10 * k) & 0x3FF
        small[:, k] = (bits & 0x1FF) / 511.0 * 0.5**0.5 * np.where(bits & 0x200, -1, 1)
    xyzw = with_largest(small, packed >> 30)
    return xyzw[:, [3, 0, 1, 2]]
