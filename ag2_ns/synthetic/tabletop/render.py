"""Pictures of a packed scene: direct light with soft shadows, ambient occlusion, mild gloss, 2x2 samples a pixel.

One rectangular light above the table casts the shadows; a second one without shadows and a sky-and-floor term fill in.
Each of a pixel's four colour samples traces its own four of the light's sixteen points and of sixteen ambient
directions, so a pixel averages sixteen of each. Shadows on the table top and the floor are baked once into maps.
Ids, distances and primitives come from the ray through the pixel's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from numba import njit

from ag2_ns.ops.threads import for_ranges
from ag2_ns.synthetic.tabletop import textures
from ag2_ns.synthetic.tabletop.raytrace import _transform, blocked, bodies_within, nearest, normal_at, room_exit
from ag2_ns.synthetic.tabletop.shapes import Packed

_AMBIENT = 0.46
_KEY = 1.05
_FILL = 0.20
_LIFT = 2e-4
_REACH = 0.35
"""How far ambient occlusion looks."""
_TABLE = 0
"""The table is the first body of every scene."""


@dataclass(frozen=True)
class Lit:
    """A packed scene with its light and baked shadow maps."""

    scene: Packed
    light: Float[np.ndarray, "3 3"]
    """Centre and the two half edges of the rectangular light."""
    table_map: Float[np.ndarray, "S S 2"]
    """Share of the light and of the ambient directions seen from the table top, over +-`table_half`."""
    floor_map: Float[np.ndarray, "S S 2"]
    """The same for the floor, over the whole room."""
    table_half: float
    rug_half: float


@dataclass(frozen=True)
class Frame:
    """One rendered view."""

    rgb: UInt8[np.ndarray, "H W 3"]
    ids: Int[np.ndarray, "H W"]
    primitive: Int[np.ndarray, "H W"]
    """Primitive at the pixel's centre, -1 for the room's shell."""
    distance: Float[np.ndarray, "H W"]
    """World distance from the camera centre along the pixel's ray."""


def _ambient_directions() -> np.ndarray:
    """Sixteen cosine-distributed directions around z; rows k, k + 4, ... spread over the hemisphere for each k."""
    i = np.arange(16)
    radius, turn = np.sqrt((i + 0.5) / 16), i * 2.399963229728653
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sqrt(1 - radius**2)], axis=1)


_DIRECTIONS = _ambient_directions()


@njit(cache=True)
def _light_point(light, u, v):
    return (
        light[0, 0] + u * light[1, 0] + v * light[2, 0],
        light[0, 1] + u * light[1, 1] + v * light[2, 1],
        light[0, 2] + u * light[1, 2] + v * light[2, 2],
    )


@njit(cache=True)
def _towards(scene, light, x, y, z, out):
    """The bodies that may lie between a point and the light, written to `out`: how many."""
    x0, y0, z0, x1, y1, z1 = x, y, z, x, y, z
    for k in range(4):
        lx, ly, lz = _light_point(light, 2.0 * (k & 1) - 1.0, 2.0 * (k >> 1) - 1.0)
        x0, y0, z0, x1, y1, z1 = min(x0, lx), min(y0, ly), min(z0, lz), max(x1, lx), max(y1, ly), max(z1, lz)
    return bodies_within(scene, x0, y0, z0, x1, y1, z1, out)


@njit(cache=True)
def _sees(scene, bodies, count, light, u, v, x, y, z):
    """Whether none of some bodies is between a point and the light's point (u, v)."""
    lx, ly, lz = _light_point(light, u, v)
    lx, ly, lz = lx - x, ly - y, lz - z
    r = math.sqrt(lx * lx + ly * ly + lz * lz)
    return not blocked(scene, bodies, count, x, y, z, lx / r, ly / r, lz / r, 1e-5, r)


@njit(cache=True)
def _around(nx, ny, nz, a, b, c):
    """Direction (a, b, c) of the frame whose z axis is the normal (Duff et al. 2017)."""
    s = math.copysign(1.0, nz)
    p = -1.0 / (s + nz)
    q = nx * ny * p
    return (
        a * (1.0 + s * nx * nx * p) + b * q + c * nx,
        a * s * q + b * (s + ny * ny * p) + c * ny,
        -a * s * nx - b * ny + c * nz,
    )


