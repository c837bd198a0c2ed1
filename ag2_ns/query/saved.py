"""A selection from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.io.selection_file import load_selection
from ag2_ns.query.query import Query
from ag2_ns.scene.scene import Scene


@dataclass(frozen=True)
class Saved(Query):
    """What `save_selection` wrote (`ag2 query --output-dir`)."""

    path: Path

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """The selection in the file.

        Raises:
            UserError: no such file, no selection, or one of another scene.
        """
        scene.require_index()
        found = load_selection(Path(self.path), scene.fingerprint, scene.device)
        return Answer(found, (Candidate(found.label, found.score, found.nodes),), found.reason)
