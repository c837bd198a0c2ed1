"""Toys and ornaments of the table-top scene: each builder takes the main colour and returns a body on z = 0."""

from __future__ import annotations

import numpy as np

from ag2_ns.synthetic.tabletop.household import BRASS, DARK, OAK, PINE, WHITE, accent, board, metal
from ag2_ns.synthetic.tabletop.shapes import (
    BRICKS,
    CHECKS,
    DOTS,
    RINGS,
    STAVES,
    WOOD,
    Body,
    Material,
    Vector,
    rotation,
)

GIFT_HALF = 0.115
GIFT_HEIGHT = 0.23


def chair(colour: Vector) -> Body:
    """A wooden chair with a slatted back and a cushion."""
    wood = board(colour)
    body = Body()
    for x in (-0.085, 0.085):
        body.part("legs").rod((x, -0.085, 0.0004), (x, -0.08, 0.19), 0.011, 0.014, wood)
        body.rod((x, 0.085, 0.0004), (x, 0.08, 0.19), 0.011, 0.014, wood)
        body.part("back").round((x, 0.092, 0.315), (0.013, 0.011, 0.135), 0.006, wood, rotation("x", -5))
        body.part("legs").rod((x, -0.082, 0.08), (x, 0.082, 0.08), 0.007, 0.007, wood)
    body.part().round((0, 0, 0.197), (0.105, 0.105, 0.0125), 0.008, wood)
    body.part("cushion").round(
        (0, -0.008, 0.222), (0.088, 0.085, 0.016), 0.016, Material(accent(colour), colour, CHECKS, 22.0, 0.3, 0.0)
    )
    for z, depth in ((0.30, 0.0905), (0.36, 0.096), (0.42, 0.101)):
        body.part("back").round((0, depth, z), (0.085, 0.006, 0.018), 0.005, wood, rotation("x", -5))
    return body


def snowman(colour: Vector) -> Body:
    """A painted snowman with hat, carrot nose, scarf and stick arms."""
    snow = Material(colour, grain=0.3, specular=0.1)
    coal = Material(DARK, specular=0.3)
    scarf = Material(accent(colour), (0.5, 0.05, 0.05), STAVES, 14.0, 0.3, 0.0)
    body = Body().sphere((0, 0, 0.095), (0.112, 0.112, 0.095), snow).sphere((0, 0, 0.235), 0.078, snow)
    body.part("head").sphere((0, 0, 0.345), 0.057, snow).part("scarf").torus((0, 0, 0.298), 0.046, 0.0155, scarf)
    body.round((0.03, -0.065, 0.262), (0.014, 0.007, 0.04), 0.006, scarf, rotation("x", -14))
    body.part("head").rod((0, -0.05, 0.342), (0, -0.112, 0.336), 0.0125, 0.002, Material((0.85, 0.25, 0.02), grain=0.2))
    for x in (-0.022, 0.022):
        body.sphere((x, -0.05, 0.362), 0.0075, coal)
    for z in (0.20, 0.235, 0.268):
        body.part().sphere((0, -np.sqrt(0.078**2 - (z - 0.235) ** 2), z), 0.0085, coal)
    for side in (-1, 1):
        body.rod((side * 0.06, 0, 0.25), (side * 0.165, -0.02, 0.31), 0.007, 0.0045, Material(OAK))
        body.rod((side * 0.13, -0.013, 0.29), (side * 0.15, -0.012, 0.335), 0.004, 0.003, Material(OAK))
    hat = Material((0.03, 0.03, 0.035), grain=0.3, specular=0.15)
    return body.part("hat").lathe([(0.075, 0.388), (0.075, 0.396)], hat).lathe([(0.048, 0.394), (0.05, 0.46)], hat)


def block_tower(colour: Vector) -> Body:
    """Five wooden blocks stacked with a twist; every other one in the main colour."""
    plain = Material(PINE, tuple(0.6 * c for c in PINE), WOOD, 9.0, 0.2, 0.1)
    body, z = Body(), 0.0
    for i, (half, degrees) in enumerate(((0.095, 8), (0.085, -22), (0.077, 14), (0.068, -40), (0.056, 5))):
        paint = board(colour) if i % 2 == 0 else plain
        height = half * 0.92
        body.round(
            (0.006 * (-1) ** i, 0.004 * i, z + height / 2),
            (half, half, height / 2),
            0.006,
            paint,
            rotation("z", degrees),
        )
        z += height
    return body


