"""Less work for Python's garbage collector, which after nerfstudio's imports has half a million objects to look at."""

from __future__ import annotations

import atexit
import gc

THRESHOLD = 10_000
"""New objects between two looks; Python's 700 take a quarter of the time of importing nerfstudio."""


def collect_less() -> None:
    """Look for garbage less often, and not when the program ends, which would take another second.

    What `atexit` runs is run as ever.
    """
    gc.set_threshold(THRESHOLD, *gc.get_threshold()[1:])
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
