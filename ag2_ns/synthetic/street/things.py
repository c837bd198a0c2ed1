"""What stands and moves in the street, in metres: bodies on z = 0 that look along x, of the table-top's shapes."""

from __future__ import annotations

import numpy as np

from ag2_ns.synthetic.tabletop.kinds import linear
from ag2_ns.synthetic.tabletop.shapes import BRICKS, CHECKS, RINGS, Body, Material, Vector, rotation

PAINTS = [linear(c) for c in (
    (0.75, 0.12, 0.1), (0.15, 0.25, 0.6), (0.85, 0.85, 0.83), (0.12, 0.12, 0.13), (0.55, 0.56, 0.58),
    (0.2, 0.42, 0.3), (0.9, 0.75, 0.2), (0.35, 0.2, 0.14),
)]  # fmt: skip
WALLS = [linear(c) for c in (
    (0.72, 0.55, 0.42), (0.62, 0.3, 0.24), (0.8, 0.76, 0.66), (0.5, 0.52, 0.56), (0.68, 0.64, 0.5), (0.36, 0.4, 0.46),
)]  # fmt: skip
CLOTHES = [linear(c) for c in (
    (0.7, 0.15, 0.15), (0.15, 0.2, 0.5), (0.2, 0.2, 0.2), (0.75, 0.7, 0.3), (0.3, 0.5, 0.35), (0.8, 0.8, 0.8),
)]  # fmt: skip
_GLASS = Material((0.03, 0.045, 0.055), grain=0.05, specular=0.6, gloss=90)
_TYRE = Material((0.012, 0.012, 0.012), grain=0.1)
_SKIN = Material(linear((0.8, 0.6, 0.48)), grain=0.05)
_GREY = Material(linear((0.45, 0.46, 0.47)), grain=0.15)


def _wheels(body: Body, along: float, across: float, radius: float) -> Body:
    for x in (-along, along):
        for y in (-across, across):
            body.rod((x, y - 0.11, radius), (x, y + 0.11, radius), radius, radius, _TYRE)
    return body


def car(rng: np.random.Generator) -> Body:
    """A car of 3.9 to 4.8 m with a cabin and wheels."""
    paint = Material(PAINTS[rng.integers(len(PAINTS))], grain=0.04, specular=0.5, gloss=70)
    length, width, roof = rng.uniform(3.9, 4.8), rng.uniform(1.7, 1.9), rng.uniform(1.4, 1.75)
    half = (length / 2, width / 2, 0.34)
    body = Body().round((0, 0, 0.62), half, 0.16, paint)
    body.round((-0.12 * length / 2, 0, roof - 0.34), (length * 0.26, width * 0.43, 0.34), 0.14, _GLASS)
    body.box((-0.12 * length / 2, 0, roof - 0.03), (length * 0.22, width * 0.38, 0.03), paint)
    return _wheels(body, length * 0.3, width / 2 - 0.1, 0.33)


def truck(rng: np.random.Generator) -> Body:
    """A box truck of 6.5 to 8.5 m."""
    paint = Material(PAINTS[rng.integers(len(PAINTS))], grain=0.04, specular=0.4)
    load = Material(linear((0.85, 0.85, 0.82)), grain=0.06)
    length = rng.uniform(6.5, 8.5)
    body = Body().round((length / 2 - 0.95, 0, 1.35), (0.95, 1.15, 1.0), 0.15, paint)
    body.box((length / 2 - 0.02, 0, 1.75), (0.04, 0.95, 0.35), _GLASS)
    body.box((-1.0, 0, 1.95), (length / 2 - 1.05, 1.22, 1.25), load)
    body.box((0, 0, 0.6), (length / 2 - 0.3, 0.9, 0.12), _GREY)
    return _wheels(body, length * 0.32, 1.0, 0.48)


def bus(rng: np.random.Generator) -> Body:
    """A city bus of 11 m."""
    paint = Material(PAINTS[rng.integers(len(PAINTS))], grain=0.04, specular=0.4)
    body = Body().round((0, 0, 1.65), (5.5, 1.25, 1.35), 0.2, paint)
    for side in (-1, 1):
        body.box((0, side * 1.25, 2.05), (5.0, 0.02, 0.45), _GLASS)
    body.box((5.49, 0, 1.95), (0.03, 1.05, 0.7), _GLASS)
    return _wheels(body, 3.4, 1.08, 0.5)


def bicycle(rng: np.random.Generator) -> Body:
    """A bicycle with a rider."""
    frame = Material(PAINTS[rng.integers(len(PAINTS))], grain=0.04)
    cloth = Material(CLOTHES[rng.integers(len(CLOTHES))], grain=0.2)
    upright = rotation("x", 90)
    body = Body()
    for x in (-0.52, 0.52):
        body.torus((x, 0, 0.34), 0.32, 0.035, _TYRE, upright)
    body.rod((-0.52, 0, 0.34), (-0.1, 0, 0.85), 0.03, 0.03, frame).rod((-0.1, 0, 0.8), (0.4, 0, 0.9), 0.03, 0.03, frame)
    body.rod((0.52, 0, 0.34), (0.4, 0, 1.0), 0.03, 0.03, frame)
    body.capsule((-0.12, 0, 0.95), (0.12, 0, 1.45), 0.19, cloth).sphere((0.18, 0, 1.68), 0.12, _SKIN)
    return body.capsule((-0.1, 0.1, 0.9), (0.05, 0.1, 0.4), 0.08, cloth)


