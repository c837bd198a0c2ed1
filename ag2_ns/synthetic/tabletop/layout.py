"""What stands where: kinds and colours of the objects, stacks and leaning things, table, furniture, cameras, light.

The table's top is z = 0, z points up, and the room is centred on the table. Objects are drawn as groups (a book that
carries a mug, a book with a plate with an apple, a gift box with a book leaning on it, or one object) and each group
gets a disc of the table of its own, so nothing interpenetrates. The table grows with what must fit, the room and the
cameras' distance with the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.tabletop import household
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, COLOURS, KINDS, SMALL
from ag2_ns.synthetic.tabletop.shapes import DOTS, RINGS, STAVES, WOOD, Body, Material, Packed, Placed, pack, rotation

MAX_OBJECTS = 120
"""Most objects in a scene: labels stay unique and ids fit 8 bits."""
TABLE_LABEL = "table"

_GAP = 0.03
_FILL = 0.46
"""Share of the table top covered by the groups' discs."""
_THICK = 0.06
_REST = 1e-4
"""Air under an object that stands on something."""


@dataclass(frozen=True)
class Layout:
    """A furnished room with its table laid."""

    placed: list[Placed]
    """The table first, then the objects, then furniture."""
    labels: dict[int, str]
    """Id to text: objects 1 to n, the table n + 1."""
    table_half: float
    """Half width of the (square) table top."""
    room: tuple[float, float, float]
    """Half width, floor height, ceiling height."""
    light: Float[np.ndarray, "3 3"]
    """Centre and half edges of the rectangular light."""
    rug_half: float
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Things that belong together: a name for them and their ids."""
    supports: tuple[int, ...] = ()
    """Ids of what things stand on; by default the highest id, the table."""

    @property
    def parts(self) -> tuple[dict[int, str], Int[np.ndarray, " P"]]:
        """Named parts of things: part number (from 1) to "<label> <part>", and the part of each primitive, 0 for none.

        Things of one label share their parts' names, not their numbers.
        """
        names: dict[int, str] = {}
        number: dict[tuple[int, str], int] = {}
        owner = []
        for k, item in enumerate(self.placed):
            for primitive in item.body.primitives:
                if not primitive.part or not item.id:
                    owner.append(0)
                    continue
                which = number.setdefault((k, primitive.part), len(number) + 1)
                names[which] = f"{self.labels[item.id]} {primitive.part}"
                owner.append(which)
        return names, np.array(owner, np.int64)

    def pack(self) -> Packed:
        """Arrays for the ray tracer."""
        return pack(self.placed, self.room)


class Names:
    """Hands out kinds evenly and colours so that each label occurs once."""

    def __init__(self, rng: np.random.Generator, kinds: Iterable[str] = tuple(KINDS)) -> None:
        self.rng = rng
        self.colours = {kind: [str(c) for c in rng.permutation(list(COLOURS))] for kind in kinds}
        self.used: dict[str, int] = {}
        self.last: list[str] = []

    def kind(self, names: list[str]) -> str:
        """One of `names` among those used least."""
        free = [n for n in names if self.used.get(n, 0) < len(COLOURS)]
        fewest = min(self.used.get(n, 0) for n in free)
        name = str(self.rng.choice([n for n in free if self.used.get(n, 0) == fewest]))
        self.used[name] = self.used.get(name, 0) + 1
        return name

    def colour(self, kind: str) -> str:
        """A colour this kind has not had, away from the colours handed out last where possible."""
        left = self.colours[kind]
        pick = next((c for c in left if c not in self.last[-5:]), left[0])
        left.remove(pick)
        self.last.append(pick)
        return pick


@dataclass(frozen=True)
class Item:
    """An object within its group's frame."""

    kind: str
    colour: str
    position: tuple[float, float, float]
    turn: Float[np.ndarray, "3 3"]
    scale: float

    def body(self) -> Body:
        """Its shape, in its own frame."""
        return ALL_KINDS[self.kind].build(COLOURS[self.colour])


def stand(
    names: Names, kind: str, at: tuple[float, float, float], room: float | None = None, colour: str | None = None
) -> Item:
    """One object standing at a point with a random yaw, shrunk if it must stay within `room` of its axis."""
    scale = float(names.rng.uniform(0.92, 1.08))
    colour = names.colour(kind) if colour is None else colour
    if room is not None:
        scale = min(scale, room / ALL_KINDS[kind].build(COLOURS[colour]).footprint())
    return Item(kind, colour, at, rotation("z", float(names.rng.uniform(0, 360))), scale)


