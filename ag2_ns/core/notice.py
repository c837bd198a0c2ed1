"""What a person at a terminal should know: notices of one line, and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def notice(line: str, style: str | None = "yellow") -> None:
    """Print a line in a colour, as it is: rich would take the [a] of a path for a style and :key: for a picture."""
    from rich.console import Console

    Console().print(line, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def view_progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A progress bar over views; yields the function to call with the number done."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
