"""What an earlier export left in a folder, so that a new one does not stand among the pieces of another."""

from __future__ import annotations

import json
from pathlib import Path


def earlier_files(labels: Path) -> list[Path]:
    """The files that an earlier export wrote beside its labels.json, and that nobody has changed since.

    Args:
        labels: its labels.json, which lists them and was written last; nothing is known without it.
    """
    try:
        names = json.loads(labels.read_text(encoding="utf-8"))["files"]
        written = labels.stat().st_mtime_ns
        paths = [labels.parent / name for name in names if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [p for p in paths if p.suffix in (".ply", ".glb") and p.is_file() and p.stat().st_mtime_ns <= written]
