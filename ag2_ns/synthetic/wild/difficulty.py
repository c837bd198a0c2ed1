"""How hard a wild scene is: a few named knobs, each of which can be turned until a method breaks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ag2_ns.core.errors import UserError


@dataclass(frozen=True)
class Difficulty:
    """The knobs. `WILD` holds the values that stand for SAM ViT-H and CLIP ViT-B."""

    wholes: float = 0.65
    """Mean share of the views of an object in which its whole is proposed; each object has its own, within 0.15. (SAM
    on table-tops of real things: 0.4 to 0.8.)"""
    parts: float = 0.5
    """Mean share of the views of a part in which it is proposed; each part has its own, within 0.2."""
    border: float = 2.0
    """Root mean square distance of a mask's outline from the true one, pixels at a width of 640 (1 to 3 for SAM, whose
    decoder works on a grid of 256)."""
    margin: float = 0.09
    """How far the cosine of a clean crop and its own text lies above that of an unrelated text (CLIP ViT-B: about 0.28
    against 0.19)."""
    clutter: float = 1.0
    """Masks of nothing that has a name, relative to the usual number: pieces of pattern, shadows, lights,
    background."""
    groups: float = 0.4
    """Share of the views of a named group in which it is proposed as one mask; things that merely touch: a third of
    it."""

    def __post_init__(self) -> None:
        limits = {"wholes": 1.0, "parts": 1.0, "border": 8.0, "margin": 0.3, "clutter": 4.0, "groups": 1.0}
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= limits[field.name]:
                raise UserError(f"--noise {field.name}={value:g}: must lie between 0 and {limits[field.name]:g}")

    @staticmethod
    def parse(text: str) -> Difficulty:
        """Read `wild`, or `wild:knob=value,knob=value`.

        Raises:
            UserError: another word, an unknown knob or a value out of range.
        """
        word, _, rest = text.partition(":")
        names = [f.name for f in fields(Difficulty)]
        if word != "wild":
            raise UserError(f"--noise {text}: give a number from 0 to 3, or wild, or wild:wholes=0.5,border=3")
        values = {}
        for setting in filter(None, rest.split(",")):
            name, _, value = setting.partition("=")
            try:
                values[name.strip()] = float(value)
            except ValueError:
                raise UserError(f"--noise {text}: {setting!r} is not KNOB=NUMBER") from None
            if name.strip() not in names:
                raise UserError(f"--noise {text}: no knob {name.strip()!r}; there are {', '.join(names)}")
        return replace(WILD, **values)


WILD = Difficulty()
