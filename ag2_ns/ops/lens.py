"""Lenses: how each camera model bends rays, and how a picture is made straight again.

A picture position is counted from the corner of the first pixel, so that its centre lies at 0.5, as COLMAP and
nerfstudio count; OpenCV counts from that centre. Rays are (x, y) on the plane z = 1, x right and y down.

Models and the order of their coefficients, with the names under which COLMAP and nerfstudio know them:

- `pinhole` (SIMPLE_PINHOLE, PINHOLE): none.
- `opencv` (SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV): k1 k2 p1 p2 k3 k4 k5 k6, a quotient of polynomials.
- `polynomial` (RealityCapture, Metashape, nerfstudio's k4): k1 k2 k3 k4 p1 p2, one polynomial of degree 4 in r^2.
- `fisheye` (FISHEYE, RADIAL_FISHEYE, OPENCV_FISHEYE): k1 k2 k3 k4 in the angle (Kannala and Brandt 2006).
- `thin_prism_fisheye` (THIN_PRISM_FISHEYE): k1 k2 p1 p2 k3 k4 sx1 sy1.
- `fisheye624` (RAD_TAN_THIN_PRISM_FISHEYE, Project Aria): k0 ... k5 p0 p1 s0 s1 s2 s3.
- `fov` (FOV): omega (Devernay and Faugeras 2001).
- `division` (DIVISION): k (Fitzgibbon 2001).
- `eucm` (EUCM): alpha beta (Khomutenko, Garcia and Martinet 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Int

COEFFICIENTS = {
    "pinhole": (),
    "opencv": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "polynomial": ("k1", "k2", "k3", "k4", "p1", "p2"),
    "fisheye": ("k1", "k2", "k3", "k4"),
    "thin_prism_fisheye": ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
    "fisheye624": ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3"),
    "fov": ("omega",),
    "division": ("k",),
    "eucm": ("alpha", "beta"),
}
"""Coefficients of each model, in order."""

WIDEST = math.tan(math.radians(60))
"""Half the field of view of an undistorted picture at most, where OpenCV has no answer: 120 degrees in all. A wider one
would spend most of its pixels on its rim."""

WIDEST_OPENCV = math.tan(math.radians(70))
"""OpenCV's answer is taken up to here; beyond it puts the centre of a symmetric lens far off the middle."""

GRID = 33
"""Points along each side of an undistorted picture at which its lens is checked."""

MARGIN = 0.02
"""How far beyond the picture, as a share of its size, an undistorted one may look: OpenCV only estimates it."""


SLACK = 0.5
"""Likewise for the frames of this module, in pixels."""

LEAST = 0.3
"""A frame that is to be scaled down further has lost most of the picture."""


class LensError(ValueError):
    """A lens that cannot be undone; says why, without naming a file."""


