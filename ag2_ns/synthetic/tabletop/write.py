"""The table-top scene on disk: nerfstudio, COLMAP text, AG2aussian masks and features, ground truth."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from plyfile import PlyData, PlyElement
from scipy.spatial.transform import Rotation

from ag2_ns.synthetic.tabletop.segmenter import Proposal
from ag2_ns.synthetic.tabletop.sfm import Sparse
from ag2_ns.synthetic.wild.masks import WildMask

FOLDERS = ("images", "sparse/0", "ground_truth/ids", "masks_sparse", "clip_features")
LEVEL_FOLDERS = ("ground_truth/parts/ids", "ground_truth/groups/ids")


def stem(index: int) -> str:
    """File name, without its ending, of view `index`."""
    return f"frame_{index + 1:05d}"


def write_view(out: Path, index: int, rgb: UInt8[np.ndarray, "H W 3"], ids: Int[np.ndarray, "H W"]) -> None:
    """Write a view's picture and its ids (8-bit grey)."""
    Image.fromarray(rgb).save(out / "images" / f"{stem(index)}.png", compress_level=4)
    Image.fromarray(ids.astype(np.uint8)).save(out / "ground_truth" / "ids" / f"{stem(index)}.png")


def write_levels(
    out: Path,
    index: int,
    ids: Int[np.ndarray, "H W"],
    parts: Int[np.ndarray, "H W"],
    groups: Sequence[tuple[str, tuple[int, ...]]],
) -> None:
    """Write a view's part numbers (16-bit grey) and its group numbers (8-bit, from 1 in the order given)."""
    Image.fromarray(parts.astype(np.uint16)).save(out / "ground_truth/parts/ids" / f"{stem(index)}.png")
    number = np.zeros(ids.max(initial=0) + 1, np.uint8)
    for k, (_, members) in enumerate(groups, 1):
        number[[m for m in members if m < len(number)]] = k
    Image.fromarray(number[ids]).save(out / "ground_truth/groups/ids" / f"{stem(index)}.png")


def write_masks(
    out: Path,
    index: int,
    proposals: Sequence[Proposal | WildMask],
    features: Float[np.ndarray, "M 512"],
    height: int,
    width: int,
) -> None:
    """Write a view's masks (sparse bool M x H x W) and their features (half M x 512), one row per mask."""
    where = [np.stack(np.nonzero(p.mask)) for p in proposals]
    which = [np.full((1, w.shape[1]), i) for i, w in enumerate(where)]
    indices = np.concatenate([np.concatenate(pair) for pair in zip(which, where)], 1) if where else np.zeros((3, 0))
    indices = torch.from_numpy(np.ascontiguousarray(indices, np.int64))
    values = torch.ones(indices.shape[1], dtype=torch.bool)
    size = (len(proposals), height, width)
    with torch.sparse.check_sparse_tensor_invariants(enable=True):
        masks = torch.sparse_coo_tensor(indices, values, size, is_coalesced=True)
        _save(masks, out / "masks_sparse" / f"{stem(index)}.pt")
    _save(torch.from_numpy(features).half(), out / "clip_features" / f"{stem(index)}.pt")


def _save(tensor: torch.Tensor, path: Path) -> None:
    """Save through memory, so that a full disk raises OSError."""
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    path.write_bytes(buffer.getbuffer())


def write_transforms(out: Path, poses: Float[np.ndarray, "V 3 4"], focal: float, width: int, height: int) -> None:
    """Write nerfstudio's transforms.json: one pinhole camera, camera-to-world poses with OpenGL axes."""
    frames = [
        {"file_path": f"images/{stem(i)}.png", "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]}
        for i, pose in enumerate(poses)
    ]
    meta = {
        "camera_model": "OPENCV",
        "w": width,
        "h": height,
        "fl_x": focal,
        "fl_y": focal,
        "cx": width / 2,
        "cy": height / 2,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": frames,
    }
    (out / "transforms.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def write_ply(path: Path, sparse: Sparse) -> None:
    """Write the sparse points with their colours as a binary PLY."""
    rows = np.empty(len(sparse.points), [(c, "f4") for c in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])
    for i, c in enumerate("xyz"):
        rows[c] = sparse.points[:, i]
    for i, c in enumerate(("red", "green", "blue")):
        rows[c] = sparse.colours[:, i]
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))


def write_colmap(
    folder: Path, sparse: Sparse, poses: Float[np.ndarray, "V 3 4"], focal: float, width: int, height: int
) -> None:
    """Write cameras.txt, images.txt and points3D.txt (COLMAP text format; ids count from 1)."""
    camera = f"1 PINHOLE {width} {height} {focal!r} {focal!r} {width / 2!r} {height / 2!r}\n"
    head = "# Camera list with one line of data per camera:\n#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    (folder / "cameras.txt").write_text(f"{head}# Number of cameras: 1\n{camera}", encoding="utf-8")
    slot = np.empty(len(sparse.track_point), np.int64)
    lines = [
        "# Image list with two lines of data per image:\n",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n",
        "#   POINTS2D[] as (X, Y, POINT3D_ID)\n",
        f"# Number of images: {len(poses)}\n",
    ]
    for i, pose in enumerate(poses):
        mine = np.flatnonzero(sparse.track_view == i)
        slot[mine] = np.arange(len(mine))
        turn = (pose[:, :3] * np.array([1.0, -1.0, -1.0])).T
        x, y, z, w = Rotation.from_matrix(turn).as_quat(canonical=True)
        t = -turn @ pose[:, 3]
        numbers = " ".join(f"{v:.12g}" for v in (w, x, y, z, *t))
        lines.append(f"{i + 1} {numbers} 1 {stem(i)}.png\n")
        seen = zip(sparse.track_xy[mine].tolist(), (sparse.track_point[mine] + 1).tolist())
        lines.append(" ".join(f"{u:.3f} {v:.3f} {p}" for (u, v), p in seen) + "\n")
    (folder / "images.txt").write_text("".join(lines), encoding="utf-8")
    bounds = np.searchsorted(sparse.track_point, np.arange(len(sparse.points) + 1))
    views, slots = (sparse.track_view + 1).tolist(), slot.tolist()
    lines = [
        "# 3D point list with one line of data per point:\n",
        "#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n",
        f"# Number of points: {len(sparse.points)}\n",
    ]
    rows = zip(sparse.points.tolist(), sparse.colours.tolist(), sparse.error.tolist())
    for n, ((x, y, z), (r, g, b), error) in enumerate(rows):
        track = " ".join(f"{views[k]} {slots[k]}" for k in range(bounds[n], bounds[n + 1]))
        lines.append(f"{n + 1} {x:.7g} {y:.7g} {z:.7g} {r} {g} {b} {error:.4f} {track}\n")
    (folder / "points3D.txt").write_text("".join(lines), encoding="utf-8")