def person(rng: np.random.Generator) -> Body:
    """Someone walking, 1.55 to 1.9 m."""
    cloth, trousers = (Material(CLOTHES[rng.integers(len(CLOTHES))], grain=0.2) for _ in range(2))
    tall = rng.uniform(1.55, 1.9) / 1.75
    stride = rng.uniform(0.1, 0.25)
    body = Body()
    for side, step in ((-0.1, stride), (0.1, -stride)):
        body.capsule((step, side, 0.1), (0, side, 0.85 * tall), 0.09, trousers)
        body.capsule((-step * 0.8, side * 2.4, 0.85 * tall), (0, side * 2.2, 1.38 * tall), 0.06, cloth)
    body.round((0, 0, 1.12 * tall), (0.14, 0.22, 0.33 * tall), 0.12, cloth)
    return body.sphere((0, 0, 1.62 * tall), (0.1, 0.09, 0.13), _SKIN)


def tree(rng: np.random.Generator) -> Body:
    """A broad-leaved tree of 4 to 8 m, or a bush."""
    green = linear((rng.uniform(0.15, 0.35), rng.uniform(0.38, 0.55), rng.uniform(0.1, 0.2)))
    leaves = Material(green, tuple(0.5 * c for c in green), CHECKS, 3.0, 1.0, 0.02)
    if rng.random() < 0.25:
        return Body().sphere((0, 0, 0.55), tuple(rng.uniform(0.5, 0.9, 2).tolist()) + (0.6,), leaves)
    bark = Material(linear((0.32, 0.24, 0.17)), grain=0.6)
    height, crown = rng.uniform(4, 8), rng.uniform(1.2, 2.3)
    body = Body().rod((0, 0, 0), (0, 0, height * 0.6), 0.19, 0.12, bark)
    for _ in range(4):
        x, y = rng.uniform(-0.5, 0.5, 2) * crown
        body.sphere((x, y, height * 0.7 + rng.uniform(-0.4, 0.6)), crown * rng.uniform(0.6, 0.85), leaves)
    return body


def cone(rng: np.random.Generator) -> Body:
    """A traffic cone, 0.75 m."""
    orange = Material(linear((0.95, 0.35, 0.08)), linear((0.95, 0.95, 0.95)), RINGS, 3.0, 0.05)
    return Body().rod((0, 0, 0.04), (0, 0, 0.75), 0.17, 0.03, orange).box((0, 0, 0.02), (0.2, 0.2, 0.02), _TYRE)


def barrier(rng: np.random.Generator) -> Body:
    """A road barrier of 2 m."""
    paint = Material(linear((0.85, 0.25, 0.12)), linear((0.95, 0.95, 0.95)), CHECKS, 2.0, 0.1)
    return Body().box((0, 0, 0.5), (1.0, 0.2, 0.48), paint)


def pole(rng: np.random.Generator) -> Body:
    """A street lamp of 6 m, or a sign."""
    if rng.random() < 0.5:
        body = Body().rod((0, 0, 0), (0, 0, 6.0), 0.1, 0.07, _GREY).rod((0, 0, 5.9), (1.3, 0, 6.1), 0.05, 0.05, _GREY)
        return body.box((1.3, 0, 6.08), (0.3, 0.12, 0.06), _GREY)
    sign = Material(linear((0.75, 0.1, 0.12)) if rng.random() < 0.5 else linear((0.1, 0.25, 0.65)), grain=0.03)
    return Body().rod((0, 0, 0), (0, 0, 2.6), 0.05, 0.05, _GREY).box((0, 0, 2.35), (0.03, 0.32, 0.32), sign)


def building(rng: np.random.Generator, length: float, depth: float) -> Body:
    """A house of two to six floors with windows; its front looks along -y."""
    tone = WALLS[rng.integers(len(WALLS))]
    wall = Material(tone, tuple(0.65 * c for c in tone), BRICKS, 1.6, 0.25, 0.02)
    floors = int(rng.integers(2, 7))
    height = 3.1 * floors + 0.6
    body = Body().box((0, 0, height / 2), (length / 2, depth / 2, height / 2), wall)
    columns = max(2, int(length / 3))
    for floor in range(min(floors, 3)):
        for x in np.linspace(-length / 2, length / 2, columns + 2)[1:-1]:
            body.box((float(x), -depth / 2, 1.7 + 3.1 * floor), (0.6, 0.04, 0.75), _GLASS)
    return body


def slab(low: tuple[float, float, float], high: tuple[float, float, float], tone: Vector, grain: float = 0.3) -> Body:
    """A box of ground."""
    centre = tuple((a + b) / 2 for a, b in zip(low, high))
    half = tuple((b - a) / 2 for a, b in zip(low, high))
    return Body().box(centre, half, Material(tone, grain=grain, specular=0.0))
