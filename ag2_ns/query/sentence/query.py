"""Sentence queries: "the mug left of the red book", solved over the scene's instances."""

from __future__ import annotations

import shlex
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import MissingLanguage, UnknownWords
from ag2_ns.core.view import View
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.language.word_meaning import minilm
from ag2_ns.query.query import Query
from ag2_ns.query.sentence.by_field import answer_by_field
from ag2_ns.query.sentence.meaning import SceneWords, closed_words, open_fit
from ag2_ns.query.sentence.parse import parses
from ag2_ns.query.sentence.reasoner import Reasoner, command_reasoner, reasoned
from ag2_ns.query.sentence.solve import Solution, SolverConfig, solve
from ag2_ns.scene.geometry import Facts, GeometryConfig, Seen, gather_facts, things_of
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex

RUNNERS = 5
"""Candidates that an answer names beside what it selects."""


@dataclass(frozen=True)
class Sentence(Query):
    """What a sentence refers to."""

    sentence: str
    seen_from: str | View | None = None
    """The picture, by name or number, or a camera of one's own, that left, right, in front and behind are meant in."""
    up: tuple[float, float, float] | None = None
    """The vertical in the scene's frame; by default found from cameras and support planes."""
    reasoner: Reasoner | None = None
    """Answers instead of the solver: from the scene as data and the sentence to ids (see `reasoner`)."""
    by: Literal["solver", "field"] = "solver"
    """The field is one that `ag2 refer-train` trained; it answers with the instance that fits its response best."""

    @classmethod
    def from_option(
        cls,
        value: str,
        seen_from: str | View | None = None,
        up: tuple[float, float, float] | None = None,
        reasoner: str | Reasoner | None = None,
        by: Literal["solver", "field"] = "solver",
    ) -> Sentence:
        """`--sentence WORDS [--seen-from IMAGE] [--up X Y Z] [--by field] [--reasoner COMMAND]`."""
        if isinstance(reasoner, str):
            reasoner = command_reasoner(shlex.split(reasoner))
        return cls(value, seen_from, None if up is None else tuple(up), reasoner, by)

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """The things that the sentence refers to, with the reason; empty with the clause that failed.

        Raises:
            UserError: an empty or overlong sentence, no instances, an unknown picture, or a sentence that depends on
                where one looks from where nobody looks (`solve.NeedsView`).
        """
        readings = parses(self.sentence)
        if self.by == "field":
            return answer_by_field(scene, self.sentence)
        facts = facts_of(scene, level, self.up)
        words = words_of_scene(scene, facts)
        seen = None if self.seen_from is None else Seen.by(facts, scene.view(self.seen_from))
        if self.reasoner is not None:
            solution = reasoned(self.reasoner, self.sentence, facts, words, seen)
        else:
            solution = solve(readings, facts, words, seen, config_of(scene, SolverConfig))
        return self._answer(scene, facts, words, solution, level)

    def _answer(self, scene: Scene, facts: Facts, words: SceneWords, solution: Solution, level: float | None) -> Answer:
        index, label = scene.require_index(), self.sentence.strip()
        if not solution.things:
            found = index.nothing(label, solution.reason)
        else:
            tree, language = on_host(index)
            nodes = [_best_fitting(tree, language, facts.nodes[i]) for i in solution.things]
            score = torch.zeros(tree.num_nodes)
            score[list(facts.nodes)] = torch.from_numpy(np.asarray(solution.scores, np.float32))
            node_of = tree.cut(0.5 if level is None else level)
            anchor_score = torch.where(node_of >= 0, score[node_of.clamp_min(0)], score.new_zeros(()))
            for thing, node in zip(solution.things, nodes):
                anchor_score[tree.anchors_of(node)] = float(solution.scores[thing])
            anchor_score = anchor_score.to(index.anchor_xyz.device)
            found = index.selection(nodes, label, float(solution.score), level, anchor_score)
        order = sorted(range(len(facts)), key=lambda i: -float(solution.scores[i])) if solution.scores.size else []
        chosen = [Candidate(label, found.score, found.nodes)] if solution.things else []
        rest = [
            Candidate(words.called(i), float(solution.scores[i]), (facts.nodes[i],))
            for i in order
            if i not in solution.things and solution.scores[i] > 0.005
        ]
        ignored = f"; not used: {', '.join(solution.unused)}" if solution.unused else ""
        return Answer(found, (*chosen, *rest[:RUNNERS]), solution.reason + ignored)

    def ignored(self, scene: Scene) -> str:
        """The words that made no difference."""
        if self.by == "field" or self.reasoner is not None:
            return ""
        facts = facts_of(scene, None, self.up)
        words = words_of_scene(scene, facts)
        with suppress(Exception):
            seen = None if self.seen_from is None else Seen.by(facts, scene.view(self.seen_from))
            unused = solve(parses(self.sentence), facts, words, seen, config_of(scene, SolverConfig)).unused
            if unused:
                return f"{self.sentence!r}: not used: {', '.join(unused)}"
        return ""


def config_of(scene: Scene, config: type) -> Any:
    """Thresholds with what the scene's settings change."""
    changed = dict(scene.settings.get(config.__name__, {})) if scene.settings else {}
    return config(**changed)


_FACTS: dict[tuple, tuple[weakref.ref, Facts]] = {}
_WORDS: dict[tuple, tuple[weakref.ref, SceneWords]] = {}
_HOST: dict[tuple, tuple[weakref.ref, tuple[InstanceTree, NodeLanguage]]] = {}
KEPT = 8
"""Scenes whose facts are remembered: a person works on one or two at a time."""