@dataclass(frozen=True)
class Pinhole:
    """A straight camera, or the linear part of one with a lens: pixels, counted from the picture's corner."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


@dataclass(frozen=True)
class Lens:
    """A camera model without its focal lengths and centre."""

    model: str = "pinhole"
    """A key of `COEFFICIENTS`."""
    coefficients: tuple[float, ...] = ()
    """In the order of `COEFFICIENTS`."""

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(COEFFICIENTS[self.model]):
            raise ValueError(f"{self.model} has {len(COEFFICIENTS[self.model])} coefficients, not {self.coefficients}")

    @property
    def straight(self) -> bool:
        """Whether it bends nothing; a fisheye always does."""
        if self.model == "eucm":
            return self.coefficients[0] == 0
        return self.model not in FISHEYES and not any(self.coefficients)

    def __str__(self) -> str:
        terms = zip(COEFFICIENTS[self.model], self.coefficients)
        return " ".join([self.model, *(f"{name}={value:g}" for name, value in terms if value)])


FISHEYES = ("fisheye", "thin_prism_fisheye", "fisheye624")
"""Models of the angle."""

Rays = Float[np.ndarray, "..."]


def distort(lens: Lens, x: Rays, y: Rays) -> tuple[Rays, Rays]:
    """Where a lens shows the rays (x, y, 1): the ray that a straight camera of the same linear part would show there.

    Args:
        lens: the lens.
        x: double precision, any shape.
        y: the same shape.
    """
    c = lens.coefficients
    if lens.model == "pinhole":
        return x, y
    r2 = x * x + y * y
    if lens.model == "opencv":
        k1, k2, p1, p2, k3, k4, k5, k6 = c
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        return _brown(x, y, r2, radial, p1, p2)
    if lens.model == "polynomial":
        k1, k2, k3, k4, p1, p2 = c
        return _brown(x, y, r2, 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4))), p1, p2)
    if lens.model == "fov":
        slope = 2 * math.tan(c[0] / 2)
        factor = slope / c[0] * _atan_over(slope * np.sqrt(r2)) if c[0] else 1.0
        return x * factor, y * factor
    if lens.model == "division":  # r = d / (1 + k d^2), solved for d
        inside = np.maximum(1 - 4 * c[0] * r2, 0)
        factor = np.where(inside > 0, 2 / (1 + np.sqrt(inside)), np.nan)
        return x * factor, y * factor
    if lens.model == "eucm":
        alpha, beta = c
        factor = 1 / (alpha * np.sqrt(beta * r2 + 1) + 1 - alpha)
        return x * factor, y * factor
    angle = _atan_over(np.sqrt(r2))
    u, v = x * angle, y * angle
    t2 = u * u + v * v
    if lens.model == "fisheye":
        k1, k2, k3, k4 = c
        radial = 1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))
        return u * radial, v * radial
    if lens.model == "thin_prism_fisheye":
        k1, k2, p1, p2, k3, k4, sx1, sy1 = c
        radial = 1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))
        u, v = _brown(u, v, t2, radial, p1, p2)
        return u + sx1 * t2, v + sy1 * t2
    k, (p0, p1), (s0, s1, s2, s3) = c[:6], c[6:8], c[8:]
    radial = 1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * (k[3] + t2 * (k[4] + t2 * k[5])))))
    u, v = u * radial, v * radial
    q2 = u * u + v * v
    du = 2 * p1 * u * v + p0 * (q2 + 2 * u * u) + q2 * (s0 + q2 * s1)
    dv = 2 * p0 * u * v + p1 * (q2 + 2 * v * v) + q2 * (s2 + q2 * s3)
    return u + du, v + dv


def project(lens: Lens, camera: Pinhole, x: Rays, y: Rays) -> tuple[Rays, Rays]:
    """The picture positions (pixels) at which a camera with a lens shows the rays (x, y, 1)."""
    u, v = distort(lens, x, y)
    return camera.fx * u + camera.cx, camera.fy * v + camera.cy


def _brown(x: Rays, y: Rays, r2: Rays, radial: Rays, p1: float, p2: float) -> tuple[Rays, Rays]:
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y),
    )


def _atan_over(r: Rays) -> Rays:
    """atan(r) / r, 1 at 0."""
    return np.where(r > 1e-8, np.arctan(r) / np.maximum(r, 1e-8), 1.0)


@dataclass(frozen=True)
class Undistortion:
    """A way to make the pictures of one camera straight."""

    lens: Lens
    distorted: Pinhole
    """The linear part of the camera that took the picture."""
    camera: Pinhole
    """The straight camera of the undistorted picture."""
    corner: tuple[int, int] = (0, 0)
    """Column and row at which the undistorted picture is cut out of what OpenCV makes."""
    route: str = "own"
    """none, opencv or fisheye, which OpenCV undoes, or own."""

    def picture(self, image: np.ndarray) -> np.ndarray:
        """An undistorted picture, by linear interpolation.

        Args:
            image: uint8 or float32, H x W x C, of the distorted camera's size.
        """
        if self.route == "none":
            return image
        if self.route == "opencv":
            K, new = _matrix(self.distorted), self._uncut()
            return self._cut(_deep(cv2.undistort(image, K, np.array(self.lens.coefficients), None, new), image))
        return _deep(cv2.remap(image, *maps(self), interpolation=cv2.INTER_LINEAR), image)

    def labels(self, image: np.ndarray) -> np.ndarray:
        """An undistorted picture of ids or of depths, by the nearest pixel: no new values; 0 beyond the picture.

        Args:
            image: of a type that OpenCV knows, or of any integers: H x W or H x W x C.
        """
        if self.route == "none":
            return image
        source = self.nearest()
        out = image.reshape(-1, *image.shape[2:])[source.clip(0)]
        out[source < 0] = 0
        return out

    def nearest(self) -> Int[np.ndarray, "H W"]:
        """For each undistorted pixel the nearest one of the distorted picture, counted row by row; -1 for none."""
        x, y = maps(self)
        width, height = self.distorted.width, self.distorted.height
        column, row = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        return np.where(inside, row * width + column, -1)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """An undistorted mask (bool, H x W): true where any of the pixels that it lies between is."""
        bright = mask.astype(np.uint8) * 255
        if self.route == "fisheye":
            K, new = _matrix(self.distorted), self._uncut()
            return cv2.fisheye.undistortImage(bright, K, np.array(self.lens.coefficients), None, new) > 0
        return self.picture(bright) > 0

    def _uncut(self) -> np.ndarray:
        """The matrix that OpenCV made: float64 3 x 3, of the picture before it is cut."""
        camera, (x, y) = self.camera, self.corner
        K = _matrix(camera, np.float64)
        K[0, 2] += x
        K[1, 2] += y
        return K

    def _cut(self, image: np.ndarray) -> np.ndarray:
        x, y = self.corner
        return image[y : y + self.camera.height, x : x + self.camera.width]


def _matrix(camera: Pinhole, dtype: type = np.float32) -> np.ndarray:
    """A camera's matrix as OpenCV counts."""
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], dtype)
    K[0, 2] -= 0.5
    K[1, 2] -= 0.5
    return K


