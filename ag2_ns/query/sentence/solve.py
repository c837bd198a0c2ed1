"""Solve a program over the things of a scene: soft scores per clause, multiplied; the best thing with its reasons.

Every clause gives each of K things a score between 0 and 1. A thing's score is their product. Below a floor nothing is
answered, with the clause that failed; else the answer is the best thing, the n best, or all that come close to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ag2_ns.core.errors import UserError
from ag2_ns.query.sentence import grammar as g
from ag2_ns.query.sentence.meaning import SceneWords
from ag2_ns.query.sentence.program import ALL, VIEW_BOUND, Attribute, Order, Program, Relation, Thing
from ag2_ns.scene.geometry import Facts, Seen


class NeedsView(UserError):
    """A sentence says left, right, in front or behind, and nobody looks."""


@dataclass(frozen=True)
class SolverConfig:
    """Thresholds of the solver."""

    clause_floor: float = 0.25
    """A thing that fits any clause less than this is not meant: it fits it worse than not at all."""
    floor: float = 0.12
    """Least product of all clauses; two clauses just at their floor, and a third that is not quite sure."""
    together: float = 0.5
    """Of several that are asked for, those that reach this share of the best one's score belong to the answer."""
    rivals: float = 0.45
    """Things with this share of the best score take part in "biggest", "second", "leftmost"."""
    order_softness: float = 0.25
    """Share of the spread among rivals at which an order has fallen to 1/e behind its best."""
    anything: float = 0.3
    """What "thing" makes of a table or a floor."""


@dataclass(frozen=True)
class Clause:
    """One clause and how well each thing fits it."""

    words: str
    score: Float[np.ndarray, " K"] = field(repr=False)
    decisive: bool = True
    """Whether it may exclude things on its own."""


@dataclass(frozen=True)
class Solution:
    """What a sentence means in a scene."""

    things: tuple[int, ...]
    """Indices into the facts; empty where nothing fits."""
    score: float
    """Of the weakest thing taken; 0 for none."""
    scores: Float[np.ndarray, " K"]
    """Of all things."""
    runner_up: int | None
    """The best thing not taken."""
    reason: str
    """In words."""
    failed: str = ""
    """The clause that nothing fits."""
    unused: tuple[str, ...] = ()
    """Words that made no difference."""
    program: Program | None = None


def solve(
    readings: Sequence[Program],
    facts: Facts,
    words: SceneWords,
    seen: Seen | None = None,
    config: SolverConfig | None = None,
) -> Solution:
    """The first reading that something fits, or the failure of the most natural one.

    Args:
        readings: of one sentence, see `parse.parses`.
        facts: geometry of the scene's things.
        words: what words say about them.
        seen: the things as the viewer sees them, for left, right, in front and behind.
        config: thresholds.

    Raises:
        NeedsView: the sentence needs a viewer and there is none.
    """
    config = config or SolverConfig()
    solutions = []
    for program in readings:
        solution = _Solver(program, facts, words, seen, config).run()
        if solution.things:
            return solution
        solutions.append(solution)
    return solutions[0]


