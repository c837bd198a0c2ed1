"""How this room's loops are compiled."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit


def jit(function: Callable) -> Callable:
    """`numba.njit` without the interpreter lock, cached on disk where any cache directory can be written."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package, the user's cache nor NUMBA_CACHE_DIR is writable
        return njit(**options)(function)