def _deep(out: np.ndarray, image: np.ndarray) -> np.ndarray:
    """With the channel that OpenCV drops where it is the only one."""
    return out[..., None] if image.ndim == 3 and out.ndim == 2 else out


@lru_cache(maxsize=4096)
def undistortion(lens: Lens, camera: Pinhole) -> Undistortion:
    """How to undo a lens, and the straight camera that results. No picture is needed.

    What OpenCV can undo is left to it, in the way nerfstudio asks it to: pictures are the same to the bit. For all else
    the straight camera has the picture's size and shows the largest part of what a scaled frame finds in the picture.

    Raises:
        LensError: the lens shows the same ray twice, or has no straight picture in it.
    """
    if lens.straight:
        return Undistortion(lens, camera, camera, route="none")
    own = _frame(lens, camera)
    found = _by_opencv(lens, camera)
    if found is None or not _one_to_one(found, MARGIN * max(camera.width, camera.height)):
        found = Undistortion(lens, camera, own)
    return found


def _by_opencv(lens: Lens, camera: Pinhole) -> Undistortion | None:
    """What nerfstudio's full-image datamanager does; None where it cannot."""
    K, size = _matrix(camera), (camera.width, camera.height)
    if lens.model == "opencv":
        new, (x, y, width, height) = cv2.getOptimalNewCameraMatrix(K, np.array(lens.coefficients), size, 0)
    elif lens.model == "fisheye":
        new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            K, np.array(lens.coefficients), size, np.eye(3), balance=0
        )
        x, y, width, height = 0, 0, *size
    else:
        return None
    if not np.isfinite(new).all() or min(width, height) < 2 or min(new[0, 0], new[1, 1]) <= 0:
        return None
    cut = Pinhole(*(float(v) for v in (new[0, 0], new[1, 1], new[0, 2] - x + 0.5, new[1, 2] - y + 0.5)), width, height)
    if max(_reach(cut)) > WIDEST_OPENCV:
        return None
    return Undistortion(lens, camera, cut, (x, y), lens.model)


