"""Files of voxels for other programs: coloured cubes (.ply, .glb), points (.pcd), octrees (.bt of OctoMap)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from ag2_ns.io.atomic import write_atomic
from ag2_ns.ops.voxels import VoxelGrid

_FACES = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)  # -x, +x, -y, +y, -z, +z; corners numbered 4 x + 2 y + z, counter-clockwise from outside
_STEPS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])


def cube_faces(
    grid: VoxelGrid, index: Int[np.ndarray, "M 3"], colours: UInt8[np.ndarray, "M 3"]
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 4"], UInt8[np.ndarray, "F 3"]]:
    """Corners, and the outer squares of full voxels: those between two full ones are left out."""
    size = np.array(grid.shape, np.int64) + 2
    flat = _flat(index + 1, size)
    taken = np.sort(flat)
    squares, tones = [], []
    for step, face in zip(_STEPS, _FACES):
        beside = _flat(index + 1 + step, size)
        place = np.searchsorted(taken, beside).clip(0, max(len(taken) - 1, 0))
        outer = taken[place] != beside if len(taken) else np.zeros(0, bool)
        corner = index[outer][:, None] + np.stack([face >> 2 & 1, face >> 1 & 1, face & 1], 1)
        squares.append(_flat(corner, size))
        tones.append(colours[outer])
    unique, faces = np.unique(np.concatenate(squares), return_inverse=True)
    corners = np.stack([unique // (size[1] * size[2]), unique // size[2] % size[1], unique % size[2]], 1)
    return np.array(grid.low) + corners * grid.voxel, faces.reshape(-1, 4), np.concatenate(tones)


def write_cubes(path: Path, grid: VoxelGrid, index: Int[np.ndarray, "M 3"], colours: UInt8[np.ndarray, "M 3"]) -> None:
    """Cubes as a .ply of coloured squares that any mesh viewer shows; a grid of empty voxels is an empty mesh."""
    corners, faces, tones = cube_faces(grid, np.asarray(index).reshape(-1, 3), np.asarray(colours).reshape(-1, 3))
    # Colours belong to corners in most viewers, so every square has corners of its own.
    rows = np.empty(faces.size, [(c, "<f4") for c in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])
    own = corners[faces.reshape(-1)] if faces.size else np.zeros((0, 3))
    for k, c in enumerate("xyz"):
        rows[c] = own[:, k]
    for k, c in enumerate(("red", "green", "blue")):
        rows[c] = tones.repeat(4, 0)[:, k] if faces.size else 0
    squares = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 4)])
    squares["count"], squares["corners"] = 4, np.arange(faces.size).reshape(-1, 4)
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(squares)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    write_atomic(Path(path), head.encode() + rows.tobytes() + squares.tobytes())


def write_glb(path: Path, grid: VoxelGrid, index: Int[np.ndarray, "M 3"], colours: UInt8[np.ndarray, "M 3"]) -> None:
    """The same as glTF, y up as it demands."""
    import trimesh

    corners, faces, tones = cube_faces(grid, index, colours)
    own = corners[faces.reshape(-1)] @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    first = 4 * np.arange(len(faces))[:, None]
    triangles = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    shade = np.concatenate([tones.repeat(4, 0), np.full((faces.size, 1), 255, np.uint8)], 1)
    mesh = trimesh.Trimesh(own, triangles, vertex_colors=shade, process=False)
    write_atomic(Path(path), trimesh.Scene({"voxels": mesh}).export(file_type="glb"))


def write_pcd(path: Path, points: Float[np.ndarray, "M 3"], fields: dict[str, np.ndarray]) -> None:
    """Points with further fields as a binary .pcd (version 0.7), which PCL and Open3D read.

    Args:
        path: the file.
        points: x, y, z.
        fields: one number per point each; `rgb` as 0xRRGGBB.
    """
    kinds = {"f": "F", "i": "I", "u": "U"}
    columns = {"x": points[:, 0], "y": points[:, 1], "z": points[:, 2]} | fields
    columns = {
        k: np.asarray(v, np.float32) if np.asarray(v).dtype.kind == "f" else np.asarray(v) for k, v in columns.items()
    }
    rows = np.empty(len(points), [(k, v.dtype) for k, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    head = "\n".join([
        "# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7", "FIELDS " + " ".join(columns),
        "SIZE " + " ".join(str(v.dtype.itemsize) for v in columns.values()),
        "TYPE " + " ".join(kinds[v.dtype.kind] for v in columns.values()),
        "COUNT " + " ".join("1" for _ in columns), f"WIDTH {len(points)}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(points)}", "DATA binary", "",
    ])  # fmt: skip
    write_atomic(Path(path), head.encode() + rows.tobytes())


LEVELS = 16
"""Depth of OctoMap's trees: keys of 16 bits, the origin in the middle."""


