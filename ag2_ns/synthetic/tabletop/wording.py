"""English for descriptions of table-top things. Clauses have wordings to train on, and others, held out."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from ag2_ns.synthetic.tabletop.programs import Clause, Description, Pick

CLAUSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "on": (("on {0}", "sitting on {0}", "that stands on {0}"), ("on top of {0}", "resting on {0}", "placed upon {0}")),
    "under": (("under {0}", "below {0}"), ("beneath {0}", "underneath {0}")),
    "carries": (("with {a0} on it", "that has {a0} on it"), ("carrying {a0}", "with {a0} on top", "that {0} is on")),
    "empty": (("with nothing on it",), ("that has nothing on top", "which does not have anything on it")),
    "leaning": (("leaning against {0}", "that leans on {0}"), ("propped up against {0}", "tilted against {0}")),
    "leaned_on": (("with {a0} leaning against it",), ("that {0} leans on", "with {a0} propped against it")),
    "next_to": (("next to {0}", "beside {0}"), ("close to {0}", "right by {0}")),
    "between": (("between {0} and {1}",), ("in between {0} and {1}", "that is somewhere between {0} and {1}")),
    "left": (("left of {0}", "to the left of {0}"), ("on the left side of {0}", "that is on the left of {0}")),
    "right": (("right of {0}", "to the right of {0}"), ("on the right side of {0}", "that is on the right of {0}")),
    "front": (
        ("in front of {0}", "standing in front of {0}"),
        ("that is in front of {0}", "closer to the camera than {0}"),
    ),
    "behind": (("behind {0}", "standing behind {0}"), ("that can be seen behind {0}", "in back of {0}")),
}
"""Wordings to train on and held out, by clause; {0} is a thing with "the", {a0} with "a"."""

ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth"}
SUPERLATIVES = {
    ("size", True): (("largest", "biggest"), ("most large",)), ("size", False): (("smallest",), ("tiniest",)),
    ("height", True): (("tallest",), ("most tall",)), ("height", False): (("shortest",), ("lowest in height",)),
    ("left", True): (("leftmost",), ()), ("right", True): (("rightmost",), ()), ("front", True): (("frontmost",), ()),
    ("behind", True): (("rearmost",), ()),
}  # fmt: skip
SYNONYMS = {
    "mug": ("cup", "coffee cup"), "plate": ("dish",), "chair": ("seat",), "lamp": ("table lamp",),
    "block tower": ("tower of blocks",), "bottle": ("flask",), "alarm clock": ("clock",), "toy car": ("car",),
    "mushroom": ("toadstool",), "dumbbell": ("barbell",), "ball pyramid": ("pyramid of balls",), "bowl": ("basin",),
    "flowerpot": ("cactus", "potted plant"), "house": ("cottage",), "rubber duck": ("duck",), "teapot": ("tea pot",),
    "robot": ("android",), "gift box": ("present", "gift"), "ring stack": ("stack of rings",), "apple": ("fruit",),
    "rocket": ("spaceship",), "pencil cup": ("pencil holder",), "book": ("volume",),
}  # fmt: skip
"""Other words for kinds: only in sentences that are held out."""

IRREGULAR = {"snowman": "snowmen"}


def plural(noun: str) -> str:
    """The plural of a kind's name."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    return noun + ("es" if noun.endswith(("ch", "sh", "s", "x")) else "s")


