"""Household objects of the table-top scene: each builder takes the main colour and returns a body on z = 0."""

from __future__ import annotations

import numpy as np

from ag2_ns.synthetic.tabletop.shapes import (
    COVER,
    DOTS,
    MARBLE,
    PAGES,
    RINGS,
    STAVES,
    TEXT,
    WOOD,
    Body,
    Material,
    Vector,
    rotation,
)

WHITE: Vector = (0.80, 0.79, 0.75)
CREAM: Vector = (0.78, 0.69, 0.50)
DARK: Vector = (0.02, 0.02, 0.022)
METAL: Vector = (0.42, 0.43, 0.45)
BRASS: Vector = (0.55, 0.36, 0.10)
PINE: Vector = (0.50, 0.28, 0.11)
OAK: Vector = (0.26, 0.13, 0.05)
LEAF: Vector = (0.05, 0.24, 0.05)

BOOK_HEIGHT = 0.062
BOOK_HALF = (0.15, 0.20)
PLATE_FLOOR = 0.022


def metal(colour: Vector = METAL) -> Material:
    """Brushed metal."""
    return Material(colour, grain=0.15, specular=0.6, gloss=60)


def accent(colour: Vector) -> Vector:
    """A second colour that stands out against `colour`: cream on dark, deep blue-grey on light."""
    return (0.06, 0.07, 0.12) if sum(colour) > 1.7 else WHITE


def mug(colour: Vector) -> Body:
    """A mug with a light inside and a handle."""
    glaze = Material(colour, accent(colour), RINGS, 7.0, 0.12, 0.45, 80)
    plain = Material(colour, grain=0.12, specular=0.45, gloss=80)
    inside = Material(WHITE, grain=0.1, specular=0.3)
    body = Body().rod((0, 0, 0), (0, 0, 0.012), 0.078, 0.088, plain)
    body.rod((0, 0, 0.012), (0, 0, 0.205), 0.088, 0.092, glaze, tube=True)
    body.rod((0, 0, 0.02), (0, 0, 0.205), 0.08, 0.084, inside, tube=True)
    body.rod((0, 0, 0.012), (0, 0, 0.075), 0.0795, 0.081, Material((0.05, 0.02, 0.008), specular=0.3, gloss=90))
    body.torus((0, 0, 0.205), 0.088, 0.0065, plain)
    return body.part("handle").torus((0.088, 0, 0.108), 0.06, 0.0135, plain, rotation("x", 90), arc=1.75)


def book(colour: Vector) -> Body:
    """A closed book lying flat: two covers, a spine and the pages."""
    x, y = BOOK_HALF
    cloth = Material(colour, accent(colour), COVER, 1.0, 0.3, 0.12, 20)
    paper = Material(CREAM, (0.45, 0.38, 0.25), PAGES, 190.0, 0.2, 0.0)
    body = Body().box((0, 0, 0.005), (x, y, 0.005), cloth)
    body.box((0, 0, BOOK_HEIGHT - 0.005), (x, y, 0.005), cloth)
    body.part("pages").box((0.006, 0, BOOK_HEIGHT / 2), (x - 0.012, y - 0.009, BOOK_HEIGHT / 2 - 0.0098), paper)
    return body.part().box((-x + 0.004, 0, BOOK_HEIGHT / 2), (0.004, y, BOOK_HEIGHT / 2 - 0.0099), cloth)


def open_book(colour: Vector) -> Body:
    """An open book: a cover and two blocks of printed pages that rise to the fold."""
    cloth = Material(colour, grain=0.3, specular=0.1, gloss=20)
    print_ = Material(CREAM, (0.10, 0.09, 0.08), TEXT, 1.0, 0.12, 0.0)
    body = Body()
    for side in (-1, 1):
        body.box((side * 0.148, 0, 0.005), (0.152, 0.195, 0.005), cloth)
        body.box((side * 0.144, 0, 0.027), (0.141, 0.180, 0.0145), print_, rotation("y", side * 2.5))
        body.box((side * 0.052, 0, 0.038), (0.050, 0.180, 0.0145), print_, rotation("y", side * 7.0))
    return body


