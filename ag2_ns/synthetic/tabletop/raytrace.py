"""Ray queries on a packed scene, compiled with numba: nearest hit, surface normal, any hit along a segment.

Spheres, boxes and frusta are intersected in closed form in the unit shape's frame; tori and rounded boxes are
sphere-traced there (Hart 1996, "Sphere tracing"). Ray parameters are world distances, since directions are unit
length in the world and the maps are affine. Every function is pure, so results do not depend on thread counts.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from numba import njit

from ag2_ns.ops.threads import for_ranges
from ag2_ns.synthetic.tabletop.shapes import BOX, FRUSTUM, SPHERE, TORUS, Packed

FAR = 1e9
_STEPS = 72
_CLOSE = 2e-5


@njit(cache=True, inline="always")
def _transform(m, x, y, z, w):
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3] * w,
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3] * w,
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3] * w,
    )


@njit(cache=True)
def _hit_sphere(ox, oy, oz, dx, dy, dz, cut, near, far):
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    disc = b * b - a * (ox * ox + oy * oy + oz * oz - 1.0)
    if disc <= 0.0:
        return FAR
    root = math.sqrt(disc)
    for sign in (-1.0, 1.0):
        t = (-b + sign * root) / a
        if near < t < far and (cut >= 1.0 or oz + t * dz <= cut):
            return t
    return FAR


@njit(cache=True)
def _slab(ox, oy, oz, dx, dy, dz, hx, hy, hz):
    """Entry and exit of the box of half sizes h; entry > exit when missed."""
    low, high = -FAR, FAR
    for o, d, h in ((ox, dx, hx), (oy, dy, hy), (oz, dz, hz)):
        if abs(d) < 1e-14:
            if abs(o) > h:
                return 1.0, 0.0
        else:
            a, b = (-h - o) / d, (h - o) / d
            if a > b:
                a, b = b, a
            low, high = max(low, a), min(high, b)
    return low, high


@njit(cache=True)
def _hit_box(ox, oy, oz, dx, dy, dz, near, far):
    low, high = _slab(ox, oy, oz, dx, dy, dz, 1.0, 1.0, 1.0)
    if low > high:
        return FAR
    if near < low < far:
        return low
    if near < high < far:
        return high
    return FAR


@njit(cache=True)
def _hit_frustum(ox, oy, oz, dx, dy, dz, r0, r1, tube, near, far):
    k = r1 - r0
    r = r0 + k * oz
    a = dx * dx + dy * dy - k * k * dz * dz
    b = ox * dx + oy * dy - k * r * dz
    disc = b * b - a * (ox * ox + oy * oy - r * r)
    best = far
    if disc > 0.0 and abs(a) > 1e-14:
        root = math.sqrt(disc)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            if near < t < best and 0.0 <= oz + t * dz <= 1.0:
                best = t
    if tube < 0.5 and abs(dz) > 1e-14:
        for z, radius in ((0.0, r0), (1.0, r1)):
            t = (z - oz) / dz
            if near < t < best:
                x, y = ox + t * dx, oy + t * dy
                if x * x + y * y <= radius * radius:
                    best = t
    return best if best < far else FAR


@njit(cache=True)
def _torus_distance(x, y, z, minor, arc):
    if arc < 3.14:
        c, s = math.cos(arc), math.sin(arc)
        ay = abs(y)
        if math.atan2(ay, x) > arc:
            return math.sqrt((x - c) ** 2 + (ay - s) ** 2 + z * z) - minor
    q = math.sqrt(x * x + y * y) - 1.0
    return math.sqrt(q * q + z * z) - minor


@njit(cache=True)
def _round_distance(x, y, z, hx, hy, hz, r):
    qx, qy, qz = abs(x) - hx + r, abs(y) - hy + r, abs(z) - hz + r
    mx, my, mz = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
    return math.sqrt(mx * mx + my * my + mz * mz) + min(max(qx, max(qy, qz)), 0.0) - r


@njit(cache=True)
def _hit_torus(ox, oy, oz, dx, dy, dz, minor, arc, near, far):
    w = 1.0 + minor
    low, high = _slab(ox, oy, oz, dx, dy, dz, w, w, minor)
    low, high = max(low, near), min(high, far)
    if low >= high:
        return FAR
    speed = math.sqrt(dx * dx + dy * dy + dz * dz)
    t = low
    for _ in range(_STEPS):
        s = _torus_distance(ox + t * dx, oy + t * dy, oz + t * dz, minor, arc)
        if s < _CLOSE:
            return t if t > near else FAR
        t += s / speed
        if t > high:
            return FAR
    return FAR


@njit(cache=True)
def _hit_round(ox, oy, oz, dx, dy, dz, p, near, far):
    low, high = _slab(ox, oy, oz, dx, dy, dz, p[0], p[1], p[2])
    low, high = max(low, near), min(high, far)
    if low >= high:
        return FAR
    speed = math.sqrt(dx * dx + dy * dy + dz * dz)
    t = low
    for _ in range(_STEPS):
        s = _round_distance(ox + t * dx, oy + t * dy, oz + t * dz, p[0], p[1], p[2], p[3])
        if s < 0.2 * _CLOSE:
            return t if t > near else FAR
        t += s / speed
        if t > high:
            return FAR
    return FAR


@njit(cache=True)
def _hit_primitive(scene, i, ox, oy, oz, dx, dy, dz, near, far):
    m, p, kind = scene.inverse[i], scene.parameters[i], scene.kind[i]
    ax, ay, az = _transform(m, ox, oy, oz, 1.0)
    bx, by, bz = _transform(m, dx, dy, dz, 0.0)
    if kind == SPHERE:
        return _hit_sphere(ax, ay, az, bx, by, bz, p[0], near, far)
    if kind == BOX:
        return _hit_box(ax, ay, az, bx, by, bz, near, far)
    if kind == FRUSTUM:
        return _hit_frustum(ax, ay, az, bx, by, bz, p[0], p[1], p[2], near, far)
    if kind == TORUS:
        return _hit_torus(ax, ay, az, bx, by, bz, p[0], p[1], near, far)
    return _hit_round(ax, ay, az, bx, by, bz, p, near, far)


@njit(cache=True, inline="always")
def _inverse(d):
    return 1.0 / d if abs(d) > 1e-12 else math.copysign(1e12, d)


@njit(cache=True, inline="always")
def _enters(box, i, ox, oy, oz, ix, iy, iz, near, far):
    """Whether the ray with inverse direction i meets world box i within [near, far]."""
    a, b = (box[i, 0] - ox) * ix, (box[i, 3] - ox) * ix
    low, high = max(near, min(a, b)), min(far, max(a, b))
    a, b = (box[i, 1] - oy) * iy, (box[i, 4] - oy) * iy
    low, high = max(low, min(a, b)), min(high, max(a, b))
    a, b = (box[i, 2] - oz) * iz, (box[i, 5] - oz) * iz
    return max(low, min(a, b)) <= min(high, max(a, b))


@njit(cache=True)
def nearest(scene, ox, oy, oz, dx, dy, dz, near, far):
    """Distance, body and primitive of the first hit within (near, far); (far, -1, -1) when there is none."""
    best, body, primitive = far, -1, -1
    ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
    for b in range(scene.box.shape[0]):
        if _enters(scene.box, b, ox, oy, oz, ix, iy, iz, near, best):
            for i in range(scene.first[b], scene.first[b + 1]):
                if _enters(scene.primitive_box, i, ox, oy, oz, ix, iy, iz, near, best):
                    t = _hit_primitive(scene, i, ox, oy, oz, dx, dy, dz, near, best)
                    if t < best:
                        best, body, primitive = t, b, i
    return best, body, primitive


@njit(cache=True)
def bodies_within(scene, x0, y0, z0, x1, y1, z1, out):
    """Write the bodies whose boxes meet the box from corner 0 to corner 1 to `out`; returns how many."""
    count = 0
    box = scene.box
    for b in range(box.shape[0]):
        if (
            box[b, 0] <= x1 and box[b, 3] >= x0 and box[b, 1] <= y1 and box[b, 4] >= y0 and box[b, 2] <= z1
            and box[b, 5] >= z0
        ):  # fmt: skip
            out[count] = b
            count += 1
    return count


@njit(cache=True)
def blocked(scene, bodies, count, ox, oy, oz, dx, dy, dz, near, far):
    """Whether one of the first `count` of some bodies lies within (near, far) along the ray."""
    ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
    for k in range(count):
        b = bodies[k]
        if _enters(scene.box, b, ox, oy, oz, ix, iy, iz, near, far):
            for i in range(scene.first[b], scene.first[b + 1]):
                if (
                    _enters(scene.primitive_box, i, ox, oy, oz, ix, iy, iz, near, far)
                    and _hit_primitive(scene, i, ox, oy, oz, dx, dy, dz, near, far) < far
                ):
                    return True
    return False


@njit(cache=True)
def room_exit(scene, ox, oy, oz, dx, dy, dz):
    """Distance to the room's shell from inside it, and the face: 0 floor, 1 ceiling, 2..5 walls -x, +x, -y, +y."""
    half, floor, ceiling = scene.room[0], scene.room[1], scene.room[2]
    best, face = FAR, 0
    if dz < -1e-12:
        best, face = (floor - oz) / dz, 0
    elif dz > 1e-12:
        best, face = (ceiling - oz) / dz, 1
    if abs(dx) > 1e-12:
        t = ((half if dx > 0 else -half) - ox) / dx
        if t < best:
            best, face = t, (3 if dx > 0 else 2)
    if abs(dy) > 1e-12:
        t = ((half if dy > 0 else -half) - oy) / dy
        if t < best:
            best, face = t, (5 if dy > 0 else 4)
    return best, face


