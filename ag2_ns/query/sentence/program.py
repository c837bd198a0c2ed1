"""What a sentence asks for, as a small program: things with attributes, relations between things, orders, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

VIEW_BOUND = frozenset({"left", "right", "front", "behind"})
"""Relations and orders that mean something only to somebody who looks at the scene."""

ALL = 0
"""`Thing.number` for all things that fit."""


@dataclass(frozen=True)
class Attribute:
    """A word that a thing must fit: "red", "small", "wooden"."""

    word: str
    kind: str
    """"colour", "size" (of `grammar.SIZES`), or "word" for any other."""
    negated: bool = False


@dataclass(frozen=True)
class Relation:
    """How a thing stands to others."""

    name: str
    """A relation of `solve.RELATIONS`, "is" (is one of the references), or "has" (something on it or in it)."""
    things: tuple[Thing, ...]
    """The references; two for "between", or one that is plural."""
    inverse: bool = False
    """The references stand in the relation to the thing: "with an apple on it"."""
    negated: bool = False
    spoken: str = ""
    """The words."""


@dataclass(frozen=True)
class Order:
    """A choice among the things that fit: "tallest", "second from the left", "closest to the lamp"."""

    measure: str
    """"size", "height", "length", "width", "thickness", "top", "central", "distance", "near" or a view-bound one."""
    largest: bool = True
    """From the largest down, or from the smallest up. View-bound measures grow in the direction that they name."""
    rank: int = 1
    """1 for the first, -1 for the last."""
    things: tuple[Thing, ...] = ()
    """What distances are to; none: to the viewer."""
    soft: bool = False
    """A region rather than a place in an order: "on the left"."""
    spoken: str = ""

    @property
    def view_bound(self) -> bool:
        """Whether a viewpoint is needed."""
        return self.measure in VIEW_BOUND or (self.measure == "distance" and not self.things)


@dataclass(frozen=True)
class Thing:
    """A description of one or several things."""

    noun: str = ""
    """In the singular, with its modifiers: "alarm clock"; empty for any thing."""
    attributes: tuple[Attribute, ...] = ()
    relations: tuple[Relation, ...] = ()
    orders: tuple[Order, ...] = ()
    number: int = 1
    """How many are meant; `ALL` for all."""
    spoken: str = ""

    def parts(self) -> Iterator[Thing]:
        """This description and all in it."""
        yield self
        for part in (*self.relations, *self.orders):
            for thing in part.things:
                yield from thing.parts()

    @property
    def view_bound(self) -> str:
        """The first words that need a viewpoint; empty where none do."""
        for thing in self.parts():
            for relation in thing.relations:
                if relation.name in VIEW_BOUND:
                    return relation.spoken
            for order in thing.orders:
                if order.view_bound:
                    return order.spoken
        return ""


@dataclass(frozen=True)
class Program:
    """A parsed sentence."""

    text: str
    targets: tuple[Thing, ...]
    """What is wanted: the union of these."""
    viewpoint: Thing | None = None
    """The thing from which the scene is seen; None for the viewer's own place."""
    unused: tuple[str, ...] = ()
    """Words that the grammar could not use."""
    notes: tuple[str, ...] = field(default=())
    """What was assumed."""

    @property
    def view_bound(self) -> str:
        """The first words that need a viewpoint; empty where none do."""
        return next((words for t in self.targets if (words := t.view_bound)), "")

    def to_json(self) -> dict[str, Any]:
        """Plain data, for files and for reasoners."""
        return {
            "text": self.text,
            "targets": [_plain(t) for t in self.targets],
            "viewpoint": None if self.viewpoint is None else _plain(self.viewpoint),
            "unused": list(self.unused),
        }


def _plain(thing: Thing) -> dict[str, Any]:
    out: dict[str, Any] = {"noun": thing.noun, "number": "all" if thing.number == ALL else thing.number}
    if thing.attributes:
        out["attributes"] = [("not " if a.negated else "") + a.word for a in thing.attributes]
    if thing.relations:
        out["relations"] = [
            {
                "name": r.name,
                "inverse": r.inverse,
                "negated": r.negated,
                "things": [_plain(t) for t in r.things],
            }
            for r in thing.relations
        ]
    if thing.orders:
        out["orders"] = [
            {
                "measure": o.measure,
                "largest": o.largest,
                "rank": o.rank,
                "soft": o.soft,
                "things": [_plain(t) for t in o.things],
            }
            for o in thing.orders
        ]
    return out
