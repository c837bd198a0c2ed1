"""Undo and redo: an immutable stack of editing steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ag2_ns.core.errors import UserError
from ag2_ns.edit.operations import Edit

DEPTH = 100
"""Steps that can be undone."""

Step = tuple[Edit, ...]
"""What one command did: for a deletion, say, the deletion and the patch over the hole."""


@dataclass(frozen=True)
class History:
    """Steps done, those that can be undone, and those undone that can be done again."""

    done: tuple[Step, ...] = ()
    """In order."""
    undone: tuple[Step, ...] = ()
    """The one undone last comes last."""
    fixed: int = 0
    """So many of the first steps are too old to be undone."""
    depth: int = DEPTH
    """Most steps that can be undone."""
    base: tuple[Step, ...] | None = field(default=None, compare=False, repr=False)
    """The steps in the file that it was read from; None where it was not read."""

    def __len__(self) -> int:
        return len(self.done)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What to apply."""
        return tuple(edit for step in self.done for edit in step)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return len(self.done) > self.fixed

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self.undone)

    def push(self, step: Edit | Sequence[Edit]) -> History:
        """Do a step; what was undone before is forgotten."""
        step = (step,) if isinstance(step, Edit) else tuple(step)
        if not step:
            return self
        done = (*self.done, step)
        return replace(self, done=done, undone=(), fixed=max(self.fixed, len(done) - self.depth))

    def undo(self) -> History:
        """Take the last step back.

        Raises:
            UserError: there is none, or it is too old.
        """
        if not self.can_undo:
            raise UserError(
                f"edits: only the last {self.depth} steps can be undone; clear all edits instead"
                if self.done
                else "edits: nothing to undo; nothing has been edited"
            )
        return replace(self, done=self.done[:-1], undone=(*self.undone, self.done[-1]))

    def redo(self) -> History:
        """Do the step again that was undone last.

        Raises:
            UserError: nothing was undone.
        """
        if not self.can_redo:
            raise UserError("edits: nothing to redo; nothing was undone since the last edit")
        return replace(self, done=(*self.done, self.undone[-1]), undone=self.undone[:-1])

    def onto(self, others: History) -> History | None:
        """These edits after what somebody else has added to the file that they were read from.

        Returns:
            Both, or None where they cannot stand beside each other: one of them took back what the other builds on, or
            theirs has a duplicate more where ours count duplicates.
        """
        base = self.base or ()
        mine, theirs = self.done[len(base) :], others.done[len(base) :]
        if self.done[: len(base)] != base or others.done[: len(base)] != base:
            return None
        copied = any(edit.name == "duplicate" for step in theirs for edit in step)
        counting = any(getattr(edit, "copy", None) for step in mine for edit in step)
        if copied and counting:
            return None
        both = others
        for step in mine:
            both = both.push(step)
        return replace(both, depth=self.depth)

    def clear(self) -> History:
        """Without any edit, for good."""
        return History(depth=self.depth)

    def describe(self) -> list[str]:
        """One line per step done."""
        return ["; ".join(edit.describe() for edit in step) for step in self.done]
