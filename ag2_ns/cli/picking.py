"""What a command works on: a scene and what is asked for in it, the options that `ag2` commands share.

The options of queries are made from `ag2_ns.query.kinds.KINDS`: a new kind of query adds its options to every command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ag2_ns.core.errors import UserError
from ag2_ns.query.kinds import KINDS

if TYPE_CHECKING:
    from ag2_ns.core.answer import Answer
    from ag2_ns.query.query import Query
    from ag2_ns.session.opened import OpenScene

SOURCES = ", ".join(kind.example for kind in KINDS[:-1]) + f" or {KINDS[-1].example}"
"""How to say what is meant."""

Pixel = tuple[str, float, float]


def _options(several: bool) -> list[tuple]:
    """A field for every kind of query and each of its further options; lists where they may be given several times."""
    found = []
    for kind in KINDS:
        if several:
            note = tyro.conf.arg(help=f"{kind.help} May be given several times.")
            kept = Annotated[list[kind.type], tyro.conf.UseAppendAction, note]
            found.append((kind.name, kept, field(default_factory=list)))
        else:
            found.append((kind.name, Annotated[kind.type | None, tyro.conf.arg(help=kind.help)], None))
        further = [(o.name, Annotated[o.type, tyro.conf.arg(help=o.help)], o.default) for o in kind.further]
        known = {name for name, *_ in found}
        found += [option for option in further if option[0] not in known]  # kinds may share options
    return found


OneQuery = make_dataclass("OneQuery", _options(several=False), kw_only=True)
ManyQueries = make_dataclass("ManyQueries", _options(several=True), kw_only=True)


@dataclass
class Opened:
    """A scene."""

    load_config: Path
    """The run's config.yml, its folder, or its scene.safetensors."""
    _: KW_ONLY
    device: str = "auto"
    """Where to work: auto takes CUDA when torch sees it."""

    def open(self, edits: bool = True) -> OpenScene:
        """The scene.

        Raises:
            UserError: see `ag2_ns.open`.
        """
        import ag2_ns

        return ag2_ns.open(self.load_config, None if self.device == "auto" else self.device, edits)


@dataclass(kw_only=True)
class Refining:
    """Further clicks, and granularity."""

    add: Annotated[tuple[Pixel, ...], tyro.conf.UseAppendAction] = ()
    """A pixel of what else belongs to the one thing asked for: CAMERA X Y; may be given several times."""
    remove: Annotated[tuple[Pixel, ...], tyro.conf.UseAppendAction] = ()
    """A pixel of what does not, taken away once all is added: CAMERA X Y; may be given several times."""
    level: float | None = None
    """Granularity from 0 (parts) to 1 (groups); clicks are at 0.5 and texts look at all levels unless it is given."""

    def given(self) -> list[tuple[str, Any]]:
        """What is asked for, each with the name of its option, in the order of the kinds."""
        found = []
        for kind in KINDS:
            value = getattr(self, kind.name)
            values = value if isinstance(value, list) else [value]
            found += [(kind.name, v) for v in values if v is not None]
        return found

    def check(self, verb: str = "") -> None:
        """Refuse options that contradict themselves, before a scene is opened.

        Args:
            verb: what is done with exactly one thing, say `edit`; with none, any number of things may be asked for.

        Raises:
            UserError: they do.
        """
        if self.level is not None and not 0 <= self.level <= 1:
            raise UserError(f"--level {self.level}: give a number from 0 (parts) to 1 (groups)")
        count = len(self.given())
        if (self.add or self.remove) and count != 1:
            option = "--add" if self.add else "--remove"
            what = "has nothing to change" if count == 0 else f"could change each of the {count} things asked for"
            raise UserError(f"{option}: {what}; give exactly one of {SOURCES} with it")
        if verb and count != 1:
            raise UserError(f"say what to {verb} with one of {SOURCES}")

    def queries(self) -> list[Query]:
        """One query for each thing asked for.

        Raises:
            UserError: one makes no sense.
        """
        kinds = {kind.name: kind for kind in KINDS}
        found = []
        for name, value in self.given():
            further = {option.name: getattr(self, option.name) for option in kinds[name].further}
            further = {key: chosen for key, chosen in further.items() if chosen is not None}
            found.append(kinds[name].query(value, **further))
        return found

    def picked(self, scene: OpenScene) -> list[Answer]:
        """One answer for each thing asked for; a single one with the further clicks.

        What of a question made no difference is named on standard error.

        Raises:
            UserError: something asked for has no answer that makes sense.
        """
        found = []
        for query in self.queries():
            found.append(scene.select(query, level=self.level))
            if line := query.ignored(scene):
                print(line, file=sys.stderr)
        if self.add or self.remove:
            add, remove = (_clicks(pixels) for pixels in (self.add, self.remove))
            refined = scene.refine(found[0], add, remove, self.level)
            found = [replace(found[0], selection=refined, reason=refined.reason)]
        return found


@dataclass
class Picking(OneQuery, Refining, Opened):
    """A scene, and the one thing that is asked for in it."""


@dataclass
class PickingMany(ManyQueries, Refining, Opened):
    """A scene, and what is asked for in it."""


def _clicks(pixels: Sequence[Pixel]) -> list[Query]:
    from ag2_ns.query.click import Click

    return [Click(*pixel) for pixel in pixels]
