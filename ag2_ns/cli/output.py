"""What the commands print: texts as they are, and commands as a shell takes them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def console(width: int | None = None) -> Console:
    """A console that prints paths and labels as they are: rich would take [a] for a style and :key: for a picture."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


def require_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be written, before the work that is to be written there is done.

    Raises:
        UserError: it lies in a file, or in a folder that is not ours to write in.
    """
    there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
    if there is None or not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{folder}: cannot be written; name another folder")


def command_line(*words: str | os.PathLike[str]) -> str:
    """A command to copy into a shell: words with blanks or quotes are quoted."""
    return shlex.join(os.fspath(word) for word in words)
