"""What words say about the things of a scene: how well each thing answers a noun or an attribute.

Three kinds of language are told apart. A closed list of texts (the `table` encoder) says what each thing is; a word is
then looked up among the names (`language.word_meaning`). An open encoder (CLIP) embeds any words. And a scene without
either knows colours only, as drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.language.relevancy import TEMPERATURE, relevancy
from ag2_ns.language.word_meaning import BEHIND_EXACT, Encode, Match, match
from ag2_ns.perception.english import singular
from ag2_ns.perception.palette import BASIC, colour_likeness, colour_terms
from ag2_ns.query.sentence.grammar import is_colour

SHARPNESS = 0.12
"""How far below its best name, as a share of the best one's lead over the median, a thing's fit to another name has
fallen to 1/e. The same kind in another colour lies 0.5 below, another thing 0.8."""
LEAST_LEAD, LEAD_WIDTH = 0.5, 0.07
"""A thing whose best name leads by less than this share of the usual lead has none of them: walls, floors."""
NAMED, NAMED_WIDTH = 0.53, 0.012
"""Relevancy of a name against the canonical negatives below which it is none of this thing's, however far it leads over
other names: furniture that the list does not hold. (Wild table-tops of seeds 3 to 5: right names have 0.55 or more, the
best names of such furniture 0.34 to 0.53.)"""
UNNAMED = 0.4
"""What the drawn colour counts of a thing that no name with a colour fits, where there are such names: it is mostly
something that nobody speaks of."""
DRAWN = 0.3
"""Share of a thing that must have a colour to be called by it: things have several colours, and shadows."""
SEEN = 0.3
"""What it counts for a name that the thing is drawn in its colour, as a share of the best name's lead: encoders mix up
colours of one kind, which lie 0.5 apart. (Wild table-tops of seeds 3 to 5 and a room of seed 3: of 94 things 69 % are
named rightly instead of 63 %; 0.1 to 0.5 are as good.)"""


@dataclass(frozen=True)
class Words:
    """What a word says: a score per thing, or that it is not known."""

    score: Float[np.ndarray, " K"] | None
    """0 to 1; None where the word says nothing about this scene."""
    note: str = ""
    """How it was understood, where that is not plain: "couch: sofa"."""
    missing: bool = False
    """Whether the word is understood to name what is not there."""


@dataclass(frozen=True)
class SceneWords:
    """The words of one scene.

    Args are fields: for K things, L names.
    """

    colours: Float[np.ndarray, "K 11"]
    """Shares of the basic colour terms in each thing."""
    names: tuple[str, ...] = ()
    """A closed list of names."""
    fit: Float[np.ndarray, "K L"] | None = field(default=None, repr=False)
    """How well each name fits each thing (see `name_fit`)."""
    open_text: Callable[[str], Float[np.ndarray, " K"] | None] | None = field(default=None, repr=False)
    """An open encoder: how well each thing fits any words, None for words that it does not know."""
    encode: Encode | None = field(default=None, repr=False)
    """A sentence encoder for nouns that the list of names does not hold."""

    @cached_property
    def nouns(self) -> list[str]:
        """The names without their colour words, in the singular."""
        out = []
        for name in self.names:
            words = [w for w in name.lower().split() if not is_colour(w)] or name.lower().split()
            out.append(" ".join([*words[:-1], singular(words[-1])]))
        return out

    @cached_property
    def colour_words(self) -> list[tuple[str, ...]]:
        """The colour words of each name."""
        return [tuple(w for w in name.lower().split() if is_colour(w)) for name in self.names]

    @cached_property
    def kinds(self) -> list[str]:
        """The different nouns."""
        return list(dict.fromkeys(self.nouns))

    def called(self, thing: int) -> str:
        """What a thing is called, in words: its best name, or its main colour."""
        if self.fit is not None and len(self.names) and self.fit[thing].max() > 0.3:
            return self.names[int(self.fit[thing].argmax())]
        return f"{BASIC[int(self.colours[thing].argmax())]} thing"

    @property
    def knows_things(self) -> bool:
        """Whether nouns mean anything here."""
        return self.fit is not None or self.open_text is not None

    def noun(self, phrase: str) -> Words:
        """How well each thing is what a noun names."""
        if self.fit is not None:
            found = self._match(phrase)
            if found.how:
                per_name = np.array([found.score[self.kinds.index(n)] for n in self.nouns])
                score = (self.fit * per_name).max(1)
                best = self.kinds[int(found.score.argmax())]
                plain = found.how == "same" or (found.score.max() >= 0.85 and phrase.split()[-1] == best.split()[-1])
                ignored = f" without {' '.join(found.ignored)!r}" if found.ignored else ""
                return Words(score, "" if plain and not ignored else f"{phrase!r} taken for {best!r}{ignored}")
            if self.open_text is None:
                return Words(np.zeros(len(self.colours)), f"no thing here is called {phrase!r}", missing=True)
        if self.open_text is not None:
            score = self.open_text(phrase)
            if score is not None:
                return Words(score)
        return Words(None, f"{phrase!r} is not known")

    def _match(self, phrase: str) -> Match:
        return match(phrase, self.kinds, self.encode)

    def attribute(self, word: str) -> Words:
        """How well each thing fits an adjective that is no size."""
        if is_colour(word.split()[-1]) or word in ("dark", "light", "bright", "pale"):
            return Words(self._colour(word))
        if self.fit is not None:
            rows = [k for k, name in enumerate(self.names) if word in name.lower().split()]
            if rows:
                return Words(self.fit[:, rows].max(1))
        if self.open_text is not None:
            score = self.open_text(word)
            if score is not None:
                return Words(0.5 + 0.5 * score)  # single adjectives say little to image-text encoders
        return Words(None, f"{word!r} is not known")

    def _colour(self, word: str) -> Float[np.ndarray, " K"]:
        drawn = np.clip((self.colours @ colour_terms(word)) / DRAWN, 0, 1) ** 2
        if self.fit is None or not any(self.colour_words):
            return drawn
        alike = np.array(
            [max((colour_likeness(word, c) for c in words), default=np.nan) for words in self.colour_words]
        )
        if np.nanmax(alike) == 1.0:  # where something is called blue, turquoise is not meant
            alike = np.where(alike < 1.0, BEHIND_EXACT * alike, alike)
        named = np.where(np.isnan(alike), 0.0, self.fit * np.nan_to_num(alike)).max(1)
        # How far the names say anything about this thing's colour.
        says = np.where(np.isnan(alike), 0.0, self.fit).max(1)
        return named + UNNAMED * (1 - np.clip(says / 0.5, 0, 1)) * drawn


def name_fit(
    feature: Float[Tensor, "K D"],
    names: Float[Tensor, "L D"],
    trust: Float[Tensor, " K"] | None = None,
    negatives: Float[Tensor, "N D"] | None = None,
    drawn: Float[np.ndarray, "K L"] | None = None,
) -> Float[np.ndarray, "K L"]:
    """How well each of a closed list of names fits each thing, 0 to 1; the best name of a thing comes close to 1.

    Image-text encoders give all pairs nearly the same cosine; only how far a name leads over the others says something.
    The lead is measured in that thing's own range, so the encoder's scale does not matter.

    Args:
        feature: of the things.
        names: embedded names.
        trust: of the features, 0 to 1.
        negatives: canonical negatives, embedded likewise, over which a name must lead too.
        drawn: how far each thing is drawn in the colour that each name says, 0 to 1.
    """
    unit = torch.nn.functional.normalize
    cosine = unit(feature.float(), dim=1) @ unit(names.to(feature.device).float(), dim=1).T
    if cosine.numel() == 0:
        return cosine.cpu().numpy()
    said = torch.ones_like(cosine)
    if negatives is not None:
        other = (unit(feature.float(), dim=1) @ unit(negatives.to(feature.device).float(), dim=1).T).amax(1, True)
        said = torch.sigmoid((torch.sigmoid(TEMPERATURE * (cosine - other)) - NAMED) / NAMED_WIDTH)
    valued = (feature != 0).any(1, keepdim=True)
    if int(valued.sum()) >= 4:  # some texts are close to all pictures: what counts is how far above that
        cosine = cosine - cosine[valued.squeeze(1)].quantile(0.25, dim=0)
    middle = cosine.median(1, keepdim=True).values
    if cosine.shape[1] < 3:  # the median of so few is one of them
        middle = cosine.median(0, keepdim=True).values.expand_as(cosine)
    top = cosine.amax(1, keepdim=True)
    lead = (top - middle).clamp_min(1e-6)
    usual = lead.quantile(0.6) if len(lead) > 1 else lead.max()
    if drawn is not None:
        cosine = cosine + SEEN * lead * torch.from_numpy(drawn).to(cosine)
        top = cosine.amax(1, keepdim=True)
    fit = torch.exp(-((top - cosine) / lead) / SHARPNESS)
    has_name = torch.sigmoid((lead / usual.clamp_min(1e-6) - LEAST_LEAD) / LEAD_WIDTH)
    fit = fit * has_name * valued * said
    if trust is not None:
        fit = fit * (trust.to(fit)[:, None] / trust.max().clamp_min(1e-6)).clamp(0, 1) ** 0.5
    return fit.cpu().numpy()


def open_fit(
    feature: Float[Tensor, "K D"],
    trust: Float[Tensor, " K"],
    text: Float[Tensor, " D"],
    negatives: Float[Tensor, "N D"] | None,
) -> Float[np.ndarray, " K"]:
    """How well each thing fits a text by an open encoder, 0 to 1: where its relevancy lies between typical and best.

    Words that nothing in the scene fits better than it does the canonical negatives score low everywhere.
    """
    value = relevancy(feature, text, negatives)
    value = value.double().cpu().numpy()
    weight = trust.double().cpu().numpy()
    kept = weight > 0
    if not kept.any():
        return np.zeros(len(value))
    typical, best = np.median(value[kept]), value[kept].max()
    spread = max(best - typical, 1e-6)
    presence = 1 / (1 + np.exp(-(best - 0.5) / 0.02))
    return np.clip((value - typical) / spread, 0, 1) ** 1.5 * presence * (weight / weight.max()) ** 0.5


def closed_words(
    names: Sequence[str],
    embeddings: Float[Tensor, "L D"],
    feature: Float[Tensor, "K D"],
    trust: Float[Tensor, " K"],
    colours: Float[np.ndarray, "K 11"],
    encode: Encode | None = None,
    negatives: Float[Tensor, "N D"] | None = None,
) -> SceneWords:
    """The words of a scene whose encoder knows a closed list of texts."""
    drawn = np.stack([_drawn_as(name, colours) for name in names], 1) if len(names) else None
    return SceneWords(colours, tuple(names), name_fit(feature, embeddings, trust, negatives, drawn), None, encode)


def _drawn_as(name: str, colours: Float[np.ndarray, "K 11"]) -> Float[np.ndarray, " K"]:
    """How far things are drawn in the colour that a name says; half for one that says none."""
    said = next((w for w in name.lower().split() if is_colour(w)), "")
    return np.clip((colours @ colour_terms(said)) / DRAWN, 0, 1) if said else np.full(len(colours), 0.5)