def _remembered(store: dict, key: tuple, owner: Any, make: Callable[[], Any]) -> Any:
    """A value that belongs to an object, made once while the object lives."""
    known = store.get(key)
    if known is not None and known[0]() is owner:
        return known[1]
    value = make()
    while len(store) >= KEPT:
        store.pop(next(iter(store)))
    store[key] = (weakref.ref(owner), value)
    return value


def facts_of(scene: Scene, level: float | None = None, up: tuple[float, float, float] | None = None) -> Facts:
    """The geometry of a scene's instances at a level, by default objects; kept while the scene lives.

    Raises:
        MissingInstances: there are none.
    """
    index = scene.require_index()
    at = 0.5 if level is None else level
    config = config_of(scene, GeometryConfig)
    up = up or getattr(config, "up", None)
    known = scene.facts

    def make() -> Facts:
        nodes = things_of(index.tree, at)
        if known is not None and up is None and known.config == config and at == 0.5 and set(known.nodes) <= set(nodes):
            return known
        views = [v.view for v in scene.views]
        return gather_facts(index, scene.gaussians, views, nodes=nodes, up=up, config=config)

    return _remembered(_FACTS, (id(index), at, up), index, make)


def on_host(index: SceneIndex) -> tuple[InstanceTree, NodeLanguage]:
    """Tree and language on the CPU, where single numbers of them are looked up without waiting for a device."""
    return _remembered(_HOST, (id(index),), index, lambda: (index.tree.to("cpu"), index.language.to("cpu")))


def words_of_scene(scene: Scene, facts: Facts) -> SceneWords:
    """What words say in a scene: a closed list of names, an open encoder, or colours only.

    Raises:
        EncoderGone: the scene has a language, and what it needs is gone.
    """
    return _remembered(_WORDS, (id(facts),), facts, lambda: _words(scene, facts))


def _words(scene: Scene, facts: Facts) -> SceneWords:
    index, texts = scene.require_index(), scene.texts
    named = vocabulary_words(scene, facts)
    if texts is None or not index.has_language:
        return named
    manifest = texts.manifest()
    if manifest is None or manifest.maker == "palette":
        return named
    nodes = torch.tensor(facts.nodes, dtype=torch.long, device=index.language.feature.device)
    feature, trust = index.language.feature[nodes], index.language.trust[nodes]
    if manifest.maker == "table":
        names = texts.vocabulary()
        if not names:
            return SceneWords(facts.colours)
        vectors = torch.stack([texts.embed(name) for name in names])
        return closed_words(names, vectors, feature, trust, facts.colours, minilm(), texts.negatives())

    def open_text(words: str):
        try:
            vector = texts.embed(words)
        except (UnknownWords, MissingLanguage):
            return None
        if not bool((vector != 0).any()):
            return None
        return open_fit(feature, trust, vector.to(feature.device), texts.negatives())

    return replace(named, open_text=open_text)


def vocabulary_words(scene: Scene, facts: Facts) -> SceneWords:
    """The names that `ag2 name` found, as a list of names; colours only where there are none.

    They are what a tagger happened to say, not all that there is: with an open encoder, words that they do not hold are
    asked of that.
    """
    found = scene.vocabulary
    name_of = {} if found is None else {name.node: name for name in found.names}
    words = tuple(dict.fromkeys(name_of[n].word for n in facts.nodes if n in name_of))
    if not words:
        return SceneWords(facts.colours)
    fit = np.zeros((len(facts), len(words)))
    for k, node in enumerate(facts.nodes):
        if node in name_of:
            fit[k, words.index(name_of[node].word)] = 1.0
            second = name_of[node].runner_up
            if second in words:
                fit[k, words.index(second)] = 0.3
    return SceneWords(facts.colours, words, fit, encode=minilm())


def _best_fitting(tree: InstanceTree, language: NodeLanguage, node: int) -> int:
    """The node that fits its masks best among one and those directly above and below it that look the same.

    Cutting the tree at the level of objects now and then takes a thing with its rim missing, or with a neighbour's; the
    node above or below then matches more masks, and its language is the same.
    """
    if float(language.trust[node]) <= 0:
        return node
    near = [int(n) for n in tree.children(node).tolist()]
    parent = int(tree.parent[node])
    near += [parent] if parent >= 0 else []
    feature = language.feature[node].float()
    best, quality = node, float(language.quality[node])
    for other in near:
        alike = float(feature @ language.feature[other].float())
        share = _share(tree, node, other)
        better = float(language.quality[other]) - quality
        if alike > ALIKE and share > SHARE and better > BETTER and float(language.trust[other]) > 0:
            best, quality = other, float(language.quality[other])
    return best


ALIKE, SHARE, BETTER = 0.97, 0.6, 0.05
"""A node stands in for one above or below it where their features agree this well (cosine), the smaller one is this
share of the larger, and its masks fit better by this much (soft IoU)."""


def _share(tree: InstanceTree, a: int, b: int) -> float:
    sizes = sorted((int(tree.size[a]), int(tree.size[b])))
    return sizes[0] / max(sizes[1], 1)


def looks_like_sentence(text: str) -> bool:
    """Whether a text says more than what a thing is called: relations, orders, negations, clauses."""
    with suppress(Exception):
        program = parses(text)[0]
        return any(
            t.relations or t.orders or t.number > 1 or any(a.negated for a in t.attributes) for t in program.targets
        )
    return False
