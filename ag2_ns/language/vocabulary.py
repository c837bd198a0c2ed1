"""The vocabulary of a scene: which words name which of its instances, found without being asked.

Tags of views (3D-AVS, section 3) become a vocabulary in four steps. Words whose vectors nearly coincide are one. A word
that no instance clearly answers, or that hardly a view names, is dropped. Every object takes the word that it answers
best, weighed by how many of the views that show it name that word; 3D-AVS lets each point choose and ignores who said
what where. Then parts and groups take another word where they answer it clearly better than the object does ("shelf",
"book"); whatever has no word of its own inherits the word above it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import DamagedFile, UserError
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.language.relevancy import trusted_relevancy
from ag2_ns.perception.english import forms

FORMAT = 1
"""Version of `Vocabulary.to_json`."""


@dataclass(frozen=True)
class VocabularyConfig:
    """Thresholds of naming. Chosen on table-tops of seeds 0 to 4 at noise 1 and 2."""

    clear: float = 0.5
    """Least relevancy at which a word names anything: better than the canonical negatives, or than the scene's median
    where there are none."""
    synonym: float = 0.95
    """Cosine of two words' vectors from which they are one word."""
    least_views: float = 0.08
    """A word is dropped where fewer of the views that show its instance name it than this share; one view is enough
    where a scene has few."""
    evidence: float = 0.25
    """Exponent of that share in a word's score: 0 lets the vectors alone decide."""
    least_cosine: float = -1.0
    """Least cosine of a word and an instance: an encoder that is sure of nothing below says so (`naming_cosine`). Where
    it is set, an instance takes its nearest word or none, and none if it is far below that word's best instance
    (`near_best`): the wall behind a fox takes after the fox."""
    near_best: float = 0.85
    """Share of a word's largest cosine."""
    distinct: float = 1.0
    """How much a word's rise above its typical relevancy counts beside the relevancy itself: words that resemble
    everything name nothing."""
    own: float = 0.03
    """How much better, in score, a part or group must answer another word than its object does to be called by it."""
    least_trust: float = 0.58
    """Instances whose language is trusted less than this share of the most trusted one's take no word of their own: the
    floor and scraps of the background, which masks hardly fit, resemble something by chance."""


DEFAULT = VocabularyConfig()


@dataclass(frozen=True)
class Name:
    """What an instance is called, and why."""

    node: int
    word: str
    score: float
    """Relevancy of the word for the node, 0 to 1."""
    views: int
    """Views that name the word and show the node."""
    seen: int
    """Views that show the node."""
    runner_up: str = ""
    """The word that came next; empty where there is none."""
    runner_up_score: float = 0.0