@njit(cache=True)
def normal_at(scene, i, px, py, pz):
    """Unit outward world normal of primitive i at a world point on it."""
    m, p, kind = scene.inverse[i], scene.parameters[i], scene.kind[i]
    x, y, z = _transform(m, px, py, pz, 1.0)
    nx, ny, nz = x, y, z
    if kind == BOX:
        ax, ay, az = abs(x), abs(y), abs(z)
        nx = math.copysign(1.0, x) if ax >= ay and ax >= az else 0.0
        ny = math.copysign(1.0, y) if ay > ax and ay >= az else 0.0
        nz = math.copysign(1.0, z) if az > ax and az > ay else 0.0
    elif kind == FRUSTUM:
        k = p[1] - p[0]
        r = p[0] + k * z
        side = x * x + y * y >= r * r * (1.0 - 1e-6) - 1e-12
        if p[2] < 0.5 and not side and z < 0.5:
            nx, ny, nz = 0.0, 0.0, -1.0
        elif p[2] < 0.5 and not side:
            nx, ny, nz = 0.0, 0.0, 1.0
        else:
            nz = -k * r
    elif kind == TORUS:
        arc = p[1]
        ay = abs(y)
        if arc < 3.14 and math.atan2(ay, x) > arc:
            nx, ny = x - math.cos(arc), y - math.copysign(math.sin(arc), y)
        else:
            q = max(math.sqrt(x * x + y * y), 1e-9)
            nx, ny = x - x / q, y - y / q
    elif kind != SPHERE:
        nx = math.copysign(max(abs(x) - p[0] + p[3], 0.0), x)
        ny = math.copysign(max(abs(y) - p[1] + p[3], 0.0), y)
        nz = math.copysign(max(abs(z) - p[2] + p[3], 0.0), z)
    wx = m[0, 0] * nx + m[1, 0] * ny + m[2, 0] * nz
    wy = m[0, 1] * nx + m[1, 1] * ny + m[2, 1] * nz
    wz = m[0, 2] * nx + m[1, 2] * ny + m[2, 2] * nz
    length = max(math.sqrt(wx * wx + wy * wy + wz * wz), 1e-30)
    return wx / length, wy / length, wz / length


