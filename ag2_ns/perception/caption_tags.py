"""From captions to tags: the things that a sentence names, as singular nouns and compounds.

3D-AVS (section 3.1, "Caption2Tag") keeps the nouns that a part-of-speech tagger finds, without words about the picture
itself and without colours. `noun_tags` does that by rules: compounds that are known nouns are taken whole, known nouns
one by one, and a word that no list knows counts as a noun where it ends a noun phrase ("a shiny astrolabe"). With spaCy
and its small English model installed, `spacy_tags` asks those instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

from ag2_ns.core.errors import UserError
from ag2_ns.perception.english import DETERMINERS, IRREGULAR, LINKS, PAIRED, SINGULAR, plural_rules
from ag2_ns.perception.nouns import NOUNS

LONGEST = 4
"""Words of the longest compound that is looked up."""

LEAST_LETTERS = 3
"""Shorter words name nothing (3D-AVS: longer than two letters)."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


PICTURE = _set(
    "background foreground blurry photo photograph picture image scene something view closeup close-up shot footage "
    "camera-view rendering render corner middle center centre side front back top bottom left right edge distance "
    "object objects thing things stuff item items texture area part parts piece bit lot group number variety kind type "
    "sort set pair row bunch couple collection series surface color colour shape size style pattern way day night time"
)
"""Words about the picture, or about any thing, that name none (the first dozen: 3D-AVS)."""

COLOURS = _set(
    "red orange yellow green blue purple pink brown black white grey gray beige tan teal turquoise cyan magenta maroon "
    "navy olive lime violet indigo lavender lilac crimson scarlet gold golden silver bronze copper cream ivory khaki "
    "dark light bright pale colorful colourful multicolored multicoloured"
)
"""Colours and shades."""

QUALITIES = _set(
    "big large huge small little tiny tall short long wide narrow thin thick old new young empty full round square "
    "rectangular flat curved open closed clean dirty wet dry shiny glossy wooden plastic metallic striped spotted "
    "beautiful nice modern antique ancient busy urban residential sunny cloudy rainy snowy several many few various "
    "different other same single double broken lit standing sitting parked lying hanging placed leaning surrounded "
    "filled covered made seen located visible high low whole half sharp soft hard hot cold cute happy sad"
)
"""Adjectives and participles that end no noun phrase."""

FUNCTION = (
    LINKS
    | DETERMINERS
    | _set(
        "and or but with without from to into onto by for as is are was were be been being has have had do does did it "
        "he she they we you i there here who which what where when while very just also so not no nor than then up "
        "down out over above below beneath behind between beside besides next along across around through against "
        "front off during before after inside outside towards toward upon within like about near can could will "
        "would may might must shall should sits stands lies leans hangs shows rests walks walking riding driving "
        "showing holding wearing including featuring containing looking using sitting standing lying going coming "
        "him them us me my mine yours ours theirs himself herself itself one ones some any all each both"
    )
)
"""Words between noun phrases."""

ORIGINS = {
    "automobile": "car", "auto": "car", "motorbike": "motorcycle", "bike": "bicycle", "tv": "television",
    "fridge": "refrigerator", "plane": "airplane", "aeroplane": "airplane", "phone": "telephone", "ad": "advertisement",
    "teddy": "teddy bear", "streetlight": "street light", "lamppost": "lamp post", "lorry": "truck",
    "trashcan": "trash can", "flower pot": "flowerpot", "streetlamp": "street light", "armoire": "wardrobe",
}  # fmt: skip
"""Other words for a noun of the list, in the same variety of English or another. Synonyms proper are merged later."""


def tags_of(captions: Iterable[str], nouns: Callable[[str], list[str]] | None = None) -> list[tuple[str, float]]:
    """Tags of some captions of one picture, each with the number of captions that name it, most often named first.

    Args:
        captions: sentences; empty ones and those in another script give nothing.
        nouns: the nouns of one caption, default `noun_tags`.
    """
    count: dict[str, float] = {}
    for caption in captions:
        for tag in (nouns or noun_tags)(caption):
            count[tag] = count.get(tag, 0.0) + 1.0
    return sorted(count.items(), key=lambda item: -item[1])


def noun_tags(caption: str, *, colours: bool = False) -> list[str]:
    """The things that a caption names, singular, in order and without repeats.

    Args:
        caption: English; letters of other scripts are no words here and give no tags.
        colours: keep the colour right before a noun ("red mug"), which tells two things of a kind apart.
    """
    found: list[str] = []
    for phrase in _phrases(caption):
        found += _nouns_of(phrase, colours)
    return list(dict.fromkeys(found))


