"""Sentences about a table-top with what they mean: programs that are true of exactly the wanted things, with a margin.

Kinds: attribute, relation (needs no viewer), view (left, right, in front, behind), superlative, ordinal, negation, set,
two hops, absent (nothing fits: a colour, kind or relation swapped). A sentence is kept only where the wanted set is the
only one by a margin (`truth`), and where none of its parts is idle.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ag2_ns.synthetic.tabletop.kinds import COLOURS, KINDS
from ag2_ns.synthetic.tabletop.layout import Layout
from ag2_ns.synthetic.tabletop.programs import Clause, Description, Pick, answer, fits, no_part_is_idle
from ag2_ns.synthetic.tabletop.raytrace import cast, pixel_rays
from ag2_ns.synthetic.tabletop.shapes import pack
from ag2_ns.synthetic.tabletop.truth import YES, Truth
from ag2_ns.synthetic.tabletop.wording import Wording

KIND_NAMES = (
    "attribute", "relation", "view", "superlative", "ordinal", "negation", "set", "two hops", "absent"
)  # fmt: skip
TRIES = 400
"""Random programs tried for each sentence of a kind."""
FREE = ("on", "under", "carries", "leaning", "leaned_on", "next_to", "between", "empty")
SIDES = ("left", "right", "front", "behind")


@dataclass(frozen=True)
class Expression:
    """A sentence and what it means."""

    kind: str
    """Of `KIND_NAMES`."""
    text: str
    wanted: tuple[int, ...]
    """Ids; empty for absent."""
    view: int | None
    """The picture in which left and right are meant; None where they are not used."""
    program: dict[str, Any]
    relations: tuple[str, ...]
    split: str
    """"train", or "test": held out in any way."""
    held_out: tuple[str, ...]
    """"wording", "pair" (relation with this kind of target), "synonym", "sentence" (of one thing's)."""


def make_sentences(layout: Layout, poses: Float[np.ndarray, "V 3 4"], seed: int, each: int = 8) -> list[Expression]:
    """Sentences about a layout, up to `each` of every kind; the same for the same arguments.

    Args:
        layout: the scene.
        poses: cameras to world, OpenGL axes; view-bound sentences are meant in one of them.
        seed: of the scene.
        each: sentences of a kind.
    """
    rng, truth = np.random.default_rng([seed, 7]), Truth.of(layout)
    out: list[Expression] = []
    texts: set[str] = set()
    for kind in KIND_NAMES:
        make, found = _MAKERS[kind], 0
        count = each if kind != "absent" else max(1, round(0.15 / 0.85 * each * (len(KIND_NAMES) - 1)))
        for _ in range(TRIES):
            if found == count:
                break
            view = int(rng.integers(len(poses)))
            wanted = make(truth, rng, poses[view])
            if wanted is None:
                continue
            made = _expression(truth, kind, wanted, view, poses[view], rng)
            if made is not None and made.text not in texts:
                texts.add(made.text)
                out.append(made)
                found += 1
    return _with_test_sentences(out, rng)


def _expression(truth: Truth, kind: str, wanted: Description, view: int, pose, rng) -> Expression | None:
    meant = answer(truth, wanted, pose)
    if meant is None or (len(meant) == 0) != (kind == "absent"):
        return None
    if kind != "absent":
        if (len(meant) > 1) != (kind == "set") or not no_part_is_idle(truth, wanted, pose, meant):
            return None
        if truth.table in meant:
            return None
    held = rng.random() < 0.35
    wording = Wording(rng, held, synonyms=bool(rng.random() < 0.3) and kind != "absent", taken=truth.kinds)
    text = wording.sentence(wanted)
    relations = _relations(wanted)
    pair = any(zlib.crc32(f"{r} {wanted.kind}".encode()) % 5 == 0 for r in relations)
    reasons = {"wording": held, "pair": pair and kind != "absent", "synonym": wording.used_synonym}
    held_out = tuple(name for name, yes in reasons.items() if yes)
    return Expression(
        kind,
        text,
        tuple(truth.ids[i] for i in meant),
        view if wanted.needs_view else None,
        wanted.to_json(),
        relations,
        "test" if held_out else "train",
        held_out,
    )


def _relations(wanted: Description) -> tuple[str, ...]:
    own = [c.name for c in wanted.clauses] + ([wanted.pick.measure] if wanted.pick else [])
    deeper = [r for c in wanted.clauses for t in c.things for r in _relations(t)]
    return tuple(own + deeper)


def _with_test_sentences(made: list[Expression], rng: np.random.Generator) -> list[Expression]:
    """One of five training sentences about the same things is held out as well, as in Ref-LERF."""
    by_thing: dict[tuple, list[int]] = {}
    for k, expression in enumerate(made):
        if expression.split == "train":
            by_thing.setdefault(expression.wanted, []).append(k)
    for members in by_thing.values():
        for k in rng.permutation(members)[: len(members) // 5 if len(members) >= 5 else 0]:
            made[k] = replace(made[k], split="test", held_out=("sentence",))
    return made


# Random programs of each kind.


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def _named(truth: Truth, k: int, rng: np.random.Generator, sure: bool = True) -> Description:
    """A description that names a thing by kind, with its colour where that is needed or by chance."""
    bare = Description(kind=truth.kinds[k])
    fit = fits(truth, bare)
    alone = not np.isnan(fit).any() and fit.sum() == 1
    if truth.colours[k] and ((not alone and sure) or rng.random() < 0.4):
        return replace(bare, colour=truth.colours[k])
    return bare


def _random_thing(truth: Truth, rng: np.random.Generator) -> int:
    return int(_pick(rng, [k for k in range(len(truth)) if k != truth.table]))


def _attribute(truth: Truth, rng, pose) -> Description:
    k = _random_thing(truth, rng)
    thing = Description(kind=truth.kinds[k], colour=truth.colours[k])
    return _pick(rng, [thing, thing, replace(thing, colour=""), replace(thing, kind="")])


def _loose(truth: Truth, k: int, rng: np.random.Generator) -> Description:
    """Too little to name a thing alone: its kind, its colour, or nothing."""
    options = [Description(kind=truth.kinds[k])] * 3 + [Description(), Description(colour=truth.colours[k])]
    return _pick(rng, options)


def _related(truth: Truth, k: int, names: Sequence[str], rng, pose, depth: int = 1) -> Clause | None:
    """A clause that is true of a thing."""
    name = _pick(rng, names)
    if name == "empty":
        return Clause("empty")
    if name == "between":
        others = [int(i) for i in rng.permutation(len(truth)) if i not in (k, truth.table)][:2]
        if len(others) < 2 or truth.between(*others)[k] != YES:
            return None
        return Clause(name, tuple(_named(truth, j, rng) for j in others))
    matrix = {
        "on": truth.carried, "carries": truth.carried.T, "under": truth.carried.T, "leaning": truth.leaning,
        "leaned_on": truth.leaning.T, "next_to": truth.next_to,
    }.get(name)  # fmt: skip
    matrix = truth.view_bound(pose, name) if matrix is None else matrix
    others = np.flatnonzero(matrix[k] == YES)
    others = others[others != k]
    if len(others) == 0:
        return None
    j = int(_pick(rng, others))
    if j == truth.table and rng.random() < 0.8:
        return None
    reference = _named(truth, j, rng)
    if depth > 1:
        inner = _related(truth, j, FREE[:6] + (SIDES if name in SIDES else ()), rng, pose)
        if inner is None or inner.name == "empty":
            return None
        reference = replace(_pick(rng, [Description(kind=truth.kinds[j]), Description()]), clauses=(inner,))
        if answer(truth, reference, pose) is None:
            return None
    return Clause(name, (reference,))


def _relation(truth: Truth, rng, pose, names=FREE[:7]) -> Description | None:
    k = _random_thing(truth, rng)
    clause = _related(truth, k, names, rng, pose)
    return None if clause is None else replace(_loose(truth, k, rng), clauses=(clause,))


def _view(truth: Truth, rng, pose) -> Description | None:
    return _relation(truth, rng, pose, SIDES)


def _superlative(truth: Truth, rng, pose) -> Description | None:
    k = _random_thing(truth, rng)
    measure = _pick(rng, ("size", "height", "distance", "distance", "left", "right"))
    thing = Description(kind=truth.kinds[k])
    if rng.random() < 0.25:
        thing = Description(colour=truth.colours[k])
    if measure == "distance":
        other = _random_thing(truth, rng)
        pick = Pick(measure, bool(rng.random() < 0.3), thing=_named(truth, other, rng))
    else:
        pick = Pick(measure, measure in SIDES or bool(rng.random() < 0.6))
    return replace(thing, pick=pick)


def _ordinal(truth: Truth, rng, pose) -> Description:
    k = _random_thing(truth, rng)
    rank = int(rng.integers(1, 4))
    thing = _pick(rng, [Description(kind=truth.kinds[k])] * 3 + [Description(colour=truth.colours[k])])
    return replace(thing, pick=Pick(_pick(rng, SIDES[:2] + SIDES), True, rank))


def _negation(truth: Truth, rng, pose) -> Description | None:
    k = _random_thing(truth, rng)
    how = int(rng.integers(3))
    if how == 0:
        others = [c for c, kind in zip(truth.colours, truth.kinds) if kind == truth.kinds[k] and c != truth.colours[k]]
        return Description(kind=truth.kinds[k], not_colour=_pick(rng, others)) if others else None
    if how == 1:
        others = [
            kind for c, kind in zip(truth.colours, truth.kinds) if c == truth.colours[k] and kind != truth.kinds[k]
        ]
        return Description(colour=truth.colours[k], not_kind=_pick(rng, others)) if others else None
    return Description(kind=truth.kinds[k], clauses=(Clause("empty"),))


def _set(truth: Truth, rng, pose) -> Description | None:
    k = _random_thing(truth, rng)
    how = int(rng.integers(4))
    if how == 0:
        return Description(kind=truth.kinds[k], several=True)
    if how == 1:
        return Description(colour=truth.colours[k], several=True)
    clause = _related(truth, k, ("next_to", *SIDES), rng, pose)
    base = Description(kind=truth.kinds[k]) if how == 2 else Description(colour=truth.colours[k])
    return None if clause is None else replace(base, clauses=(clause,), several=True)


def _two_hops(truth: Truth, rng, pose) -> Description | None:
    k = _random_thing(truth, rng)
    clause = _related(truth, k, FREE[:6] + SIDES, rng, pose, depth=2)
    return None if clause is None else replace(_loose(truth, k, rng), clauses=(clause,))


def _absent(truth: Truth, rng, pose) -> Description | None:
    """A description of what is there, with its colour, kind or relation swapped."""
    how = int(rng.integers(4))
    k = _random_thing(truth, rng)
    if how == 0:
        return Description(kind=truth.kinds[k], colour=_pick(rng, [c for c in COLOURS if c != truth.colours[k]]))
    if how == 1:
        gone = [kind for kind in KINDS if not any(kind.split()[-1] == t.split()[-1] for t in truth.kinds)]
        return Description(kind=_pick(rng, gone), colour=truth.colours[k]) if gone else None
    j = _random_thing(truth, rng)
    name = _pick(rng, ("on", "carries", "leaning", "under") if how == 2 else SIDES)
    return replace(_named(truth, k, rng), clauses=(Clause(name, (_named(truth, j, rng),)),)) if j != k else None


_MAKERS: dict[str, Callable[[Truth, np.random.Generator, Any], Description | None]] = {
    "attribute": _attribute, "relation": _relation, "view": _view, "superlative": _superlative, "ordinal": _ordinal,
    "negation": _negation, "set": _set, "two hops": _two_hops, "absent": _absent,
}  # fmt: skip


# What of a thing would be seen if nothing stood before it.


def amodal_masks(
    layout: Layout, pose: Float[np.ndarray, "3 4"], focal: float, width: int, height: int
) -> dict[int, Bool[np.ndarray, "H W"]]:
    """The pixels that each thing would cover in a view alone: every body is ray-traced by itself.

    Args:
        layout: the scene.
        pose: camera to world, OpenGL axes.
        focal: focal length, pixels.
        width: pixels across.
        height: pixels down.
    """
    out = {}
    for placed in layout.placed:
        if not placed.id:
            continue
        alone = pack([placed], layout.room)
        mask = np.zeros((height, width), bool)
        rows, columns = _window(alone.box[0], pose, focal, width, height)
        if len(rows) and len(columns):
            origins, ways = pixel_rays(pose, focal, width, height, rows, columns)
            hit = cast(alone, origins, ways)[1] >= 0
            mask[np.ix_(rows, columns)] = hit.reshape(len(rows), len(columns))
        out[placed.id] = mask
    return out


def _window(box: Float[np.ndarray, " 6"], pose, focal: float, width: int, height: int):
    """Rows and columns of the pixels that a box may cover."""
    corners = np.array([[x, y, z] for x in box[[0, 3]] for y in box[[1, 4]] for z in box[[2, 5]]])
    local = (corners - pose[:, 3]) @ pose[:, :3]
    if (local[:, 2] > -1e-3).any():  # reaches behind the camera
        return np.arange(height), np.arange(width)
    x = width / 2 + focal * local[:, 0] / -local[:, 2]
    y = height / 2 - focal * local[:, 1] / -local[:, 2]
    first, last = int(np.floor(x.min())) - 1, int(np.ceil(x.max())) + 2
    top, bottom = int(np.floor(y.min())) - 1, int(np.ceil(y.max())) + 2
    return np.arange(max(top, 0), min(bottom, height)), np.arange(max(first, 0), min(last, width))


def to_json(made: Sequence[Expression], names: Sequence[str]) -> str:
    """The sentences as the content of sentences.json; views by the names of their pictures."""
    rows = []
    for expression in made:
        row = asdict(expression)
        row["view"] = None if expression.view is None else names[expression.view]
        rows.append(row)
    return json.dumps({"version": 1, "sentences": rows}, indent=1)