def toy_car(colour: Vector) -> Body:
    """A toy car with windows, wheels and lights; it drives along x."""
    paint = Material(colour, grain=0.08, specular=0.6, gloss=90)
    glass = Material((0.06, 0.09, 0.12), grain=0.05, specular=0.7, gloss=120)
    tyre = Material(DARK, grain=0.3, specular=0.1)
    body = Body().round((0, 0, 0.075), (0.185, 0.085, 0.035), 0.02, paint)
    body.part("cabin").round((-0.015, 0, 0.13), (0.095, 0.072, 0.038), 0.026, glass)
    body.round((-0.015, 0, 0.166), (0.078, 0.066, 0.0085), 0.008, paint)
    for x in (-0.095, 0.062):
        for y in (-0.066, 0.066):
            body.box((x + 0.01, y, 0.135), (0.007, 0.0075, 0.03), paint)
    body.part().round((0.0, 0, 0.052), (0.192, 0.078, 0.012), 0.01, Material(DARK, grain=0.2))
    for x in (-0.11, 0.11):
        for side in (-1, 1):
            y = side * 0.082
            body.part("wheels").torus((x, y, 0.043), 0.0285, 0.0145, tyre, rotation("x", 90))
            body.rod((x, y - 0.011, 0.043), (x, y + 0.011, 0.043), 0.02, 0.02, metal())
    for side in (-1, 1):
        body.part().sphere((0.183, side * 0.052, 0.083), (0.008, 0.017, 0.013), Material((0.9, 0.85, 0.6), glow=0.4))
        body.sphere((-0.183, side * 0.055, 0.083), (0.006, 0.016, 0.011), Material((0.6, 0.02, 0.02)))
    return body


def mushroom(colour: Vector) -> Body:
    """A toadstool: pale stem, dotted cap."""
    stem = Material((0.72, 0.66, 0.52), (0.5, 0.42, 0.3), STAVES, 12.0, 0.3, 0.05)
    cap = Material(colour, accent(colour), DOTS, 17.0, 0.15, 0.35, 50)
    gills = Material((0.62, 0.5, 0.36), (0.4, 0.3, 0.2), STAVES, 36.0, 0.2, 0.0)
    body = Body().part("stem").lathe([(0.052, 0.0), (0.048, 0.02), (0.036, 0.07), (0.033, 0.15)], stem)
    body.torus((0, 0, 0.105), 0.037, 0.008, stem).rod((0, 0, 0.138), (0, 0, 0.148), 0.09, 0.11, gills)
    return body.part("cap").sphere((0, 0, 0.145), (0.114, 0.114, 0.09), cap, rotation("x", 180), cut=0.0)


def ball_pyramid(colour: Vector) -> Body:
    """Ten balls stacked as a triangular pyramid."""
    r = 0.048
    plain = Material(colour, grain=0.15, specular=0.4, gloss=60)
    body = Body()
    for layer in range(3):
        n = 3 - layer
        z = r + layer * r * np.sqrt(8 / 3)
        for i in range(n):
            for j in range(n - i):
                x = (2 * i + j - (n - 1)) * r
                y = (j - (n - 1) / 3) * r * np.sqrt(3)
                body.sphere((x, y, z), r * 0.999, plain)
    return body


