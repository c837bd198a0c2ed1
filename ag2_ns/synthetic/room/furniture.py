"""Furniture of the room: bodies on z = 0 with their backs to +y, and the flat places on them where things may stand.

A unit is about half a metre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ag2_ns.synthetic.tabletop import household
from ag2_ns.synthetic.tabletop.kinds import COLOURS
from ag2_ns.synthetic.tabletop.shapes import DOTS, STAVES, WOOD, Body, Material, Vector, rotation

OAK = Material((0.28, 0.15, 0.07), (0.14, 0.07, 0.03), WOOD, 3.0, 0.3, 0.1)


@dataclass(frozen=True)
class Place:
    """A horizontal rectangle, in the frame of its furniture."""

    centre: Vector
    half: tuple[float, float]
    headroom: float
    """Height that a thing on it may have."""


@dataclass(frozen=True)
class Furniture:
    """One piece."""

    kind: str
    body: Body
    half: tuple[float, float]
    """Half width and half depth on the floor."""
    places: tuple[Place, ...] = ()


def painted(colour: str) -> Material:
    """Painted wood."""
    return household.board(COLOURS[colour])


def shelf(colour: str) -> Furniture:
    """A bookcase of four boards with a back: its things are seen from one side only."""
    wood, body, places = painted(colour), Body(), []
    width, depth, height = 0.85, 0.24, 2.05
    for x in (-width, width):
        body.box((x, 0, height / 2), (0.025, depth, height / 2), wood)
    body.box((0, depth - 0.01, height / 2), (width, 0.012, height / 2), OAK)
    for z in (0.06, 0.56, 1.06, 1.56):
        body.box((0, 0, z), (width, depth, 0.02), wood)
        places.append(Place((0.0, -0.02, z + 0.02), (width - 0.06, depth - 0.05), 0.44))
    body.box((0, 0, height), (width + 0.03, depth, 0.02), wood)
    return Furniture("shelf", body, (width + 0.05, depth), tuple(places))


def cupboard(colour: str) -> Furniture:
    """A sideboard with two doors."""
    paint, knob = painted(colour), household.metal(household.BRASS)
    body = Body().box((0, 0, 0.42), (0.8, 0.28, 0.42), paint).box((0, 0, 0.86), (0.84, 0.3, 0.02), OAK)
    for x in (-0.4, 0.4):
        body.part("doors").round((x, -0.28, 0.42), (0.36, 0.015, 0.36), 0.01, paint)
        body.sphere((x * 0.25, -0.31, 0.46), 0.025, knob)
    return Furniture("cupboard", body, (0.86, 0.33), (Place((0.0, 0.0, 0.88), (0.78, 0.24), 1.2),))


def desk(colour: str) -> Furniture:
    """A table on four legs."""
    wood, body = painted(colour), Body().box((0, 0, 0.72), (0.75, 0.36, 0.025), OAK)
    for x in (-0.68, 0.68):
        for y in (-0.3, 0.3):
            body.part("legs").box((x, y, 0.35), (0.03, 0.03, 0.35), wood)
    return Furniture("desk", body, (0.77, 0.38), (Place((0.0, 0.0, 0.745), (0.68, 0.3), 1.2),))


def sofa(colour: str, width: float = 0.95) -> Furniture:
    """A sofa with a back, arms and cushions."""
    cloth = Material(COLOURS[colour], tuple(0.6 * c for c in COLOURS[colour]), DOTS, 9.0, 0.4, 0.0)
    body = Body().round((0, 0, 0.26), (width, 0.4, 0.16), 0.06, cloth)
    body.part("back").round((0, 0.34, 0.58), (width, 0.12, 0.34), 0.08, cloth).part("arms")
    for x in (-width, width):
        body.round((x, -0.02, 0.33), (0.1, 0.4, 0.27), 0.08, cloth)
    return Furniture("sofa" if width > 0.6 else "armchair", body, (width + 0.1, 0.46))


def television(colour: str) -> Furniture:
    """A flat screen on a foot."""
    case = Material(COLOURS[colour], grain=0.1, specular=0.3)
    body = (
        Body()
        .part("foot")
        .rod((0, 0, 0), (0, 0, 0.014), 0.2, 0.18, case)
        .rod((0, 0, 0), (0, 0, 0.12), 0.02, 0.02, case)
    )
    body.part().round((0, 0, 0.42), (0.52, 0.02, 0.31), 0.012, case)
    screen = Material((0.02, 0.03, 0.05), grain=0.05, specular=0.6, gloss=100)
    body.part("screen").box((0, -0.021, 0.42), (0.49, 0.002, 0.28), screen)
    return Furniture("television", body, (0.54, 0.2))


def plant(colour: str) -> Furniture:
    """A plant in a large pot."""
    leaf = Material((0.07, 0.22, 0.06), (0.14, 0.34, 0.10), STAVES, 12.0, 0.4, 0.1)
    body = Body().part("pot").lathe([(0.17, 0.0), (0.24, 0.4)], Material(COLOURS[colour], grain=0.4))
    body.part().rod((0, 0, 0.35), (0, 0, 0.8), 0.03, 0.02, OAK)
    for i in range(12):
        turn = rotation("z", 137.5 * i) @ rotation("y", -25 - 9 * (i % 5))
        stem = turn @ np.array([0.33, 0, 0]) + np.array([0, 0, 0.55 + 0.04 * i])
        body.part("leaves").sphere(tuple(stem), (0.3, 0.085, 0.012), leaf, turn)
    return Furniture("plant", body, (0.4, 0.4))


def floor_lamp(colour: str) -> Furniture:
    """A tall lamp."""
    brass = household.metal(household.BRASS)
    shade = Material(COLOURS[colour], household.WHITE, STAVES, 10.0, 0.15, 0.0, glow=0.3)
    body = Body().part("foot").lathe([(0.2, 0.0), (0.2, 0.02), (0.05, 0.05)], brass)
    body.rod((0, 0, 0.04), (0, 0, 1.75), 0.016, 0.016, brass)
    body.part("shade").rod((0, 0, 1.55), (0, 0, 1.95), 0.27, 0.16, shade, tube=True)
    return Furniture("floor lamp", body, (0.28, 0.28))
