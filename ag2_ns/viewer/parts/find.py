"""The panel's upper part: click, type, choose how much, go back."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from ag2_ns.query.query import Query
from ag2_ns.query.sentence.query import Sentence, looks_like_sentence
from ag2_ns.query.text import Text
from ag2_ns.viewer.elements import Buttons, Element, Field
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.edit.operations import Vector
    from ag2_ns.viewer.panel import Panel

TYPING = 0.7
"""Seconds without a keystroke after which a text is looked for."""

RECENT = "earlier searches"
"""What the list of searches shows when it is closed."""

NAMES = "what is here"
"""What the list of names shows when it is closed."""


class Find(Part):
    """Selecting."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        session = panel.session
        self._asked: list[tuple[str, float]] = []
        self._typed = ""
        self._shown: object = None  # the vocabulary that the list of names is of
        self._followed = 0.5  # the granularity that the slider knows of
        self._following = Lock()
        self.mode = Field(
            "dropdown",
            "Click to",
            "select",
            options=("select", "add", "remove", "do nothing"),
            hint="What a click on the picture does, and the button Find",
        )
        self.text = Field(
            "text",
            "Find",
            "",
            self._on_text,
            hint="What to look for: words, or a sentence as seen from where you are",
        )
        self.recent = Field(
            "dropdown",
            "Again",
            RECENT,
            self._on_recent,
            options=(RECENT,),
            visible=False,
            hint="Earlier searches and their scores",
        )
        self.names = Field(
            "dropdown",
            "Names",
            NAMES,
            self._on_name,
            options=(NAMES,),
            visible=False,
            hint="What the things of the scene are called; choosing one selects all that are called so",
        )
        self.level = Field(
            "slider",
            "Granularity",
            0.5,
            self._on_level,
            min=0.0,
            max=1.0,
            step=0.05,
            hint="0: parts, 0.5: objects, 1: groups",
        )
        self.select = Buttons("Selection", {"Find": self.find, "Clear": lambda: panel.act(session.clear)})
        self.steps = Buttons(
            "Steps", {"Undo": lambda: panel.act(session.undo), "Redo": lambda: panel.act(session.redo)}
        )

    def elements(self) -> Sequence[Element]:
        """From top to bottom."""
        return (self.mode, self.text, self.recent, self.names, self.level, self.select, self.steps)

    def follow(self) -> None:
        """Show the session's names, and its granularity where it is not the slider that set it: that may have moved on
        since."""
        names = self.panel.session.scene().vocabulary
        if names is not self._shown:
            self._shown = names
            self.names.choices([NAMES, *sorted(() if names is None else names.words)])
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

    def take(self, text: str) -> None:
        """Look for a text that was offered."""
        self._typed = text
        self.text.value = text
        self._look_for(text)

    def find(self) -> None:
        """Look for the text in the box."""
        self._look_for(self.text.value)

    def _on_text(self) -> None:
        text = self.text.value
        if text.strip() and text.strip() != self._typed:
            self._look_for(text, TYPING, typing=True)

    def _on_recent(self) -> None:
        if self.recent.value != RECENT:
            self.take(self.recent.value.rpartition("  (")[0])

    def _on_name(self) -> None:
        name, panel = self.names.value, self.panel
        if name == NAMES:
            return

        def job() -> None:
            mode = self.mode.value if self.mode.value in ("add", "remove") else "select"
            panel.session.ask(Text(name, several=True), mode)
            panel.say("")
            panel.refresh()

        panel.lanes["text"].submit(job)

    def _on_level(self) -> None:
        panel = self.panel

        def job() -> None:
            with self._following:
                level = float(self.level.value)  # now: messages may come in any order, and several for one job
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
            query: Query = Text(text)
            if looks_like_sentence(text):
                query = Sentence(text, panel.layers.present_view())
            elif text:
                with panel.busy("text", f"looking for “{text}” …"):
                    panel.session.embed(text)
            found = panel.session.ask(query, mode, continues=typing)
            panel.say("")
            self._remember(text, found.score)
            panel.refresh()

        panel.lanes["text"].submit(job, delay)

    def _remember(self, text: str, score: float) -> None:
        self._asked = [(text, score)] + [(t, s) for t, s in self._asked if t != text and not text.startswith(t)]
        self._asked = self._asked[:10]
        if self.recent.value != RECENT:
            self.recent.value = RECENT
        self.recent.choices([RECENT] + [f"{t}  ({s:.2f})" for t, s in self._asked])