def plate(colour: Vector) -> Body:
    """A thin plate with a raised rim."""
    glaze = Material(colour, accent(colour), RINGS, 0.0, 0.12, 0.4, 80)
    band = Material(accent(colour), grain=0.12, specular=0.4, gloss=80)
    body = Body().rod((0, 0, 0), (0, 0, 0.008), 0.10, 0.11, glaze)
    body.rod((0, 0, 0.008), (0, 0, PLATE_FLOOR), 0.125, 0.150, glaze)
    body.rod((0, 0, 0.014), (0, 0, 0.034), 0.150, 0.205, glaze, tube=True)
    body.rod((0, 0, 0.010), (0, 0, 0.029), 0.146, 0.205, glaze, tube=True)
    body.torus((0, 0, 0.0325), 0.203, 0.005, glaze)
    return body.torus((0, 0, 0.0245), 0.1655, 0.004, band)


def bowl(colour: Vector) -> Body:
    """A round bowl on a foot."""
    outside = Material(colour, accent(colour), RINGS, 11.0, 0.12, 0.4, 80)
    inside = Material(tuple(0.5 * c + 0.35 for c in colour), grain=0.12, specular=0.3, gloss=60)
    body = Body().rod((0, 0, 0), (0, 0, 0.02), 0.058, 0.05, outside)
    body.sphere((0, 0, 0.128), (0.118, 0.118, 0.116), outside, cut=0.0)
    body.sphere((0, 0, 0.128), (0.108, 0.108, 0.105), inside, cut=0.0)
    return body.torus((0, 0, 0.128), 0.113, 0.0065, outside)


def bottle(colour: Vector) -> Body:
    """A bottle with a paper label and a cap."""
    glass = Material(colour, grain=0.08, specular=0.7, gloss=120)
    paper = Material(WHITE, colour, RINGS, 22.0, 0.15, 0.05)
    body = Body().lathe([(0.066, 0.0), (0.074, 0.01), (0.074, 0.07)], glass)
    body.part("label").lathe([(0.0755, 0.07), (0.0755, 0.17)], paper)
    body.part().lathe(
        [(0.074, 0.17), (0.074, 0.235), (0.064, 0.268), (0.04, 0.3), (0.028, 0.325), (0.026, 0.375)], glass
    )
    return body.part("cap").lathe([(0.031, 0.375), (0.031, 0.405), (0.028, 0.412)], metal(BRASS))


def lamp(colour: Vector) -> Body:
    """A table lamp: foot, stem and a shade lit from within."""
    shade = Material(colour, accent(colour), STAVES, 10.0, 0.15, 0.0, glow=0.30)
    lining = Material((0.9, 0.8, 0.6), grain=0.1, glow=0.55)
    body = Body().part("foot")
    body.lathe([(0.095, 0.0), (0.095, 0.014), (0.05, 0.03), (0.018, 0.05)], metal(BRASS))
    body.rod((0, 0, 0.04), (0, 0, 0.36), 0.011, 0.011, metal(BRASS)).sphere((0, 0, 0.15), 0.024, metal(BRASS))
    body.part("shade").rod((0, 0, 0.27), (0, 0, 0.44), 0.145, 0.085, shade, tube=True)
    body.rod((0, 0, 0.271), (0, 0, 0.439), 0.141, 0.081, lining, tube=True)
    body.torus((0, 0, 0.27), 0.143, 0.004, metal(BRASS)).torus((0, 0, 0.44), 0.083, 0.004, metal(BRASS))
    return body.sphere((0, 0, 0.37), (0.03, 0.03, 0.042), Material((0.95, 0.9, 0.75), glow=0.8, grain=0.0))


def alarm_clock(colour: Vector) -> Body:
    """A twin-bell alarm clock with hands at ten past ten."""
    case = Material(colour, grain=0.12, specular=0.4, gloss=70)
    face = Material(WHITE, grain=0.08, specular=0.1)
    ink = Material(DARK, grain=0.0, specular=0.05)
    r, z = 0.115, 0.14
    body = Body().rod((0, -0.042, z), (0, 0.045, z), r, r, case)
    body.torus((0, -0.043, z), r - 0.006, 0.0085, case, rotation("x", 90))
    body.part("face").rod((0, -0.044, z), (0, -0.0425, z), r - 0.012, r - 0.012, face)
    for hour in range(12):
        a = np.pi * hour / 6
        x, up = np.sin(a), np.cos(a)
        size = (0.0045, 0.0016, 0.011 if hour % 3 == 0 else 0.006)
        body.box((0.082 * x, -0.0445, z + 0.082 * up), size, ink, rotation("y", 30 * hour))
    for degrees, length, width in ((-55, 0.05, 0.0055), (60, 0.068, 0.004)):
        a = np.radians(degrees)
        middle = (length / 2 * np.sin(a), -0.0465, z + length / 2 * np.cos(a))
        body.box(middle, (width, 0.0015, length / 2), ink, rotation("y", degrees))
    body.sphere((0, -0.046, z), 0.009, metal(BRASS))
    for side in (-1, 1):
        body.part("bells")
        body.sphere((side * 0.07, 0, z + 0.112), 0.05, metal(), rotation("y", 180 + side * 32), cut=0.05)
        body.rod((side * 0.045, 0, z + 0.07), (side * 0.07, 0, z + 0.13), 0.006, 0.006, metal())
        body.part().capsule((side * 0.06, 0, 0.045), (side * 0.088, 0, 0.0125), 0.0125, metal())
    return body.torus((0, 0, z + 0.15), 0.05, 0.006, metal(), rotation("x", 90) @ rotation("z", 90), arc=1.6)