def _reach(camera: Pinhole) -> tuple[float, float, float, float]:
    """How far a straight camera sees to the left, right, top and bottom, on the plane z = 1."""
    return (
        camera.cx / camera.fx,
        (camera.width - camera.cx) / camera.fx,
        camera.cy / camera.fy,
        (camera.height - camera.cy) / camera.fy,
    )


def _one_to_one(found: Undistortion, slack: float) -> bool:
    """Whether the undistorted picture looks into the distorted one (up to `slack` pixels) and sees nothing twice."""
    c, d = found.camera, found.distorted
    x = (np.linspace(0, c.width, GRID) - c.cx) / c.fx
    y = (np.linspace(0, c.height, GRID) - c.cy) / c.fy
    with np.errstate(all="ignore"):
        u, v = project(found.lens, d, *np.meshgrid(x, y))
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        return False
    ux, vx, uy, vy = np.diff(u, axis=1)[:-1], np.diff(v, axis=1)[:-1], np.diff(u, axis=0)[:, :-1], np.diff(v, axis=0)
    if (ux * vy[:, :-1] - vx * uy <= 0).any():
        return False
    inside = (u > -slack) & (u < d.width + slack) & (v > -slack) & (v < d.height + slack)
    return bool(inside.all())


def _frame(lens: Lens, camera: Pinhole) -> Pinhole:
    """A straight camera of the picture's size whose whole picture lies in the distorted one.

    Raises:
        LensError: the centre of the lens lies outside of the picture.
    """
    steps = np.linspace(0, WIDEST, 2049)
    zero = np.zeros_like(steps)
    reach = []
    for x, y in ((-steps, zero), (steps, zero), (zero, -steps), (zero, steps)):
        with np.errstate(all="ignore"):
            u, v = project(lens, camera, x, y)
        away = np.hypot(u - u[0], v - v[0])
        good = (u >= 0) & (u <= camera.width) & (v >= 0) & (v <= camera.height) & np.isfinite(away)
        good[1:] &= np.diff(away) > 0
        last = len(steps) - 1 if good.all() else max(int(np.argmin(good)) - 1, 0)
        reach.append(float(steps[last]))
        folded = last + 1 < len(steps) and not away[last + 1] > away[last]
        if folded and last > 0:
            raise LensError(f"its lens ({lens}) folds the picture over itself")
    if min(reach) <= 0:
        raise LensError(f"its lens ({lens}) has its centre at {camera.cx:g}, {camera.cy:g}, outside of the picture")
    scale, step = 1.0, 0.5
    best = None
    for _ in range(16):  # the largest scale of that frame, by halving
        left, right, top, bottom = (scale * r for r in reach)
        fx, fy = camera.width / (left + right), camera.height / (top + bottom)
        size = (camera.width, camera.height)
        found = Pinhole(*(float(np.float32(v)) for v in (fx, fy, fx * left, fy * top)), *size)
        if _one_to_one(Undistortion(lens, camera, found), SLACK):
            best = found
            if scale == 1.0:
                break
            scale += step
        else:
            scale -= step
        step /= 2
    if best is None or scale < LEAST:
        raise LensError(f"its lens ({lens}) folds the picture over itself")
    return best


@lru_cache(maxsize=4)
def maps(found: Undistortion) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Where in the distorted picture each undistorted pixel lies: column and row, float32, 0 at the first's centre."""
    c, d, lens = found.camera, found.distorted, found.lens
    if found.route == "none":
        x, y = np.meshgrid(np.arange(c.width, dtype=np.float32), np.arange(c.height, dtype=np.float32))
        return x, y
    if found.route == "fisheye":
        new, size = _matrix(c, np.float64), (d.width, d.height)
        coefficients = np.array(lens.coefficients)
        return cv2.fisheye.initUndistortRectifyMap(_matrix(d), coefficients, np.eye(3), new, size, cv2.CV_32FC1)
    x = (np.arange(c.width) + 0.5 - c.cx) / c.fx
    y = (np.arange(c.height) + 0.5 - c.cy) / c.fy
    u, v = project(lens, d, *np.meshgrid(x, y))
    return (u - 0.5).astype(np.float32), (v - 0.5).astype(np.float32)
