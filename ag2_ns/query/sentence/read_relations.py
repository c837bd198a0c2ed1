"""Relations and clauses: "on the book", "that is not red", "with an apple on it", "that the plate rests on"."""

from __future__ import annotations

from dataclasses import replace

from ag2_ns.query.sentence import grammar as g
from ag2_ns.query.sentence.program import Order, Relation, Thing
from ag2_ns.query.sentence.read_orders import OrderReader
from ag2_ns.query.sentence.reader import Draft

MAX_DEPTH = 5
"""Relations nested deeper than this are not followed."""


class RelationReader(OrderReader):
    """Reads what says how a thing stands to others."""

    def _relation(self, draft: Draft, depth: int, negated: bool = False) -> bool:
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

    def _clause(self, draft: Draft, depth: int) -> bool:
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

    def _joined_attribute(self, draft: Draft, depth: int) -> bool:
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

    def _having(self, draft: Draft, depth: int, negated: bool = False) -> bool:
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

    def _located(self, draft: Draft, thing: Thing, negated: bool, lead: str, start: int) -> bool:
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
            inner = Draft([], [], [], [])
            if self._relation(inner, 1):
                thing = replace(thing, relations=thing.relations + tuple(inner.relations))
        else:
            self.at = at
        draft.relations.append(Relation(name, (thing,), True, negated, self.spoken(start)))
        return True

    def _object_relative(self, draft: Draft, depth: int) -> bool:
        """Read "(that) the plate rests on": the thing is what the plate is on."""
        if self.peek() not in g.ARTICLES | g.EVERY:
            return False
        # "the plate rests on"; or else "the plate on the book rests on"
        return self._stranded(draft, depth, plain=True) or self._stranded(draft, depth, plain=False)

    def _stranded(self, draft: Draft, depth: int, plain: bool) -> bool:
        """Read a thing and a relation whose other side is the thing read so far."""
        start = self.at
        thing = self.thing(depth + 1, plain=plain)
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

    def _possessive(self, draft: Draft, depth: int) -> bool:
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

    def _whose(self, draft: Draft) -> bool:
        self.skip(frozenset({"colour", "color", "size", "shade"}) | g.COPULAS)
        if self._attribute_ahead(0):
            self._attribute(draft)
            return True
        return False
