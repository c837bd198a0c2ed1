"""The kinds of objects on the table: a name, a builder and where other objects may stand or lean.

A label is a colour word and the kind's name ("red mug"). The colour word names the object's main colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ag2_ns.synthetic.tabletop import household, lookalikes, toys
from ag2_ns.synthetic.tabletop.shapes import Body, Vector

_SRGB = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.94, 0.48, 0.08),
    "yellow": (0.95, 0.80, 0.14),
    "green": (0.16, 0.56, 0.20),
    "turquoise": (0.15, 0.70, 0.68),
    "blue": (0.13, 0.28, 0.76),
    "purple": (0.46, 0.19, 0.62),
    "pink": (0.95, 0.56, 0.70),
    "white": (0.91, 0.90, 0.87),
    "black": (0.13, 0.13, 0.14),
    "brown": (0.42, 0.25, 0.13),
}


def linear(srgb: Vector) -> Vector:
    """Linear RGB of an sRGB colour (IEC 61966-2-1), both 0 to 1."""
    c = np.asarray(srgb, float)
    return tuple(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).tolist())


COLOURS: dict[str, Vector] = {name: linear(c) for name, c in _SRGB.items()}
"""Colour word to linear RGB."""


@dataclass(frozen=True)
class Kind:
    """One kind of object; lengths in body units (a mug is about 0.2 high)."""

    name: str
    build: Callable[[Vector], Body]
    """Linear RGB of the main colour to a body standing on z = 0."""
    shelf: tuple[float, float] | None = None
    """Height of the top and radius of the disc on it where a small object may stand."""
    small: bool = False
    """May stand on a shelf."""
    wall: tuple[float, float] | None = None
    """Half depth along y and height of a box-shaped side that a thin object may lean against."""


KINDS: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind("mug", household.mug, small=True),
        Kind("book", household.book, shelf=(household.BOOK_HEIGHT, 0.15)),
        Kind("plate", household.plate, shelf=(household.PLATE_FLOOR, 0.125)),
        Kind("chair", toys.chair),
        Kind("lamp", household.lamp),
        Kind("snowman", toys.snowman),
        Kind("block tower", toys.block_tower),
        Kind("open book", household.open_book),
        Kind("bottle", household.bottle),
        Kind("alarm clock", household.alarm_clock),
        Kind("toy car", toys.toy_car),
        Kind("mushroom", toys.mushroom, small=True),
        Kind("dumbbell", household.dumbbell),
        Kind("ball pyramid", toys.ball_pyramid),
        Kind("bowl", household.bowl, small=True),
        Kind("flowerpot", household.flowerpot),
        Kind("house", toys.house),
        Kind("rubber duck", toys.rubber_duck, small=True),
        Kind("candle", household.candle, small=True),
        Kind("teapot", household.teapot),
        Kind("robot", toys.robot),
        Kind("gift box", toys.gift_box, wall=(toys.GIFT_HALF, toys.GIFT_HEIGHT)),
        Kind("ring stack", toys.ring_stack),
        Kind("apple", household.apple, small=True),
        Kind("rocket", toys.rocket),
        Kind("pencil cup", household.pencil_cup),
    )
}
"""Every kind by its name."""

LOOKALIKES: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind("cup", lookalikes.cup, small=True),
        Kind("pot", lookalikes.pot),
        Kind("ball", lookalikes.ball, small=True),
        Kind("wheel", lookalikes.wheel, small=True),
    )
}
"""Kinds that only wild scenes hold: taken for a mug, a bowl, or a part of something else."""

ALL_KINDS: dict[str, Kind] = KINDS | LOOKALIKES

SMALL = [k.name for k in KINDS.values() if k.small]
"""Kinds that may stand on another object."""
