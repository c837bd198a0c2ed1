"""What a session remembers, as immutable values: the selection, the edits, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ag2_ns.core.answer import Answer
from ag2_ns.core.selection import Selection
from ag2_ns.edit.history import History, Step
from ag2_ns.edit.operations import Edit
from ag2_ns.query.query import Query
from ag2_ns.query.text import Text

STEPS = 100
"""Selections and edits that can be undone."""

Mode = Literal["select", "add", "remove"]


@dataclass(frozen=True)
class Question:
    """One query and what its answer does, kept so that it can be asked again at another granularity."""

    mode: Mode
    query: Query

    @property
    def text(self) -> str | None:
        """The words of a text or sentence; None for other queries."""
        return self.query.text if isinstance(self.query, Text) else getattr(self.query, "sentence", None)


@dataclass(frozen=True)
class State:
    """All that a session remembers; what undo goes back to."""

    selection: Selection | None = None
    """Over the trained Gaussians; None before anything was asked."""
    answer: Answer | None = None
    """To the last question; None before anything was asked."""
    copy: int | None = None
    """The duplicate that is meant (0: as trained); None for all."""
    questions: tuple[Question, ...] = ()
    """What made the selection, in order."""
    history: History = field(default_factory=History)
    """The edits."""
    preview: Edit | None = None
    """An edit that is shown but not made yet."""
    level: float = 0.5
    """Granularity of clicks and instances, 0 (parts) to 1 (groups)."""

    @property
    def empty(self) -> bool:
        """Whether nothing is selected."""
        return self.selection is None or self.selection.empty


@dataclass(frozen=True)
class Timeline:
    """States in order: those that undo goes back to, the present one, and those that redo goes on to."""

    present: State = field(default_factory=State)
    past: tuple[State, ...] = ()
    """The last one comes last."""
    future: tuple[State, ...] = ()
    """The next one comes last."""

    def to(self, state: State, join: bool = False) -> Timeline:
        """Go on to a new state; `join` makes it one step with the one before."""
        past = self.past if join and self.past else (*self.past, replace(self.present, preview=None))[-STEPS:]
        return Timeline(state, past)

    def showing(self, preview: Edit | None) -> Timeline:
        """The same with an edit shown, which is no step."""
        return replace(self, present=replace(self.present, preview=preview))

    def undo(self) -> Timeline:
        """Go back one step; then on through the edits that a run was opened with.

        Raises:
            UserError: there is nothing to undo.
        """
        now = self.present
        before = self.past[-1] if self.past else now
        if not self.past or len(before.history) < len(now.history):
            before = replace(before, history=now.history.undo(), preview=None)
        return Timeline(before, self.past[:-1], (*self.future, replace(now, preview=None)))

    def redo(self) -> Timeline:
        """Do again what was undone last.

        Raises:
            UserError: nothing was undone.
        """
        now = self.present
        after = self.future[-1] if self.future else now
        if not self.future or len(after.history) > len(now.history):
            after = replace(after, history=now.history.redo(), preview=None)
        return Timeline(after, (*self.past, replace(now, preview=None))[-STEPS:], self.future[:-1])

    def amend(self, old: Step, new: Step) -> Timeline:
        """Replace one step of edits by another wherever it stands; the same timeline where it does not."""

        def swap(history: History) -> History:
            if old not in history.done and old not in history.undone:
                return history
            done, undone = (tuple(new if s == old else s for s in p) for p in (history.done, history.undone))
            return replace(history, done=done, undone=undone)

        def swapped(state: State) -> State:
            history = swap(state.history)
            return state if history is state.history else replace(state, history=history)

        states = (self.present, *self.past, *self.future)
        if all(swapped(s) is s for s in states):
            return self
        return Timeline(swapped(self.present), *(tuple(map(swapped, p)) for p in (self.past, self.future)))
