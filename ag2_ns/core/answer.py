"""What every query returns: a selection, what else came near, and why."""

from __future__ import annotations

from dataclasses import dataclass

from ag2_ns.core.selection import Selection


@dataclass(frozen=True)
class Candidate:
    """Something that was considered."""

    label: str
    """What it is called, or its number."""
    score: float
    """As in `Selection.score`, 0 to 1."""
    nodes: tuple[int, ...] = ()
    """Of the instance tree."""


@dataclass(frozen=True)
class Answer:
    """The answer to one query."""

    selection: Selection
    """Empty where nothing answers."""
    candidates: tuple[Candidate, ...] = ()
    """What was considered, best first: what is selected, then what is not."""
    reason: str = ""
    """Why this, or why nothing, in words."""
    level: float | None = None
    """Granularity at which it was asked, 0 (parts) to 1 (groups); None for all."""

    @property
    def runner_up(self) -> Candidate | None:
        """The best candidate that was not selected."""
        chosen = set(self.selection.nodes)
        return next((c for c in self.candidates if not chosen or not chosen & set(c.nodes)), None)

    def to_json(self) -> dict:
        """Label, score, nodes, reason and runner-up as plain values."""
        second, found = self.runner_up, self.selection
        return {
            "label": found.label,
            "found": not found.empty,
            "reason": self.reason,
            "score": round(float(found.score), 4),
            "level": found.level,
            "nodes": list(found.nodes),
            "runner_up": None if second is None else {"label": second.label, "score": round(second.score, 4)},
        }
