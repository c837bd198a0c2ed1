"""What else a thing could be called: texts that compete with the one that is asked.

A text names a thing only as far as nothing else names it better: a red mug is not what "red cup" means where "red mug"
is a word. Texts compete within their granularity: those that mention several things ("stack of books") with each other
only, and neither what is named by some of the things that a text mentions ("red mug" of "red mug handle") nor what adds
a part to it is a rival.

A closed list of texts is a list of rivals. An encoder that takes any text has none, so nouns stand in for it: those
that the nodes in question resemble most, alone and in place of the noun that is asked, the other colours, and what each
of those nodes would be called by itself: a colour and a noun.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.language.relevancy import trusted_relevancy
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.perception.caption_tags import COLOURS
from ag2_ns.perception.english import DETERMINERS, LINKS, head, singular, words_of
from ag2_ns.perception.nouns import NOUNS
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.query.config import DEFAULTS, QueryConfig
from ag2_ns.scene.scene_index import SceneIndex

SHADES = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey"),
    *("turquoise", "beige", "gold", "silver"),
)
"""Colours that a text might have said instead."""

NODES, NEAREST = 8, 32
"""Nodes that might be meant, and nouns that resemble them most, of an encoder that takes any text."""

NAMED, NAMES = 16, 3
"""Nodes that get names of their own, of so many colours and so many nouns each. (Dev seeds: with fewer, more of what is
not there is found.)"""

_EMBEDDED: WeakKeyDictionary[TextEncoder, dict[str, Float[Tensor, " D"]]] = WeakKeyDictionary()


def rivals_of(
    texts: TextEncoder, text: str, index: SceneIndex, config: QueryConfig = DEFAULTS
) -> Float[Tensor, "V D"] | None:
    """Embeddings of texts that compete with one; None for encoders that know some words only.

    Args:
        texts: the scene's encoder.
        text: what is asked.
        index: the scene, with language.
        config: how long a closed list has to be, and whether nouns compete.
    """
    encoder = texts.encoder()
    if hasattr(encoder, "known_texts"):
        words = [t for t in encoder.known_texts() if t not in NEGATIVES]
        if len(words) < config.least_rivals:
            return None
        several = mentions_several(text)
        others = [t for t in words if mentions_several(t) == several and not within(t, text) and not part_of(t, text)]
        return torch.stack([texts.embed(t) for t in others]) if others else texts.embed(text)[None][:0]
    if not config.nouns or hasattr(encoder, "knows"):
        return None
    score, _ = trusted_relevancy(index.language, texts.embed(text), texts.negatives())
    best = index.language.feature[torch.topk(score, min(NAMED, len(score))).indices].float().cpu()
    alike = _embedded(texts, NOUNS) @ best.T
    order = torch.argsort(alike[:, :NODES].amax(1), descending=True).tolist()
    nouns = [NOUNS[k] for k in order[:NEAREST] if not within(NOUNS[k], text)]
    shade = (_embedded(texts, SHADES) @ best.T).topk(NAMES, dim=0).indices.T.tolist()
    noun = alike.topk(NAMES, dim=0).indices.T.tolist()
    names = [f"{SHADES[c]} {NOUNS[k]}" for cs, ks in zip(shade, noun) for c in cs for k in ks]
    others = [*nouns, *instead(words_of(text), nouns), *(n for n in names if not (within(n, text) or part_of(n, text)))]
    return _embedded(texts, others)


def _embedded(texts: TextEncoder, words: Iterable[str]) -> Float[Tensor, "V D"]:
    """Embeddings on the CPU of words, each once, kept for the next question."""
    known, words = _EMBEDDED.setdefault(texts, {}), list(dict.fromkeys(words))
    if new := [w for w in words if w not in known]:
        known.update(zip(new, texts.encoder().encode_text(new).float().cpu()))
    return torch.stack([known[w] for w in words])


def mentions_several(text: str) -> bool:
    """Whether a text mentions several things that belong together: "stack of books", "bowl on the plate"."""
    return any(word in LINKS for word in words_of(text))


def thing_of(text: str, known: Iterable[str]) -> str | None:
    """The known text to which another one adds a word, as that of a part does: "red mug" of "red mug handle"."""
    return next((t for t in known if t and part_of(text, t) and len(words_of(text)) == len(words_of(t)) + 1), None)


def part_of(other: str, text: str) -> bool:
    """Whether a text names another one and goes on, as that of a part does: with a "red mug handle" goes a red mug."""
    return other.startswith(f"{text} ")


def within(other: str, text: str) -> bool:
    """Whether a text only says of what another one is about, or mentions some of the things in it and no others.

    All its words are in the other, or all but colours, and the other has more words that are none.
    """
    one, all_ = ({singular(w) for w in words_of(t)} for t in (other, text))
    return one <= all_ or one - COLOURS < all_ - COLOURS - LINKS - DETERMINERS


def instead(words: list[str], nouns: list[str]) -> list[str]:
    """A text with other nouns in place of its own, and with other colours in place of its own."""
    if not words:
        return []
    place = head(words)
    out = [" ".join((*words[:place], noun, *words[place + 1 :])) for noun in nouns] if place else []
    for k, word in enumerate(words):
        if word in COLOURS:
            out += [" ".join((*words[:k], other, *words[k + 1 :])) for other in SHADES if other != word]
    return out


def against(
    embedding: Float[Tensor, " D"],
    negatives: Float[Tensor, "K D"] | None,
    rivals: Float[Tensor, "V D"] | None,
    synonym: float = DEFAULTS.synonym,
) -> Float[Tensor, "R D"] | None:
    """The texts that a text competes with: negatives, and those rivals that say something else."""
    if rivals is None or len(rivals) == 0:
        return negatives
    other = rivals[normalize(rivals.float(), dim=1) @ normalize(embedding.float(), dim=0) < synonym]
    return other if negatives is None else torch.cat((negatives, other.to(negatives)))
