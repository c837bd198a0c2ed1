"""What a command works on: the options that `ag2 query`, `edit`, `render` and `export` share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.core.selection import Selection
    from ag2_ns.plugin.run import LoadedRun

Source = Literal["text", "click", "box", "selection"]

SOURCES = "--text 'red mug', --click IMAGE X Y, --box IMAGE X0 Y0 X1 Y1 or --selection FILE"
"""How to say what is meant."""


@dataclass
class Picking:
    """A run, and what to pick in it. Commands that take several texts or files override those with sequences."""

    load_config: Path
    """The run's config.yml."""
    _: KW_ONLY
    text: str | None = None
    """What to look for, in words."""
    click: tuple[str, float, float] | None = None
    """A pixel of it: CAMERA X Y, the camera by image name or position."""
    box: tuple[str, float, float, float, float] | None = None
    """A rectangle around it: CAMERA X0 Y0 X1 Y1, in pixels; takes what lies mostly inside and fills it best, at
    whatever level. Its score compares it with the instances inside (F1), not with the rectangle."""
    selection: Path | None = None
    """A selection.npz that `ag2 query` wrote."""
    add: Annotated[tuple[tuple[str, float, float], ...], tyro.conf.UseAppendAction] = ()
    """A pixel of what else belongs to the one thing asked for: CAMERA X Y; may be given several times."""
    remove: Annotated[tuple[tuple[str, float, float], ...], tyro.conf.UseAppendAction] = ()
    """A pixel of what does not, taken away once all is added: CAMERA X Y; may be given several times."""
    level: float | None = None
    """Granularity from 0 (parts) to 1 (groups); clicks are at 0.5 and texts look at all levels unless it is given."""

    def sources(self) -> list[tuple[Source, object]]:
        """What is asked for, each with the name of its option."""
        texts = [self.text] if isinstance(self.text, str) else self.text or ()
        files = [self.selection] if isinstance(self.selection, (str, Path)) else self.selection or ()
        given = {"text": texts, "click": [self.click], "box": [self.box], "selection": files}
        return [(name, value) for name, values in given.items() for value in values if value is not None]

    def check_picking(self, verb: str = "") -> None:
        """Refuse options that contradict themselves, before a run is loaded.

        Args:
            verb: what is done with exactly one thing, say `edit`; with none, any number of things may be asked for.

        Raises:
            UserError: they do.
        """
        if self.level is not None and not 0 <= self.level <= 1:
            raise UserError(f"--level {self.level}: give a number from 0 (parts) to 1 (groups)")
        count = len(self.sources())
        if (self.add or self.remove) and count != 1:
            option = "--add" if self.add else "--remove"
            what = "has nothing to change" if count == 0 else f"could change each of the {count} things asked for"
            raise UserError(f"{option}: {what}; give exactly one of {SOURCES} with it")
        if verb and count != 1:
            raise UserError(f"say what to {verb} with one of {SOURCES}")

    def picked(
        self,
        run: LoadedRun,
        several: bool | None = None,
        order: Sequence[Source] = ("text", "click", "box", "selection"),
    ) -> list[Selection]:
        """One selection for each thing asked for; a single one with the further clicks.

        Words of a text that make no difference are named on standard error.

        Args:
            run: the run.
            several: all instances that answer a text; by default when the words are plural.
            order: which options come first.

        Raises:
            UserError: something asked for has no answer that makes sense.
        """
        from ag2_ns.io.selection_file import load_selection
        from ag2_ns.query.answer import refine, select, unknown_words

        found = []
        for name, value in sorted(self.sources(), key=lambda source: order.index(source[0])):
            if name == "selection":
                found.append(load_selection(value, run.require_index()))
            else:
                plural = {} if several is None or name != "text" else {"several": several}
                found.append(select(run, **{name: value}, level=self.level, **plural))
            if name == "text" and (unknown := unknown_words(run.texts, value)):
                known = getattr(run.texts.encoder(), "knows", "")
                print(f"{value!r}: not known, so ignored: {', '.join(unknown)}; {known}", file=sys.stderr)
        if self.add or self.remove:
            found = [refine(run, found[0], add=self.add, remove=self.remove, level=self.level)]
        return found