def house(colour: Vector) -> Body:
    """A little house with a pitched roof, door, windows and chimney."""
    wall = Material(colour, tuple(0.6 * c + 0.15 for c in colour), BRICKS, 28.0, 0.2, 0.05)
    tile = Material((0.19, 0.06, 0.04), (0.09, 0.03, 0.025), RINGS, 38.0, 0.35, 0.08)
    pane, frame = Material((0.09, 0.16, 0.24), grain=0.05, specular=0.6, gloss=100), Material(WHITE, grain=0.1)
    x, y, h = 0.115, 0.095, 0.155
    body = Body().box((0, 0, h / 2), (x, y, h / 2), wall)
    slope = np.degrees(np.arctan2(0.095, y))
    gable = np.diag([1.0, 1.0, 0.095 / y]) @ rotation("x", 45)
    body.skew((0, 0, h), gable * np.array([x - 0.002, y / np.sqrt(2), y / np.sqrt(2)]), wall)
    for side in (-1, 1):
        turn = rotation("x", -side * slope)
        middle = np.array([0, side * (y + 0.016) / 2, h + 0.095 / 2 - 0.004]) + turn @ np.array([0, 0, 0.012])
        body.part("roof").box(tuple(middle), (x + 0.018, 0.083, 0.007), tile, turn)
        body.part().box((side * (x + 0.001), 0, 0.095), (0.003, 0.026, 0.028), frame)
        body.box((side * (x + 0.0025), 0, 0.095), (0.003, 0.021, 0.023), pane)
    for front in (-1, 1):
        body.box((0.06, front * (y + 0.001), 0.09), (0.027, 0.003, 0.029), frame)
        body.box((0.06, front * (y + 0.0025), 0.09), (0.022, 0.003, 0.024), pane)
        body.box(
            (-0.045, front * (y + 0.001), 0.052), (0.03, 0.004, 0.052), Material(OAK, (0.1, 0.05, 0.02), WOOD, 9.0)
        )
        body.sphere((-0.027, front * (y + 0.006), 0.055), 0.005, metal(BRASS))
    brick = Material((0.3, 0.08, 0.05), (0.5, 0.45, 0.4), BRICKS, 34.0, 0.2, 0.0)
    return body.part("chimney").box((0.06, 0.045, 0.225), (0.02, 0.02, 0.05), brick)


def rubber_duck(colour: Vector) -> Body:
    """A bath duck with beak, eyes, wings and tail, looking along x."""
    rubber = Material(colour, grain=0.1, specular=0.5, gloss=60)
    beak = Material((0.85, 0.24, 0.02), grain=0.1, specular=0.4)
    body = Body().sphere((-0.01, 0, 0.072), (0.115, 0.088, 0.0715), rubber)
    body.sphere((-0.1, 0, 0.108), (0.052, 0.042, 0.026), rubber, rotation("y", 32))
    body.rod((0.045, 0, 0.09), (0.055, 0, 0.15), 0.05, 0.04, rubber).sphere((0.058, 0, 0.178), 0.06, rubber)
    body.part("beak").sphere((0.118, 0, 0.168), (0.034, 0.03, 0.011), beak).sphere(
        (0.112, 0, 0.158), (0.028, 0.025, 0.009), beak
    )
    for side in (-1, 1):
        body.part().sphere((-0.02, side * 0.078, 0.088), (0.062, 0.02, 0.038), rubber, rotation("y", 14))
        body.sphere((0.098, side * 0.037, 0.196), 0.0125, Material(WHITE, grain=0.0))
        body.sphere((0.107, side * 0.0405, 0.197), 0.0075, Material(DARK, specular=0.6, gloss=100))
    return body


def robot(colour: Vector) -> Body:
    """A tin robot with arms, legs, a dial, eyes and an antenna; it looks along -y."""
    tin = Material(colour, grain=0.12, specular=0.45, gloss=60)
    body = (
        Body()
        .round((0, 0, 0.19), (0.078, 0.055, 0.075), 0.012, tin)
        .part("head")
        .round((0, 0, 0.315), (0.055, 0.048, 0.042), 0.012, tin)
    )
    body.rod((0, 0, 0.26), (0, 0, 0.28), 0.024, 0.024, metal())
    for side in (-1, 1):
        body.part("legs").round((side * 0.038, -0.012, 0.013), (0.03, 0.052, 0.013), 0.008, metal(), None)
        body.rod((side * 0.038, 0, 0.02), (side * 0.038, 0, 0.12), 0.019, 0.019, metal())
        body.part("arms").sphere((side * 0.086, 0, 0.24), 0.024, metal())
        body.rod((side * 0.094, 0, 0.24), (side * 0.108, -0.02, 0.15), 0.015, 0.015, tin)
        body.torus(
            (side * 0.109, -0.026, 0.128), 0.018, 0.007, metal(), rotation("z", -90) @ rotation("y", 90), arc=2.3
        )
        body.part("head").rod(
            (side * 0.022, -0.044, 0.322), (side * 0.022, -0.054, 0.322), 0.014, 0.014, Material(WHITE, grain=0.0)
        )
        body.rod((side * 0.022, -0.05, 0.322), (side * 0.022, -0.056, 0.322), 0.007, 0.007, Material(DARK))
        body.rod((side * 0.055, 0, 0.315), (side * 0.066, 0, 0.315), 0.017, 0.012, metal())
    body.box((0, -0.047, 0.292), (0.03, 0.003, 0.005), Material(DARK))
    body.part().round((0, -0.055, 0.2), (0.052, 0.004, 0.04), 0.004, Material(accent(colour), DARK, CHECKS, 40.0, 0.1))
    body.rod((0.025, -0.055, 0.205), (0.025, -0.062, 0.205), 0.015, 0.013, Material((0.7, 0.05, 0.04)))
    body.part("head").rod((0, 0, 0.355), (0, 0, 0.4), 0.004, 0.003, metal())
    return body.sphere((0, 0, 0.408), 0.012, Material((0.8, 0.08, 0.05), specular=0.5))


