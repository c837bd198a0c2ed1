"""Prompts that name nothing in the scene: how often something is found all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ag2_ns.core.selection import Selection

KEPT = 0.98
"""Share of the present prompts that the threshold-free figure keeps."""


@dataclass(frozen=True)
class AbsentReport:
    """What was asked for in vain."""

    asked: list[tuple[str, str, bool, float]]
    """Text, sort, whether something was found, and with what score."""
    present: list[tuple[str, bool, float]]
    """The prompts that name something: text, whether something was found, and with what score."""

    def as_dict(self) -> dict:
        """For JSON: as decided by the system, and by the score that keeps 98 % of the present prompts."""
        scores = np.array([s for _, _, s in self.present])
        floor = float(np.quantile(np.nan_to_num(scores), 1 - KEPT, method="lower")) if len(scores) else 0.0
        sorts = sorted({sort for _, sort, _, _ in self.asked})
        rate = lambda rows: float(np.mean(rows)) if len(rows) else 0.0  # noqa: E731
        return {
            "rejected": rate([not found for _, _, found, _ in self.asked]),
            "false_positive_rate": rate([found for _, _, found, _ in self.asked]),
            "kept": rate([found for _, found, _ in self.present]),
            "rejected_at_98_kept": rate([score < floor for _, _, _, score in self.asked]),
            "by_sort": {s: rate([not found for _, sort, found, _ in self.asked if sort == s]) for s in sorts},
            "found": sorted(text for text, _, found, _ in self.asked if found),
            "scores": {
                "asked": {text: round(score, 4) for text, _, _, score in self.asked},
                "present": {text: round(score, 4) for text, _, score in self.present},
            },
        }


def evaluate_absent(
    ask: Callable[[str], Selection | None],
    absent: Sequence[tuple[str, str]],
    present: Mapping[str, Selection | None],
) -> AbsentReport:
    """Ask for what is not there.

    Args:
        ask: what a text selects; None for nothing.
        absent: texts and their sorts.
        present: what the texts that name something selected.
    """

    def row(found: Selection | None) -> tuple[bool, float]:
        there = found is not None and not found.empty
        return there, 0.0 if found is None else float(np.nan_to_num(found.score))

    return AbsentReport(
        [(text, sort, *row(ask(text))) for text, sort in absent],
        [(text, *row(found)) for text, found in present.items()],
    )
