"""Make a folder anew beside the one in use, and exchange the two once the new one is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ag2_ns.errors import UserError


def aside(place: Path) -> Path:
    """Where the folder that will replace `place` grows: `renewed/` beside it."""
    return place.parent / "renewed" / place.name


def put_in_place(place: Path) -> None:
    """Replace `place` by the folder `aside(place)`.

    Of several processes that do so at once one succeeds, and the others find nothing left to do.

    Raises:
        UserError: a folder cannot be renamed; both are kept.
    """
    new = aside(place)
    claimed, old = (place.parent / f".{name}-{place.name}-{os.getpid()}" for name in ("new", "old"))
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
    if not any(new.parent.iterdir()):
        new.parent.rmdir()
