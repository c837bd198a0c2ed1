"""From a sentence to a program: recursive descent over the field words of `grammar`.

A description is: determiner, number, order and attribute words, noun, then what follows the noun: relations, relative
clauses, with-clauses, places in an order. What follows a noun inside a relation belongs to that noun ("low" attachment:
the mug on the book that is red). `parses` also gives the reading in which it belongs to the first noun ("high"), and
the solver takes the first reading that something in the scene satisfies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ag2_ns.core.errors import UserError
from ag2_ns.query.sentence import grammar as g
from ag2_ns.query.sentence.program import ALL, Attribute, Order, Program, Relation, Thing

MAX_WORDS = 120
"""Longer texts are not descriptions of one thing."""
MAX_DEPTH = 5
"""Relations nested deeper than this are not followed."""


def parses(text: str) -> list[Program]:
    """The readings of a sentence, the most natural first.

    Raises:
        UserError: an empty text, or one of more than `MAX_WORDS` words.
    """
    tokens = g.tokens_of(text)
    if not [t for t in tokens if t != ","]:
        raise UserError("the sentence is empty; say what to look for, for example --sentence 'the mug on the red book'")
    if len(tokens) > MAX_WORDS:
        raise UserError(
            f"the sentence has {len(tokens)} words, more than {MAX_WORDS}; describe one thing, as 'the mug on the book'"
        )
    low = _Parser(tokens, text, high=False).program()
    if not any(r.things for t in low.targets for r in t.relations):
        return [low]
    high = _Parser(tokens, text, high=True).program()
    return [low] if _same(low, high) else [low, high]


def parse(text: str) -> Program:
    """The most natural reading of a sentence (see `parses`)."""
    return parses(text)[0]


def _same(a: Program, b: Program) -> bool:
    return a.to_json()["targets"] == b.to_json()["targets"]


@dataclass
class _Draft:
    """A description while it is read."""

    words: list[str]
    attributes: list[Attribute]
    relations: list[Relation]
    orders: list[Order]
    number: int | None = None
    noun: str = ""
    plural: bool = False
    start: int = 0


class _Parser:
    def __init__(self, tokens: list[str], text: str, high: bool) -> None:
        self.tokens, self.text, self.high = tokens, text, high
        self.at = 0
        self.unused: list[str] = []
        self.notes: list[str] = []
        self.viewpoint: Thing | None = None

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

    def spoken(self, start: int) -> str:
        """The words read since a place."""
        return " ".join(self.tokens[start : self.at]).replace(" ,", ",").replace(" 's", "'s").strip(" ,")

    # The sentence.

    def program(self) -> Program:
        """Read the whole sentence."""
        self._openings()
        among = self._among()
        targets: list[Thing] = []
        while self.at < len(self.tokens):
            before = self.at
            if self._viewpoint_phrase():
                continue
            if self.take(",") or self.take("and") or self.take("or"):
                continue
            if targets and self.peek() not in g.ARTICLES | g.EVERY | set(g.NUMBERS) and not self._continues(targets):
                self.unused.append(self.peek())
                self.at += 1
                continue
            thing = self.thing(0) if not targets or self._starts_thing() else None
            if thing is not None and (thing.noun or thing.attributes or thing.relations or thing.orders or not targets):
                targets.append(thing)
            if self.at == before:
                self.unused.append(self.peek())
                self.at += 1
        targets = targets or [Thing(number=1, spoken=self.text)]
        if among is not None:
            targets = [self._within(among, t) for t in targets]
        head = next((t.noun for t in targets if t.noun not in ("", "one")), "")
        targets = [_resolved(t, head) for t in targets]
        return Program(self.text, tuple(targets), self.viewpoint, tuple(self.unused), tuple(self.notes))

    def _continues(self, targets: list[Thing]) -> bool:
        """Whether a further target begins without an article: "mugs and books"."""
        return self.at > 0 and self.tokens[self.at - 1] in ("and", "or", ",") and self._starts_thing()

    def _openings(self) -> None:
        """Read the words with which requests begin."""
        again = True
        while again and self.at < len(self.tokens):
            again = self.take(",")
            best = max((o for o in g.OPENINGS if self._at(o)), key=len, default=None)
            if best is not None and len(best) < len(self.tokens) - self.at:
                self.at += len(best)
                again = True
                if best[0] in ("what", "who", "which"):  # "what is on the table": the question word is the thing
                    if self.peek() in g.ARTICLES and best[0] == "what" and not self._relation_ahead():
                        continue  # what is the red thing
                    self.at -= len(best)
                    return

    def _at(self, phrase: tuple[str, ...]) -> bool:
        return tuple(self.tokens[self.at : self.at + len(phrase)]) == phrase

    def _among(self) -> Thing | None:
        """Read "of the two towers," before the description."""
        start = self.at
        if self.take_any("out of", "of", "among", "from among"):
            thing = self.thing(2, plain=True)
            if thing is not None and thing.noun and (self.take(",") or self.peek() in g.ARTICLES | {"which", "one"}):
                return thing
        self.at = start
        return None

    def _within(self, among: Thing, thing: Thing) -> Thing:
        """The description, of the things that were named before it."""
        return replace(
            thing,
            noun=among.noun if thing.noun in ("", "one") else thing.noun,
            attributes=among.attributes + thing.attributes,
            relations=among.relations + thing.relations,
            orders=among.orders + thing.orders,
        )

    def _viewpoint_phrase(self) -> bool:
        """Read "seen from the door", "from here", "in this picture", "as I see it"."""
        start = self.at
        self.take("when")
        self.take("as")
        if self.take_any(
            "seen by me", "i see it", "i see them", "i look at it", "it appears", "shown", "pictured", "seen here", "i see",
            "in this picture", "in the picture", "in this image", "in the image", "in this photo", "in the photo",
            "in this view", "in the view", "in view", "from here", "from this angle", "from this side", "from my side",
            "from this viewpoint", "from this view", "from where i am", "from where i stand", "from where i am standing",
            "from my point of view", "from my perspective", "from my viewpoint", "from the camera", "from this camera",
            "from the viewer", "to me", "for me", "seen from here", "seen from this side", "seen from my side",
            "in the frame", "in the shot", "on the picture", "on screen", "in this scene", "in the scene",
            "from this perspective", "from this point of view", "from me",
        ):  # fmt: skip
            return True
        seen = self.take_any(
            "seen from", "viewed from", "looking from", "looked at from", "watched from", "from the perspective of",
            "from the point of view of", "from the viewpoint of", "from the side of", "if you look from", "looking at it from",
            "if you stand at", "if i stand at", "standing at", "facing from",
        )  # fmt: skip
        bare = not seen and self.peek() == "from" and self.peek(1) in g.ARTICLES and self.peek(2) not in g.SIDES
        if seen or (bare and self.take("from")):
            self.skip(frozenset({"here"}))
            thing = self.thing(2, plain=True)
            if thing is not None and thing.noun:
                self.viewpoint = thing if self._is_place(thing) else None
                return True
            if self.tokens[self.at - 1] == "here":
                return True
        self.at = start
        return False

    @staticmethod
    def _is_place(thing: Thing) -> bool:
        return thing.noun.split()[-1] not in g.ME | g.PLACES

    # A description.

    def _starts_thing(self) -> bool:
        word = self.peek()
        return bool(word) and word not in g.COPULAS | g.RELATIVE | g.NEGATIONS | g.HAVE | {",", "and", "or", "of", "to"}

    def thing(self, depth: int, plain: bool = False) -> Thing | None:
        """Read one description.

        Args:
            depth: how many relations it is nested in.
            plain: nothing that follows the noun belongs to it.
        """
        start = self.at
        draft = _Draft([], [], [], [], start=start)
        self._before_noun(draft, depth)
        if self.peek() == "of" and draft.words == [] and self._partitive(draft):
            inner = self.thing(depth, plain=plain)
            if inner is None:
                return None
            number = draft.number or (ALL if draft.plural else 1)
            return replace(
                inner,
                attributes=inner.attributes + tuple(draft.attributes),
                orders=inner.orders + tuple(draft.orders),
                number=number,
                spoken=self.spoken(start),
            )
        self._noun(draft)
        if draft.noun == "one" and (draft.orders or draft.number) and self.take("of"):
            inner = self.thing(depth, plain=plain)  # the larger one of the two mugs
            if inner is not None:
                orders = inner.orders + tuple(draft.orders)
                return replace(inner, orders=orders, number=draft.number or 1, spoken=self.spoken(start))
        if self.at == start:
            return None
        if not plain:
            self._after_noun(draft, depth)
        self._pending(draft)
        return self._finish(draft)

    def _finish(self, draft: _Draft) -> Thing:
        number = draft.number
        if number is None:
            number = ALL if draft.plural and not any(not o.soft for o in draft.orders) else 1
        return Thing(
            draft.noun,
            tuple(draft.attributes),
            tuple(draft.relations),
            tuple(draft.orders),
            number,
            self.spoken(draft.start),
        )

    def _partitive(self, draft: _Draft) -> bool:
        """Whether "of" after the words read means "among": "the bigger of the two", "all of the mugs"."""
        if draft.orders or draft.number is not None or draft.plural or self.at == draft.start + 1:
            return self.take("of")
        return False

    def _before_noun(self, draft: _Draft, depth: int) -> None:
        """Read determiners, numbers, orders and attributes; nouns' words are kept for `_noun`."""
        while True:
            word = self.peek()
            following = self.peek(1)
            if not word or word in (",", "of"):
                if word == "," and draft.attributes and not draft.words and self._attribute_ahead(1):
                    self.at += 1  # the big, red mug
                    continue
                return
            if word in ("both", "either") and not draft.words:
                draft.number, self.at = 2, self.at + 1
            elif word in g.EVERY and not draft.words and word != "everything":
                draft.number, draft.plural, self.at = ALL, True, self.at + 1
            elif word in ("which", "what", "whichever", "whatever") and self.at == draft.start:
                self.at += 1
                if self.peek() in g.COPULAS | g.HAVE or self._relation_ahead() or self.peek() in g.POSTURES:
                    return
            elif (word in g.ARTICLES or word in ("no", "of")) and not draft.words:
                if word in ("some",) and following and g.is_plural(following):
                    draft.number = ALL
                self.at += 1
            elif word == "first" and following in g.NUMBERS:
                self.at += 1
            elif word in g.NUMBERS and not draft.words and word != "one":
                draft.number, self.at = g.NUMBERS[word], self.at + 1
            elif word.isdecimal() and not draft.words and int(word) < 100:
                draft.number, self.at = int(word), self.at + 1
            elif word in g.ORDINALS and not draft.words:
                self.at += 1
                self.skip(frozenset({"most"}))
                self._ordinal(draft, g.ORDINALS[word], word)
            elif word == "most" and following in g.SIZES:
                self.at += 2
                measure, more = g.SIZES[following]
                draft.orders.append(Order(measure, more, spoken=f"most {following}"))
            elif word in g.SUPERLATIVES and not self._side_noun(word, draft) and not self._of_side(draft):
                self.at += 1
                self.take("away")
                self._superlative(draft, *g.SUPERLATIVES[word], 1, word)
            elif word in g.COMPARISONS and following != "than" and not draft.words:
                self.at += 1
                measure, more = g.COMPARISONS[word]
                if measure == "near" and self._to_side(draft, word):
                    continue
                self._superlative(draft, measure, more, 1, word)
            elif word in g.SIDES and not draft.words and following and self._attributive_side(following):
                self.at += 1  # the left mug
                draft.orders.append(Order(g.SIDES[word], True, 1, soft=False, spoken=word))
            elif word == "not" and not draft.words and self._attribute_ahead(1):
                self.at += 1
                self._attribute(draft, negated=True)
            elif self._attribute_ahead(0) and not self._is_head(draft):
                self._attribute(draft)
                if self.peek() in ("and", "or") and self._attribute_ahead(1) and not draft.words:
                    either = self.take("or") or not self.take("and")
                    if either:
                        self._either(draft)
            elif self._ends_noun(draft):
                return
            else:
                draft.words.append(word)
                self.at += 1

    def _side_noun(self, word: str, draft: _Draft) -> bool:
        """Whether "middle" or the like is a noun here: "in the middle"."""
        return word in ("middle", "central") and (not self.peek(1) or self.peek(1) in ("of", ","))

    def _of_side(self, draft: _Draft) -> bool:
        return bool(draft.words)  # "the one closest to": comes after the noun

    def _attributive_side(self, following: str) -> bool:
        """Whether a side is an adjective: "the left mug", not "the left of the mug"."""
        stop = g.COPULAS | g.RELATIVE | {"of", ",", "and", "side", "hand", "edge", "from", "in", "to", "on"}
        return following not in stop and following not in g.PLACES

    def _attribute_ahead(self, ahead: int) -> bool:
        word = self.peek(ahead)
        return bool(word) and (word in g.SIZES or word in g.COLOUR_SHADES or g.is_colour(word) or word == "colour")

    def _is_head(self, draft: _Draft) -> bool:
        """Whether a colour or size word is the noun itself here: "an orange", "three reds"."""
        word, following = self.peek(), self.peek(1)
        last = not following or following in g.COPULAS | g.RELATIVE | {",", "and", "or", "of", "that"}
        if word in g.COLOUR_SHADES and not g.is_colour(following):
            return False
        return (
            last and bool(draft.start < self.at) and word == "orange" and self.tokens[self.at - 1] in ("an", "orange")
        )

    def _attribute(self, draft: _Draft, negated: bool = False) -> None:
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

    def _either(self, draft: _Draft) -> None:
        """Join the attribute ahead with the last one: "red or blue"."""
        first = draft.attributes.pop()
        self._attribute(draft)
        second = draft.attributes.pop()
        draft.attributes.append(replace(first, word=f"{first.word} or {second.word}"))

    def _ends_noun(self, draft: _Draft) -> bool:
        """Whether the words of a noun end before the next token."""
        word = self.peek()
        if word in g.RELATIVE or word in g.COPULAS or word in g.HAVE or word in g.AUXILIARIES:
            return True
        if word in ("counting", "counted", "starting", "seen", "viewed") and draft.words:
            return True
        if word in (
            "and",
            "or",
            ",",
            "of",
            "from",
            "to",
            "than",
            "not",
            "but",
            "except",
            "without",
            "with",
            "'s",
            "as",
            "when",
        ):
            return True
        after = g.ARTICLES | g.EVERY | g.ME | set(g.SUPERLATIVES) | set(g.COMPARISONS) | set(g.ORDINALS)
        if draft.words and word in after:
            return True
        if word in g.ME and self.at > draft.start:
            return True
        if self._relation_ahead():
            return True
        return word in g.POSTURES and (bool(draft.words) or self._relation_ahead(1) or self._relation_ahead(2))

    def _noun(self, draft: _Draft) -> None:
        """Make the noun of the words kept, "stack of blocks" included."""
        words = draft.words
        if not words and self.peek() in g.ME:
            draft.noun, self.at = self.peek(), self.at + 1
            return
        if words and self.peek() == "of" and self._of_noun():
            self.at += 1
            self.skip(g.ARTICLES)
            tail = []
            while self.peek() and not self._ends_noun(_Draft(["x"], [], [], [])) and self.peek() not in g.ARTICLES:
                tail.append(self.peek())
                self.at += 1
            if g.singular(words[-1]) in g.PLACES | {"piece", "bit", "lump", "chunk", "kind", "sort", "type"}:
                words = tail  # a piece of fruit
            else:
                draft.plural = draft.plural or g.is_plural(words[-1])
                draft.noun = " ".join([*(g.singular(t) for t in tail), *words[:-1], g.singular(words[-1])])
                return
        while words and words[0] in g.FILLERS and len(words) > 1:
            words = words[1:]
        if not words:
            return
        head = words[-1]
        if head in g.ANYTHING:
            draft.plural = draft.plural or head in (
                "everything",
                "things",
                "objects",
                "items",
                "pieces",
                "ones",
                "elements",
            )
            others = [w for w in words[:-1] if w not in g.FILLERS]
            if head in ("one", "ones"):
                draft.noun = "one"
            draft.attributes += [Attribute(w, "word") for w in others]
            return
        draft.plural = draft.plural or g.is_plural(head)
        draft.noun = " ".join([*words[:-1], g.singular(head)])

    def _of_noun(self) -> bool:
        """Whether "of" continues a noun: "cup of coffee"; not "left of the book"."""
        return self.peek(1) not in g.ME and bool(self.peek(1)) and self.peek(1) not in ("the", "these", "those")

    # After the noun.

    def _after_noun(self, draft: _Draft, depth: int) -> None:
        """Read what follows a noun and belongs to it."""
        while self.at < len(self.tokens):
            start = self.at
            comma = self.take(",")
            joined = self.take("and") or self.take("but")
            if (comma or joined) and not self._follows_noun():
                self.at = start
                return
            if self.high and depth >= 1 and not joined and self._clause_ahead():
                self.at = start
                return  # belongs to the first noun
            if depth > 0 and (comma or joined) and not self.high:
                self.at = start
                return  # "on the book and next to the mug": both of the first noun
            if not self._postmodifier(draft, depth):
                self.at = start
                return

    def _clause_ahead(self) -> bool:
        return bool(self.peek()) and self.peek() not in ("of",)

    def _follows_noun(self) -> bool:
        word = self.peek()
        starts = (
            g.RELATIVE
            | g.COPULAS
            | g.HAVE
            | {"not", "with", "without", "except", "from", "nothing", "to", "no", "seen"}
        )
        return word in starts or self._relation_ahead() or self._posture_relation() or self._side_ahead()

    def _postmodifier(self, draft: _Draft, depth: int) -> bool:
        """Read one thing that follows a noun; whether there was one."""
        word = self.peek()
        if not word:
            return False
        start = self.at
        if self._ordinal_after(draft):
            return True
        if word in ("from", "counting", "counted", "starting") and self._from_side(draft):
            return True
        if depth == 0 and self._viewpoint_phrase():
            return True
        if word in ("to", "from") and self._to_pending(draft, depth):
            return True
        if self._superlative_after(draft, depth) or self._absolute_side(draft):
            return True
        if word == "'s":
            return self._possessive(draft, depth)
        if word in g.RELATIVE:
            self.at += 1
            if word == "whose":
                return self._whose(draft)
            if self._clause(draft, depth) or self._object_relative(draft, depth):
                return True
            self.at = start
            return False
        if word in g.COPULAS | g.AUXILIARIES | {"not"}:
            if self._clause(draft, depth):
                return True
            self.at = start
            self.skip(g.AUXILIARIES | g.COPULAS)  # what does the mug stand on
            return self._object_relative(draft, depth) or self._back(start)
        if word in ("with", "without") or word in g.HAVE:
            return self._having(draft, depth) or self._back(start)
        if word == "except":
            self.at += 1
            self.take("for")
            thing = self.thing(depth + 1, plain=True)
            if thing is not None:
                draft.relations.append(Relation("is", (thing,), negated=True, spoken=self.spoken(start)))
                return True
            return self._back(start)
        if self._relation(draft, depth):
            return True
        if word in g.ARTICLES and self._object_relative(draft, depth):
            return True
        if self._comparison(draft, depth):
            return True
        return self._back(start)

    def _back(self, start: int) -> bool:
        self.at = start
        return False

    # Relations.

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

    def _relation(self, draft: _Draft, depth: int, negated: bool = False) -> bool:
        """Read a relation and its reference."""
        start = self.at
        lean = False
        while self.peek() in g.POSTURES and self._relation_ahead() is None:
            lean |= self.peek() in g.LEAN
            self.at += 1
        phrase = self._relation_ahead()
        if phrase is None or depth >= MAX_DEPTH:
            return self._back(start)
        name = g.RELATIONS[phrase]
        if self._absolute_side(draft):
            return True
        self.at += len(phrase)
        name = "leaning" if lean and name in ("on", "near", "touching") else name
        if (self.peek() in g.IT and self.peek(1) not in ("of",)) or not self.peek():
            return self._back(start)
        things = self._references(name, depth)
        if not things:
            return self._back(start)
        if things[0].noun in g.ME:
            order = {"near": Order("distance", False), "front": Order("front"), "behind": Order("behind"),
                     "far": Order("distance", True)}.get(name)  # fmt: skip
            if order is not None:
                draft.orders.append(replace(order, spoken=self.spoken(start)))
                return True
        draft.relations.append(Relation(name, things, negated=negated, spoken=self.spoken(start)))
        return True

    def _references(self, name: str, depth: int) -> tuple[Thing, ...]:
        first = self.thing(depth + 1, plain=name == "between" and self._and_ahead())
        if first is None:
            return ()
        if name != "between":
            if self.peek() == "or" and self.take("or"):
                other = self.thing(depth + 1)
                return (first,) if other is None else (first, other)
            return (first,)
        if self.take("and") or self.take(",", "and"):
            other = self.thing(depth + 1)
            return (first,) if other is None else (first, other)
        return (first,) if first.number != 1 else (replace(first, number=2),)

    def _and_ahead(self) -> bool:
        return "and" in self.tokens[self.at :]

    def _clause(self, draft: _Draft, depth: int) -> bool:
        """Read what comes after "that" or "is": [not] an attribute, a relation, a thing, a superlative, "has ..."."""
        start = self.at
        self.skip(g.AUXILIARIES)
        verb = self.peek() in g.COPULAS
        self.skip(g.COPULAS)
        negated = self.take("not") or self.take("never") or self.take("neither")
        self.skip(g.AUXILIARIES | g.COPULAS)
        self.skip(frozenset({"also", "currently", "both", "still", "colored", "coloured", "actually"}))
        word = self.peek()
        if word in g.HAVE or word in ("with", "without"):
            return self._having(draft, depth, negated) or self._back(start)
        if (
            self._ordinal_after(draft)
            or self._from_side(draft)
            or self._absolute_side(draft, negated)
            or self._superlative_after(draft, depth)
        ):
            return True
        if self._comparison(draft, depth, negated):
            return True
        if word in ("on", "under", "in", "behind") and not verb and self.peek(1) == "which":
            return self._back(start)
        if self._relation(draft, depth, negated):
            return self._joined_attribute(draft, depth)
        if not verb and not negated:
            return self._back(start)
        if self._attribute_ahead(0) and not self._noun_follows():
            self._attribute(draft, negated)
            while self.peek() in ("and", "or", "nor", ",") and self._attribute_ahead(1):
                self.at += 1
                self._attribute(draft, negated)
            return self._joined_attribute(draft, depth)
        if word and (word in g.ARTICLES or word in g.SUPERLATIVES or self._starts_thing()):
            thing = self.thing(depth + 1, plain=True)
            if thing is not None and (thing.noun or thing.orders or thing.attributes):
                if thing.orders and not negated:
                    draft.orders += thing.orders
                    thing = replace(thing, orders=())
                if thing.noun not in ("", "one") or thing.attributes:
                    bare = not thing.noun or self.tokens[self.at - 1] not in g.ARTICLES
                    if bare or thing.noun:
                        draft.relations.append(Relation("is", (thing,), negated=negated, spoken=self.spoken(start)))
                return True
        return self._back(start)

    def _noun_follows(self) -> bool:
        """Whether a noun comes after the attributes ahead: "is a red mug" against "is red"."""
        ahead = 0
        while self._attribute_ahead(ahead):
            ahead += 1
        word = self.peek(ahead)
        if not word or word in g.COPULAS | g.RELATIVE | g.HAVE | {
            "and",
            ",",
            "or",
            "with",
            "but",
            "from",
            "not",
            "nor",
        }:
            return False
        return self._relation_ahead(ahead) is None and word not in g.POSTURES

    def _joined_attribute(self, draft: _Draft, depth: int) -> bool:
        """Read "and not a plate", "and red" after a clause."""
        start = self.at
        if self.take("and") or self.take("but"):
            negated = self.take("not")
            if negated or (self._attribute_ahead(0) and not self._noun_follows()):
                if self._attribute_ahead(0) and not self._noun_follows():
                    self._attribute(draft, negated)
                    return True
                if self._relation(draft, depth, negated):
                    return True
                thing = self.thing(depth + 1, plain=True)
                if thing is not None and thing.noun:
                    draft.relations.append(Relation("is", (thing,), negated=negated, spoken=self.spoken(start)))
                    return True
            self.at = start
        return True

    def _having(self, draft: _Draft, depth: int, negated: bool = False) -> bool:
        """Read "with an apple on it", "with nothing on top", "carrying a mug"."""
        start = self.at
        word = self.peek()
        self.at += 1
        negated ^= word == "without"
        lead = {"contains": "in", "containing": "in", "contain": "in", "carries": "on", "carrying": "on", "bears": "on",
                "bearing": "on", "supports": "on", "supporting": "on"}.get(word, "has")  # fmt: skip
        if self.peek() in ("nothing", "no", "none"):
            negated = not negated
            if self.take("nothing") or self.take("none"):
                thing = Thing(spoken="anything")
                self.skip(g.FILLERS | frozenset({"else", "at", "all"}))
                return self._located(draft, thing, negated, lead, start)
            self.at += 1
        elif self.peek() in ("something", "anything"):
            self.at += 1
            return self._located(draft, Thing(spoken="something"), negated, lead, start)
        thing = self.thing(depth + 1, plain=True)
        if thing is None:
            return False
        return self._located(draft, thing, negated, lead, start)

    def _located(self, draft: _Draft, thing: Thing, negated: bool, lead: str, start: int) -> bool:
        """Read where the thing of a with-clause is: "on it", "leaning against it", "to its left", "behind it"."""
        self.take("that")
        self.take("which")
        self.skip(g.COPULAS)
        lean = False
        at = self.at
        while self.peek() in g.POSTURES and self._relation_ahead() is None:
            lean |= self.peek() in g.LEAN
            self.at += 1
        name, phrase = lead, self._relation_ahead()
        if self.take("on", "top") or self.take("on", "it") or self.take("atop"):
            self.take("of", "it") or self.take("it")
            name = "leaning" if lean else "on"
        elif (
            self.peek() in ("to", "on", "at")
            and self.peek(1) in ("its", "the", "their")
            and self.peek(2) in ("left", "right")
        ):
            name = self.peek(2)
            self.at += 3
            self.take("side")
            self.take("of", "it")
        elif phrase is not None and (
            self.tokens[self.at + len(phrase)] if self.at + len(phrase) < len(self.tokens) else "it"
        ) in g.IT | {",", "and"}:
            self.at += len(phrase)
            self.skip(g.IT)
            name = g.RELATIONS[phrase]
            name = "leaning" if lean and name in ("on", "near", "touching") else name
        elif (phrase is not None and self.at > at) or phrase is not None:
            # "with a plate on the book": the plate is on the book, and the target has the plate
            inner = _Draft([], [], [], [])
            if self._relation(inner, 1):
                thing = replace(thing, relations=thing.relations + tuple(inner.relations))
        else:
            self.at = at
        draft.relations.append(Relation(name, (thing,), True, negated, self.spoken(start)))
        return True

    def _object_relative(self, draft: _Draft, depth: int) -> bool:
        """Read "(that) the plate rests on": the thing is what the plate is on."""
        start = self.at
        if self.peek() not in g.ARTICLES | g.EVERY:
            return False
        thing = self.thing(depth + 1, plain=True)
        if thing is not None and (thing.noun or thing.attributes):
            self.skip(g.COPULAS | g.AUXILIARIES)
            negated = self.take("not")
            lean = False
            while self.peek() in g.POSTURES and self._relation_ahead() is None:
                lean |= self.peek() in g.LEAN
                self.at += 1
            phrase = self._relation_ahead()
            if phrase is not None:
                after = self.tokens[self.at + len(phrase)] if self.at + len(phrase) < len(self.tokens) else ""
                if not after or after in g.RELATIVE | g.COPULAS | {",", "and", "from"}:
                    self.at += len(phrase)
                    name = g.RELATIONS[phrase]
                    name = "leaning" if lean and name in ("on", "near") else name
                    draft.relations.append(Relation(name, (thing,), True, negated, self.spoken(start)))
                    return True
        return self._back(start)

    def _possessive(self, draft: _Draft, depth: int) -> bool:
        """Read "the lamp's neighbour", "the robot's left": the thing read so far becomes the reference."""
        start = self.at
        self.at += 1
        word = self.peek()
        reference = replace(self._finish(draft), spoken=self.spoken(draft.start).removesuffix(" 's"))
        if word in ("neighbour", "neighbor", "companion"):
            self.at += 1
            name = "near"
            for side in ("left", "right"):
                if self.take("to", "the", side) or self.take("on", "the", side) or self.take("on", "its", side):
                    name = side
            draft.noun, draft.attributes, draft.relations, draft.orders = "", [], [], []
            draft.relations.append(Relation(name, (reference,), spoken=self.spoken(draft.start)))
            if name != "near":
                draft.orders.append(Order("distance", False, 1, (reference,), spoken=f"closest to {reference.spoken}"))
            return True
        return self._back(start)

    def _whose(self, draft: _Draft) -> bool:
        self.skip(frozenset({"colour", "color", "size", "shade"}) | g.COPULAS)
        if self._attribute_ahead(0):
            self._attribute(draft)
            return True
        return False

    # Orders.

    def _superlative(self, draft: _Draft, measure: str, largest: bool, rank: int, spoken: str) -> None:
        if measure == "near":
            draft.orders.append(Order("distance", not largest, rank, spoken=spoken))
        else:
            draft.orders.append(Order(measure, largest, rank, spoken=spoken))

    def _ordinal(self, draft: _Draft, rank: int, spoken: str) -> None:
        """Read what an ordinal counts: "second tallest", "third closest"; the direction may come after the noun."""
        word = self.peek()
        if word in g.SUPERLATIVES:
            self.at += 1
            self._superlative(draft, *g.SUPERLATIVES[word], rank, f"{spoken} {word}")
        else:
            draft.orders.append(Order("?", True, rank, spoken=spoken))

    def _pending(self, draft: _Draft) -> None:
        """Give ordinals without a direction one: people count from the left."""
        for k, order in enumerate(draft.orders):
            if order.measure == "?":
                draft.orders[k] = replace(order, measure="left", spoken=f"{order.spoken} from the left")
                self.notes.append(f"{order.spoken!r} is counted from the left")

    def _from_side(self, draft: _Draft) -> bool:
        """Read "from the left", "from left to right"."""
        start = self.at
        self.take_any("counting", "counted", "starting", "going", "when counted")
        if not self.take("from"):
            return self._back(start)
        self.take("the")
        self.skip(frozenset({"far", "very"}))
        side = g.SIDES.get(self.peek())
        if side is None or side == "central":
            return self._back(start)
        self.at += 1
        self.take("side") or self.take("end")
        self.take("to", "right") or self.take("to", "left") or self.take("to", "the", "right") or self.take(
            "to", "the", "left"
        )
        if side == "behind" and self.tokens[self.at - 1] == "back":
            side = "behind"
        for k, order in enumerate(draft.orders):
            if order.measure == "?":
                largest = side != "bottom"
                measure = "top" if side in ("top", "bottom") else side
                draft.orders[k] = replace(
                    order, measure=measure, largest=largest, spoken=f"{order.spoken} from the {side}"
                )
                return True
        return self._back(start)

    def _ordinal_after(self, draft: _Draft) -> bool:
        """Read "second from the left" after a noun or "is"."""
        start = self.at
        self.take("the")
        word = self.peek()
        if word in g.ORDINALS and self.peek(1) in ("from", "one"):
            self.at += 1
            self.take("one")
            draft.orders.append(Order("?", True, g.ORDINALS[word], spoken=word))
            if self._from_side(draft):
                return True
            draft.orders.pop()
        return self._back(start)

    def _to_side(self, draft: _Draft, word: str) -> bool:
        """Read "(further) to the left", "(closest) to the front"."""
        start = self.at
        self.take("away")
        self.take("over")
        if (
            self.take("to", "the")
            or self.take("on", "the")
            or self.take("towards", "the")
            or self.take("toward", "the")
        ):
            pass
        elif self.peek() not in ("left", "right", "back", "forward", "behind"):
            return self._back(start)
        side = {"forward": "front", "behind": "behind"}.get(self.peek(), g.SIDES.get(self.peek()))
        if side is None or side in ("central", "top", "bottom") or self.peek(1) == "of":
            return self._back(start)
        self.at += 1
        self.take("side")
        draft.orders.append(Order(side, True, 1, spoken=f"{word} to the {side}"))
        return True

    def _to_pending(self, draft: _Draft, depth: int) -> bool:
        """Read "to the lamp" after "the closest mug"."""
        start = self.at
        for k, order in enumerate(draft.orders):
            if order.measure == "distance" and not order.things:
                self.at += 1
                thing = self.thing(depth + 1)
                if thing is None:
                    return self._back(start)
                if thing.noun not in g.ME:
                    draft.orders[k] = replace(order, things=(thing,), spoken=f"{order.spoken} {self.spoken(start)}")
                return True
        return False

    def _superlative_after(self, draft: _Draft, depth: int) -> bool:
        """Read "closest to the lamp", "furthest to the left", "nearest the lamp" after a noun."""
        start = self.at
        self.skip(
            frozenset({"that", "which", "is", "are", "the", "lies", "stands", "sits", "situated", "located", "one"})
        )
        rank = 1
        if self.peek() in g.ORDINALS and self.peek(1) in g.SUPERLATIVES:
            rank = g.ORDINALS[self.peek()]
            self.at += 1
        word = self.peek()
        if (self.take("most", "to", "the") and self.peek() in g.SIDES) or (
            self.take("more", "to", "the") and self.peek() in g.SIDES
        ):
            draft.orders.append(Order(g.SIDES[self.peek()], True, 1, spoken=f"to the {self.peek()}"))
            self.at += 1
            return True
        if word in g.COMPARISONS and self.peek(1) != "than" and g.COMPARISONS[word][0] == "near":
            measure, more = g.COMPARISONS[word]
        elif (
            word in g.SUPERLATIVES and g.SUPERLATIVES[word][0] in ("near", "left", "right", "front", "behind", "top")
        ) or (word in g.SUPERLATIVES and self.at > start and not self._noun_follows_word(1)):
            measure, more = g.SUPERLATIVES[word]
        else:
            return self._back(start)
        self.at += 1
        if measure != "near":
            draft.orders.append(Order(measure, more, rank, spoken=word))
            return True
        if self._to_side(draft, word):
            return True
        self.take("away")
        self.take("to") or self.take("from") or self.take("by")
        if not self.peek() or self.peek() in ("and", ",") or self.peek() in g.COPULAS:
            draft.orders.append(Order("distance", not more, rank, spoken=word))
            return True
        thing = self.thing(depth + 1)
        if thing is None:
            return self._back(start)
        things = () if thing.noun in g.ME else (thing,)
        draft.orders.append(Order("distance", not more, rank, things, spoken=self.spoken(start)))
        return True

    def _noun_follows_word(self, ahead: int) -> bool:
        word = self.peek(ahead)
        return bool(word) and word not in g.COPULAS | g.RELATIVE | {",", "and", "of", "in", "on"}

    def _side_ahead(self) -> bool:
        return self.peek() in ("on", "in", "at", "to") and (self.peek(1) in g.SIDES or self.peek(2) in g.SIDES)

    def _absolute_side(self, draft: _Draft, negated: bool = False) -> bool:
        """Read a side without a reference: "on the left", "in the back", "at the left of the picture"."""
        start = self.at
        while self.peek() in g.POSTURES and self.peek() not in g.SIDES:
            self.at += 1
        if self.peek() in ("leftmost", "rightmost") and (not self.peek(1) or self.peek(1) in ("of", ",")):
            draft.orders.append(Order(g.SUPERLATIVES[self.peek()][0], spoken=self.peek()))
            self.at += 1
            return self._of_place()
        if not (self.take_any("over on", "on", "in", "at", "to", "towards", "toward")):
            return self._back(start)
        self.take("the")
        self.skip(frozenset({"far", "very", "extreme"}))
        word = self.peek()
        if word not in g.SIDES:
            return self._back(start)
        self.at += 1
        far = "far" in self.tokens[start : self.at]
        self.take("side") or self.take("edge") or self.take("half") or self.take("end") or self.take(
            "part"
        ) or self.take("corner")
        if self.peek() == "of" and not self._of_place():
            return self._back(start)
        if word == "top":
            return self._back(start)
        side = g.SIDES[word]
        if negated:
            side = {"left": "right", "right": "left", "front": "behind", "behind": "front"}.get(side, side)
        draft.orders.append(Order(side, True, 1, soft=not far and side != "central", spoken=self.spoken(start)))
        return True

    def _of_place(self) -> bool:
        """Read "of the picture"; whether what is ahead is none or that."""
        start = self.at
        if not self.take("of"):
            return True
        self.skip(g.ARTICLES)
        if self.peek() in g.PLACES - {"table", "desk"} or (
            self.peek() in ("table", "desk") and "side" in self.tokens[max(0, start - 1) : start]
        ):
            self.at += 1
            return True
        return self._back(start)

    def _comparison(self, draft: _Draft, depth: int, negated: bool = False) -> bool:
        """Read "bigger than the mug"."""
        start = self.at
        self.skip(frozenset({"much", "a", "bit", "slightly", "even", "far", "lot"}))
        word = self.peek()
        if word not in g.COMPARISONS or g.COMPARISONS[word][0] == "near" or self.peek(1) != "than":
            return self._back(start)
        self.at += 2
        thing = self.thing(depth + 1, plain=True)
        if thing is None:
            return self._back(start)
        measure, more = g.COMPARISONS[word]
        draft.relations.append(
            Relation(f"{'more' if more else 'less'} {measure}", (thing,), negated=negated, spoken=self.spoken(start))
        )
        return True


def _resolved(thing: Thing, head: str) -> Thing:
    """The description with "one" replaced by the noun that it stands for."""
    noun = head if thing.noun == "one" else thing.noun
    relations = tuple(replace(r, things=tuple(_resolved(t, noun or head) for t in r.things)) for r in thing.relations)
    orders = tuple(replace(o, things=tuple(_resolved(t, noun or head) for t in o.things)) for o in thing.orders)
    return replace(thing, noun=noun, relations=relations, orders=orders)