@dataclass(frozen=True)
class Vocabulary:
    """Words of a scene, and the instances that each names."""

    words: tuple[str, ...]
    """Those that name something, most evidence first."""
    names: tuple[Name, ...]
    """One for each node that has a word of its own, by node."""
    node_word: Int[Tensor, " R"]
    """The word of each node, its own or inherited; -1 for none."""
    vectors: Float[Tensor, "W D"]
    """Of the words, unit length."""
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that were merged into each."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Tags that name nothing here, and why."""

    def nodes_of(self, word: str) -> tuple[int, ...]:
        """The nodes that a word, its plural, or one of its synonyms is the own name of; none for unknown words."""
        found = self.find(word)
        return () if found is None else tuple(n.node for n in self.names if n.word == found)

    def find(self, word: str) -> str | None:
        """The word of the vocabulary that a text is: in any case, with or without article, in the plural."""
        table = {w: w for w in self.words}
        table |= {s: w for w, merged in self.synonyms.items() for s in merged if s not in table}
        return next((table[f] for f in forms(word) if f in table), None)

    def name_of(self, node: int) -> str | None:
        """What a node is called, by its own word or the one that it inherits."""
        k = int(self.node_word[node])
        return None if k < 0 else self.words[k]

    def to_json(self) -> str:
        """As text: for files and for the scene; the vectors are kept beside it (`vectors`)."""
        content = {
            "format": FORMAT,
            "words": list(self.words),
            "names": [asdict(n) for n in self.names],
            "node_word": self.node_word.tolist(),
            "synonyms": {k: list(v) for k, v in self.synonyms.items()},
            "dropped": dict(self.dropped),
        }
        return json.dumps(content, ensure_ascii=False)

    @staticmethod
    def from_json(text: str, vectors: Float[Tensor, "W D"] | None = None) -> Vocabulary:
        """The inverse of `to_json`.

        Raises:
            DamagedFile: another format.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise KeyError("format")
            words = tuple(content["words"])
            return Vocabulary(
                words,
                tuple(Name(**n) for n in content["names"]),
                torch.tensor(content["node_word"], dtype=torch.long),
                torch.zeros(len(words), 0) if vectors is None else vectors,
                {k: tuple(v) for k, v in content["synonyms"].items()},
                content["dropped"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFile(f"the names are of another version ({error}); make them again with `ag2 name`") from None


def empty_vocabulary(num_nodes: int, dropped: Mapping[str, str] | None = None) -> Vocabulary:
    """A vocabulary without a word."""
    none = torch.full((num_nodes,), -1, dtype=torch.long)
    return Vocabulary((), (), none, torch.zeros(0, 0), {}, dropped or {})


@torch.no_grad()
def find_vocabulary(
    tree: InstanceTree,
    language: NodeLanguage,
    tags: Sequence[Sequence[tuple[str, float]]],
    words: Sequence[str],
    vectors: Float[Tensor, "T D"],
    negatives: Float[Tensor, "K D"] | None = None,
    shown: Float[Tensor, "R V"] | None = None,
    config: VocabularyConfig = DEFAULT,
) -> Vocabulary:
    """Name the instances of a scene.

    Args:
        tree: its R nodes.
        language: their features.
        tags: words and weights of each of V views.
        words: those of the tags that the encoder knows.
        vectors: theirs, unit length.
        negatives: vectors of the canonical negatives, where the encoder knows them.
        shown: share of each view that each node fills (`visible_share`); without it every view shows every node.
        config: thresholds.

    Raises:
        UserError: the vectors have another width than the scene's features.
    """
    unknown = {w: "unknown to the encoder" for view in tags for w, _ in view}
    unknown = {w: why for w, why in unknown.items() if w not in set(words)}
    if not words or not tree.num_nodes or not language.feature.numel():
        return empty_vocabulary(tree.num_nodes, unknown)
    if vectors.shape[1] != language.feature.shape[1]:
        raise UserError(
            f"the words' vectors have {vectors.shape[1]} numbers but the scene's features {language.feature.shape[1]}; "
            "name it with the encoder that prepared it"
        )
    device = language.feature.device
    vectors = torch.nn.functional.normalize(vectors.to(device).float(), dim=1)
    said = _said(tags, words).to(device)
    words, vectors, said, synonyms = _merged(list(words), vectors, said, config.synonym)
    seen = _seen(shown, tree.num_nodes, said.shape[1], device)
    share = (seen.float() @ said.T) / seen.sum(1, keepdim=True).clamp_min(1)
    enough = share * seen.sum(1, keepdim=True) >= (config.least_views * seen.sum(1, keepdim=True)).clamp_min(1e-6)

    relevancy, typical = _relevancies(language, vectors, negatives)
    rank = relevancy + config.distinct * (relevancy - typical[:, None])
    rank = rank * share.T.clamp_min(1e-6) ** config.evidence
    trust = language.trust.to(device)
    trusted = (trust > 0) & (trust >= config.least_trust * trust.max())
    allowed = (relevancy > config.clear) & enough.T & trusted[None]
    if config.least_cosine > -1:
        cosine = vectors @ torch.nn.functional.normalize(language.feature.float(), dim=1).T
        best = torch.where(trusted, cosine, -1.0).amax(1, keepdim=True)
        allowed &= cosine >= (config.near_best * best).clamp_min(config.least_cosine)
        allowed &= cosine >= cosine.amax(0)
    rank = torch.where(allowed, rank, rank.new_full((), -1.0))
    chosen = _assign(tree, rank, config.own)

    used = sorted(set(chosen.values()), key=lambda k: (-float(said[k].sum()), words[k]))
    place = {k: i for i, k in enumerate(used)}
    names = tuple(_evidence(node, k, words, relevancy, rank, said, seen) for node, k in sorted(chosen.items()))
    dropped = unknown | {w: _why(k, relevancy, enough, config) for k, w in enumerate(words) if k not in place}
    node_word = _inherited(tree, {node: place[k] for node, k in chosen.items()})
    kept = {words[k]: synonyms[k] for k in used if synonyms[k]}
    return Vocabulary(tuple(words[k] for k in used), names, node_word, vectors[used].cpu(), kept, dropped)


def _said(tags: Sequence[Sequence[tuple[str, float]]], words: Sequence[str]) -> Float[Tensor, "T V"]:
    """How much each view says each word, 0 to 1: its weight relative to the view's largest."""
    place = {w: k for k, w in enumerate(words)}
    out = torch.zeros(len(words), max(len(tags), 1))
    for v, view in enumerate(tags):
        top = max((weight for _, weight in view), default=1.0)
        for word, weight in view:
            if word in place:
                k = place[word]
                out[k, v] = max(float(out[k, v]), 0.5 + 0.5 * weight / max(top, 1e-12))
    return out


