"""English of the texts people ask with: articles, plurals, and what is left of a text without them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from ag2_ns.core.errors import UserError


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


QUANTIFIERS = _set("all every both several many some")
"""Words before a noun that ask for several."""

DETERMINERS = QUANTIFIERS | _set(
    "a an the this that these those my your his her its our their any each one two three four five"
)
"""Words before a noun that do not say what it is."""

PAIRED = _set(
    "scissors glasses sunglasses goggles headphones earphones pliers tongs tweezers trousers pants shorts jeans "
    "binoculars pyjamas pajamas"
)
"""Plurals that name one thing."""

SINGULAR = PAIRED | _set(
    "this is has was its always perhaps less series species virus boss press across towards "
    "bus gas lens glass brass grass dress press cross boss moss canvas chess class compass cactus cosmos octopus "
    "tennis walrus atlas iris virus abacus hibiscus asparagus citrus platypus thermos christmas news"
)
"""Words that end in s and name one thing."""

UNCOUNTABLE = _set("stuff water sand grass moss food bread rice fruit furniture clothing brass news tennis")
"""Words that take no a."""

LINKS = _set("of on in with at under near")
"""Words that end the noun before them: "books on the table"."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without the marks around them."""
    words = (w.strip(".,;:!?\"'()").lower() for w in text.split())
    return [w for w in words if w]


def head(words: list[str]) -> int:
    """The place of the noun that the rest belongs to: before "of", "on", "in" and the like, or else the last word."""
    return next((k for k, w in enumerate(words) if k and w in LINKS), len(words)) - 1


IRREGULAR = {"cacti": "cactus", "dice": "die", "leaves": "leaf", "loaves": "loaf", "snowmen": "snowman"}
"""Plurals that inflect takes for another word, or does not know."""


PLURAL_ENDINGS = (
    "s",
    "men",
    "children",
    "oxen",
    "people",
    "feet",
    "teeth",
    "geese",
    "mice",
    "lice",
    "i",
    "a",
    "im",
    "x",
)
"""What plurals end in."""


@lru_cache(maxsize=1)
def plural_rules() -> Any:
    """inflect's engine, made on first use.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import inflect
    except ImportError:
        raise UserError("captions need the package inflect; run `pip install inflect`") from None
    return inflect.engine()


def _singular_of(noun: str) -> str:
    """The singular of a plural, else nothing. Inflect takes a second to import, so it is asked of likely ones only."""
    return (noun.endswith(PLURAL_ENDINGS) and plural_rules().singular_noun(noun)) or ""


@lru_cache(maxsize=4096)
def singular(noun: str) -> str:
    """The singular of one word in lower case; the word itself where it is none, is singular or names one thing."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun in SINGULAR or len(noun) < 3 or not noun.isalpha() or noun.endswith(("ss", "us", "is")):
        return noun
    return _singular_of(noun) or noun


def is_plural(noun: str) -> bool:
    """Whether one word, in lower case, is a plural that names several things."""
    return singular(noun) != noun


def asks_for_several(text: str) -> bool:
    """Whether the words are plural ("all mugs", "red books")."""
    words = words_of(text)
    if not words:
        return False
    noun = words[head(words)]
    return words[0] in QUANTIFIERS or noun in QUANTIFIERS or is_plural(noun)


def forms(text: str) -> list[str]:
    """The text as it may stand in a list of things, the closest first.

    In lower case with single blanks; then without leading articles and the like; then with its noun in the singular, in
    each spelling that this may have ("cookies": cooky, cookie).
    """
    words = words_of(text)
    out = [" ".join(words)]
    while len(words) > 1 and words[0] in DETERMINERS:
        words = words[1:]
    out.append(" ".join(words))
    if words:
        at = head(words)
        out += [" ".join([*words[:at], noun, *words[at + 1 :]]) for noun in _singulars(words[at])]
    return list(dict.fromkeys(out))


def with_article(text: str) -> str:
    """The text with a or an before it, unless it has an article, is plural, or names what cannot be counted."""
    words = words_of(text)
    if not words or words[0] in DETERMINERS:
        return text
    noun = words[head(words)]
    if is_plural(noun) or noun in PAIRED or noun in UNCOUNTABLE:
        return text
    return ("an " if _sounds_like_a_vowel(words[0]) else "a ") + text


def _singulars(noun: str) -> list[str]:
    """The singulars that a word may be the plural of; "glasses" may be glasses, or several a glass."""
    if len(noun) < 4 or not noun.isalpha() or noun.endswith(("ss", "us", "is")):
        return []
    found = [IRREGULAR.get(noun) or _singular_of(noun), noun[:-1] if noun.endswith("s") else ""]
    return [n for n in dict.fromkeys(found) if n and n != noun]


def _sounds_like_a_vowel(word: str) -> bool:
    if re.match(r"hour|honest|heir", word):
        return True
    return word[0] in "aeiou" and not re.match(r"uni(?!n|m)|us[aeiu]|ut[ei]|eu|one\b|once\b", word)
