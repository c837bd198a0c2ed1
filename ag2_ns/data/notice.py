"""What users should know and no error: one line each."""

from __future__ import annotations

from nerfstudio.utils.rich_utils import CONSOLE


def notice(line: str, style: str | None = "yellow") -> None:
    """Print a line in a colour, as it is: rich would take the [a] of a path for a style and :key: for a picture."""
    CONSOLE.print(line, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)
