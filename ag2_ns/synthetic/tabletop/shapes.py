"""Primitives, materials and rigid bodies of the table-top scene, and their packing into arrays for the ray tracer.

A `Body` is a list of primitives in its own frame (z up, standing on z = 0). Every primitive is a unit shape under an
affine map, so an ellipsoid is a sphere and an elliptic cylinder a cylinder:

| code | unit shape | parameters |
|---|---|---|
| `SPHERE` | unit sphere, kept where z <= p0 (a bowl when p0 < 1) | p0 cut height |
| `BOX` | cube [-1, 1]^3 | |
| `FRUSTUM` | z in [0, 1], radius p0 below and p1 above | p2 = 1: no caps (a tube seen from both sides) |
| `TORUS` | around z, major radius 1 | p0 minor radius, p1 half opening angle of the arc around +x (pi: whole ring) |
| `ROUND` | box of half sizes p0..p2 with edges of radius p3 | |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SPHERE, BOX, FRUSTUM, TORUS, ROUND = range(5)
PLAIN, RINGS, STAVES, CHECKS, DOTS, WOOD, MARBLE, BRICKS, PAGES, TEXT, COVER = range(11)

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """How a surface looks: two linear colours, a procedural texture in body coordinates, and its gloss."""

    colour: Vector
    """Linear RGB, 0 to 1."""
    second: Vector = (0.85, 0.83, 0.78)
    """The texture's other linear RGB colour."""
    texture: int = PLAIN
    scale: float = 1.0
    """Texture periods per body unit."""
    grain: float = 0.25
    """Relative amplitude of the noise over the texture."""
    specular: float = 0.15
    gloss: float = 40.0
    """Blinn-Phong exponent."""
    glow: float = 0.0
    """Share of the colour that is emitted."""

    def row(self) -> list[float]:
        """The material as the ray tracer's twelve numbers."""
        return [
            *self.colour,
            *self.second,
            float(self.texture),
            self.scale,
            self.grain,
            self.specular,
            self.gloss,
            self.glow,
        ]


@dataclass(frozen=True)
class Primitive:
    """One unit shape under the affine map `matrix`."""

    kind: int
    matrix: Float[np.ndarray, "3 4"]
    parameters: tuple[float, float, float, float]
    material: Material
    part: str = ""
    """Name of the part of the body that it belongs to, empty for the rest."""

    def outline(self) -> Float[np.ndarray, "K 3"]:
        """Points in the body's frame whose convex hull holds the primitive (tight to about 2 %)."""
        return _outline(self.kind, self.parameters) @ self.matrix[:, :3].T + self.matrix[:, 3]


def _outline(kind: int, p: tuple[float, float, float, float]) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn), np.zeros(24)], axis=1) / np.cos(np.pi / 24)
    up = np.array([0.0, 0.0, 1.0])
    if kind == SPHERE:
        heights = np.linspace(-1, min(p[0], 1.0), 25)
        radii = np.sqrt(np.maximum(1 - heights**2, 0.0))
        widest = np.maximum(radii[:-1], radii[1:])
        return np.concatenate([ring * r + z * up for r, pair in zip(widest, pairwise(heights)) for z in pair])
    if kind == FRUSTUM:
        return np.concatenate([ring * p[0], ring * p[1] + up])
    if kind == TORUS:
        kept = ring[np.abs(np.arctan2(ring[:, 1], ring[:, 0])) <= p[1] + np.pi / 12]
        return np.concatenate([kept * (1 + s * p[0]) + z * p[0] * up for s in (-1, 1) for z in (-1, 1)])
    half = np.array(p[:3]) if kind == ROUND else np.ones(3)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    return signs * half