@njit(cache=True, nogil=True)
def _bake(start, stop, scene, light, half, height, reach, directions, out):
    size = out.shape[0]
    bodies = np.empty(scene.box.shape[0], np.int64)
    for row in range(start, stop):
        y = ((row + 0.5) / size * 2.0 - 1.0) * half
        for column in range(size):
            x = ((column + 0.5) / size * 2.0 - 1.0) * half
            z = height + _LIFT
            seen, open_ = 0, 0
            count = _towards(scene, light, x, y, z, bodies)
            for i in range(6):
                for j in range(6):
                    u, v = (i + 0.5) / 3.0 - 1.0, (j + 0.5) / 3.0 - 1.0
                    seen += _sees(scene, bodies, count, light, u, v, x, y, z)
            count = bodies_within(scene, x - reach, y - reach, z - reach, x + reach, y + reach, z + reach, bodies)
            turn = textures.hash3(row, column, 77) * 6.2831853
            c, s = math.cos(turn), math.sin(turn)
            for k in range(directions.shape[0]):
                dx, dy, dz = directions[k, 0], directions[k, 1], directions[k, 2]
                ax, ay = c * dx - s * dy, s * dx + c * dy
                open_ += not blocked(scene, bodies, count, x, y, z, ax, ay, dz, 1e-5, reach)
            out[row, column, 0] = seen / 36.0
            out[row, column, 1] = open_ / directions.shape[0]


@njit(cache=True)
def _lookup(grid, half, x, y):
    size = grid.shape[0]
    u = min(max((x / half + 1.0) * 0.5 * size - 0.5, 0.0), size - 1.001)
    v = min(max((y / half + 1.0) * 0.5 * size - 0.5, 0.0), size - 1.001)
    i, j = int(v), int(u)
    b, a = v - i, u - j
    seen = (grid[i, j, 0] * (1 - a) + grid[i, j + 1, 0] * a) * (1 - b) + (
        grid[i + 1, j, 0] * (1 - a) + grid[i + 1, j + 1, 0] * a
    ) * b
    free = (grid[i, j, 1] * (1 - a) + grid[i, j + 1, 1] * a) * (1 - b) + (
        grid[i + 1, j, 1] * (1 - a) + grid[i + 1, j + 1, 1] * a
    ) * b
    return seen, free


@njit(cache=True)
def _room_colour(scene, face, x, y, z, rug_half, foot):
    half, floor, ceiling = scene.room[0], scene.room[1], scene.room[2]
    if face == 0:
        if max(abs(x), abs(y)) < rug_half:
            return textures.rug(x, y, rug_half, foot)
        return textures.planks(x, y, half * 0.055, half * 0.62, foot)
    if face == 1:
        return 0.75, 0.74, 0.71
    return textures.wall(face, y if face < 4 else x, z - floor, ceiling - floor, half, foot)


@njit(cache=True)
def _object_colour(scene, body, primitive, x, y, z, foot):
    """Linear colour of a primitive's pattern and grain at a world point."""
    m = scene.material[primitive]
    inverse = scene.body_inverse[body]
    qx, qy, qz = _transform(inverse, x, y, z, 1.0)
    foot = foot * math.sqrt(inverse[0, 0] ** 2 + inverse[1, 0] ** 2 + inverse[2, 0] ** 2)
    s = min(1.0, max(0.0, textures.share(int(m[6]), m[7], qx, qy, qz, foot)))
    v = 1.0
    if m[8] > 0.0:
        v += m[8] * (
            1.1 * textures.fractal(qx * 55.0, qy * 55.0, qz * 55.0 + primitive, foot * 55.0)
            + 0.8 * textures.fractal(qx * 11.0, qy * 11.0, qz * 11.0 + 0.7 * primitive, foot * 11.0)
        )
    return (
        v * (m[0] * (1 - s) + m[3] * s),
        v * (m[1] * (1 - s) + m[4] * s),
        v * (m[2] * (1 - s) + m[5] * s),
    )


