"""The car's cameras and LiDAR, and what they see: pictures, classes, distances, points. Compiled with numba."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from numba import njit

from ag2_ns.ops.threads import for_ranges
from ag2_ns.synthetic.tabletop.raytrace import FAR, blocked, nearest, normal_at
from ag2_ns.synthetic.tabletop.render import _encode, _object_colour
from ag2_ns.synthetic.tabletop.shapes import Packed, rotation

SUN = np.array([0.45, -0.35, 0.82]) / np.linalg.norm([0.45, -0.35, 0.82])


@dataclass(frozen=True)
class Mount:
    """A camera on the car."""

    name: str
    yaw: float
    """Degrees to the left of straight ahead."""
    position: tuple[float, float, float]
    view_angle: float
    """Horizontal, degrees."""
    delay: float
    """Seconds from the LiDAR's time to the picture's."""

    def cam2ego(self) -> Float[np.ndarray, "4 4"]:
        """Camera (x right, y down, z ahead) to car."""
        out = np.eye(4)
        out[:3, :3] = rotation("z", self.yaw) @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        out[:3, 3] = self.position
        return out

    def intrinsics(self, width: int, height: int) -> Float[np.ndarray, "3 3"]:
        """Of a picture of this size."""
        focal = width / 2 / math.tan(math.radians(self.view_angle) / 2)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


CAMERAS = (
    Mount("CAM_FRONT", 0.0, (1.70, 0.0, 1.51), 70.0, -0.035),
    Mount("CAM_FRONT_RIGHT", -55.0, (1.55, -0.49, 1.50), 70.0, -0.028),
    Mount("CAM_FRONT_LEFT", 55.0, (1.52, 0.49, 1.51), 70.0, -0.043),
    Mount("CAM_BACK", 180.0, (0.03, 0.0, 1.57), 110.0, -0.010),
    Mount("CAM_BACK_LEFT", 110.0, (1.04, 0.48, 1.56), 70.0, 0.0),
    Mount("CAM_BACK_RIGHT", -110.0, (1.01, -0.48, 1.56), 70.0, -0.020),
)
"""Places, angles and times near those of nuScenes."""

LIDAR_AT = (0.94, 0.0, 1.84)
BEAMS, AZIMUTHS = 32, 1084
ELEVATIONS = np.radians(np.linspace(-30.0, 10.0, BEAMS))
LIDAR_REACH = 70.0


@dataclass(frozen=True)
class Shot:
    """What one camera sees."""

    rgb: UInt8[np.ndarray, "H W 3"]
    body: Int[np.ndarray, "H W"]
    """Body at the pixel's centre, -1 for the sky."""
    depth: Float[np.ndarray, "H W"]
    """Along the camera's axis, metres; infinite for the sky."""


@njit(cache=True)
def _shade(scene, everything, sun, ox, oy, oz, dx, dy, dz, spread):
    t, body, primitive = nearest(scene, ox, oy, oz, dx, dy, dz, 0.0, FAR)
    if body < 0:
        up = max(0.0, dz)
        return 0.50 - 0.32 * up, 0.66 - 0.26 * up, 0.86 - 0.1 * up
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    nx, ny, nz = normal_at(scene, primitive, x, y, z)
    facing = nx * dx + ny * dy + nz * dz
    if facing > 0.0:
        nx, ny, nz, facing = -nx, -ny, -nz, -facing
    r, g, b = _object_colour(scene, body, primitive, x, y, z, t * spread / max(0.15, -facing))
    light = max(0.0, nx * sun[0] + ny * sun[1] + nz * sun[2])
    lifted = 2e-3
    if light > 0.0 and blocked(
        scene, everything, len(everything), x + lifted * nx, y + lifted * ny, z + lifted * nz, sun[0], sun[1], sun[2],
        1e-3, 60.0,
    ):  # fmt: skip
        light = 0.0
    sky = 0.32 + 0.18 * nz
    haze = 1.0 - math.exp(-t / 220.0)
    return (
        (r * (1.0 * light + 0.85 * sky)) * (1 - haze) + 0.5 * haze,
        (g * (0.95 * light + 0.95 * sky)) * (1 - haze) + 0.6 * haze,
        (b * (0.85 * light + 1.15 * sky)) * (1 - haze) + 0.72 * haze,
    )