def rotation(axis: Vector | str, degrees: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about an axis ("x", "y", "z" or a vector) by an angle in degrees."""
    a = np.eye(3)["xyz".index(axis)] if isinstance(axis, str) else np.asarray(axis, float)
    a = a / np.linalg.norm(a)
    k = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    t = np.radians(degrees)
    return np.eye(3) + np.sin(t) * k + (1 - np.cos(t)) * k @ k


def _basis(direction: np.ndarray) -> np.ndarray:
    """A right-handed frame whose z axis is `direction`."""
    z = direction / np.linalg.norm(direction)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


@dataclass
class Body:
    """Primitives of one object in its own frame; the `add` methods return the body, so they chain."""

    primitives: list[Primitive] = field(default_factory=list)
    named: str = ""
    """The part that primitives added from now on belong to."""

    def part(self, name: str = "") -> Body:
        """Primitives added from now on belong to this part; to none without a name."""
        self.named = name
        return self

    def _add(self, kind, linear, centre, parameters, material) -> Body:
        p = (*parameters, 0.0, 0.0, 0.0, 0.0)[:4]
        matrix = np.concatenate([np.asarray(linear, float), np.asarray(centre, float)[:, None]], axis=1)
        self.primitives.append(Primitive(kind, matrix, tuple(map(float, p)), material, self.named))
        return self

    def sphere(self, centre: Vector, radii, material: Material, turn=None, cut: float = 1.0) -> Body:
        """An ellipsoid (one radius or three), kept where its own z is at most `cut` radii."""
        r = np.broadcast_to(np.asarray(radii, float), 3)
        turn = np.eye(3) if turn is None else turn
        return self._add(SPHERE, turn * r, centre, (cut,), material)

    def box(self, centre: Vector, half: Vector, material: Material, turn=None) -> Body:
        """A sharp box of the given half sizes."""
        turn = np.eye(3) if turn is None else turn
        return self._add(BOX, turn * np.asarray(half, float), centre, (), material)

    def skew(self, centre: Vector, linear: Float[np.ndarray, "3 3"], material: Material) -> Body:
        """A parallelepiped: the cube [-1, 1]^3 under any linear map."""
        return self._add(BOX, linear, centre, (), material)

    def round(self, centre: Vector, half: Vector, radius: float, material: Material, turn=None) -> Body:
        """A box of the given half sizes whose edges are rounded."""
        turn = np.eye(3) if turn is None else turn
        radius = min(radius, *half)
        return self._add(ROUND, turn, centre, (*half, radius), material)

    def rod(self, start: Vector, end: Vector, r0: float, r1: float, material: Material, tube: bool = False) -> Body:
        """A frustum from `start` (radius r0) to `end` (radius r1); `tube`: without caps."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        length = np.linalg.norm(b - a)
        linear = _basis(b - a) * np.array([1.0, 1.0, length])
        return self._add(FRUSTUM, linear, a, (r0, r1, float(tube)), material)

    def capsule(self, start: Vector, end: Vector, radius: float, material: Material) -> Body:
        """A rod with round ends."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        half = (radius, radius, float(np.linalg.norm(b - a)) / 2 + radius)
        return self.round(tuple((a + b) / 2), half, radius, material, _basis(b - a))

    def torus(self, centre: Vector, major: float, minor: float, material: Material, turn=None, arc=np.pi) -> Body:
        """A ring around its own z, or the arc of it within `arc` radians of its own x axis."""
        turn = np.eye(3) if turn is None else turn
        return self._add(TORUS, turn * major, centre, (minor / major, arc), material)

    def lathe(self, profile: list[tuple[float, float]], material: Material, centre=(0.0, 0.0)) -> Body:
        """A solid of revolution from (radius, height) pairs, bottom to top."""
        x, y = centre
        for (r0, z0), (r1, z1) in pairwise(profile):
            if z1 > z0:
                self.rod((x, y, z0), (x, y, z1), r0, r1, material)
        return self

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner of a box around the body, body frame."""
        c = self.outline()
        return c.min(0), c.max(0)

    def outline(self) -> Float[np.ndarray, "K 3"]:
        """Points whose convex hull holds the body."""
        return np.concatenate([p.outline() for p in self.primitives])

    def footprint(self) -> float:
        """Radius of a vertical cylinder around the body's z axis that holds it."""
        return float(np.linalg.norm(self.outline()[:, :2], axis=1).max())


@dataclass(frozen=True)
class Placed:
    """A body in the world: x_world = scale * turn @ x_body + position."""

    body: Body
    position: Vector
    turn: Float[np.ndarray, "3 3"]
    scale: float
    id: int
    """Pixel value in the id images; 0 is background."""

    @property
    def matrix(self) -> Float[np.ndarray, "3 4"]:
        """Body to world."""
        return np.concatenate([self.turn * self.scale, np.asarray(self.position, float)[:, None]], axis=1)

    def outline(self) -> Float[np.ndarray, "K 3"]:
        """Points in the world whose convex hull holds the body."""
        m = self.matrix
        return self.body.outline() @ m[:, :3].T + m[:, 3]


class Packed(NamedTuple):
    """The scene as arrays for numba; bodies own consecutive primitives."""

    kind: Int[np.ndarray, " P"]
    inverse: Float[np.ndarray, "P 3 4"]
    """World to unit shape."""
    parameters: Float[np.ndarray, "P 4"]
    material: Float[np.ndarray, "P 12"]
    first: Int[np.ndarray, " B+1"]
    """First primitive of each body."""
    box: Float[np.ndarray, "B 6"]
    """World box around each body: low corner, high corner."""
    primitive_box: Float[np.ndarray, "P 6"]
    """The same around each primitive."""
    body_inverse: Float[np.ndarray, "B 3 4"]
    """World to body frame, for textures."""
    ids: Int[np.ndarray, " B"]
    room: Float[np.ndarray, " 3"]
    """Half width of the room, height of the floor, height of the ceiling."""


def _invert(m: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(m[:, :3])
    return np.concatenate([linear, -(linear @ m[:, 3])[:, None]], axis=1)


def _box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(0) - 1e-6, points.max(0) + 1e-6])


def pack(placed: list[Placed], room: tuple[float, float, float]) -> Packed:
    """Arrays for the ray tracer from bodies in the world and the room's half width, floor and ceiling."""
    kind, inverse, parameters, material, boxes, first = [], [], [], [], [], [0]
    for item in placed:
        world = item.matrix
        for p in item.body.primitives:
            linear = world[:, :3] @ p.matrix[:, :3]
            m = np.concatenate([linear, (world[:, :3] @ p.matrix[:, 3] + world[:, 3])[:, None]], axis=1)
            kind.append(p.kind)
            inverse.append(_invert(m))
            parameters.append(p.parameters)
            material.append(p.material.row())
            boxes.append(_box(_outline(p.kind, p.parameters) @ m[:, :3].T + m[:, 3]))
        first.append(len(kind))
    return Packed(
        np.array(kind, np.int64),
        np.ascontiguousarray(inverse, np.float64),
        np.array(parameters, np.float64),
        np.array(material, np.float64),
        np.array(first, np.int64),
        np.array([_box(p.outline()) for p in placed], np.float64),
        np.array(boxes, np.float64),
        np.ascontiguousarray([_invert(p.matrix) for p in placed], np.float64),
        np.array([p.id for p in placed], np.int64),
        np.array(room, np.float64),
    )