def indefinite(phrase: str) -> str:
    """A phrase with a or an."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


class Wording:
    """Puts descriptions into words.

    Args:
        rng: chooses among wordings.
        held_out: use the wordings that are kept from training.
        synonyms: use other words for the target's kind, where there are some.
        taken: words that name another kind here ("cup" where there are cups besides mugs), so no synonyms.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        held_out: bool = False,
        synonyms: bool = False,
        taken: Collection[str] = (),
    ) -> None:
        self.rng, self.held_out, self.synonyms, self.taken = rng, held_out, synonyms, taken
        self.used_synonym = False

    def sentence(self, wanted: Description) -> str:
        """The description as a sentence without its full stop, in lower case."""
        return self._several(wanted) if wanted.several else self._one(wanted, "the ", target=True)

    def _noun(self, wanted: Description, target: bool) -> str:
        others = [w for w in SYNONYMS.get(wanted.kind, ()) if w not in self.taken]
        if target and self.synonyms and others:
            self.used_synonym = True
            return self._any(others)
        return wanted.kind or self._any(("thing", "object"))

    def _one(self, wanted: Description, article: str, target: bool = False) -> str:
        noun, after = self._noun(wanted, target), []
        if wanted.colour:
            if target and self.held_out and self.rng.random() < 0.4 and not wanted.clauses and wanted.pick is None:
                after.append(f"{self._any(('that is', 'which is'))} {wanted.colour}")
            else:
                noun = f"{wanted.colour} {noun}"
        after += self._negations(wanted)
        if wanted.pick is not None:
            noun, more = self._picked(noun, wanted.pick)
            after = after + more
        after += [self._clause(clause) for clause in wanted.clauses]
        head = indefinite(noun) if article == "a " else article + noun
        return " ".join([head, *after])

    def _negations(self, wanted: Description) -> list[str]:
        verb = self._any(("which isn't", "that's not") if self.held_out else ("that is not", "which is not"))
        out = [f"{verb} {wanted.not_colour}"] if wanted.not_colour else []
        return out + ([f"{verb} {indefinite(wanted.not_kind)}"] if wanted.not_kind else [])

    def _clause(self, clause: Clause) -> str:
        text = self._any(CLAUSES[clause.name][self.held_out])
        words: dict[str, Callable[[], str]] = {}
        for k, thing in enumerate(clause.things):
            words[f"{{{k}}}"] = lambda t=thing: self._one(t, "the ")
            words[f"{{a{k}}}"] = lambda t=thing: self._one(t, "a ")
        for mark, word in words.items():
            if mark in text:
                text = text.replace(mark, word())
        return text

    def _picked(self, noun: str, pick: Pick) -> tuple[str, list[str]]:
        """The noun with what comes before it, and what comes after."""
        if pick.measure == "distance":
            thing = self._one(pick.thing, "the ")
            near, far = (("nearest", "closest to"), ("furthest away from",)) if self.held_out else (
                ("closest to", "nearest to"), ("farthest from", "furthest from"))  # fmt: skip
            return noun, [f"{self._any(near if not pick.largest else far)} {thing}"]
        if pick.measure in ("left", "right", "front", "behind"):
            side = {"behind": "back"}.get(pick.measure, pick.measure)
            if pick.rank == 1 and self.rng.random() < 0.5:
                if self.held_out:
                    return noun, [f"furthest to the {side}"]
                return f"{SUPERLATIVES[pick.measure, True][0][0]} {noun}", []
            ordinal = ORDINALS[pick.rank]
            if self.held_out:
                return noun, [f"that is {ordinal} from the {side}"]
            return f"{ordinal} {noun}", [f"from the {side}"]
        seen, held = SUPERLATIVES[pick.measure, pick.largest]
        if self.held_out and self.rng.random() < 0.5:
            return noun, [f"that is the {self._any(seen)}"]
        word = self._any(held if self.held_out and held and "in" not in held[0].split() else seen)
        return f"{ORDINALS[pick.rank]} {word} {noun}" if pick.rank > 1 else f"{word} {noun}", []

    def _several(self, wanted: Description) -> str:
        nouns = plural(self._noun(wanted, True)) if wanted.kind else "things"
        after = [*self._negations(wanted), *(self._clause(c) for c in wanted.clauses)]
        after = [a.replace("isn't", "aren't").replace("that's", "that are").replace(" is ", " are ") for a in after]
        if not wanted.kind and wanted.colour and self.held_out:
            return " ".join([f"everything that is {wanted.colour}", *after])
        noun = f"{wanted.colour} {nouns}" if wanted.colour else nouns
        return " ".join([self._any(("all of the", "all") if self.held_out else ("all", "all the")), noun, *after])

    def _any(self, options):
        return options[int(self.rng.integers(len(options)))]
