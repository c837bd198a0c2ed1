"""The panel's upper part: click, type, choose how much, go back."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from nerfstudio.viewer.viewer_elements import ViewerDropdown, ViewerElement, ViewerSlider, ViewerText

from ag2_ns.viewer.elements import Buttons
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.edit.operations import Vector
    from ag2_ns.viewer.panel import Panel

TYPING = 0.7
"""Seconds without a keystroke after which a text is looked for."""

RECENT = "earlier searches"
"""What the list of searches shows when it is closed."""


class Find(Part):
    """Selecting."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        session = panel.session
        self._asked: list[tuple[str, float]] = []
        self._typed = ""
        self._followed = 0.5  # the granularity that the slider knows of
        self._following = Lock()
        self.mode = ViewerDropdown(
            "Click to",
            "select",
            ["select", "add", "remove", "do nothing"],
            hint="What a click on the picture does, and the button Find",
        )
        self.text = ViewerText(
            "Find", "", cb_hook=self._on_text, hint="What to look for; found when you stop typing, or with the button"
        )
        self.recent = ViewerDropdown(
            "Again", RECENT, [RECENT], visible=False, cb_hook=self._on_recent, hint="Earlier searches and their scores"
        )
        self.level = ViewerSlider(
            "Granularity", 0.5, 0.0, 1.0, 0.05, cb_hook=self._on_level, hint="0: parts, 0.5: objects, 1: groups"
        )
        self.select = Buttons("Selection", {"Find": self.find, "Clear": lambda: panel.act(session.clear)})
        self.steps = Buttons(
            "Steps", {"Undo": lambda: panel.act(session.undo), "Redo": lambda: panel.act(session.redo)}
        )

    def elements(self) -> Sequence[ViewerElement]:
        """From top to bottom."""
        return (self.mode, self.text, self.recent, self.level, self.select, self.steps)

    def follow(self) -> None:
        """Show the session's granularity, where it is not the slider that set it: that may have moved on since."""
        with self._following:
            level = self.panel.session.state.level
            moved, self._followed = level != self._followed, level
        if moved and self.level.value != level:
            self.level.value = level

    def clicked(self, origin: Vector, direction: Vector) -> None:
        """Somebody clicked on the picture."""
        mode = self.mode.value
        if mode != "do nothing":
            self.panel.ask(lambda: self.panel.session.click(origin, direction, mode))

    def find(self) -> None:
        """Look for the text in the box."""
        self._look_for(self.text.value)

    def _on_text(self, element: ViewerText) -> None:
        if element.value.strip() and element.value.strip() != self._typed:
            self._look_for(element.value, TYPING, typing=True)

    def _on_recent(self, element: ViewerDropdown) -> None:
        if element.value != RECENT:
            text = element.value.rpartition("  (")[0]
            self._typed = text
            self.text.value = text
            self._look_for(text)

    def _on_level(self, element: ViewerSlider) -> None:
        panel = self.panel

        def job() -> None:
            with self._following:
                level = float(element.value)  # now: messages may come in any order, and several for one job
                if level == panel.session.state.level:
                    return
                panel.session.set_level(level)
                self._followed = level
            panel.say("")
            panel.refresh()

        panel.lanes["slide"].submit(job)

    def _look_for(self, text: str, delay: float = 0.0, typing: bool = False) -> None:
        mode, panel, text = self.mode.value, self.panel, text.strip()
        mode = mode if mode in ("add", "remove") and not typing else "select"

        def job() -> None:
            self._typed = text
            panel.session.index()
            if text:
                with panel.busy("text", f"looking for “{text}” …"):
                    panel.session.embed(text)
            found = panel.session.ask(text, mode, continues=typing)
            panel.say("")
            self._remember(text, found.score)
            panel.refresh()

        panel.lanes["text"].submit(job, delay)

    def _remember(self, text: str, score: float) -> None:
        self._asked = [(text, score)] + [(t, s) for t, s in self._asked if t != text and not text.startswith(t)]
        self._asked = self._asked[:10]
        if self.recent.value != RECENT:
            self.recent.value = RECENT
        self.recent.set_options([RECENT] + [f"{t}  ({s:.2f})" for t, s in self._asked])
        self.recent.set_hidden(False)