class _Solver:
    def __init__(self, program: Program, facts: Facts, words: SceneWords, seen: Seen | None, config: SolverConfig):
        self.program, self.facts, self.words, self.config = program, facts, words, config
        self.unused = list(program.unused)
        self.notes: list[str] = list(program.notes)
        self.seen = seen
        if program.viewpoint is not None and len(facts):
            self.seen = self._from_thing(program.viewpoint)
        if program.view_bound and self.seen is None:
            raise NeedsView(
                f"{program.view_bound!r} depends on where one looks from; say which picture with --seen-from IMAGE"
            )

    def run(self) -> Solution:
        """Solve all targets and unite them."""
        k = len(self.facts)
        if k == 0:
            return self._nothing("the scene has no instances", "", np.zeros(0))
        chosen, best, reasons, scores, runner = [], [], [], np.zeros(k), None
        for target in self.program.targets:
            clauses = self._clauses(target)
            failure = self._understood(target, clauses)
            if failure:
                return self._nothing(failure, target.spoken, scores)
            total = _product([c.score for c in clauses], k)
            total, clauses, short = self._ordered(target, total, clauses)
            scores = np.maximum(scores, total)
            lowest = np.min([c.score for c in clauses], axis=0) if clauses else np.ones(k)
            fits = (total >= self.config.floor) & (lowest >= self.config.clause_floor)
            if short or not fits.any():
                return self._failed(target, clauses, total, short)
            picked = self._pick(target, total, fits)
            rest = np.where(np.isin(np.arange(k), picked), -1.0, total)
            runner = int(rest.argmax()) if rest.max() > 0.02 else runner
            chosen += [p for p in picked if p not in chosen]
            best.append(float(total[picked].min()))
            reasons.append(self._reason(target, clauses, picked, rest))
        reason = "; ".join([*reasons, *dict.fromkeys(self.notes)])
        return Solution(
            tuple(sorted(chosen)),
            min(best),
            scores,
            runner,
            reason,
            "",
            tuple(dict.fromkeys(self.unused)),
            self.program,
        )

    # Choosing.

    def _pick(self, target: Thing, total: np.ndarray, fits: np.ndarray) -> list[int]:
        order = [int(i) for i in np.argsort(-total, kind="stable") if fits[i]]
        if target.number == ALL:
            return [i for i in order if total[i] >= self.config.together * total[order[0]]]
        if target.number > 1:
            order = [i for i in order if total[i] >= self.config.together * total[order[0]] * 0.7]
            if len(order) < target.number:
                self.notes.append(f"only {len(order)} of the {target.number} asked for")
        return order[: target.number]

    def _understood(self, target: Thing, clauses: list[Clause]) -> str:
        """Why a target says nothing at all, if so."""
        if clauses or target.orders:
            return ""
        if target.noun or target.attributes or self.unused:
            heard = ", ".join(dict.fromkeys(self.unused)) or target.spoken
            return f"no word of {self.program.text!r} is known here ({heard})"
        return ""

    def _failed(self, target: Thing, clauses: list[Clause], total: np.ndarray, short: str) -> Solution:
        if short:
            return self._nothing(short, short, total)
        # The clause without which something would fit best is the one to blame.
        blame, best = clauses[0], -1.0
        for clause in clauses:
            others = [c.score for c in clauses if c is not clause]
            without = (
                float((_product(others, len(total)) * (np.min(others, axis=0) >= self.config.clause_floor)).max())
                if others
                else 1.0
            )
            if without > best + 1e-9:
                blame, best = clause, without
        near = int(_product([c.score for c in clauses if c is not blame], len(total)).argmax())
        closest = f"; closest: {self.words.called(near)}" if best >= self.config.floor and len(clauses) > 1 else ""
        missing = next((n for n in self.notes if "no thing here is called" in n), "")
        reason = missing if missing and blame.words in missing else f"nothing fits {blame.words!r}"
        return self._nothing(f"{reason}{closest}", blame.words, total)

    def _nothing(self, reason: str, failed: str, scores: np.ndarray) -> Solution:
        runner = int(scores.argmax()) if scores.size and scores.max() > 0 else None
        return Solution((), 0.0, scores, runner, reason, failed, tuple(dict.fromkeys(self.unused)), self.program)

    def _reason(self, target: Thing, clauses: list[Clause], picked: list[int], rest: np.ndarray) -> str:
        names = [self.words.called(p) for p in picked]
        what = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        parts = [f"{c.words}: {float(np.min(c.score[picked])):.2f}" for c in clauses if c.words]
        text = f"{what} ({'; '.join(parts)})" if parts else what
        other = int(rest.argmax())
        if len(picked) == 1 and rest[other] > 0.005 and len(self.facts) > 1:
            weakest = min(clauses, key=lambda c: c.score[other] / max(c.score[picked[0]], 1e-9), default=None)
            why = (
                f", less {weakest.words!r} ({weakest.score[other]:.2f})"
                if weakest is not None and weakest.words
                else ""
            )
            text += f"; runner-up: {self.words.called(other)}{why}"
        return text

    # Clauses.

    def score(self, thing: Thing) -> np.ndarray:
        """How well each thing is what a description says, as a reference."""
        clauses = self._clauses(thing)
        total = _product([c.score for c in clauses], len(self.facts))
        total, _, short = self._ordered(thing, total, clauses)
        if short:
            return np.zeros(len(self.facts))
        return np.where(total >= 0.02, total, 0.0)

    def _clauses(self, thing: Thing) -> list[Clause]:
        k, out = len(self.facts), []
        if thing.noun in g.ME:
            return []
        if thing.noun:
            out += self._noun(thing.noun)
        else:
            floor = self.config.anything
            out.append(Clause("", floor + (1 - floor) * self.facts.is_thing))
        for attribute in thing.attributes:
            if attribute.kind == "size":
                continue
            found = self._attribute(attribute)
            if found is not None:
                out.append(found)
        for relation in thing.relations:
            score = np.clip(self._relation(relation), 0, 1)
            score = 1 - score if relation.negated else score
            out.append(Clause(relation.spoken, score.reshape(k)))
        sized = [a for a in thing.attributes if a.kind == "size"]
        if sized:
            so_far = _product([c.score for c in out], k)
            out += [Clause(a.word, self._size(a, so_far), False) for a in sized]
        if thing.noun == "" and len(out) == 1 and not thing.orders:
            return out if not self.unused and not thing.attributes else []
        return out

    def _noun(self, noun: str) -> list[Clause]:
        found = self.words.noun(noun)
        if found.score is None:
            self.unused.append(noun)
            return []
        if found.note:
            self.notes.append(found.note)
        return [Clause(noun, found.score)]

    def _attribute(self, attribute: Attribute) -> Clause | None:
        found = [self.words.attribute(word).score for word in attribute.word.split(" or ")]
        if any(f is None for f in found):
            self.unused.append(attribute.word)
            return None
        score = np.max(found, axis=0)
        score = 1 - score if attribute.negated else score
        return Clause(("not " if attribute.negated else "") + attribute.word, score)

    def _size(self, attribute: Attribute, so_far: np.ndarray) -> np.ndarray:
        """A size says something only among things of the same description; it never excludes the only one."""
        measure, more = g.SIZES[attribute.word]
        value = self._measure(measure)
        rivals = so_far >= self.config.rivals * so_far.max(initial=0.0)
        out = np.ones(len(value))
        spread = np.ptp(value[rivals]) if rivals.sum() > 1 else 0.0
        if spread > 0.05 * np.abs(value[rivals]).max(initial=1e-9):
            share = (value - value[rivals].min()) / spread
            share = np.clip(share if more != attribute.negated else 1 - share, 0, 1)
            out = 0.35 + 0.65 * share
        return out

    # Relations.

    def _relation(self, relation: Relation) -> np.ndarray:
        facts, name = self.facts, relation.name
        if name == "is":
            return np.max([self.score(t) for t in relation.things], axis=0)
        if name == "between":
            return self._between(relation)
        if relation.things and relation.things[0].noun in g.ME:
            return np.ones(len(facts))
        if name.startswith(("more ", "less ")):
            matrix = self._compared(name)
        elif name in VIEW_BOUND:
            matrix = self._view_bound(name)
        else:
            matrix = self._matrix(name, relation.inverse)
        if relation.inverse:
            matrix = matrix.T
        values = []
        for thing in relation.things:
            reference = self.score(thing)
            if thing.number != 1 and name in ("near", "far", "left", "right", "front", "behind"):
                values.append(self._to_all(matrix, reference, thing))
            else:
                values.append((matrix * reference[None]).max(1, initial=0.0))
        return np.max(values, axis=0)

    def _to_all(self, matrix: np.ndarray, reference: np.ndarray, thing: Thing) -> np.ndarray:
        """ "Left of the books": of all of them."""
        order = np.argsort(-reference)
        count = thing.number or int((reference >= self.config.together * reference.max(initial=0.0)).sum())
        if reference.max(initial=0.0) <= 0:
            return np.zeros(len(reference))
        chosen = order[: max(count, 1)]
        own = np.eye(len(reference), dtype=bool)[:, chosen]
        return np.where(own, 1.0, matrix[:, chosen] * reference[chosen][None]).min(1) * (~own.all(1))

    def _matrix(self, name: str, inverse: bool) -> np.ndarray:
        facts = self.facts
        if name == "has":  # "with an apple": on it or in it
            return np.maximum(np.maximum(facts.carried, facts.inside), 0.6 * facts.touching * (1 - facts.carried.T))
        if name == "under":
            return np.maximum(facts.carried, 0.8 * facts.above).T
        if name == "in":
            return np.maximum(facts.inside * 1.0, 0.75 * facts.on)
        table = {
            "on": facts.carried, "above": facts.above, "leaning": facts.leaning, "touching": facts.touching,
            "near": facts.near, "far": facts.far,
        }  # fmt: skip
        return table[name]

    def _view_bound(self, name: str) -> np.ndarray:
        seen = self.seen
        if name in ("left", "right"):
            matrix = seen.right_of(self.facts)
            return matrix if name == "right" else matrix.T
        matrix = seen.in_front_of(self.facts)
        return matrix if name == "front" else matrix.T

    def _compared(self, name: str) -> np.ndarray:
        more, _, measure = name.partition(" ")
        value = self._measure(measure)
        ratio = value[:, None] / np.maximum(value[None], 1e-9)
        ratio = ratio if more == "more" else 1 / np.maximum(ratio, 1e-9)
        out = 1 / (1 + np.exp(-(ratio - 1.04) / 0.03))
        np.fill_diagonal(out, 0)
        return out

    def _between(self, relation: Relation) -> np.ndarray:
        references = [self.score(t) for t in relation.things]
        k = len(self.facts)
        if len(references) == 1:
            order = np.argsort(-references[0])[:2]
            pairs = [(int(order[0]), int(order[1]), float(references[0][order].min()))] if k > 1 else []
        else:
            a, b = (np.argsort(-r)[:3] for r in references)
            pairs = [(int(i), int(j), float(references[0][i] * references[1][j])) for i in a for j in b if i != j]
        out = np.zeros(k)
        for i, j, weight in pairs:
            if weight > 0.02:
                out = np.maximum(out, weight * self.facts.between(i, j))
        return out

    # Orders.

    def _measure(self, name: str, order: Order | None = None) -> np.ndarray:
        """A quantity of every thing that grows in the direction that its name says."""
        facts, seen = self.facts, self.seen
        if name == "size":
            return facts.bulk
        if name == "height":
            return facts.size[:, 2]
        if name == "top":
            return facts.high[:, 2]
        if name == "length":
            return facts.length
        if name == "width":
            return np.array([np.sort(b.size[:2])[-1] for b in facts.boxes])
        if name == "thickness":
            return np.array([b.size.min() for b in facts.boxes])
        if name == "central":
            middle = facts.centre[facts.is_thing > 0.5, :2].mean(0) if (facts.is_thing > 0.5).any() else 0
            return -np.linalg.norm(facts.centre[:, :2] - middle, axis=1)
        if name == "left":
            return -seen.column
        if name == "right":
            return seen.column
        if name == "front":
            return -seen.depth
        if name == "behind":
            return seen.depth
        things = order.things if order is not None else ()
        if name == "distance" and not things:
            return np.hypot(seen.depth, seen.lateral)
        reference = self.score(things[0])
        if reference.max(initial=0.0) < self.config.clause_floor:
            raise _NoReference(things[0].spoken)
        chosen = int(reference.argmax())
        middle = np.linalg.norm(facts.centre - facts.centre[chosen], axis=1)
        value = (facts.gap[:, chosen] + middle) / 2
        value[chosen] = np.nan
        return value

    def _ordered(self, thing: Thing, total: np.ndarray, clauses: list[Clause]) -> tuple[np.ndarray, list[Clause], str]:
        """Apply the orders of a description: scores, clauses with those of the orders, why there are too few things."""
        for order in thing.orders:
            try:
                value = self._measure(order.measure, order)
            except _NoReference as missing:
                words = f"nothing fits {missing.args[0]!r}"
                return total * 0, [*clauses, Clause(order.spoken, total * 0)], words
            total = np.where(np.isnan(value), 0.0, total)
            value = np.where(np.isnan(value), 0.0, value) * (1 if order.largest else -1)
            rivals = total >= max(self.config.rivals * total.max(initial=0.0), 1e-6)
            count = int(rivals.sum())
            if count == 0:
                break
            rank = order.rank if order.rank > 0 else count
            if rank > count:
                return total, clauses, f"there are only {count} for {order.spoken!r}"
            first = thing.number if thing.number > 1 and rank == 1 else 1
            factor = self._soft_side(value, rivals) if order.soft else self._nth(value, rivals, rank, min(first, count))
            factor = np.where(rivals, factor, 0.05)
            clauses = [*clauses, Clause(order.spoken, factor)]
            total = total * factor
        return total, clauses, ""

    def _nth(self, value: np.ndarray, rivals: np.ndarray, rank: int, first: int = 1) -> np.ndarray:
        """1 for the n-th of the rivals, or (`first`) for the first few; less for others, by how far they are off."""
        where = np.flatnonzero(rivals)
        order = where[np.argsort(-value[where], kind="stable")]
        spread = max(float(np.ptp(value[where])), 1e-9)
        behind = np.abs(value - value[order[rank - 1]]) / (self.config.order_softness * spread)
        factor = np.exp(-behind)
        chosen = np.isin(np.arange(len(value)), order[:first] if first > 1 else order[rank - 1])
        return np.where(chosen, 1.0, np.minimum(factor, 0.6))

    @staticmethod
    def _soft_side(value: np.ndarray, rivals: np.ndarray) -> np.ndarray:
        """How far things lie on the side in question of the middle between those of the same description."""
        inside = value[rivals]
        spread = float(np.ptp(inside))
        if len(inside) < 2 or spread < 1e-9:
            return np.ones(len(value))
        middle = (inside.max() + inside.min()) / 2
        ahead = 1 / (1 + np.exp(-(value - middle) / (0.12 * spread)))
        return ahead * (0.75 + 0.25 * np.clip((value - inside.min()) / spread, 0, 1))

    def _from_thing(self, viewpoint: Thing) -> Seen | None:
        """The scene as seen from one of its things, looking at the middle of the others."""
        score = self.score(viewpoint)
        if score.max(initial=0.0) < self.config.clause_floor:
            raise NeedsView(
                f"{viewpoint.spoken!r} is not in the scene; say where one looks from with --seen-from IMAGE"
            )
        own = int(score.argmax())
        others = np.flatnonzero((self.facts.is_thing > 0.5) & (np.arange(len(score)) != own))
        middle = self.facts.centre[others].mean(0) if len(others) else np.zeros(3)
        eye = self.facts.centre[own]
        return Seen.from_point(self.facts, eye, middle - eye)


class _NoReference(Exception):
    """What a distance is to is not there."""


def _product(scores: list[np.ndarray], k: int) -> np.ndarray:
    out = np.ones(k)
    for score in scores:
        out = out * score
    return out