@njit(cache=True)
def _shade(
    scene, bodies, light, directions, table_map, floor_map, table_half, rug_half, part, spread, ox, oy, oz, dx, dy, dz
):
    """Linear colour along a ray; `part` of 0..3 picks the light points and ambient directions; `bodies` is scratch."""
    shell, face = room_exit(scene, ox, oy, oz, dx, dy, dz)
    t, body, primitive = nearest(scene, ox, oy, oz, dx, dy, dz, 0.0, shell)
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    specular, gloss, glow = 0.0, 1.0, 0.0
    lx, ly, lz = light[0, 0] - x, light[0, 1] - y, light[0, 2] - z
    far = math.sqrt(lx * lx + ly * ly + lz * lz)
    lx, ly, lz = lx / far, ly / far, lz / far
    if body < 0:
        nx, ny, nz = 0.0, 0.0, 0.0
        if face == 0:
            nz = 1.0
            seen, free = _lookup(floor_map, scene.room[0], x, y)
        else:
            seen = 1.0
            low, high = z - scene.room[1], scene.room[2] - z
            edge = scene.room[0] - (abs(y) if face < 4 else abs(x))
            free = 1.0 - 0.25 * math.exp(-3.0 * low) - 0.15 * math.exp(-3.0 * high) - 0.2 * math.exp(-3.0 * edge)
            if face == 1:
                nz, free = -1.0, 1.0
            elif face < 4:
                nx = 1.0 if face == 2 else -1.0
            else:
                ny = 1.0 if face == 4 else -1.0
        foot = t * spread / max(0.15, abs(nx * dx + ny * dy + nz * dz))
        r, g, b = _room_colour(scene, face, x, y, z, rug_half, foot)
    else:
        nx, ny, nz = normal_at(scene, primitive, x, y, z)
        facing = nx * dx + ny * dy + nz * dz
        if facing > 0.0:
            nx, ny, nz, facing = -nx, -ny, -nz, -facing
        foot = t * spread / max(0.15, -facing)
        specular, gloss, glow = (
            scene.material[primitive, 9],
            scene.material[primitive, 10],
            scene.material[primitive, 11],
        )
        if body == _TABLE and nz > 0.99 and abs(z) < 1e-6:
            r, g, b = textures.table_wood(x, y, foot)
            seen, free = _lookup(table_map, table_half, x, y)
        else:
            r, g, b = _object_colour(scene, body, primitive, x, y, z, foot)
            px, py, pz = x + _LIFT * nx, y + _LIFT * ny, z + _LIFT * nz
            seen, free = 0.0, 0.0
            if nx * lx + ny * ly + nz * lz > -0.1:
                count = _towards(scene, light, px, py, pz, bodies)
                for i in range(4):
                    u = (4 * (i >> 1) + 2 * (part >> 1) + 1) / 4.0 - 1.0
                    v = (4 * (i & 1) + 2 * (part & 1) + 1) / 4.0 - 1.0
                    seen += 0.25 * _sees(scene, bodies, count, light, u, v, px, py, pz)
            count = bodies_within(
                scene, px - _REACH, py - _REACH, pz - _REACH, px + _REACH, py + _REACH, pz + _REACH, bodies
            )
            for i in range(4):
                k = 4 * i + part
                ax, ay, az = _around(nx, ny, nz, directions[k, 0], directions[k, 1], directions[k, 2])
                free += 0.25 * (not blocked(scene, bodies, count, px, py, pz, ax, ay, az, 1e-5, _REACH))
    lambert = max(0.0, nx * lx + ny * ly + nz * lz)
    fill = max(
        0.0, -0.55 * nx * math.copysign(1.0, light[0, 0]) - 0.6 * ny * math.copysign(1.0, light[0, 1]) + 0.58 * nz
    )
    up = 0.5 + 0.5 * nz
    ambient = _AMBIENT * (0.35 + 0.65 * free)
    er = ambient * (0.62 + 0.38 * up) + _FILL * fill * free * 0.9 + _KEY * lambert * seen
    eg = ambient * (0.55 + 0.46 * up) + _FILL * fill * free + _KEY * 0.96 * lambert * seen
    eb = ambient * (0.48 + 0.58 * up) + _FILL * fill * free * 1.2 + _KEY * 0.86 * lambert * seen
    shine = 0.0
    if specular > 0.0 and lambert > 0.0:
        hx, hy, hz = lx - dx, ly - dy, lz - dz
        h = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz)
        shine = specular * seen * max(0.0, h) ** gloss
    er, eg, eb = er * (1 - glow) + glow * 1.3, eg * (1 - glow) + glow * 1.3, eb * (1 - glow) + glow * 1.3
    return r * er + shine, g * eg + shine, b * eb + shine


