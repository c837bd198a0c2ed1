"""Captures through lenses of every model, made by formulas of their own: what the package serves is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from bad_scenes import POINTS, quaternion, ring_pose, write_ply
from PIL import Image

W, H, F, CX, CY = 120, 90, 110.0, 60.0, 45.0
"""The straight camera that took the true pictures."""

K = (117.0, 118.0, 58.5, 46.5)
"""Linear part of the perspective lenses: fx, fy, cx, cy."""

KF = (106.0, 105.0, 60.5, 44.0)
"""Linear part of the fisheyes."""


def _brown(x, y, radial, p1, p2):
    r2 = x * x + y * y
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)


def _angle(x, y):
    r = np.hypot(x, y)
    t = np.arctan(r)
    s = np.where(r > 1e-9, t / np.maximum(r, 1e-9), 1)
    return x * s, y * s


def full_opencv(x, y, k1=0, k2=0, p1=0, p2=0, k3=0, k4=0, k5=0, k6=0):
    r2 = x * x + y * y
    num, den = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3, 1 + k4 * r2 + k5 * r2**2 + k6 * r2**3
    return _brown(x, y, num / den, p1, p2)


def polynomial(x, y, k1, k2, k3, k4, p1=0, p2=0):
    r2 = x * x + y * y
    return _brown(x, y, 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4, p1, p2)


def fisheye(x, y, k1=0, k2=0, k3=0, k4=0):
    u, v = _angle(x, y)
    t2 = u * u + v * v
    s = 1 + k1 * t2 + k2 * t2**2 + k3 * t2**3 + k4 * t2**4
    return u * s, v * s


def thin_prism(x, y, k1, k2, p1, p2, k3, k4, sx1, sy1):
    u, v = _angle(x, y)
    t2 = u * u + v * v
    a, b = _brown(u, v, 1 + k1 * t2 + k2 * t2**2 + k3 * t2**3 + k4 * t2**4, p1, p2)
    return a + sx1 * t2, b + sy1 * t2


def aria(x, y, *c):
    u, v = _angle(x, y)
    t2 = u * u + v * v
    s = 1 + sum(k * t2 ** (i + 1) for i, k in enumerate(c[:6]))
    u, v = u * s, v * s
    r2 = u * u + v * v
    p0, p1, s0, s1, s2, s3 = c[6:]
    return (
        u + 2 * p1 * u * v + p0 * (r2 + 2 * u * u) + s0 * r2 + s1 * r2**2,
        v + 2 * p0 * u * v + p1 * (r2 + 2 * v * v) + s2 * r2 + s3 * r2**2,
    )


def fov(x, y, omega):
    r = np.hypot(x, y)
    d = np.arctan(2 * r * np.tan(omega / 2)) / omega
    s = np.where(r > 1e-9, d / np.maximum(r, 1e-9), 2 * np.tan(omega / 2) / omega)
    return x * s, y * s


def division(x, y, k):
    r2 = x * x + y * y
    s = 2 / (1 + np.sqrt(1 - 4 * k * r2))
    return x * s, y * s


def eucm(x, y, alpha, beta):
    s = 1 / (alpha * np.sqrt(beta * (x * x + y * y) + 1) + 1 - alpha)
    return x * s, y * s


LENSES = {
    "SIMPLE_PINHOLE": (full_opencv, (117.0, 117.0, 58.5, 46.5), ()),
    "PINHOLE": (full_opencv, K, ()),
    "SIMPLE_RADIAL": (full_opencv, (117.0, 117.0, 58.5, 46.5), (-0.1,)),
    "RADIAL": (full_opencv, (117.0, 117.0, 58.5, 46.5), (-0.1, 0.03)),
    "OPENCV": (full_opencv, K, (-0.1, 0.02, 0.004, -0.003)),
    "OPENCV_FISHEYE": (fisheye, KF, (0.06, -0.02, 0.03, -0.05)),
    "FULL_OPENCV": (full_opencv, K, (-0.1, 0.02, 0.001, 0, -0.01, 0.04, 0.01, -0.02)),
    "FOV": (fov, KF, (0.9,)),
    "SIMPLE_RADIAL_FISHEYE": (fisheye, (106.0, 106.0, 60.5, 44.0), (0.05,)),
    "RADIAL_FISHEYE": (fisheye, (106.0, 106.0, 60.5, 44.0), (0.05, -0.03)),
    "THIN_PRISM_FISHEYE": (thin_prism, KF, (0.05, -0.02, 0.003, -0.002, 0.01, -0.01, 0.004, -0.003)),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        aria, KF, (0.05, -0.02, 0.01, -0.01, 0.002, 0.001, 0.003, -0.002, 0.004, 0.001, -0.003, 0.001),
    ),
    "SIMPLE_DIVISION": (division, (117.0, 117.0, 58.5, 46.5), (-0.12,)),
    "DIVISION": (division, K, (0.1,)),
    "SIMPLE_FISHEYE": (fisheye, (106.0, 106.0, 60.5, 44.0), ()),
    "FISHEYE": (fisheye, KF, ()),
    "EUCM": (eucm, KF, (0.5, 1.1)),
}  # fmt: skip
"""COLMAP's models: formula, linear part and coefficients."""

SINGLE = {name for name, (_, k, _) in LENSES.items() if k[0] == k[1]}
"""Models of one focal length."""


def colmap_parameters(model: str) -> list[float]:
    _, (fx, fy, cx, cy), c = LENSES[model]
    return [fx, cx, cy, *c] if model in SINGLE else [fx, fy, cx, cy, *c]