def dumbbell(colour: Vector) -> Body:
    """A dumbbell lying down: a steel bar and two stepped weights."""
    rubber = Material(colour, grain=0.35, specular=0.2, gloss=25)
    r = 0.075
    body = (
        Body().part("bar").rod((-0.2, 0, r), (0.2, 0, r), 0.021, 0.021, Material(METAL, DARK, RINGS, 0.0, 0.2, 0.6, 60))
    )
    for side in (-1, 1):
        for x0, x1, radius in ((0.085, 0.135, r), (0.135, 0.178, 0.06)):
            body.part("weights").rod((side * x0, 0, r), (side * x1, 0, r), radius, radius, rubber)
            body.torus((side * (x0 + x1) / 2, 0, r), radius - 0.006, 0.006, rubber, rotation("y", 90))
        body.rod((side * 0.178, 0, r), (side * 0.186, 0, r), 0.036, 0.03, metal())
    return body


def flowerpot(colour: Vector) -> Body:
    """A cactus in a coloured pot."""
    clay = Material(colour, accent(colour), RINGS, 0.0, 0.3, 0.12, 25)
    band = Material(colour, accent(colour), DOTS, 17.0, 0.3, 0.12, 25)
    soil = Material((0.05, 0.028, 0.015), (0.12, 0.08, 0.05), MARBLE, 30.0, 0.8, 0.0)
    plant = Material(LEAF, (0.22, 0.42, 0.14), STAVES, 9.0, 0.25, 0.08)
    body = Body().part("pot").rod((0, 0, 0), (0, 0, 0.115), 0.068, 0.092, clay)
    body.rod((0, 0, 0.105), (0, 0, 0.15), 0.102, 0.107, band, tube=True).rod(
        (0, 0, 0.105), (0, 0, 0.108), 0.095, 0.102, clay
    )
    body.torus((0, 0, 0.15), 0.103, 0.0055, clay).rod((0, 0, 0.11), (0, 0, 0.138), 0.094, 0.0985, soil)
    body.part("cactus").capsule((0, 0, 0.12), (0, 0, 0.34), 0.042, plant)
    body.capsule((0.03, 0, 0.235), (0.082, 0, 0.24), 0.021, plant).capsule(
        (0.082, 0, 0.24), (0.084, 0, 0.3), 0.021, plant
    )
    body.capsule((-0.03, 0, 0.2), (-0.075, 0, 0.205), 0.019, plant)
    body.capsule((-0.075, 0, 0.205), (-0.077, 0, 0.255), 0.019, plant)
    blossom = Material((0.75, 0.12, 0.32), grain=0.2)
    return body.sphere((0, 0, 0.385), (0.02, 0.02, 0.014), blossom).sphere((0.084, 0, 0.325), 0.011, blossom)


def candle(colour: Vector) -> Body:
    """A burning candle on a brass dish with a finger ring."""
    wax = Material(colour, accent(colour), RINGS, 9.0, 0.1, 0.25, 30, glow=0.06)
    body = (
        Body()
        .part("dish")
        .lathe([(0.07, 0.0), (0.085, 0.012)], metal(BRASS))
        .torus((0, 0, 0.014), 0.083, 0.006, metal(BRASS))
    )
    body.torus((0.108, 0, 0.0305), 0.024, 0.006, metal(BRASS), rotation("x", 90))
    body.rod((0, 0, 0.012), (0, 0, 0.035), 0.05, 0.047, metal(BRASS))
    body.part("wax").rod((0, 0, 0.03), (0, 0, 0.2), 0.04, 0.038, wax).part()
    body.rod((0, 0, 0.2), (0, 0, 0.216), 0.003, 0.002, Material(DARK))
    flame = Material((1.0, 0.72, 0.22), grain=0.0, specular=0.0, glow=1.0)
    return body.sphere((0, 0, 0.238), (0.011, 0.011, 0.027), flame)


