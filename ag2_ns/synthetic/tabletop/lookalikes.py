"""Kinds whose names or shapes are easily mistaken for others': made for the wild scenes only."""

from __future__ import annotations

from ag2_ns.synthetic.tabletop.household import DARK, WHITE, accent, metal
from ag2_ns.synthetic.tabletop.shapes import RINGS, Body, Material, Vector, rotation


def cup(colour: Vector) -> Body:
    """A small cup without a handle: a mug to the eye, another word to the ear."""
    glaze = Material(colour, accent(colour), RINGS, 9.0, 0.12, 0.45, 80)
    inside = Material(WHITE, grain=0.1, specular=0.3)
    body = Body().rod((0, 0, 0), (0, 0, 0.012), 0.05, 0.055, glaze)
    body.rod((0, 0, 0.012), (0, 0, 0.14), 0.055, 0.078, glaze, tube=True)
    body.rod((0, 0, 0.018), (0, 0, 0.14), 0.049, 0.071, inside, tube=True)
    body.rod((0, 0, 0.012), (0, 0, 0.05), 0.048, 0.052, Material((0.05, 0.02, 0.008), specular=0.3, gloss=90))
    return body.torus((0, 0, 0.14), 0.0745, 0.005, glaze)


def pot(colour: Vector) -> Body:
    """A cooking pot with two handles, a lid and a knob."""
    enamel = Material(colour, accent(colour), RINGS, 0.0, 0.12, 0.5, 90)
    body = Body().rod((0, 0, 0), (0, 0, 0.13), 0.12, 0.125, enamel)
    body.torus((0, 0, 0.13), 0.122, 0.006, metal())
    for side in (-1, 1):
        turn = rotation("z", 90 - 90 * side)
        body.part("handles").torus((side * 0.125, 0, 0.105), 0.032, 0.009, Material(DARK, grain=0.2), turn, arc=1.6)
    body.part("lid").sphere((0, 0, 0.132), (0.118, 0.118, 0.035), metal())
    return body.rod((0, 0, 0.16), (0, 0, 0.185), 0.012, 0.018, Material(DARK, grain=0.2))


def ball(colour: Vector) -> Body:
    """One ball, like those of the ball pyramid."""
    return Body().sphere((0, 0, 0.05), 0.05, Material(colour, grain=0.15, specular=0.4, gloss=60))


def wheel(colour: Vector) -> Body:
    """One wheel lying flat, like those of the toy car but larger."""
    body = Body().torus((0, 0, 0.026), 0.06, 0.026, Material(DARK, grain=0.3, specular=0.1))
    return body.part("rim").rod((0, 0, 0.004), (0, 0, 0.04), 0.044, 0.044, Material(colour, grain=0.1, specular=0.5))