def gift_box(colour: Vector) -> Body:
    """A wrapped box with crossing ribbons and a bow."""
    h, z = GIFT_HALF, GIFT_HEIGHT
    paper = Material(colour, tuple(0.55 * c + 0.45 * w for c, w in zip(colour, accent(colour))), DOTS, 19.0, 0.12, 0.25)
    ribbon = Material(accent(colour), grain=0.12, specular=0.5, gloss=50)
    body = Body().box((0, 0, z / 2), (h, h, z / 2), paper)
    body.box((0, 0, z / 2 + 0.001), (h + 0.0015, 0.018, z / 2 + 0.0005), ribbon)
    body.box((0, 0, z / 2 + 0.001), (0.018, h + 0.0015, z / 2 + 0.0005), ribbon)
    body.part("bow")
    for degrees in (25, 115, 205, 295):
        a = np.radians(degrees)
        turn = rotation("z", degrees) @ rotation("x", 90)
        loop = turn @ np.diag([1.0, 0.62, 2.2])
        body.torus((0.038 * np.cos(a), 0.038 * np.sin(a), z + 0.023), 0.034, 0.005, ribbon, loop)
    return body.sphere((0, 0, z + 0.016), (0.017, 0.017, 0.015), ribbon)


def ring_stack(colour: Vector) -> Body:
    """A stacking toy: rings of falling size on a stick, the main colour and a paler one in turn."""
    pale = tuple(0.45 * c + 0.3 for c in colour)
    body = (
        Body()
        .lathe([(0.11, 0.0), (0.11, 0.018)], board(PINE))
        .rod((0, 0, 0.018), (0, 0, 0.25), 0.014, 0.012, board(PINE))
    )
    z = 0.018
    for i, (major, minor) in enumerate(((0.078, 0.029), (0.068, 0.026), (0.058, 0.024), (0.049, 0.022), (0.04, 0.019))):
        z += minor
        body.torus(
            (0, 0, z), major, minor, Material(colour if i % 2 == 0 else pale, grain=0.12, specular=0.4, gloss=60)
        )
        z += minor * 0.86
    return body.part("knob").sphere((0, 0, 0.262), 0.023, Material(colour, grain=0.12, specular=0.4))


def rocket(colour: Vector) -> Body:
    """A rocket with fins, porthole and nozzle."""
    hull = Material(WHITE, colour, RINGS, 0.0, 0.15, 0.4, 60)
    paint = Material(colour, grain=0.15, specular=0.4, gloss=60)
    body = Body().lathe([(0.045, 0.035), (0.038, 0.06)], metal())
    body.lathe([(0.05, 0.06), (0.066, 0.12)], paint).lathe([(0.066, 0.12), (0.068, 0.19)], paint)
    body.lathe([(0.0685, 0.19), (0.0685, 0.215)], hull).lathe([(0.068, 0.215), (0.06, 0.285)], paint)
    body.part("nose").lathe([(0.06, 0.285), (0.046, 0.33), (0.026, 0.37), (0.004, 0.4)], hull)
    for i in range(4):
        turn = rotation("z", 45 + 90 * i)
        body.part("fins")
        body.box(tuple(turn @ np.array([0.082, 0, 0.088])), (0.032, 0.0065, 0.042), hull, turn @ rotation("y", 30))
        body.round(tuple(turn @ np.array([0.11, 0, 0.035])), (0.011, 0.0085, 0.035), 0.006, hull, turn)
    for degrees in (0, 180):
        turn = rotation("z", degrees) @ rotation("y", 90)
        x = float(np.cos(np.radians(degrees)))
        body.part()
        body.torus((0.0635 * x, 0, 0.25), 0.023, 0.0055, metal(), turn)
        body.sphere((0.058 * x, 0, 0.25), (0.012, 0.021, 0.021), Material((0.08, 0.2, 0.35), specular=0.7, gloss=100))
    return body