def write_octree(
    path: Path, voxel: float, full: Int[np.ndarray, "M 3"], free: Int[np.ndarray, "F 3"] | None = None
) -> None:
    """Full and free voxels as OctoMap's binary tree (.bt); what is in neither stays unknown.

    Format: Hornung et al. 2013, "OctoMap", section 4.4: two bits per child, 01 free, 10 full, 11 inner, 00 unknown, in
    depth-first order; eight children alike are one leaf.

    Args:
        path: the file.
        voxel: edge of a voxel.
        full: indices of full voxels, counted from the origin (floor(x / voxel)).
        free: indices of free voxels.

    Raises:
        ValueError: voxels beyond what 16 bits can number.
    """
    keys, states = [_keys(full)], [np.full(len(full), 2, np.uint8)]
    if free is not None and len(free):
        keys.append(_keys(free))
        states.append(np.full(len(free), 1, np.uint8))
    key, first = np.unique(np.concatenate(keys), return_index=True)
    content, nodes = _tree(key, np.concatenate(states)[first])
    head = f"# Octomap OcTree binary file\nid OcTree\nsize {nodes}\nres {voxel:.9g}\ndata\n"
    write_atomic(Path(path), head.encode() + content)


def _tree(key: np.ndarray, state: np.ndarray) -> tuple[bytes, int]:
    """Bytes of the nodes below the root, depth first, and their number.

    Works from the leaves up: at each level the children of a node lie side by side in the order of their keys.
    """
    levels = []  # per level, from the finest: keys of nodes, their state (3: inner), where the children of each begin
    keys, states = key, state
    for _ in range(LEVELS):
        parents, begin, counts = np.unique(keys >> 3, return_index=True, return_counts=True)
        levels.append((keys, states, begin, counts))
        lowest = np.minimum.reduceat(states, begin) if len(begin) else states[:0]
        highest = np.maximum.reduceat(states, begin) if len(begin) else states[:0]
        alike = (counts == 8) & (lowest == highest) & (lowest < 3)
        keys, states = parents, np.where(alike, lowest, 3).astype(np.uint8)
    if len(keys) == 0:
        return b"\x00\x00", 1
    codes = []
    for keys, states, begin, counts in levels:
        node = np.repeat(np.arange(len(begin)), counts)
        # The bits of child c are 2 c and 2 c + 1; OctoMap sets the low one for free, the high one for full.
        code = np.zeros(len(begin), np.uint16)
        np.bitwise_or.at(code, node, (states.astype(np.uint16) << (2 * (keys & 7).astype(np.uint16))))
        codes.append(code)
    out = io.BytesIO()
    count = 1
    stack = [(LEVELS - 1, 0)]
    while stack:
        level, node = stack.pop()
        keys, states, begin, counts = levels[level]
        out.write(int(codes[level][node]).to_bytes(2, "little"))
        count += int(counts[node])
        for child in range(int(begin[node]) + int(counts[node]) - 1, int(begin[node]) - 1, -1):
            if states[child] == 3:
                stack.append((level - 1, child))
    return out.getvalue(), count


def _keys(index: np.ndarray) -> np.ndarray:
    """Morton keys: bits of x, y and z from the finest level up."""
    shifted = np.asarray(index, np.int64).reshape(-1, 3) + (1 << (LEVELS - 1))
    if len(shifted) and (shifted.min() < 0 or shifted.max() >= 1 << LEVELS):
        raise ValueError(f"voxels farther than {1 << (LEVELS - 1)} from the origin")
    out = np.zeros(len(shifted), np.int64)
    for bit in range(LEVELS):
        for axis in range(3):
            out |= (shifted[:, axis] >> bit & 1) << (3 * bit + axis)
    return out


def _flat(index: np.ndarray, size: np.ndarray) -> np.ndarray:
    return (index[..., 0].astype(np.int64) * size[1] + index[..., 1]) * size[2] + index[..., 2]