@njit(cache=True, nogil=True)
def _expose(start, stop, scene, sun, pose, K, samples, rgb, body, depth):
    width = body.shape[1]
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    everything = np.arange(scene.box.shape[0])
    for row in range(start, stop):
        for column in range(width):
            red, green, blue = 0.0, 0.0, 0.0
            for k in range(samples * samples + 1):
                u, v = 0.5, 0.5
                if k < samples * samples:
                    u, v = (k % samples + 0.5) / samples, (k // samples + 0.5) / samples
                x, y = (column + u - K[0, 2]) / K[0, 0], (row + v - K[1, 2]) / K[1, 1]
                n = 1.0 / math.sqrt(x * x + y * y + 1.0)
                dx = (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]) * n
                dy = (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]) * n
                dz = (pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]) * n
                if k < samples * samples:
                    r, g, b = _shade(scene, everything, sun, ox, oy, oz, dx, dy, dz, n / K[0, 0] / samples)
                    red, green, blue = red + r, green + g, blue + b
                else:
                    t, hit, _ = nearest(scene, ox, oy, oz, dx, dy, dz, 0.0, FAR)
                    body[row, column] = hit
                    depth[row, column] = t * n if hit >= 0 else np.inf
            share = 1.0 / (samples * samples)
            rgb[row, column, 0] = _encode(red * share)
            rgb[row, column, 1] = _encode(green * share)
            rgb[row, column, 2] = _encode(blue * share)


def expose(
    scene: Packed, pose: Float[np.ndarray, "4 4"], K: Float[np.ndarray, "3 3"], width: int, height: int, samples: int
) -> Shot:
    """Take a picture; `pose` is camera to world (x right, y down, z ahead), `samples` colour rays per pixel edge."""
    rgb = np.empty((height, width, 3), np.uint8)
    body, depth = np.empty((height, width), np.int64), np.empty((height, width))
    for_ranges(_expose, height, scene, SUN, np.ascontiguousarray(pose), K, samples, rgb, body, depth)
    return Shot(rgb, body, depth)


@njit(cache=True, nogil=True)
def _cast(start, stop, scene, origins, directions, distance, body):
    for i in range(start, stop):
        o, d = origins[i], directions[i]
        distance[i], body[i], _ = nearest(scene, o[0], o[1], o[2], d[0], d[1], d[2], 0.0, FAR)


def cast(
    scene: Packed, origins: Float[np.ndarray, "R 3"], directions: Float[np.ndarray, "R 3"]
) -> tuple[Float[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """Distance to what each ray meets first and its body; 1e9 and -1 where it meets nothing."""
    distance, body = np.empty(len(origins)), np.empty(len(origins), np.int64)
    origins, directions = (np.ascontiguousarray(v, float) for v in (origins, directions))
    for_ranges(_cast, len(origins), scene, origins, directions, distance, body, minimum=256)
    return distance, body


def beams() -> tuple[Float[np.ndarray, "R 3"], Int[np.ndarray, " R"]]:
    """Directions of one turn of the LiDAR in its own frame (x right, y ahead, z up), and the ring of each."""
    turn = np.linspace(0, 2 * np.pi, AZIMUTHS, endpoint=False)
    level, turn = np.meshgrid(ELEVATIONS, turn)
    flat = np.cos(level)
    ring = np.broadcast_to(np.arange(BEAMS), level.shape)
    return np.stack([flat * np.sin(turn), flat * np.cos(turn), np.sin(level)], -1).reshape(-1, 3), ring.reshape(-1)


def lidar2ego() -> Float[np.ndarray, "4 4"]:
    """LiDAR to car."""
    out = np.eye(4)
    out[:3, :3] = rotation("z", -90.0)
    out[:3, 3] = LIDAR_AT
    return out
