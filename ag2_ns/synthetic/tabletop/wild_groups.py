"""What stands on the table of a wild scene: twins, look-alikes, parts without their whole, and named groups.

| what | from |
|---|---|
| stack of books: three, each a little smaller | 6 objects |
| twins: two things of one label, apart | 5 objects, a second pair from 30 |
| a mug and a cup of one colour, apart | 7 objects |
| a ball pyramid and a single ball of its colour, apart | 9 objects |
| something small on a plate or on a book | 11 objects, a second one from 24 |
| tea set: a teapot and two cups in touch | 16 objects |
| a bowl and a pot of one colour, apart | 18 objects |
| a toy car and a single wheel, apart | 20 objects |
| a book leaning on a gift box | 22 objects |

The rest stands alone; every fourth of those repeats the kind of one before it in another colour.
"""

from __future__ import annotations

import numpy as np

from ag2_ns.synthetic.tabletop import household
from ag2_ns.synthetic.tabletop.kinds import KINDS
from ag2_ns.synthetic.tabletop.layout import Item, Names, lean, stack, stand
from ag2_ns.synthetic.tabletop.shapes import rotation

_ORIGIN = (0.0, 0.0, 0.0)
_TWINS = ("mug", "apple", "rubber duck", "mushroom", "bowl", "candle")


def books(names: Names) -> list[Item]:
    """Three books, one on the other, each turned a little."""
    items, height = [], 0.0
    names.used["book"] = names.used.get("book", 0) + 3
    for scale in (1.08, 0.98, 0.88):
        turn = rotation("z", float(names.rng.uniform(-14, 14)))
        items.append(Item("book", names.colour("book"), (0.0, 0.0, height), turn, scale))
        height += scale * household.BOOK_HEIGHT + 1e-4
    return items


def tea_set(names: Names) -> list[Item]:
    """A teapot between two cups of its colour that nearly touch it."""
    colour = names.colour("teapot")
    names.used["teapot"] = names.used.get("teapot", 0) + 1
    items = [Item("teapot", colour, _ORIGIN, np.eye(3), 1.0)]
    for side in (-1, 1):
        items.append(Item("cup", names.colour("cup"), (0.02 * side, 0.225 * side, 0.0), np.eye(3), 1.0))
    return items


def _alike(names: Names, one: str, other: str) -> list[list[Item]]:
    """Two kinds in one colour, apart."""
    colour = next(c for c in names.colours[one] if c in names.colours[other])
    for kind in (one, other):
        names.used[kind] = names.used.get(kind, 0) + 1
        names.colours[kind].remove(colour)
    return [[stand(names, kind, _ORIGIN, colour=colour)] for kind in (one, other)]


def _twins(names: Names, kind: str) -> list[list[Item]]:
    """Two things of one label, apart."""
    colour = names.colour(kind)
    names.used[kind] = names.used.get(kind, 0) + 1
    return [[stand(names, kind, _ORIGIN, colour=colour)] for _ in range(2)]


def wild_groups(names: Names, count: int) -> list[list[Item]]:
    """Groups that hold `count` objects (see the table above)."""
    twins = [str(k) for k in names.rng.permutation(_TWINS)]
    plan = (
        (5, lambda: _twins(names, twins[0])),
        (6, lambda: [books(names)]),
        (7, lambda: _alike(names, "mug", "cup")),
        (9, lambda: _alike(names, "ball pyramid", "ball")),
        (11, lambda: [stack(names, [["plate"], ["book"]][int(names.rng.integers(2))])]),
        (16, lambda: [tea_set(names)]),
        (18, lambda: _alike(names, "bowl", "pot")),
        (20, lambda: _alike(names, "toy car", "wheel")),
        (22, lambda: [lean(names)]),
        (24, lambda: [stack(names, ["plate"])]),
        (30, lambda: _twins(names, twins[1])),
    )
    groups: list[list[Item]] = []
    for least, make in plan:
        room = count - sum(map(len, groups))
        if count >= least and room >= 3:
            groups.extend(make())
    alone: list[str] = []
    while sum(map(len, groups)) < count:
        again = len(alone) % 4 == 3
        kind = names.kind(alone[-3:] if again else list(KINDS))
        alone.append(kind)
        groups.append([stand(names, kind, _ORIGIN)])
    return groups
