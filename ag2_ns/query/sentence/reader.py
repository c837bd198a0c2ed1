"""Reading a sentence word by word: what every part of the grammar stands on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from ag2_ns.query.sentence import grammar as g
from ag2_ns.query.sentence.program import Attribute, Order, Relation, Thing


@dataclass
class Draft:
    """A description while it is read."""

    words: list[str]
    attributes: list[Attribute]
    relations: list[Relation]
    orders: list[Order]
    number: int | None = None
    noun: str = ""
    plural: bool = False
    start: int = 0


class Reader(ABC):
    """A place in a sentence, and what was gathered so far."""

    def __init__(self, tokens: list[str], text: str, high: bool) -> None:
        self.tokens, self.text, self.high = tokens, text, high
        self.at = 0
        self.unused: list[str] = []
        self.notes: list[str] = []
        self.viewpoint: Thing | None = None

    @abstractmethod
    def thing(self, depth: int, plain: bool = False) -> Thing | None:
        """Read one description (see `parse`)."""

    # Reading tokens.

    def peek(self, ahead: int = 0) -> str:
        """A token further on; empty beyond the end."""
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, *words: str) -> bool:
        """Read these words if they come next."""
        if tuple(self.tokens[self.at : self.at + len(words)]) != words:
            return False
        self.at += len(words)
        return True

    def take_any(self, *phrases: str) -> bool:
        """Read the first of these phrases that comes next."""
        return any(self.take(*phrase.split()) for phrase in phrases)

    def skip(self, words: frozenset[str]) -> None:
        """Read on while words of a set come."""
        while self.peek() in words:
            self.at += 1

    def _back(self, start: int) -> bool:
        self.at = start
        return False

    def spoken(self, start: int) -> str:
        """The words read since a place."""
        return " ".join(self.tokens[start : self.at]).replace(" ,", ",").replace(" 's", "'s").strip(" ,")

    # Looking ahead.

    def _relation_ahead(self, ahead: int = 0) -> tuple[str, ...] | None:
        """The longest phrase of a relation that comes next."""
        at = self.at + ahead
        for size in (6, 5, 4, 3, 2, 1):
            phrase = tuple(self.tokens[at : at + size])
            if len(phrase) == size and phrase in g.RELATIONS and phrase != ("with",):
                return phrase
        return None

    def _posture_relation(self) -> bool:
        """Whether postures and then a relation come next: "sitting right on"."""
        ahead = 0
        while self.peek(ahead) in g.POSTURES:
            ahead += 1
        return self._relation_ahead(ahead) is not None

    # Attributes.

    def _attribute_ahead(self, ahead: int) -> bool:
        word = self.peek(ahead)
        return bool(word) and (word in g.SIZES or word in g.COLOUR_SHADES or g.is_colour(word) or word == "colour")

    def _attribute(self, draft: Draft, negated: bool = False) -> None:
        """Read one attribute word, a shade with its colour."""
        word = self.peek()
        self.at += 1
        if word in g.COLOUR_SHADES and g.is_colour(self.peek()):
            word, self.at = f"{word} {self.peek()}", self.at + 1
            draft.attributes.append(Attribute(word, "colour", negated))
        elif word in g.COLOUR_SHADES or g.is_colour(word):
            draft.attributes.append(Attribute(word, "colour", negated))
        elif word in g.SIZES:
            draft.attributes.append(Attribute(word, "size", negated))
        else:
            draft.attributes.append(Attribute(word, "word", negated))

    def _either(self, draft: Draft) -> None:
        """Join the attribute ahead with the last one: "red or blue"."""
        first = draft.attributes.pop()
        self._attribute(draft)
        second = draft.attributes.pop()
        draft.attributes.append(replace(first, word=f"{first.word} or {second.word}"))