def _merged(
    words: list[str], vectors: Tensor, said: Tensor, same: float
) -> tuple[list[str], Tensor, Tensor, list[tuple[str, ...]]]:
    """Words whose vectors nearly coincide as one: the one said most, with the evidence of all."""
    order = torch.argsort(said.sum(1), descending=True, stable=True).tolist()
    close = vectors @ vectors.T > same
    left, heads = torch.ones(len(words), dtype=torch.bool, device=vectors.device), []
    for k in order:
        if bool(left[k]):
            heads.append((k, (close[k] & left).nonzero().squeeze(1).tolist()))
            left &= ~close[k]
            left[k] = False
    said = torch.stack([said[group].amax(0) for _, group in heads])
    merged = [tuple(words[m] for m in group if m != k) for k, group in heads]
    kept = [k for k, _ in heads]
    return [words[k] for k in kept], vectors[kept], said, merged


SHOWN = 0.0015
"""Share of a view that a node must fill for the view's captions to be about it, too."""


def _seen(shown: Tensor | None, nodes: int, views: int, device: torch.device) -> Bool[Tensor, "R V"]:
    """Which views show which nodes. A node that none shows well counts for the view that shows it best."""
    if shown is None:
        return torch.ones(nodes, views, dtype=torch.bool, device=device)
    if shown.shape != (nodes, views):
        raise ValueError(f"shares of {tuple(shown.shape)} for {nodes} nodes and {views} views")
    shown = shown.to(device)
    out = shown > SHOWN
    best = shown == shown.amax(1, keepdim=True)
    return out | (~out.any(1, keepdim=True) & best)


def _relevancies(
    language: NodeLanguage, vectors: Tensor, negatives: Tensor | None
) -> tuple[Float[Tensor, "T R"], Float[Tensor, " T"]]:
    """Trusted relevancy of every word for every node, and each word's typical one."""
    negatives = None if negatives is None else negatives.to(vectors)
    rows = [trusted_relevancy(language, v, negatives) for v in vectors]
    return torch.stack([r for r, _ in rows]), vectors.new_tensor([t for _, t in rows])


def _assign(tree: InstanceTree, rank: Float[Tensor, "T R"], own: float) -> dict[int, int]:
    """The word of each node that has its own: objects first, then what is below and above them."""
    best, word = rank.max(0)
    best, word = best.cpu(), word.cpu()
    rank = rank.cpu()
    chosen: dict[int, int] = {}
    objects = tree.instances(0.5).tolist()
    for node in objects:
        if best[node] > 0:
            chosen[node] = int(word[node])
    parent, level = tree.parent.tolist(), tree.level.tolist()
    inside = set(objects)
    for node in range(tree.num_nodes):  # parents come before their children
        if node in inside or best[node] <= 0 or level[node] >= 0.5:
            continue
        above = next((chosen[a] for a in tree.ancestors(node)[1:] if a in chosen), None)
        k = int(word[node])
        if above is None:  # of an object that no word names
            chosen[node] = k
            continue
        least = max(float(rank[k, parent[node]]), float(rank[above, node]), 0.0) + own
        peak = float(best[node]) >= float(rank[k].max()) - 1e-6
        if k != above and peak and float(best[node]) > least:
            chosen[node] = k
    for node in reversed(range(tree.num_nodes)):  # groups, the innermost first
        if node in inside or best[node] <= 0 or level[node] <= 0.5:
            continue
        k = int(word[node])
        below = [chosen[n] for n in range(node + 1, int(tree.last[node]) + 1) if n in chosen]
        if k not in below and float(best[node]) >= float(rank[k].max()) - 1e-6:
            chosen[node] = k
    return chosen


def _inherited(tree: InstanceTree, own: Mapping[int, int]) -> Int[Tensor, " R"]:
    """Each node's own word, else its parent's; but no object takes the word of an object that holds it.

    (Scraps of a whole capture are an object, too, that holds all others.)
    """
    objects = set(tree.instances(0.5).tolist())
    out = torch.full((tree.num_nodes,), -1, dtype=torch.long)
    giver = [-1] * tree.num_nodes
    for node, up in enumerate(tree.parent.tolist()):
        if node in own:
            out[node], giver[node] = own[node], node
        elif up >= 0 and not (node in objects and giver[up] in objects):
            out[node], giver[node] = int(out[up]), giver[up]
    return out


def _evidence(node: int, k: int, words: list[str], relevancy: Tensor, rank: Tensor, said: Tensor, seen: Tensor) -> Name:
    """Why a node is called by word k."""
    order = torch.argsort(rank[:, node], descending=True)
    second = next((int(o) for o in order if int(o) != k and float(rank[int(o), node]) > 0), None)
    return Name(
        node,
        words[k],
        round(float(relevancy[k, node]), 4),
        int(((said[k] > 0) & seen[node]).sum()),
        int(seen[node].sum()),
        "" if second is None else words[second],
        0.0 if second is None else round(float(relevancy[second, node]), 4),
    )


def _why(k: int, relevancy: Tensor, enough: Tensor, config: VocabularyConfig) -> str:
    """Why a word names nothing."""
    if float(relevancy[k].max()) <= config.clear:
        return "no instance clearly answers it"
    if not bool((enough[:, k] & (relevancy[k] > config.clear)).any()):
        return "hardly a view names it"
    return "another word answers better everywhere"