@njit(cache=True)
def _encode(c):
    """Linear light to an 8-bit sRGB value, highlights rolled off above 0.7."""
    if c > 0.7:
        c = 0.7 + 0.3 * (1.0 - math.exp(-(c - 0.7) / 0.3))
    c = 12.92 * c if c <= 0.0031308 else 1.055 * c ** (1.0 / 2.4) - 0.055
    return min(255.0, max(0.0, c * 255.0 + 0.5))


@njit(cache=True, nogil=True)
def _render(
    start, stop, scene, light, directions, table_map, floor_map, table_half, rug_half, pose, focal, cx, cy,
    rgb, ids, prim, dist,
):  # fmt: skip
    width = ids.shape[1]
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    bodies = np.empty(scene.box.shape[0], np.int64)
    for row in range(start, stop):
        for column in range(width):
            r, g, b = 0.0, 0.0, 0.0
            for k in range(5):
                u, v = 0.5, 0.5
                if k < 4:
                    u, v = 0.25 + 0.5 * (k & 1), 0.25 + 0.5 * (k >> 1)
                x, y = (column + u - cx) / focal, -(row + v - cy) / focal
                n = 1.0 / math.sqrt(x * x + y * y + 1.0)
                dx = (pose[0, 0] * x + pose[0, 1] * y - pose[0, 2]) * n
                dy = (pose[1, 0] * x + pose[1, 1] * y - pose[1, 2]) * n
                dz = (pose[2, 0] * x + pose[2, 1] * y - pose[2, 2]) * n
                if k < 4:
                    cr, cg, cb = _shade(
                        scene, bodies, light, directions, table_map, floor_map, table_half, rug_half,
                        k, 0.5 * n / focal, ox, oy, oz, dx, dy, dz,
                    )  # fmt: skip
                    r, g, b = r + min(cr, 1.5), g + min(cg, 1.5), b + min(cb, 1.5)
                else:
                    shell, _ = room_exit(scene, ox, oy, oz, dx, dy, dz)
                    t, body, primitive = nearest(scene, ox, oy, oz, dx, dy, dz, 0.0, shell)
                    ids[row, column] = scene.ids[body] if body >= 0 else 0
                    prim[row, column] = primitive
                    dist[row, column] = t
            rgb[row, column, 0] = _encode(0.25 * r)
            rgb[row, column, 1] = _encode(0.25 * g)
            rgb[row, column, 2] = _encode(0.25 * b)


def _soften(grid: np.ndarray) -> np.ndarray:
    """Blur the baked ambient share a little: its directions are turned from texel to texel."""
    from scipy.ndimage import gaussian_filter

    out = grid.copy()
    out[..., 0] = gaussian_filter(grid[..., 0], 0.5, mode="nearest")
    out[..., 1] = gaussian_filter(grid[..., 1], 1.5, mode="nearest")
    return out


def light_up(scene: Packed, light: Float[np.ndarray, "3 3"], table_half: float, rug_half: float, texels: int) -> Lit:
    """Bake the shadow maps, `texels` on a side, of a scene whose first body is the table with its top at z = 0."""
    maps = []
    for half, height, reach in ((table_half, 0.0, 0.4), (float(scene.room[0]), float(scene.room[1]), 2.0)):
        grid = np.empty((texels, texels, 2))
        for_ranges(_bake, texels, scene, light, half, height, reach, _DIRECTIONS, grid)
        maps.append(_soften(grid))
    return Lit(scene, light, maps[0], maps[1], table_half, rug_half)


def render(lit: Lit, pose: Float[np.ndarray, "3 4"], focal: float, width: int, height: int) -> Frame:
    """Render one pinhole view with its principal point in the middle.

    Args:
        lit: the scene.
        pose: camera to world, OpenGL axes (x right, y up, looking along -z).
        focal: focal length in pixels.
        width: pixels across.
        height: pixels down.
    """
    rgb = np.empty((height, width, 3), np.uint8)
    ids, prim = np.empty((height, width), np.int64), np.empty((height, width), np.int64)
    distance = np.empty((height, width))
    for_ranges(
        _render, height, lit.scene, lit.light, _DIRECTIONS, lit.table_map, lit.floor_map, lit.table_half, lit.rug_half,
        np.ascontiguousarray(pose, float), float(focal), width / 2, height / 2, rgb, ids, prim, distance,
    )  # fmt: skip
    return Frame(rgb, ids, prim, distance)
