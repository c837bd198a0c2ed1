"""The kinds of queries there are, by the name of their option: all that the command line knows of them.

Imports nothing: `ag2 --help` reads this.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ag2_ns.query.query import Query


@dataclass(frozen=True)
class Option:
    """A further option of a kind: passed to `Query.from_option` by name where it is given."""

    name: str
    type: Any
    help: str
    default: Any = None


@dataclass(frozen=True)
class Kind:
    """One kind of query."""

    name: str
    """Of its option."""
    target: str
    """"module:Class" of its `Query`."""
    type: Any
    """Of the option's value."""
    help: str
    """Of the option."""
    example: str
    """The option with a value, for messages."""
    further: tuple[Option, ...] = ()
    """Options that only this kind has."""

    def query(self, value: Any, **further: Any) -> Query:
        """The query that an option's value asks.

        Raises:
            UserError: the value makes no sense.
        """
        module, name = self.target.split(":")
        return getattr(importlib.import_module(module), name).from_option(value, **further)


STRATEGY = Option(
    "strategy",
    Literal["tree", "collaborative", "both"] | None,
    "What answers texts and pictures: the instance tree, the refined language field (`ag2 lift --language field`), or "
    "both together.",
)
LEAST = Option(
    "floor",
    float | None,
    "Least relevancy, 0 to 1, of what a text or a picture selects; below it nothing is selected. 0 takes the nearest.",
)

KINDS = (
    Kind(
        "text",
        "ag2_ns.query.text:Text",
        str,
        "What to look for, in words.",
        "--text 'red mug'",
        (Option("all", bool, "Take every instance that answers a text, not only the best.", False), STRATEGY, LEAST),
    ),
    Kind(
        "image",
        "ag2_ns.query.image:Image",
        Path,
        "A picture of what to look for (.jpg, .png).",
        "--image FILE",
        (
            Option(
                "crop",
                tuple[float, float, float, float] | None,
                "The part of the picture that shows it: X0 Y0 X1 Y1, in pixels.",
            ),
            STRATEGY,
            LEAST,
        ),
    ),
    Kind(
        "node",
        "ag2_ns.query.node:Node",
        int,
        "An instance by its number, as `ag2 tree` prints it.",
        "--node N",
    ),
    Kind(
        "sentence",
        "ag2_ns.query.sentence.query:Sentence",
        str,
        "What to look for, as a sentence: attributes, relations, order, negation.",
        "--sentence 'the mug left of the red book'",
        (
            Option(
                "seen_from", str | None, "The picture that left, right, in front and behind of a sentence are meant in."
            ),
            Option(
                "up", tuple[float, float, float] | None, "The vertical for sentences, in the scene's frame; else found."
            ),
            Option(
                "by",
                Literal["solver", "field"],
                "Who answers a sentence: the solver, or a field trained by `ag2 refer-train`.",
                "solver",
            ),
            Option(
                "reasoner", str | None, "A command that answers a sentence from the scene as JSON (see the README)."
            ),
        ),
    ),
    Kind(
        "click",
        "ag2_ns.query.click:Click",
        tuple[str, float, float],
        "A pixel of it: CAMERA X Y, the camera by image name or position.",
        "--click IMAGE X Y",
    ),
    Kind(
        "box",
        "ag2_ns.query.box:Box",
        tuple[str, float, float, float, float],
        "A rectangle around it: CAMERA X0 Y0 X1 Y1, in pixels; takes what lies mostly inside and fills it best, at "
        "whatever level. Its score compares it with the instances inside (F1), not with the rectangle.",
        "--box IMAGE X0 Y0 X1 Y1",
    ),
    Kind(
        "selection",
        "ag2_ns.query.saved:Saved",
        Path,
        "A selection.npz that `ag2 query` wrote.",
        "--selection FILE",
    ),
)
"""In the order of their options."""
