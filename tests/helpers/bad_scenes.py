"""Small scenes in the layouts people have, and the ways in which they go wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

WIDTH, HEIGHT, FOCAL, VIEWS = 32, 24, 30.0, 9
POINTS = np.array([[0.0, 0.0, 0.0], [0.5, 0.2, -0.1], [-0.4, 0.3, 0.2]], np.float32)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def ring_pose(k: int, count: int = VIEWS) -> np.ndarray:
    """Camera to world (OpenGL) of a camera on a ring that looks at the origin."""
    angle = 2 * math.pi * k / count
    eye = np.array([2 * math.cos(angle), 2 * math.sin(angle), 1.0])
    z = eye / np.linalg.norm(eye)
    x = np.cross([0, 0, 1], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3] = np.stack([x, np.cross(z, x), z, eye], axis=1)
    return pose


def picture(k: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    rng = np.random.default_rng(k)
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.BILINEAR)


def write_ply(path: Path, points=POINTS, colours=COLOURS) -> None:
    vertex = np.zeros(len(points), dtype=[*((n, "f4") for n in "xyz"), *((n, "u1") for n in ("red", "green", "blue"))])
    for column, name in enumerate("xyz"):
        vertex[name] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertex[name] = colours[:, column]
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(path))


def transforms_scene(folder: Path, views: int = VIEWS, distortion: dict | None = None, ply: bool = True) -> Path:
    """nerfstudio's format."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for k in range(views):
        picture(k).save(folder / "images" / f"view_{k:02d}.png")
        frames.append({"file_path": f"images/view_{k:02d}.png", "transform_matrix": ring_pose(k).tolist()})
    meta = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    meta |= {"camera_model": "OPENCV", "frames": frames} | (distortion or {})
    if ply:
        write_ply(folder / "points.ply")
        meta["ply_file_path"] = "points.ply"
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def edit_transforms(folder: Path, change) -> Path:
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))
    return folder


def colmap_scene(folder: Path, model: str = "sparse/0", views: int = VIEWS) -> Path:
    """COLMAP text beside images/, as AG2aussian, LERF and Mip-NeRF 360 scenes have it."""
    (folder / "images").mkdir(parents=True)
    sparse = folder / model
    sparse.mkdir(parents=True)
    (sparse / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}\n")
    lines = []
    for k in range(views):
        picture(k).save(folder / "images" / f"view_{k:02d}.png")
        pose = ring_pose(k)
        pose[:3, 1:3] *= -1
        w2c = np.linalg.inv(pose)
        q, t = quaternion(w2c[:3, :3]), w2c[:3, 3]
        lines += [" ".join(map(str, [k + 1, *q, *t, 1, f"view_{k:02d}.png"])), ""]
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    rows = [" ".join(map(str, [i + 1, *p, *c, 0.5, 1, 0])) for i, (p, c) in enumerate(zip(POINTS, COLOURS))]
    (sparse / "points3D.txt").write_text("\n".join(rows) + "\n")
    return folder


def quaternion(r: np.ndarray) -> np.ndarray:
    """w, x, y, z of a rotation, by the eigenvector of the largest eigenvalue."""
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    _, vectors = np.linalg.eigh(k / 3)
    x, y, z, w = vectors[:, -1]
    return np.array([w, x, y, z]) * (1 if w >= 0 else -1)
