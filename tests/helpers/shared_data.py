"""Real data that is read where it lies and never committed: tests that need it skip where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """A folder of the shared data, found beside the checkout or through AG2_SHARED_DATA."""
    named = os.environ.get("AG2_SHARED_DATA")
    here = Path(__file__).resolve()
    places = [Path(named)] if named else [p / "shared" / "data" for p in here.parents]
    for place in places:
        if (place / name).is_dir():
            return place / name
    pytest.skip(f"no {name} here (set AG2_SHARED_DATA)")