def true_picture(k: int) -> np.ndarray:
    """The straight picture of a view: smooth, so that resampling it twice costs little."""
    small = np.random.default_rng(k).integers(0, 255, (7, 9, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, (W, H), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def true_ids(k: int) -> np.ndarray:
    """Ids of a few discs in a straight picture."""
    ids = np.zeros((H, W), np.uint8)
    rng = np.random.default_rng(100 + k)
    for i in range(1, 5):
        x, y = rng.uniform(15, W - 15), rng.uniform(15, H - 15)
        cv2.circle(ids, (round(x), round(y)), 11, i, -1)
    return ids


def through(image: np.ndarray, model: str, nearest: bool = False) -> np.ndarray:
    """The picture that a lens would have taken of what a straight camera saw."""
    lens, (fx, fy, cx, cy), c = LENSES[model]
    u, v = np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5)
    xd, yd = (u - cx) / fx, (v - cy) / fy
    x, y = xd.copy(), yd.copy()
    for _ in range(200):
        a, b = lens(x, y, *c)
        x, y = x - 0.7 * (a - xd), y - 0.7 * (b - yd)
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    return cv2.remap(image, (x * F + CX - 0.5).astype("f4"), (y * F + CY - 0.5).astype("f4"), mode)


def from_true(image: np.ndarray, camera, nearest: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What a straight camera (fx, fy, cx, cy, width, height) sees of a true picture, and where it sees any."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx * F + CX - 0.5
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy * F + CY - 0.5
    x, y = np.meshgrid(x, y)
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    seen = (x > 3) & (x < W - 4) & (y > 3) & (y < H - 4)
    return cv2.remap(image, x.astype("f4"), y.astype("f4"), mode), seen


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    error = ((a.astype(float) - b) / 255)[where] ** 2
    return float(-10 * np.log10(max(error.mean(), 1e-12)))


def colmap_frames(folder: Path, models: list[str], pictures: bool = True, offset=(0.0, 0.0, 0.0)) -> Path:
    """A COLMAP scene whose k-th view has the k-th model."""
    (folder / "images").mkdir(parents=True)
    sparse = folder / "sparse/0"
    sparse.mkdir(parents=True)
    used = sorted(set(models))
    lines = [f"{i} {m} {W} {H} {' '.join(map(str, colmap_parameters(m)))}" for i, m in enumerate(used, 1)]
    (sparse / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = []
    for k, model in enumerate(models):
        if pictures:
            Image.fromarray(through(true_picture(k), model)).save(folder / f"images/view_{k:02d}.png")
        pose = ring_pose(k)
        pose[:3, 3] += offset
        pose[:3, 1:3] *= -1
        w2c = np.linalg.inv(pose)
        fields = [k + 1, *quaternion(w2c[:3, :3]), *w2c[:3, 3], used.index(model) + 1, f"view_{k:02d}.png"]
        lines += [" ".join(map(repr, map(float, fields[:8]))).replace(".0 ", " ", 1)]
        lines[-1] = " ".join([str(k + 1), *(repr(float(v)) for v in fields[1:8]), *map(str, fields[8:])])
        lines.append("")
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    points = POINTS.astype(float) + offset
    rows = [" ".join([str(i + 1), *(repr(float(v)) for v in p), "255", "0", "0", "0.5", "1", "0"]) for i, p in
            enumerate(points)]  # fmt: skip
    (sparse / "points3D.txt").write_text("\n".join(rows) + "\n")
    return folder


def straight_scene(folder: Path, views: int = 6) -> tuple[Path, dict]:
    """A transforms.json scene of the true pictures; its content is returned, to be changed and saved."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for k in range(views):
        Image.fromarray(true_picture(k)).save(folder / f"images/view_{k:02d}.png")
        frames.append({"file_path": f"images/view_{k:02d}.png", "transform_matrix": ring_pose(k).tolist()})
    write_ply(folder / "points.ply")
    meta = {"fl_x": F, "fl_y": F, "cx": CX, "cy": CY, "w": W, "h": H, "camera_model": "OPENCV", "frames": frames}
    meta["ply_file_path"] = "points.ply"
    save(folder, meta)
    return folder, meta


def save(folder: Path, meta: dict) -> Path:
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def retake(folder: Path, k: int, model: str) -> None:
    """Replace a view's picture by what a lens would have taken."""
    Image.fromarray(through(true_picture(k), model)).save(folder / f"images/view_{k:02d}.png")


def number(view) -> int:
    """Of a served view."""
    return int(view.file.stem[-2:])


def check_served(views, least: float = 30.0) -> None:
    """Every served picture and its camera agree with the true picture."""
    for view in views:
        expected, seen = from_true(true_picture(number(view)), view.undistortion.camera)
        assert seen.mean() > 0.5
        assert psnr(view.load()[..., :3], expected, seen) > least, (view.name, view.undistortion)


def check_points(outputs, points=POINTS) -> None:
    """Points project to where the poses of the ring show them: below 0.05 pixels, whatever the frame."""
    placed = outputs.metadata["points3D_xyz"].double().numpy()
    for file, pose in zip(outputs.image_filenames, outputs.cameras.camera_to_worlds.double().numpy()):
        truth = ring_pose(int(file.stem[-2:]))
        seen, expected = [
            (p - pose[:3, 3]) @ pose[:3, :3] for p, pose in ((placed, pose), (np.asarray(points, float), truth))
        ]
        error = F * np.abs(seen[:, :2] / seen[:, 2:] - expected[:, :2] / expected[:, 2:]).max()
        assert error < 0.05, error
