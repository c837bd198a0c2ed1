"""The panel's folder that removes and recolours what is selected; and tidying up behind edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ag2_ns.edit import steps
from ag2_ns.session.surroundings import surroundings
from ag2_ns.viewer.elements import Buttons, Element, Field
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.viewer.panel import Panel


class Change(Part):
    """Editing what is selected."""

    title, unfolded = "Edit", True

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.remove = Buttons("Remove", {"Delete": self.delete, "Isolate": self.isolate})
        self.clean = Field(
            "checkbox",
            "Close holes",
            True,
            hint="After deleting or moving, remove what is left over and close the hole (slower)",
        )
        self.color = Field("rgb", "Colour", (230, 60, 60))
        self.paint = Buttons("Paint", {"Recolour": self.recolour})

    def elements(self) -> Sequence[Element]:
        """From top to bottom."""
        return (self.remove, self.clean, self.color, self.paint)

    def delete(self) -> None:
        """Remove what is selected at once; then, if wanted, tidy up in the background."""
        self._removal(steps.delete, keep_selection=False)

    def isolate(self) -> None:
        """Remove everything else."""
        self._removal(steps.isolate, keep_selection=True)

    def _removal(self, make: Callable, keep_selection: bool) -> None:
        session = self.panel.session

        def change() -> None:
            found, copy, scene = session.require_selection(), session.state.copy, session.edited()
            quick = make(scene, found, None, copy)
            session.edit(*quick, keep_selection=keep_selection)
            self.tidy(quick, lambda around: make(scene, found, around, copy))

        self.panel.act(change)

    def tidy(self, quick: tuple, make: Callable) -> None:
        """If wanted, replace a quick step by a clean one, in the background.

        Args:
            quick: the step made already.
            make: gives the clean one, from its `Surroundings`.
        """
        if not self.clean.value:
            return
        panel, session = self.panel, self.panel.session
        edited = len(session.state.history) > 1

        def job() -> None:
            with panel.busy("clean", "closing holes …") as busy:
                progress = lambda part: busy.say(f"closing holes … {part:.0%}")  # noqa: E731
                around = surroundings(session.scene(), edited, progress=progress)
                with torch.no_grad():
                    step = make(around)
                with panel.host.lock():
                    changed = session.amend(quick, step)
            if changed:
                panel.refresh()

        panel.lanes["clean"].submit(job)

    def recolour(self) -> None:
        """Give what is selected the chosen colour."""
        session = self.panel.session

        def change() -> None:
            rgb = tuple(c / 255 for c in self.color.value)
            step = steps.recolour(session.edited(), session.require_selection(), rgb, copy=session.state.copy)
            session.edit(*step)

        self.panel.act(change)