def stack(names: Names, carriers: list[str]) -> list[Item]:
    """Objects on top of each other: the carriers from below, then a small object."""
    parts, height, room = [], 0.0, None
    for i, kind in enumerate(carriers):
        names.used[kind] = names.used.get(kind, 0) + 1
        part = stand(names, kind, (0.0, 0.0, height), None if i == 0 else 0.21)
        top, radius = ALL_KINDS[kind].shelf
        parts.append(part)
        height += part.scale * top + _REST
        room = radius * part.scale
    parts.append(stand(names, names.kind(SMALL), (0.0, 0.0, height), room))
    return parts


def lean(names: Names) -> list[Item]:
    """A gift box and a book leaning on it: the book's back touches the box's top edge or its own top the side."""
    names.used["gift box"] = names.used.get("gift box", 0) + 1
    names.used["book"] = names.used.get("book", 0) + 1
    depth, height = KINDS["gift box"].wall
    box = Item("gift box", names.colour("gift box"), (0.0, 0.0, 0.0), np.eye(3), 1.0)
    length = 2 * household.BOOK_HALF[1]
    angle = np.radians(float(names.rng.uniform(16, 24)))
    # The book stands on its lower edge; its y axis leans towards the box by `angle` from the vertical, its cover
    # faces away. In the plane across the box's side: `up` along the book, `out` away from its back.
    up = np.array([0.0, np.sin(angle), np.cos(angle)])
    out = np.array([0.0, -np.cos(angle), np.sin(angle)])
    turn = np.stack([np.cross(up, out), up, out], axis=1)
    reach = length * np.cos(angle)
    # Distance of the back's lower edge from the box, so that the contact is at the lower of the two tops.
    contact = min(height, reach) * np.tan(angle)
    face = -depth - 0.0035
    foot = np.array([0.0, face - contact, 0.0])
    # The lowest point of the book is the back's lower edge, as `out` rises away from it.
    centre = foot + up * length / 2
    shift = float(names.rng.uniform(-0.03, 0.03))
    position = (shift, float(centre[1]), float(centre[2]) + _REST)
    return [box, Item("book", names.colour("book"), position, turn, 1.0)]


