"""What stands where in the room: furniture along the walls, a table in the middle, things on all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.room import furniture
from ag2_ns.synthetic.room.furniture import Furniture, Place
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, COLOURS, SMALL
from ag2_ns.synthetic.tabletop.layout import Item, Layout, Names, group_name, stand, table_body
from ag2_ns.synthetic.tabletop.shapes import Placed, rotation
from ag2_ns.synthetic.tabletop.wild_groups import books, tea_set

HALF = 3.5
"""Half width of the room."""
TABLE = 0.95
FLOOR = -1.0
CEILING = 3.4
TWINS = ("mug", "apple", "cup", "rubber duck")
FEWEST, MOST = 20, 150

FURNITURE_KINDS = ("shelf", "cupboard", "desk", "sofa", "armchair", "television", "plant", "floor lamp", "table")

_GAP = 0.02


@dataclass
class _Spot:
    """A place in the world, and the discs taken on it."""

    origin: np.ndarray
    turn: np.ndarray
    half: tuple[float, float]
    headroom: float
    taken: list[tuple[float, float, float]]

    def find(self, radius: float, height: float, rng: np.random.Generator) -> np.ndarray | None:
        """A free position for a disc, in the world; None where it does not fit."""
        room = np.array(self.half) - radius
        if height > self.headroom or (room < 0).any():
            return None
        for x, y in rng.uniform(-room, room, (60, 2)):
            if all(np.hypot(x - a, y - b) > radius + r + _GAP for a, b, r in self.taken):
                self.taken.append((x, y, radius))
                return self.origin + self.turn @ np.array([x, y, 1e-4])
        return None


def _along_walls(rng: np.random.Generator, colours: list[str]) -> list[tuple[Furniture, np.ndarray, float]]:
    """Furniture, its position on the floor and its yaw in degrees; backs to the walls."""
    make = {
        0: [furniture.shelf, furniture.cupboard, furniture.plant],
        1: [furniture.desk, furniture.shelf],
        2: [furniture.sofa, furniture.floor_lamp],
        3: [furniture.shelf, furniture.desk],
    }
    out = []
    for wall, pieces in make.items():
        pieces = [p(colours.pop()) for p in pieces]
        if wall == 2:
            pieces.append(furniture.sofa(colours.pop(), 0.45))
        order = rng.permutation(len(pieces))
        gap = (2 * (HALF - 0.75) - sum(2 * pieces[k].half[0] for k in order)) / len(pieces)
        x = -(HALF - 0.75)
        for k in order:
            piece = pieces[k]
            x += gap / 2 + piece.half[0]
            yaw = -90.0 * wall
            at = rotation("z", yaw) @ np.array([x, HALF - piece.half[1] - 0.03, FLOOR])
            out.append((piece, at, yaw))
            x += piece.half[0] + gap / 2
    return out


def _size(item: Item) -> tuple[float, float]:
    """Radius and height of what an item takes."""
    body = item.body()
    return body.footprint() * item.scale, float(body.bounds()[1][2]) * item.scale


def furnish(count: int, seed: int) -> Layout:
    """A room with `count` things besides furniture.

    Raises:
        UserError: too few or too many things.
    """
    if not FEWEST <= count <= MOST:
        raise UserError(f"--objects {count}: a room holds {FEWEST} to {MOST} things; choose a number in that range.")
    rng = np.random.default_rng([seed, 41])
    names = Names(rng, tuple(ALL_KINDS))
    colours = [str(c) for c in rng.permutation([c for c in COLOURS for _ in range(2)])]
    placed = [Placed(table_body(TABLE, FLOOR), (0.0, 0.0, 0.0), np.eye(3), 1.0, 1)]
    labels = {1: "table"}
    spots = [_Spot(np.zeros(3), np.eye(3), (TABLE - 0.05, TABLE - 0.05), 1.5, [])]

    def add(body, at, turn, scale, label) -> int:
        number = len(labels) + 1
        labels[number] = label
        placed.append(Placed(body, tuple(float(v) for v in at), turn, scale, number))
        return number

    supports = [1]
    taken_names: set[str] = set()

    def named(kind: str, colour: str) -> str:
        label = f"{colour} {kind}"
        taken_names.add(label)
        return label

    for piece, at, yaw in _along_walls(rng, colours):
        turn = rotation("z", yaw)
        colour = next(c for c in [*colours, *COLOURS] if f"{c} {piece.kind}" not in taken_names)
        colours = [c for c in colours if c != colour] + [colour]
        rebuilt = _recoloured(piece, colour)
        number = add(rebuilt.body, at, turn, 1.0, named(piece.kind, colour))
        if piece.places:
            supports.append(number)
        spots += [_spot(p, at, turn) for p in piece.places]
        if piece.kind == "cupboard":
            screen = furniture.television("black")
            top = at + turn @ (np.array(piece.places[0].centre) + np.array([-0.15, 0.08, 1e-4]))
            add(screen.body, top, turn, 1.0, named("television", "black"))
            spots[-1].taken.append((-0.15, 0.08, 0.56))
    floor = [_Spot(np.array([x, y, FLOOR]), np.eye(3), (0.35, 0.35), 2.0, []) for x, y in
             ((1.9, 1.2), (-1.9, -1.2), (1.3, -1.9), (-1.3, 1.9))]  # fmt: skip

    groups: list[tuple[str, tuple[int, ...]]] = []
    for make in (books, tea_set):
        items = make(names)
        radius = max(np.hypot(*i.position[:2]) + _size(i)[0] for i in items)
        at = spots[0].find(radius, 0.5, rng)
        if at is None:
            continue
        yaw = rotation("z", float(rng.uniform(0, 360)))
        numbers = [
            add(i.body(), at + yaw @ np.array(i.position), yaw @ i.turn, i.scale, f"{i.colour} {i.kind}") for i in items
        ]
        groups.append((group_name(items), tuple(numbers)))
    before = len(labels)
    wanted = count - sum(len(m) for _, m in groups)
    twins = [str(k) for k in rng.permutation(TWINS)[: 2 if count < 60 else 3]]
    queue: list[Item] = []
    for kind in twins:
        colour = names.colour(kind)
        queue += [stand(names, kind, (0.0, 0.0, 0.0), colour=colour) for _ in range(2)]
    misses = 0
    while len(labels) - before < wanted and misses < 400:
        if queue:
            item = queue.pop()
        else:
            kinds = [k for k in ALL_KINDS if names.used.get(k, 0) < len(COLOURS) and names.colours[k]]
            kind = names.kind(
                kinds if rng.random() < 0.7 else [k for k in (*SMALL, "cup", "ball") if k in kinds] or kinds
            )
            item = stand(names, kind, (0.0, 0.0, 0.0))
        radius, height = _size(item)
        choice = floor if rng.random() < 0.08 and height > 0.25 else spots
        at = None
        for k in rng.permutation(len(choice)):
            at = choice[k].find(radius, height, rng)
            if at is not None:
                break
        if at is None:
            misses += 1
            continue
        turn = rotation("z", float(rng.uniform(0, 360)))
        add(item.body(), at, turn, item.scale, f"{item.colour} {item.kind}")
    if len(labels) - before < wanted:
        raise UserError(f"--objects {count}: the room has space for {len(labels) - before} of them; ask for fewer.")
    light = np.array([[-0.9, 0.8, CEILING - 0.1], [0.6, 0.0, 0.0], [0.0, 0.6, 0.0]])
    return Layout(
        placed, labels, TABLE, (HALF, FLOOR, CEILING), light, 1.7, tuple(groups), tuple(supports)
    )  # fmt: skip


def _recoloured(piece: Furniture, colour: str) -> Furniture:
    """The same piece in another colour."""
    make = {
        "shelf": furniture.shelf, "cupboard": furniture.cupboard, "desk": furniture.desk, "sofa": furniture.sofa,
        "plant": furniture.plant, "floor lamp": furniture.floor_lamp,
        "armchair": lambda c: furniture.sofa(c, 0.45),
    }  # fmt: skip
    return make[piece.kind](colour)


def _spot(place: Place, at: np.ndarray, turn: np.ndarray) -> _Spot:
    return _Spot(at + turn @ np.array(place.centre), turn, place.half, place.headroom, [])


def walk(views: int, seed: int) -> np.ndarray:
    """Camera-to-world poses (OpenGL axes), V x 3 x 4, of a walk: around the table, then twice along the walls.

    The first third looks at the table; the rest looks at the walls and what stands there, first at its lower and then
    at its upper half.
    """
    rng = np.random.default_rng([seed, 42])
    poses = []
    around = max(1, views // 3)
    for i in range(views):
        if i < around:
            azimuth = 360 * i / around
            radius, height = (
                1.75 + 0.25 * np.sin(3 * np.radians(azimuth)),
                0.75 + 0.45 * np.sin(2.3 * i / around * 6.28),
            )
            aim = np.array([*rng.uniform(-0.15, 0.15, 2), 0.05])
        else:
            k = (i - around) / max(1, views - around)
            azimuth = 720 * k
            radius = 1.25 + 0.2 * np.sin(5 * np.radians(azimuth))
            height = 0.35 if k < 0.5 else 0.95
            way = np.radians(azimuth + rng.uniform(-14, 14))
            low = FLOOR + (0.75 if k < 0.5 else 1.45)
            aim = np.array([3.3 * np.cos(way), 3.3 * np.sin(way), low + rng.uniform(-0.15, 0.15)])
        angle = np.radians(azimuth + rng.uniform(-2, 2))
        eye = np.array([radius * np.cos(angle), radius * np.sin(angle), height + rng.uniform(-0.05, 0.05)])
        back = (eye - aim) / np.linalg.norm(eye - aim)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        poses.append(np.stack([right, np.cross(back, right), back, eye], axis=1))
    return np.array(poses)
