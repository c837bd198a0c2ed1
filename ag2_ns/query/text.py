"""Text queries: the best node anywhere in the tree, or every instance that answers when several are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import MissingLanguage, UnknownWords, UserError
from ag2_ns.core.selection import Selection
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.language.relevancy import trusted_relevancy
from ag2_ns.perception.english import asks_for_several
from ag2_ns.query.config import DEFAULTS, QueryConfig
from ag2_ns.query.query import Query
from ag2_ns.query.rivals import against, mentions_several, rivals_of, thing_of
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex

SCRAPS = 0.1
"""Share of a thing, by visible area, that need not answer."""


def select_text(
    index: SceneIndex,
    text: str,
    embedding: Float[Tensor, " D"],
    negatives: Float[Tensor, "K D"] | None = None,
    *,
    rivals: Float[Tensor, "V D"] | None = None,
    several: bool | None = None,
    level: float | None = None,
    beside: Float[Tensor, " R"] | None = None,
    config: QueryConfig = DEFAULTS,
) -> Selection:
    """The instance (or instances) that a text names.

    With rivals, a node answers only as far as none of them names it better: a red mug is not what "red cup" means where
    "red mug" is a word, and a text that names nothing in the scene selects nothing.

    Args:
        index: the scene.
        text: the words, for the label and to see whether they are plural.
        embedding: the words embedded by the encoder of the scene's features.
        negatives: `relevancy.NEGATIVES` embedded likewise; None where the encoder does not know them.
        rivals: other texts that things may be called by, embedded likewise.
        several: take all instances that answer; by default when the words are plural.
        level: look only at the instances of this level (0 parts, 0.5 objects, 1 groups); by default at all nodes.
        beside: a second relevancy of every node, say of a language field, NaN where there is none; counts as much.
        config: thresholds.

    Returns:
        The selection; empty, with a reason, for a text that the encoder knows nothing of, a scene without language, or
        a
        text that rivals outdo everywhere.

    Raises:
        UserError: the embedding has another width than the scene's features, or the level is out of range.
    """
    if not index.has_language:
        return index.nothing(text, "the scene has no language; run `ag2 prepare` with an encoder, then `ag2 lift`")
    width = index.language.feature.shape[1]
    if embedding.shape != (width,):
        raise UserError(
            f"text {text!r}: its embedding has {embedding.numel()} numbers but the scene's features have {width}; "
            "query with the encoder that prepared the scene"
        )
    if not bool((embedding != 0).any()):
        return index.nothing(text, f"no word of {text!r} is known to the encoder")
    tree = index.tree
    score, typical = trusted_relevancy(index.language, embedding, against(embedding, negatives, rivals, config.synonym))
    if beside is not None:
        both = torch.isfinite(beside)
        score = torch.where(both, (score + torch.nan_to_num(beside)) / 2, score)
        typical = (typical + float(beside[both].median())) / 2 if bool(both.any()) else typical
    allowed = index.language.trust > 0
    if level is not None:
        allowed &= _of_level(tree, level)
    if not bool(allowed.any()):
        return index.nothing(text, "no instance of the scene matches any described mask")
    ranked = torch.where(allowed, score, score.new_full((), -1.0))
    single, rivalled = not mentions_several(text), rivals is not None and len(rivals) > 0
    # A closed list says what names a part, and this does not.
    listed = rivals is not None and level is None and not config.pieces
    if listed and not single and bool((allowed & (tree.level > 0.5)).any()):
        ranked = torch.where(tree.level > 0.5, ranked, -1.0)
    whole = _of_parts(tree, ranked - typical, config)
    first = ranked  # what answers, before masks decide between a node and those above and below it
    if single:
        first = torch.where((tree.level > 0.5) & ~whole, typical + config.group_share * (ranked - typical), ranked)
    if listed and single:
        first = torch.where(_of_level(tree, 0.5), first, typical + config.piece_share * (ranked - typical))
    found = float(first.max()) if rivalled else evidence(index, score, level, config)
    if rivalled and found < config.present:
        return index.nothing(text, f"nothing in the scene is called {text!r} rather than something else", found)
    best = int(first.argmax())
    one = whole & ((_kinship(index) >= config.kin) | (torch.arange(tree.num_nodes, device=whole.device) == best))
    meant = partial(_meant, tree, quality=index.language.quality, whole=one, single=single, config=config)
    nodes = [meant(ranked - typical, best=best)]
    if asks_for_several(text) if several is None else several:
        least = typical + config.several_share * (float(first[best]) - typical)
        free = (tree.level <= 0.5) | whole if single else torch.ones_like(whole)
        if level is None and config.part_handicap >= 0:  # of parts, some resemble anything
            free = free & _of_level(tree, 0.5)
        while True:
            free = free & _apart(tree, nodes[-1])
            left = torch.where(free, first, -1.0)
            if float(left[best := int(left.argmax())]) < least:
                break
            nodes.append(meant(torch.where(free, ranked, -1.0) - typical, best=best))
        nodes = sorted(nodes)
    map_level = 0.5 if level is None else level
    node_map = tree.cut(map_level)
    anchor_score = torch.where(node_map >= 0, score[node_map.clamp_min(0)], score.new_zeros(()))
    for node in nodes:
        inside = tree.anchors_of(node)
        anchor_score = torch.where(inside, score[node], anchor_score)
    return index.selection(nodes, text, found, level, anchor_score)


def for_parts(config: QueryConfig) -> QueryConfig:
    """The thresholds of a text that names a part of a thing."""
    return replace(config, present=config.present_part, part_handicap=-config.part_bonus, pieces=True)


def part_of_thing(
    index: SceneIndex,
    found: Selection,
    embedding: Float[Tensor, " D"],
    thing: Float[Tensor, " D"],
    against: Float[Tensor, "K D"] | None,
    nodes: Sequence[int],
    config: QueryConfig = DEFAULTS,
) -> Selection | None:
    """The same, but of the nodes below a thing the one that answers best; as it was where nothing is below.

    All of a mug resembles "mug handle", so what the text says beyond "mug" counts more.

    Args:
        index: the scene, with language.
        found: what the text selects among all nodes.
        embedding: of the text.
        thing: likewise of the thing that it mentions.
        against: what the text competes with.
        nodes: what the thing's text selects; the best part of each is taken.
        config: thresholds.

    Returns:
        The part, or None where another thing is called so itself: a "ball pyramid" is no part of the ball.
    """
    tree, unit = index.tree, torch.nn.functional.normalize
    text, whole = unit(embedding.float(), dim=0), unit(thing.float(), dim=0)
    score, _ = trusted_relevancy(index.language, text + config.beyond_thing * (text - whole), against)
    ranked, last = torch.where(index.language.trust > 0, score, -1.0), tree.last.tolist()
    below = [slice(n + 1, last[n] + 1) for n in nodes]
    parts = sorted(b.start + int(ranked[b].argmax()) for b in below if b.start < b.stop and float(ranked[b].max()) >= 0)
    other = _of_level(tree, 0.5)
    for node in nodes:
        other = other & _apart(tree, node)
    best_other = float(torch.where(other, ranked, -1.0).max())
    if best_other >= max(config.present, float(ranked[parts].max()) if parts else 0.0):
        return None
    if not parts:
        return found
    chosen = index.selection(parts, found.label, found.score)
    return replace(chosen, anchor_score=torch.where(chosen.anchor_mask, found.score, found.anchor_score))


def evidence(
    index: SceneIndex, score: Float[Tensor, " R"], level: float | None = None, config: QueryConfig = DEFAULTS
) -> float:
    """How well anything in the scene answers: things and groups, or any node where a part may be asked for.

    There are many pieces of things, small and seen in few views: one of them always resembles what is not there.

    Args:
        index: the scene, with language.
        score: trusted relevancies.
        level: see `select_text`.
        config: thresholds.
    """
    tree, allowed = index.tree, index.language.trust > 0
    if level is not None:
        allowed &= _of_level(tree, level)
    elif not config.pieces and bool((allowed & _of_level(tree, 0.5)).any()):
        allowed &= _of_level(tree, 0.5)
    return float(score[allowed].max()) if bool(allowed.any()) else 0.0


def _of_level(tree: InstanceTree, level: float) -> Bool[Tensor, " R"]:
    """The nodes that are the instances of a level, and all above it."""
    top = tree.top(level)
    return top == torch.arange(tree.num_nodes, device=top.device)


def _meant(
    tree: InstanceTree,
    rise: Float[Tensor, " R"],
    quality: Float[Tensor, " R"],
    whole: Bool[Tensor, " R"],
    best: int,
    single: bool,
    config: QueryConfig,
) -> int:
    """The node that fits its masks best, among the best one and those above and below it that answer nearly as well.

    Half of a bottle looks as much like a bottle as the whole does: between them the masks decide, not the text.

    Args:
        tree: R nodes.
        rise: how far each rises above the typical relevancy.
        quality: how well it fits its masks.
        whole: groups that are one thing, see `_of_parts` and `_kinship`.
        best: the node that answers best.
        single: whether the text mentions one thing.
        config: thresholds.
    """
    near = ~_apart(tree, best) & (rise >= config.related_share * rise[best])
    thing = whole & near
    above = tree.lineage[:, 1:]
    part = ~_of_level(tree, 0.5) | ((above >= 0) & thing[above.clamp_min(0)]).any(1)
    group = (tree.level > 0.5) & ~thing
    fit = quality.to(rise) - config.part_handicap * part - (config.group_handicap if single else 0.0) * group
    return int(torch.where(near, fit, -2.0).argmax())


def _of_parts(tree: InstanceTree, rise: Float[Tensor, " R"], config: QueryConfig) -> Bool[Tensor, " R"]:
    """Groups that are one thing of large parts: they answer, and so do all their members.

    A dish and the candle on it are both called a candle; of a bowl and its plate, or of two books, only one is.
    """
    member = _of_level(tree, 0.5) & (tree.level <= 0.5)
    size = torch.where(member, tree.support, 0.0)
    above = tree.lineage[:, 1:]
    silent = (above >= 0) & (rise[:, None] < config.member_share * rise[above.clamp_min(0)])
    unheard = torch.zeros_like(size).index_add_(0, above[silent], size[:, None].expand_as(above)[silent])
    return (tree.level > 0.5) & (rise > 0) & (unheard <= SCRAPS * tree.subtree_sum(size))


def _kinship(index: SceneIndex) -> Float[Tensor, " R"]:
    """How alike a group and its members are by their language, less what all nodes say: the least of their cosines.

    Crops of a dish, of the candle on it and of both say candle; crops of a book and of the stack it is in do not agree.
    """
    tree, language = index.tree, index.language
    feature, trust = language.feature.float(), language.trust.float()
    feature = torch.nn.functional.normalize(feature - trust @ feature / trust.sum().clamp_min(1e-12), dim=1)
    member = _of_level(tree, 0.5) & (tree.level <= 0.5) & (trust > 0)
    above = tree.lineage[:, 1:]
    inside = (above >= 0) & member[:, None]
    group = above[inside]
    cosine = (feature[inside.nonzero()[:, 0]] * feature[group]).sum(1)
    return torch.ones_like(trust).scatter_reduce_(0, group, cosine, "amin")


def _apart(tree: InstanceTree, node: int) -> Bool[Tensor, " R"]:
    """The nodes neither above nor below one, nor it."""
    number = torch.arange(tree.num_nodes, device=tree.last.device)
    return (number > tree.last[node]) | (tree.last < node)


def _antichain(tree: InstanceTree, ranked: Float[Tensor, " R"], least: float) -> list[int]:
    """Nodes of at least `least`, best first, none above or below another one taken."""
    chosen: list[int] = []
    last = tree.last.tolist()
    candidates = (ranked >= least).nonzero().squeeze(1)
    for node in candidates[torch.argsort(ranked[candidates], descending=True, stable=True)].tolist():
        if all(last[node] < other or last[other] < node for other in chosen):
            chosen.append(node)
    return chosen


def best_nodes(
    index: SceneIndex,
    embedding: Float[Tensor, " D"],
    negatives: Float[Tensor, "K D"] | None,
    chosen: Sequence[int],
    most: int = DEFAULTS.nearest,
) -> list[tuple[int, float]]:
    """The nodes that answer best beside those chosen and what lies in or around them, best first.

    Args:
        index: the scene, with language.
        embedding: of the text.
        negatives: see `select_text`.
        chosen: nodes that were selected.
        most: how many.
    """
    tree = index.tree
    score, typical = trusted_relevancy(index.language, embedding, negatives)
    free = index.language.trust > 0
    for node in chosen:
        free &= _apart(tree, node)
    ranked = torch.where(free, score, score.new_full((), -1.0))
    return [(n, float(ranked[n])) for n in _antichain(tree, ranked, typical)][:most] if bool(free.any()) else []


@dataclass(frozen=True)
class Text(Query):
    """What some words name."""

    text: str
    several: bool | None = None
    """All instances that answer; by default when the words are plural."""
    strategy: Literal["tree", "collaborative", "both"] | None = None
    """See `ag2_ns.query.collaborative.Strategy`; by default as the scene's `QueryConfig` says."""
    floor: float | None = None
    """Least relevancy of an answer, before any stretch; by default the `QueryConfig`'s where negatives are known."""

    @classmethod
    def from_option(cls, value: str, all: bool = False, **further: Any) -> Text:
        """`--text WORDS [--all] [--strategy S] [--floor F]`."""
        return cls(value, True if all else None, **further)

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """The best node anywhere in the tree, or every instance that answers when several are asked for.

        Raises:
            UserError: an empty text, no instances, or an encoder that is gone.
        """
        index, text = scene.require_index(), self.text.strip()
        if not text:
            raise UserError("the text is empty; say what to look for, for example 'red mug'")
        if scene.vocabulary is not None and (nodes := scene.vocabulary.nodes_of(text)):
            return self._named(scene, text, nodes, level)
        if scene.texts is None:
            raise MissingLanguage("text: the scene does not say what capture it was made from, so no encoder is known")
        if not index.has_language:
            raise MissingLanguage("this scene has no language: run `ag2 prepare` with an encoder, then `ag2 lift`")
        embedding, negatives = scene.texts.embed(text), scene.texts.negatives()
        if not bool((embedding != 0).any()):
            raise UnknownWords(text, hint=getattr(scene.texts.encoder(), "knows", ""))
        embedding = embedding.to(scene.device)
        negatives = None if negatives is None else negatives.to(scene.device)
        config = scene.config(QueryConfig)
        rivals = rivals_of(scene.texts, text, index, config)
        rivals = None if rivals is None else rivals.to(scene.device)
        from ag2_ns.query.vector import called_nearest, select_vector  # which asks `select_text`

        closed, floor, thing = hasattr(scene.texts.encoder(), "known_texts"), self.floor, None
        if rivals is not None and not closed:
            config = replace(config, present=config.present_open, pieces=True)
        elif rivals is not None and (thing := thing_of(text, scene.texts.encoder().known_texts())):
            config = for_parts(config)
        if floor is None:  # rivals, where there are any, tell better what is not there
            floor = config.floor if rivals is None else 0.0 if closed and len(rivals) else config.clear
            floor = 0.0 if negatives is None else floor
        select = partial(
            select_vector, index, text, embedding, negatives, strategy=self.strategy or config.strategy,
            field=scene.language_field, gaussians=scene.gaussians, floor=floor, several=self.several, level=level,
            rivals=rivals,
        )  # fmt: skip
        found = select(config=config)
        if thing is not None and level is None and not found.selection.empty:
            whole, others = replace(self, text=thing).reply(scene, None), against(embedding, negatives, rivals)
            part = part_of_thing(
                index, found.selection, embedding, scene.texts.embed(thing).to(embedding), others,
                whole.selection.nodes, scene.config(QueryConfig),
            )  # fmt: skip
            if part is None:
                found = select(config=scene.config(QueryConfig))
            elif part.nodes != found.selection.nodes:
                rest = (c for c in found.candidates[1:] if c.nodes != part.nodes)
                found = replace(found, selection=part, candidates=(Candidate(text, part.score, part.nodes), *rest))
        return called_nearest(scene, found, floor)

    def _named(self, scene: Scene, text: str, nodes: tuple[int, ...], level: float | None) -> Answer:
        """What the scene's own vocabulary calls so: the one named most clearly, or all where several are asked for."""
        index, tree = scene.require_index(), scene.index.tree
        score = {n.node: n.score for n in scene.vocabulary.names}
        order = sorted(nodes, key=lambda n: -score[n])
        several = asks_for_several(text) if self.several is None else self.several
        if level is not None:  # the instances of that level that hold, or are, what is called so
            top = tree.top(level)
            score |= {int(top[n]): score[n] for n in reversed(order)}
            order = list(dict.fromkeys(int(top[n]) for n in order))
        chosen = order if several else order[:1]
        found = index.selection(sorted(chosen), text, score[order[0]], level)
        rest = tuple(Candidate(text, score[n], (n,)) for n in order if n not in chosen)
        word = scene.vocabulary.find(text)
        reason = f"called {word!r} by the scene's vocabulary"
        return Answer(found, (Candidate(text, found.score, found.nodes), *rest), reason)

    def ignored(self, scene: Scene) -> str:
        """The words that make no difference to the answer, where the encoder can tell."""
        if scene.texts is None or (scene.vocabulary is not None and scene.vocabulary.find(self.text)):
            return ""
        encoder = scene.texts.encoder()
        unknown = getattr(encoder, "unknown_words", lambda text: [])(self.text)
        known = getattr(encoder, "knows", "")
        return f"{self.text!r}: not known, so ignored: {', '.join(unknown)}; {known}" if unknown else ""
