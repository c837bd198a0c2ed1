"""What the commands print: texts as they are, and commands as a shell takes them."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(width: int | None = None) -> Console:
    """A console that prints paths and labels as they are: rich would take [a] for a style and :key: for a picture."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


def command_line(*words: str | os.PathLike[str]) -> str:
    """A command to copy into a shell: words with blanks or quotes are quoted."""
    return shlex.join(os.fspath(word) for word in words)