@njit(cache=True, nogil=True)
def _cast(start, stop, scene, origins, directions, distance, body):
    for i in range(start, stop):
        ox, oy, oz = origins[i, 0], origins[i, 1], origins[i, 2]
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        far, _ = room_exit(scene, ox, oy, oz, dx, dy, dz)
        distance[i], body[i], _ = nearest(scene, ox, oy, oz, dx, dy, dz, 0.0, far)


def cast(
    scene: Packed, origins: Float[np.ndarray, "R 3"], directions: Float[np.ndarray, "R 3"]
) -> tuple[Float[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """Distance to what each ray meets first, and the body it belongs to (-1: the room's shell).

    Origins lie inside the room; directions have unit length.
    """
    distance, body = np.empty(len(origins)), np.empty(len(origins), np.int64)
    origins, directions = (np.ascontiguousarray(v, float) for v in (origins, directions))
    for_ranges(_cast, len(origins), scene, origins, directions, distance, body, minimum=256)
    return distance, body


def pixel_rays(
    pose: Float[np.ndarray, "3 4"],
    focal: float,
    width: int,
    height: int,
    rows: Int[np.ndarray, " R"] | None = None,
    columns: Int[np.ndarray, " C"] | None = None,
) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "P 3"]]:
    """Origins and unit directions of the rays through the centres of a view's pixels, row by row.

    Args:
        pose: camera to world, OpenGL axes.
        focal: focal length, pixels; the principal point is in the middle.
        width: pixels across.
        height: pixels down.
        rows: only these; by default all.
        columns: likewise.
    """
    rows = np.arange(height) if rows is None else rows
    columns = np.arange(width) if columns is None else columns
    x = (columns + 0.5 - width / 2) / focal
    y = -(rows + 0.5 - height / 2) / focal
    way = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.full((len(rows), len(columns)), -1.0)], axis=2)
    way = (way / np.linalg.norm(way, axis=2, keepdims=True)).reshape(-1, 3) @ pose[:, :3].T
    return np.broadcast_to(pose[:, 3], way.shape), way
