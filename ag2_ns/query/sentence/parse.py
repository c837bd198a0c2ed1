"""From a sentence to a program: recursive descent over the field words of `grammar`.

A description is: determiner, number, order and attribute words, noun, then what follows the noun: relations, relative
clauses, with-clauses, places in an order. What follows a noun inside a relation belongs to that noun ("low" attachment:
the mug on the book that is red). `parses` also gives the reading in which it belongs to the first noun ("high"), and
the solver takes the first reading that something in the scene satisfies.
"""

from __future__ import annotations

from dataclasses import replace

from ag2_ns.core.errors import UserError
from ag2_ns.perception.english import is_plural, singular
from ag2_ns.query.sentence import grammar as g
from ag2_ns.query.sentence.program import ALL, Attribute, Order, Program, Relation, Thing
from ag2_ns.query.sentence.read_relations import RelationReader
from ag2_ns.query.sentence.reader import Draft

MAX_WORDS = 120
"""Longer texts are not descriptions of one thing."""


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


class _Parser(RelationReader):
    """Reads a sentence: targets, and the descriptions in them."""

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
            "seen by me", "i see it", "i see them", "i look at it", "it appears", "shown", "pictured", "seen here",
            "i see",
            "in this picture", "in the picture", "in this image", "in the image", "in this photo", "in the photo",
            "in this view", "in the view", "in view", "from here", "from this angle", "from this side", "from my side",
            "from this viewpoint", "from this view", "from where i am",
            "from where i stand", "from where i am standing",
            "from my point of view", "from my perspective", "from my viewpoint", "from the camera", "from this camera",
            "from the viewer", "to me", "for me", "seen from here", "seen from this side", "seen from my side",
            "in the frame", "in the shot", "on the picture", "on screen", "in this scene", "in the scene",
            "from this perspective", "from this point of view", "from me",
        ):  # fmt: skip
            return True
        seen = self.take_any(
            "seen from", "viewed from", "looking from", "looked at from", "watched from", "from the perspective of",
            "from the point of view of", "from the viewpoint of", "from the side of", "if you look from",
            "looking at it from",
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
        draft = Draft([], [], [], [], start=start)
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

    def _finish(self, draft: Draft) -> Thing:
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

    def _partitive(self, draft: Draft) -> bool:
        """Whether "of" after the words read means "among": "the bigger of the two", "all of the mugs"."""
        if draft.orders or draft.number is not None or draft.plural or self.at == draft.start + 1:
            return self.take("of")
        return False

    def _before_noun(self, draft: Draft, depth: int) -> None:
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
                if word in ("some",) and following and is_plural(following):
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

    def _side_noun(self, word: str, draft: Draft) -> bool:
        """Whether "middle" or the like is a noun here: "in the middle"."""
        return word in ("middle", "central") and (not self.peek(1) or self.peek(1) in ("of", ","))

    def _of_side(self, draft: Draft) -> bool:
        return bool(draft.words)  # "the one closest to": comes after the noun

    def _attributive_side(self, following: str) -> bool:
        """Whether a side is an adjective: "the left mug", not "the left of the mug"."""
        stop = g.COPULAS | g.RELATIVE | {"of", ",", "and", "side", "hand", "edge", "from", "in", "to", "on"}
        return following not in stop and following not in g.PLACES

    def _is_head(self, draft: Draft) -> bool:
        """Whether a colour or size word is the noun itself here: "an orange", "three reds"."""
        word, following = self.peek(), self.peek(1)
        last = not following or following in g.COPULAS | g.RELATIVE | {",", "and", "or", "of", "that"}
        if word in g.COLOUR_SHADES and not g.is_colour(following):
            return False
        return (
            last and bool(draft.start < self.at) and word == "orange" and self.tokens[self.at - 1] in ("an", "orange")
        )

    def _ends_noun(self, draft: Draft) -> bool:
        """Whether the words of a noun end before the next token."""
        word = self.peek()
        if word in ("bear", "bears") and not draft.words:  # the animal, not what plates do
            return False
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

    def _noun(self, draft: Draft) -> None:
        """Make the noun of the words kept, "stack of blocks" included."""
        words = draft.words
        if not words and self.peek() in g.ME:
            draft.noun, self.at = self.peek(), self.at + 1
            return
        if words and self.peek() == "of" and self._of_noun():
            self.at += 1
            self.skip(g.ARTICLES)
            tail = []
            while self.peek() and not self._ends_noun(Draft(["x"], [], [], [])) and self.peek() not in g.ARTICLES:
                tail.append(self.peek())
                self.at += 1
            if singular(words[-1]) in g.PLACES | {"piece", "bit", "lump", "chunk", "kind", "sort", "type"}:
                words = tail  # a piece of fruit
            else:
                draft.plural = draft.plural or is_plural(words[-1])
                draft.noun = " ".join([*(singular(t) for t in tail), *words[:-1], singular(words[-1])])
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
        draft.plural = draft.plural or is_plural(head)
        draft.noun = " ".join([*words[:-1], singular(head)])

    def _of_noun(self) -> bool:
        """Whether "of" continues a noun: "cup of coffee"; not "left of the book"."""
        return self.peek(1) not in g.ME and bool(self.peek(1)) and self.peek(1) not in ("the", "these", "those")

    # After the noun.

    def _after_noun(self, draft: Draft, depth: int) -> None:
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

    def _postmodifier(self, draft: Draft, depth: int) -> bool:
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


def _resolved(thing: Thing, head: str) -> Thing:
    """The description with "one" replaced by the noun that it stands for."""
    noun = head if thing.noun == "one" else thing.noun
    relations = tuple(replace(r, things=tuple(_resolved(t, noun or head) for t in r.things)) for r in thing.relations)
    orders = tuple(replace(o, things=tuple(_resolved(t, noun or head) for t in o.things)) for o in thing.orders)
    return replace(thing, noun=noun, relations=relations, orders=orders)
