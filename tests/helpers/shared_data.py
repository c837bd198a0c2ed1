"""Real data that lies beside the repository and is read in place; tests skip where it is absent."""

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """A file or folder of the shared data."""
    root = Path(os.environ.get("AG2_SHARED_DATA", Path(__file__).parents[3] / "../shared/data"))
    path = root / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path