def teapot(colour: Vector) -> Body:
    """A round teapot with spout, handle, lid and knob."""
    glaze = Material(colour, accent(colour), DOTS, 15.0, 0.12, 0.5, 90)
    plain = Material(colour, grain=0.12, specular=0.5, gloss=90)
    trim = Material(accent(colour), grain=0.1, specular=0.4, gloss=80)
    body = Body().rod((0, 0, 0), (0, 0, 0.02), 0.075, 0.068, trim).sphere((0, 0, 0.112), (0.128, 0.128, 0.1), glaze)
    body.part("spout").rod((0.095, 0, 0.085), (0.165, 0, 0.15), 0.034, 0.021, plain)
    body.rod((0.165, 0, 0.15), (0.195, 0, 0.2), 0.021, 0.016, plain).sphere((0.165, 0, 0.15), 0.021, plain)
    body.torus((0.195, 0, 0.2), 0.0145, 0.004, trim, rotation("y", 31))
    body.part("handle").torus((-0.118, 0, 0.122), 0.062, 0.0125, plain, rotation("z", 180) @ rotation("x", 90), arc=2.0)
    body.part("lid").torus((0, 0, 0.203), 0.058, 0.006, trim).sphere((0, 0, 0.198), (0.056, 0.056, 0.026), plain)
    return body.sphere((0, 0, 0.236), 0.017, trim)


def apple(colour: Vector) -> Body:
    """An apple: a torus-like flesh with a stalk in its dimple and a leaf."""
    skin = Material(
        colour, tuple(0.6 * c + 0.25 * w for c, w in zip(colour, (1.0, 0.8, 0.2))), MARBLE, 14.0, 0.2, 0.4, 50
    )
    body = Body().torus((0, 0, 0.083), 0.036, 0.052, skin).sphere((0, 0, 0.072), (0.078, 0.078, 0.07), skin)
    body.sphere((0, 0, 0.05), (0.05, 0.05, 0.048), skin)
    body.rod((0, 0, 0.11), (0.012, 0, 0.168), 0.0045, 0.0055, Material(OAK))
    return body.part("leaf").sphere(
        (0.04, 0.004, 0.158), (0.036, 0.017, 0.005), Material(LEAF, grain=0.3), rotation("y", -14)
    )


def pencil_cup(colour: Vector) -> Body:
    """A cup with pencils of several colours."""
    tin = Material(colour, accent(colour), STAVES, 8.0, 0.15, 0.35, 60)
    body = Body().rod((0, 0, 0), (0, 0, 0.01), 0.07, 0.07, tin)
    body.rod((0, 0, 0.01), (0, 0, 0.17), 0.07, 0.072, tin, tube=True)
    body.rod((0, 0, 0.01), (0, 0, 0.17), 0.065, 0.067, Material(DARK), tube=True)
    body.torus((0, 0, 0.17), 0.0695, 0.004, metal())
    body.part("pencils")
    paints = ((0.6, 0.05, 0.04), (0.7, 0.5, 0.04), (0.05, 0.2, 0.5), (0.05, 0.3, 0.1), (0.05, 0.05, 0.05))
    for i, paint in enumerate(paints):
        a = 2 * np.pi * i / 5 + 0.3
        low = np.array([0.03 * np.cos(a + 2.6), 0.03 * np.sin(a + 2.6), 0.012])
        rim = np.array([0.054 * np.cos(a), 0.054 * np.sin(a), 0.17])
        way = (rim - low) / np.linalg.norm(rim - low)
        top = low + way * (0.27 + 0.012 * (i * 2 % 5))
        body.rod(tuple(low), tuple(top), 0.0085, 0.0085, Material(paint, specular=0.3))
        body.rod(tuple(top), tuple(top + way * 0.022), 0.0085, 0.003, Material(PINE))
        body.rod(tuple(top + way * 0.022), tuple(top + way * 0.03), 0.003, 0.0005, Material(paint))
    return body


def board(colour: Vector) -> Material:
    """Painted wood, for the toys."""
    return Material(colour, tuple(0.72 * c for c in colour), WOOD, 9.0, 0.2, 0.15)
