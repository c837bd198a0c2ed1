"""Programs over the things of a table-top and their truth: which ids a description means, or that it is contestable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from ag2_ns.synthetic.tabletop.truth import NO, OPEN, YES, Truth

VIEW_BOUND = ("left", "right", "front", "behind")


@dataclass(frozen=True)
class Clause:
    """A relation to one or two described things: on, under, carries, empty, leaning, leaned_on, next_to, between, left,
    right, front, behind."""

    name: str
    things: tuple[Description, ...] = ()


@dataclass(frozen=True)
class Pick:
    """An order among those that fit: size, height, distance (to a thing), or a view-bound direction."""

    measure: str
    largest: bool = True
    rank: int = 1
    thing: Description | None = None


@dataclass(frozen=True)
class Description:
    """What a sentence says about its target."""

    kind: str = ""
    """Empty for any thing."""
    colour: str = ""
    not_colour: str = ""
    not_kind: str = ""
    clauses: tuple[Clause, ...] = ()
    pick: Pick | None = None
    several: bool = False

    @property
    def needs_view(self) -> bool:
        """Whether it means something only in a picture."""
        own = any(c.name in VIEW_BOUND or any(t.needs_view for t in c.things) for c in self.clauses)
        return own or (self.pick is not None and self.pick.measure in VIEW_BOUND)

    def without(self) -> list[Description]:
        """The description with one of its parts left out, each."""
        out = [
            replace(self, **{part: ""}) for part in ("kind", "colour", "not_colour", "not_kind") if getattr(self, part)
        ]
        out += [replace(self, clauses=(*self.clauses[:k], *self.clauses[k + 1 :])) for k in range(len(self.clauses))]
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        out: dict[str, Any] = {k: v for k in ("kind", "colour", "not_colour", "not_kind") if (v := getattr(self, k))}
        if self.clauses:
            out["clauses"] = [{"name": c.name, "things": [t.to_json() for t in c.things]} for c in self.clauses]
        if self.pick is not None:
            p = self.pick
            out["pick"] = {"measure": p.measure, "largest": p.largest, "rank": p.rank} | (
                {} if p.thing is None else {"thing": p.thing.to_json()}
            )
        return out | ({"several": True} if self.several else {})


def fits(truth: Truth, wanted: Description, pose: Float[np.ndarray, "3 4"] | None = None) -> Float[np.ndarray, " K"]:
    """Whether each thing fits a description without its pick: 1, 0, or nan where that is contestable."""
    kinds, colours = np.array(truth.kinds), np.array(truth.colours)
    out = np.ones(len(truth))
    out[truth.table] = NO if wanted.kind != "table" else YES
    if wanted.kind:
        same = kinds == wanted.kind
        alike = np.array([wanted.kind.split()[-1] == k.split()[-1] for k in kinds])  # an open book is a book
        out = _and(out, np.where(same, YES, np.where(alike, OPEN, NO)))
    if wanted.colour:
        out = _and(out, (colours == wanted.colour).astype(float))
    if wanted.not_colour:
        out = _and(out, (colours != wanted.not_colour).astype(float))
    if wanted.not_kind:
        alike = np.array([wanted.not_kind.split()[-1] == k.split()[-1] for k in kinds])
        out = _and(out, np.where(kinds == wanted.not_kind, NO, np.where(alike, OPEN, YES)))
    for clause in wanted.clauses:
        out = _and(out, _clause(truth, clause, pose))
    return out


def answer(truth: Truth, wanted: Description, pose: Float[np.ndarray, "3 4"] | None = None) -> tuple[int, ...] | None:
    """The indices that a description means, ascending; None where that is contestable."""
    fit = fits(truth, wanted, pose)
    if np.isnan(fit).any():
        return None
    found = np.flatnonzero(fit)
    if wanted.pick is None or len(found) == 0:
        return tuple(int(i) for i in found)
    pick, to = wanted.pick, None
    if pick.thing is not None:
        reference = answer(truth, pick.thing, pose)
        if reference is None or len(reference) != 1:
            return None
        (to,) = reference
        found = found[found != to]
    values, lead = truth.measure(pick.measure, pose, to)
    if len(found) < max(2, pick.rank):
        return None
    chosen = set()
    for row in values if pick.largest else -values:
        order = found[np.argsort(-row[found], kind="stable")]
        for a, b in pairwise(order[: pick.rank + 1]):
            high, low = abs(row[a]), abs(row[b])
            apart = (
                max(high, low) / max(min(high, low), 1e-9)
                if pick.measure in ("size", "height")
                else abs(row[a] - row[b])
            )
            if apart < lead:
                return None
        chosen.add(int(order[pick.rank - 1]))
    return tuple(chosen) if len(chosen) == 1 else None


def _clause(truth: Truth, clause: Clause, pose) -> Float[np.ndarray, " K"]:
    if clause.name == "empty":  # with nothing on it
        return (~(truth.on > 0).any(0)).astype(float)
    if clause.name == "between":
        pair = [_one(truth, t, pose) for t in clause.things]
        if any(p is None for p in pair):
            return np.full(len(truth), OPEN)
        return truth.between(*pair)
    matrix = {
        "on": lambda: truth.carried,
        "carries": lambda: truth.carried.T,
        "under": lambda: truth.carried.T,
        "leaning": lambda: truth.leaning,
        "leaned_on": lambda: truth.leaning.T,
        "next_to": lambda: truth.next_to,
    }.get(clause.name, lambda: truth.view_bound(pose, clause.name))()
    (thing,) = clause.things
    reference = fits(truth, thing, pose)
    # Some thing that fits stands in the relation: yes if one surely does, no if none can.
    values = _and(matrix, np.broadcast_to(reference, matrix.shape))
    yes, maybe = (values == YES).any(1), np.isnan(values).any(1)
    return np.where(yes, YES, np.where(maybe, OPEN, NO))


def _one(truth: Truth, thing: Description, pose) -> int | None:
    found = answer(truth, thing, pose)
    return found[0] if found is not None and len(found) == 1 else None


def _and(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Three-valued and."""
    return np.where((a == NO) | (b == NO), NO, np.where(np.isnan(a) | np.isnan(b), OPEN, YES))


def no_part_is_idle(
    truth: Truth, wanted: Description, pose: Float[np.ndarray, "3 4"] | None, meant: Sequence[int]
) -> bool:
    """Whether leaving out any part of a description makes it mean something else: nothing is said in vain."""
    for less in wanted.without():
        if not less.kind and not less.colour and not less.clauses and less.pick is None:
            continue
        fit = fits(truth, less, pose)
        if not np.isnan(fit).any() and tuple(np.flatnonzero(fit)) == tuple(meant):
            return False
    return True
