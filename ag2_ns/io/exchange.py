"""Make a folder anew beside the one in use, and exchange the two once the new one is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from ag2_ns.core.errors import UserError

NEW, OLD = "new", "old"
"""What the two folders are called, with a process's number, while they change places."""


def aside(place: Path) -> Path:
    """Where the folder that will replace `place` grows: `renewed/` beside it."""
    return place.parent / "renewed" / place.name


def mend(place: Path) -> None:
    """Finish, or take back, an exchange of `place` that was killed half way."""
    for name in (NEW, OLD):
        for left in place.parent.glob(f".{name}-{place.name}-*"):
            process = left.name.rpartition("-")[2]
            if not process.isdecimal() or (int(process) != os.getpid() and psutil.pid_exists(int(process))):
                continue  # of something else, or still at it
            if not place.exists():
                os.rename(left, place)
            elif name == NEW and not aside(place).exists():
                aside(place).parent.mkdir(exist_ok=True)
                os.rename(left, aside(place))
            else:
                shutil.rmtree(left, ignore_errors=True)


def put_in_place(place: Path) -> None:
    """Replace `place` by the folder `aside(place)`.

    Of several processes that do so at once one succeeds, and the others find nothing left to do.

    Raises:
        UserError: a folder cannot be renamed; both are kept.
    """
    new = aside(place)
    claimed, old = (place.parent / f".{name}-{place.name}-{os.getpid()}" for name in (NEW, OLD))
    try:
        os.rename(new, claimed)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{new}: cannot be renamed ({error.strerror}); make its folder writable") from error
    try:
        if place.exists():
            os.rename(place, old)
        os.rename(claimed, place)
    except OSError as error:
        if old.exists():
            os.rename(old, place)
        os.rename(claimed, new)
        raise UserError(f"{place}: cannot be replaced ({error.strerror}); make its folder writable") from error
    shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):  # it holds what replaces another folder
        new.parent.rmdir()
