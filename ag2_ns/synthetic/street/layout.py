"""One drive along one street: what stands where, who moves how, and where the car is at any time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ag2_ns.io.occ3d import CLASSES
from ag2_ns.synthetic.street import things
from ag2_ns.synthetic.tabletop.kinds import linear
from ag2_ns.synthetic.tabletop.shapes import Body, Packed, Placed, pack, rotation

CLASS = {name: number for number, name in enumerate(CLASSES)}
REACH = 62.0
"""The street goes on this far (m) before the first and behind the last frame."""

_ROAD, _PATH, _GRASS = linear((0.3, 0.3, 0.31)), linear((0.62, 0.6, 0.57)), linear((0.36, 0.46, 0.22))
_LINE = linear((0.88, 0.88, 0.84))


PLAIN = ("car", "pedestrian", "traffic cone", "driveable surface", "sidewalk", "terrain", "manmade", "vegetation")
MIXED = ("barrier", "bicycle", "bus", "truck")


def kinds_made(mixed: bool) -> list[int]:
    """Classes that streets have, 17 for the sky."""
    return [CLASS[name] for name in (*PLAIN, *(MIXED if mixed else ()), "free")]


@dataclass(frozen=True)
class Thing:
    """A body, what it is, and how it moves: straight on, turned by `heading`."""

    body: Body
    kind: int
    """Occ3D class."""
    position: tuple[float, float, float]
    heading: float = 0.0
    """Degrees about z."""
    speed: float = 0.0
    """m/s along the heading."""

    def at(self, time: float, number: int) -> Placed:
        """Where it is, as body `number`."""
        turn = rotation("z", self.heading)
        position = np.asarray(self.position) + turn[:, 0] * self.speed * time
        return Placed(self.body, tuple(position.tolist()), turn, 1.0, number)


@dataclass(frozen=True)
class Street:
    """A world that changes with time, and the car's way through it."""

    things: list[Thing]
    speed: float
    """Of the car, m/s along x."""
    lane: float
    """y of the car's lane."""
    yaw: float
    """Degrees by which the car looks away from x at most; it swings once in 12 s."""
    kinds: list[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", [t.kind for t in self.things])

    def pack(self, time: float) -> Packed:
        """The world at a time; ids of bodies count from 1."""
        return pack([t.at(time, k + 1) for k, t in enumerate(self.things)], (1e4, -1e4, 1e4))

    def ego(self, time: float) -> Float[np.ndarray, "4 4"]:
        """Car to world at a time; the origin is on the ground below the rear axle, x ahead, y left."""
        phase = 2 * np.pi * time / 12.0
        out = np.eye(4)
        out[:3, :3] = rotation("z", self.yaw * np.sin(phase))
        # The path whose tangent that is, for a small yaw.
        out[:3, 3] = (
            self.speed * time,
            self.lane - self.speed * np.radians(self.yaw) * 12 / (2 * np.pi) * (np.cos(phase) - 1),
            0.0,
        )
        return out


def lay(seed: int, seconds: float, mixed: bool = False) -> Street:
    """Draw a street of the length that the car drives in `seconds`.

    With `mixed` there are trucks, buses, bicycles and barriers too.
    """
    rng = np.random.default_rng([seed, 11])
    speed = float(rng.uniform(4, 10))
    x0, x1 = -REACH, speed * seconds + REACH
    lanes = int(rng.integers(1, 3))
    half, path, strip = 3.4 * lanes + 0.3, float(rng.uniform(1.8, 3.6)), float(rng.uniform(0, 4))
    parking = float(rng.random() < 0.6) * 2.3
    kerb = half + parking
    front = kerb + path + strip
    crossing = float(rng.uniform(x0 + 30, x1 - 30)) if rng.random() < 0.6 else None
    wide = 4.2
    out = _ground(x0, x1, half, kerb, path, strip, lanes, crossing, wide)
    spans = [(x0, x1)] if crossing is None else [(x0, crossing - wide - path), (crossing + wide + path, x1)]
    for side in (-1, 1):
        for a, b in spans:
            out += _row(rng, a, b, side, kerb, path, front, parking, mixed)
    out += _traffic(rng, x0, x1, lanes, speed, mixed)
    out += _works(rng, x0, x1, half, mixed)
    return Street(out, speed, -1.7, float(rng.uniform(-3, 3)))


def _ground(x0, x1, half, kerb, path, strip, lanes, crossing, wide) -> list[Thing]:
    """Road, markings, pavements, grass and, where it is crossed, another road."""
    road, side_walk, grass = CLASS["driveable surface"], CLASS["sidewalk"], CLASS["terrain"]
    far = 64.0
    out = [Thing(things.slab((x0, -kerb, -0.2), (x1, kerb, 0.0), _ROAD), road, (0, 0, 0))]
    for lane in range(-lanes + 1, lanes):
        solid = lane == 0
        step = 3.0 if solid else 6.0
        for x in np.arange(x0, x1 - 3, step):
            if crossing is None or abs(x - crossing) > wide + 3:
                low = (float(x), 3.4 * lane - 0.07, -0.02)
                line = things.slab(low, (float(x) + 3.0, 3.4 * lane + 0.07, 0.006), _LINE, 0.1)
                out.append(Thing(line, road, (0, 0, 0)))
    spans = [(x0, x1)] if crossing is None else [(x0, crossing - wide), (crossing + wide, x1)]
    for side in (-1, 1):

        def between(a, b, s=side):
            return (a, b) if s > 0 else (-b, -a)

        for a, b in spans:
            y0, y1 = between(kerb, kerb + path)
            out.append(Thing(things.slab((a, y0, -0.2), (b, y1, 0.15), _PATH), side_walk, (0, 0, 0)))
            y0, y1 = between(kerb + path, far)
            out.append(Thing(things.slab((a, y0, -0.2), (b, y1, 0.1), _GRASS, 0.8), grass, (0, 0, 0)))
        if crossing is not None:
            y0, y1 = between(kerb, far)
            slab = things.slab((crossing - wide, y0, -0.2), (crossing + wide, y1, 0.0), _ROAD)
            out.append(Thing(slab, road, (0, 0, 0)))
    return out


def _row(rng, a, b, side, kerb, path, front, parking, mixed) -> list[Thing]:
    """One side of the street between two x: houses, trees, poles, people, parked cars."""
    out = []
    x = a
    while x < b - 6:
        length = float(rng.uniform(8, 20))
        length = min(length, b - x)
        if rng.random() < 0.8 and length > 5:
            depth, back = float(rng.uniform(8, 12)), float(rng.uniform(0, 3))
            at = (x + length / 2, side * (front + back + depth / 2), 0.0)
            heading = 0.0 if side > 0 else 180.0
            out.append(Thing(things.building(rng, length - 0.5, depth), CLASS["manmade"], at, heading))
        else:
            for _ in range(int(rng.integers(1, 4))):
                at = (float(rng.uniform(x, x + length)), side * (front + float(rng.uniform(1, 10))), 0.1)
                out.append(Thing(things.tree(rng), CLASS["vegetation"], at))
        x += length + float(rng.choice([0.0, 0.0, 4.0]))
    for x in np.arange(a + float(rng.uniform(2, 8)), b, float(rng.uniform(8, 16))):
        at = (float(x + rng.uniform(-1, 1)), side * (kerb + path - 0.4), 0.15)
        if rng.random() < 0.6:
            out.append(Thing(things.tree(rng), CLASS["vegetation"], at, float(rng.uniform(0, 360))))
        else:
            out.append(Thing(things.pole(rng), CLASS["manmade"], at, -90.0 * side))
    for _ in range(int(rng.poisson((b - a) / 12))):
        heading, speed = (0.0 if rng.random() < 0.5 else 180.0), float(rng.uniform(0.5, 1.6))
        at = (float(rng.uniform(a, b)), side * (kerb + float(rng.uniform(0.3, path - 0.7))), 0.15)
        out.append(Thing(things.person(rng), CLASS["pedestrian"], at, heading + float(rng.uniform(-15, 15)), speed))
    x = a + 3
    while parking and x < b - 3:
        if rng.random() < 0.55:
            van = rng.random() < 0.12 and mixed
            body, kind = (things.truck(rng), "truck") if van else (things.car(rng), "car")
            at = (x, side * (kerb - 1.1), 0.0)
            out.append(Thing(body, CLASS[kind], at, (180.0 if side > 0 else 0.0) + float(rng.uniform(-3, 3))))
            x += 4.0 if van else 0.0
        x += float(rng.uniform(5.6, 8))
    return out


def _traffic(rng, x0, x1, lanes, speed, mixed) -> list[Thing]:
    """Cars, a bus, trucks and bicycles on the lanes, none of which meets the car itself."""
    out = []
    for lane in range(lanes):
        for side in (-1, 1):
            x = x0 + float(rng.uniform(0, 15))
            own = side < 0 and lane == 0
            while x < x1:
                pace = speed if own else float(rng.uniform(5, 11))
                draw = rng.random() * (1.0 if mixed else 0.72)
                make, kind = (
                    (things.car, "car") if draw < 0.72 else (things.truck, "truck") if draw < 0.84
                    else (things.bus, "bus") if draw < 0.9 else (things.bicycle, "bicycle")
                )  # fmt: skip
                heading = 0.0 if side < 0 else 180.0
                if not own or abs(x) > 13:
                    at = (x, side * (1.7 + 3.4 * lane), 0.0)
                    out.append(Thing(make(rng), CLASS[kind], at, heading, pace if own or side > 0 else speed))
                x += float(rng.uniform(16, 40))
    return out


def _works(rng, x0, x1, half, mixed) -> list[Thing]:
    """Cones, and sometimes barriers, at the edge of the road."""
    out = []
    for _ in range(int(rng.poisson((x1 - x0) / 50))):
        x, side = float(rng.uniform(x0, x1)), float(rng.choice([-1, 1]))
        for k in range(int(rng.integers(2, 6))):
            at = (x + 2.2 * k, side * (half - 0.4), 0.0)
            if rng.random() < 0.75 or not mixed:
                out.append(Thing(things.cone(rng), CLASS["traffic cone"], at))
            else:
                out.append(Thing(things.barrier(rng), CLASS["barrier"], at))
    return out