def lemma(word: str) -> str:
    """A noun in the singular; what names one thing with an s at its end (bus, scissors) stays as it is."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in PAIRED or word in SINGULAR or word in _known() or word.endswith("ss"):
        return word
    one = plural_rules().singular_noun(word) or word
    return one if word.endswith("s") or one in _known() else word  # "men", but not "data"


def spacy_tags(model: str = "en_core_web_sm") -> Callable[[str], list[str]]:
    """A function like `noun_tags` by spaCy: nouns, proper nouns and compounds, lemmatised (3D-AVS, Caption2Tag).

    Raises:
        UserError: spaCy or its model is not installed.
    """
    try:
        import spacy

        nlp = spacy.load(model)
    except (ImportError, OSError):
        raise UserError(
            f"spaCy with its model {model} is not installed; run `pip install spacy && python -m spacy download "
            f"{model}`, or leave the rules at work (--nouns rules)"
        ) from None

    def tags(caption: str) -> list[str]:
        found: list[str] = []
        for token in nlp(caption):
            if token.pos_ not in ("NOUN", "PROPN") or token.dep_ == "compound":
                continue
            head = token.lemma_.lower()
            whole = " ".join([*(c.text.lower() for c in token.lefts if c.dep_ == "compound"), head])
            found += [w for w in (whole, head) if _is_tag(w.split())]
        return list(dict.fromkeys(found))

    return tags


def _phrases(caption: str) -> list[list[str]]:
    """The caption cut into runs of words between punctuation and function words."""
    text = unicodedata.normalize("NFKC", caption).lower().replace("\u2019", "'")
    phrases: list[list[str]] = []
    for clause in re.split(r"[^\w\s'\-]+", text):
        run: list[str] = []
        for word in clause.split():
            owner = word.endswith(("'s", "s'"))  # "the woman's handbag" names both, and no compound
            word = re.sub(r"'s?$", "", word.strip("'-_"))
            if not re.fullmatch(r"[a-zà-ÿ]+(?:['\-][a-zà-ÿ]+)*", word) or word in FUNCTION:
                phrases.append(run)
                run = []
            else:
                run.append(word)
                if owner:
                    phrases.append(run)
                    run = []
        phrases.append(run)
    return [run for run in phrases if run]


def _nouns_of(phrase: list[str], colours: bool) -> list[str]:
    """The nouns of one run of words; known nouns side by side are a compound and its head ("bear statue", "statue")."""
    spans: list[tuple[int, int, str]] = []
    at = 0
    while at < len(phrase):
        for size in range(min(LONGEST, len(phrase) - at), 0, -1):
            words = [*phrase[at : at + size - 1], lemma(phrase[at + size - 1])]
            name = ORIGINS.get(" ".join(words), " ".join(words))
            if name in _known() and _is_tag(words):
                break
        else:
            at += 1
            continue
        spans.append((at, at + size, name))
        at += size
    last = lemma(phrase[-1])
    if (not spans or spans[-1][1] < len(phrase)) and _is_tag([last]) and not re.search(r"(ing|ed|ly|est)$", last):
        spans.append((len(phrase) - 1, len(phrase), last))
    found: list[str] = []
    start, before = 0, ""
    for k, (begin, end, name) in enumerate(spans):
        joined = k > 0 and spans[k - 1][1] == begin and phrase[begin - 1] == lemma(phrase[begin - 1])
        if not joined:
            start, before = begin, ""
        colour = phrase[start - 1] if colours and start and phrase[start - 1] in COLOURS else ""
        before = f"{before} {name}".strip()
        if k + 1 < len(spans) and spans[k + 1][0] == end and phrase[end - 1] == lemma(phrase[end - 1]):
            continue
        found.append(f"{colour} {before}".strip())
        if before != name:
            found.append(f"{colour} {name}".strip())
    return found


def _is_tag(words: list[str]) -> bool:
    """Whether words, the last of them the noun, may name a thing."""
    noun = words[-1]
    alone = len(words) == 1
    named = alone and noun in _known() and noun not in PICTURE
    return (
        len(noun) >= LEAST_LETTERS
        and noun not in PICTURE
        and (named or not (alone and (noun in COLOURS or noun in QUALITIES)))
        and (not alone or noun not in COLOURS)
    )


@lru_cache(1)
def _known() -> frozenset[str]:
    return frozenset(NOUNS)
