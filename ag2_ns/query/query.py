"""What a query is. A new kind is one file with a subclass of `Query`, and one line in `kinds.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ag2_ns.core.answer import Answer
from ag2_ns.scene.scene import Scene


class Query(ABC):
    """One question to a scene: a frozen dataclass with `reply`."""

    of_pictures: ClassVar[bool] = False
    """Whether it is about what pictures show, so that edits matter: clicks and boxes are, words are not."""

    @abstractmethod
    def reply(self, scene: Scene, level: float | None) -> Answer:
        """The answer; labels may be provisional, `ag2_ns.query.answer.answer` names things.

        Args:
            scene: as trained, or (`of_pictures`) as shown with edits.
            level: granularity, 0 (parts) to 1 (groups); None leaves it to the query.

        Raises:
            UserError: the question makes no sense in this scene.
        """

    @classmethod
    def from_option(cls, value: Any, **further: Any) -> Query:
        """The query that a command-line option of this kind asks, with the kind's further options."""
        return cls(value, **further)

    def ignored(self, scene: Scene) -> str:
        """What of the question made no difference to the answer, as a line to show; empty for nothing."""
        return ""
