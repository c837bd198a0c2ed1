"""Places in an order, sides and comparisons: "second from the left", "closest to the lamp", "on the left"."""

from __future__ import annotations

from dataclasses import replace

from ag2_ns.query.sentence import grammar as g
from ag2_ns.query.sentence.program import Order, Relation
from ag2_ns.query.sentence.reader import Draft, Reader


class OrderReader(Reader):
    """Reads what puts things in an order."""

    def _superlative(self, draft: Draft, measure: str, largest: bool, rank: int, spoken: str) -> None:
        if measure == "near":
            draft.orders.append(Order("distance", not largest, rank, spoken=spoken))
        else:
            draft.orders.append(Order(measure, largest, rank, spoken=spoken))

    def _ordinal(self, draft: Draft, rank: int, spoken: str) -> None:
        """Read what an ordinal counts: "second tallest", "third closest"; the direction may come after the noun."""
        word = self.peek()
        if word in g.SUPERLATIVES:
            self.at += 1
            self._superlative(draft, *g.SUPERLATIVES[word], rank, f"{spoken} {word}")
        else:
            draft.orders.append(Order("?", True, rank, spoken=spoken))

    def _pending(self, draft: Draft) -> None:
        """Give ordinals without a direction one: people count from the left."""
        for k, order in enumerate(draft.orders):
            if order.measure == "?":
                draft.orders[k] = replace(order, measure="left", spoken=f"{order.spoken} from the left")
                self.notes.append(f"{order.spoken!r} is counted from the left")

    def _from_side(self, draft: Draft) -> bool:
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

    def _ordinal_after(self, draft: Draft) -> bool:
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

    def _to_side(self, draft: Draft, word: str) -> bool:
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

    def _to_pending(self, draft: Draft, depth: int) -> bool:
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

    def _superlative_after(self, draft: Draft, depth: int) -> bool:
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
        if (self._relation_ahead() or ("",))[-1] == "than":  # "closer to the camera than the mug" says where it is
            return self._back(start)
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

    def _absolute_side(self, draft: Draft, negated: bool = False) -> bool:
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

    def _comparison(self, draft: Draft, depth: int, negated: bool = False) -> bool:
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