def _groups(names: Names, count: int) -> list[list[Item]]:
    """Groups that hold `count` objects: one stack from 3 objects, a leaning book from 6, a triple stack from 11.

    Every fourth object that stands alone repeats the kind of one before it in another colour.
    """
    groups: list[list[Item]] = []
    stacks, leans, triples = min(4, 1 + count // 16), min(3, 1 + count // 24), min(3, 1 + count // 28)
    for _ in range(stacks if count >= 3 else 0):
        groups.append(stack(names, [["book"], ["plate"]][len(groups) % 2]))
    for _ in range(leans if count >= 6 else 0):
        groups.append(lean(names))
    for _ in range(triples if count >= 11 else 0):
        groups.append(stack(names, ["book", "plate"]))
    alone: list[str] = []
    while sum(map(len, groups)) < count:
        again = len(alone) % 4 == 3
        kind = names.kind(alone[-3:] if again else list(KINDS))
        alone.append(kind)
        groups.append([stand(names, kind, (0.0, 0.0, 0.0))])
    return groups


def group_name(group: list[Item]) -> str:
    """What to call things that stand on, or lean against, one another."""
    kinds = {item.kind for item in group}
    if len(kinds) == 1:
        return f"stack of {group[0].kind}s"
    if "teapot" in kinds:
        return "tea set"
    low, top = group[0], group[-1]
    how = "leaning on" if "gift box" in kinds and "book" in kinds else "on"
    return f"{top.colour} {top.kind} {how} the {low.colour} {low.kind}"


def _disc(group: list[Item]) -> tuple[np.ndarray, float]:
    """Centre and radius of a disc that holds a group's outline."""
    points = []
    for p in group:
        outline = p.body().outline() * p.scale
        points.append((outline @ p.turn.T)[:, :2] + np.array(p.position[:2]))
    flat = np.concatenate(points)
    centre = (flat.min(0) + flat.max(0)) / 2
    return centre, float(np.linalg.norm(flat - centre, axis=1).max())


def _spread(radii: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Disjoint places for discs on the smallest square that random placement fills; half width of the square."""
    half = float(np.sqrt((np.pi * (radii + _GAP / 2) ** 2).sum() / _FILL)) / 2
    half = max(half, float(radii.max()) + 0.15)
    order = np.argsort(-radii, kind="stable")
    while True:
        places = np.zeros((len(radii), 2))
        for n, i in enumerate(order):
            edge = half - radii[i] - 0.04
            tries = rng.uniform(-edge, edge, size=(400, 2))
            before = order[:n]
            apart = np.linalg.norm(tries[:, None] - places[before][None], axis=2) - radii[before] - radii[i] - _GAP
            good = np.flatnonzero((apart > 0).all(axis=1))
            if len(good) == 0:
                break
            # Of the places that fit, the most central of a few keeps the middle of the table from staying empty.
            some = tries[good[:4]]
            places[i] = some[np.argmin(np.linalg.norm(some, axis=1))]
        else:
            return places, half
        half *= 1.03


def table_body(half: float, floor: float) -> Body:
    """A square table whose top is z = 0, on legs down to the floor."""
    wood = Material((0.40, 0.24, 0.11), (0.22, 0.12, 0.05), WOOD, 4.0, 0.25, 0.12)
    leg = Material((0.30, 0.17, 0.08), (0.16, 0.09, 0.04), WOOD, 6.0, 0.25, 0.1)
    body = Body().box((0, 0, -_THICK / 2), (half, half, _THICK / 2), wood)
    body.box((0, 0, -_THICK - 0.05), (half - 0.09, half - 0.09, 0.05), leg)
    for x in (-1, 1):
        for y in (-1, 1):
            at = (x * (half - 0.13), y * (half - 0.13))
            body.rod((*at, floor), (*at, -_THICK - 0.09), 0.035, 0.06, leg)
    return body


FURNITURE = ("cupboard", "shelf", "sofa", "plant", "sofa", "plant")
"""A word for each of the bodies along the walls."""


def _furniture(room: float, floor: float) -> list[tuple[Body, tuple[float, float, float], float]]:
    """Cupboard, shelf, armchair, plant and crate along the walls: body, position on the floor, yaw."""
    oak = Material((0.28, 0.15, 0.07), (0.14, 0.07, 0.03), WOOD, 3.0, 0.3, 0.1)
    paint = Material((0.10, 0.22, 0.25), (0.16, 0.30, 0.32), WOOD, 3.0, 0.3, 0.1)
    knob = household.metal(household.BRASS)
    cupboard = Body().box((0, 0, 0.5), (0.6, 0.24, 0.5), paint).box((0, 0, 1.02), (0.64, 0.26, 0.02), oak)
    for x in (-0.3, 0.3):
        cupboard.round((x, -0.24, 0.5), (0.26, 0.015, 0.42), 0.01, paint).sphere((x * 0.2, -0.27, 0.55), 0.025, knob)
    shelf = Body()
    for x in (-0.62, 0.62):
        shelf.box((x, 0, 0.75), (0.025, 0.17, 0.75), oak)
    rng = np.random.default_rng(5)
    for z in (0.06, 0.42, 0.78, 1.14, 1.48):
        shelf.box((0, 0, z), (0.6, 0.17, 0.02), oak)
        x = -0.55
        while z < 1.4 and x < 0.5:
            w, h = float(rng.uniform(0.016, 0.04)), float(rng.uniform(0.09, 0.145))
            c = tuple(float(v) for v in rng.uniform(0.03, 0.55, 3))
            shelf.box((x + w, -0.02, z + 0.02 + h), (w - 0.002, 0.11, h), Material(c, (0.6, 0.5, 0.3), RINGS, 5.0, 0.3))
            x += 2 * w
    cloth = Material((0.42, 0.30, 0.08), (0.30, 0.12, 0.06), DOTS, 9.0, 0.4, 0.0)
    sofa = (
        Body()
        .round((0, 0, 0.24), (0.55, 0.36, 0.16), 0.06, cloth)
        .round((0, 0.3, 0.52), (0.55, 0.12, 0.3), 0.08, cloth)
    )
    for x in (-0.55, 0.55):
        sofa.round((x, -0.02, 0.3), (0.1, 0.36, 0.24), 0.08, cloth)
    leaf = Material((0.07, 0.22, 0.06), (0.14, 0.34, 0.10), STAVES, 12.0, 0.4, 0.1)
    plant = Body().lathe([(0.17, 0.0), (0.24, 0.4)], Material((0.5, 0.2, 0.1), grain=0.4))
    plant.rod((0, 0, 0.35), (0, 0, 0.8), 0.03, 0.02, oak)
    for i in range(12):
        turn = rotation("z", 137.5 * i) @ rotation("y", -25 - 9 * (i % 5))
        stem = turn @ np.array([0.33, 0, 0]) + np.array([0, 0, 0.55 + 0.04 * i])
        plant.sphere(tuple(stem), (0.3, 0.085, 0.012), leaf, turn)
    edge = room - 0.3
    return [
        (cupboard, (-0.35 * room, edge, floor), 0.0),
        (shelf, (-edge - 0.08, 0.3 * room, floor), 90.0),
        (sofa, (edge - 0.15, -0.1 * room, floor), -90.0),
        (plant, (edge - 0.2, edge - 0.2, floor), 20.0),
        (sofa, (-0.2 * room, -edge + 0.15, floor), 180.0),
        (plant, (-edge + 0.2, -edge + 0.2, floor), 75.0),
    ]


def lay(count: int, seed: int, wild: bool = False) -> Layout:
    """Lay a table with `count` objects.

    Args:
        count: objects on it.
        seed: which, and where.
        wild: with twins, look-alikes and named groups among them (`wild_groups.py`).

    Raises:
        UserError: fewer than 1 or more than `MAX_OBJECTS` objects.
    """
    if not 1 <= count <= MAX_OBJECTS:
        raise UserError(f"--objects {count}: a scene holds 1 to {MAX_OBJECTS} objects; choose a number in that range.")
    rng = np.random.default_rng([seed, 1])
    if wild:
        from ag2_ns.synthetic.tabletop.wild_groups import wild_groups

        groups = wild_groups(Names(rng, tuple(ALL_KINDS)), count)
    else:
        groups = _groups(Names(rng), count)
    discs = [_disc(g) for g in groups]
    places, half = _spread(np.array([r for _, r in discs]), rng)
    half = max(half, 0.5)
    floor, room = -1.1 * half - 0.1, 3.6 * half
    ceiling = 2.9 * half
    placed = [Placed(table_body(half, floor), (0.0, 0.0, 0.0), np.eye(3), 1.0, count + 1)]
    labels: dict[int, str] = {}
    named = []
    for group, (centre, _), place in zip(groups, discs, places):
        first = len(labels) + 1
        yaw = rotation("z", float(rng.uniform(0, 360)))
        for part in group:
            at = yaw @ (np.array(part.position) - np.array([*centre, 0.0])) + np.array([*place, _REST])
            number = len(labels) + 1
            labels[number] = f"{part.colour} {part.kind}"
            placed.append(Placed(part.body(), tuple(at.tolist()), yaw @ part.turn, part.scale, number))
        if len(group) > 1:
            named.append((group_name(group), tuple(range(first, len(labels) + 1))))
    labels[count + 1] = TABLE_LABEL
    size = half / 0.9
    for body, (x, y, z), yaw in _furniture(room / size, floor / size):
        placed.append(Placed(body, (x * size, y * size, z * 1.0 * size), rotation("z", yaw), size, 0))
    light = np.array([[-1.1, 0.9, 2.4], [0.42, 0.0, 0.1], [0.0, 0.42, -0.1]]) * half
    return Layout(placed, labels, half, (room, floor, ceiling), light, 1.75 * half, tuple(named))


def orbit(views: int, table_half: float, seed: int) -> Float[np.ndarray, "V 3 4"]:
    """Camera-to-world poses (OpenGL axes) on a rising spiral around the table, each jittered, looking at the objects.

    About 26 views make one turn; fewer views make one turn whose height swings.
    """
    rng = np.random.default_rng([seed, 2])
    turns = max(1, round(views / 26))
    poses = []
    for i in range(views):
        share = i / max(1, views - 1)
        elevation = 20 + 40 * share if turns > 1 else 37 + 15 * np.sin(2.4 * i + 0.4)
        azimuth = np.radians(360 * turns * i / views + rng.uniform(-3, 3) + 20)
        elevation = np.radians(elevation + rng.uniform(-2, 2))
        radius = table_half * rng.uniform(2.35, 2.75)
        target = np.array([*rng.uniform(-0.06, 0.06, 2), rng.uniform(0.02, 0.08)]) * table_half
        eye = target + radius * np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        back = (eye - target) / np.linalg.norm(eye - target)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        poses.append(np.stack([right, np.cross(back, right), back, eye], axis=1))
    return np.array(poses)
