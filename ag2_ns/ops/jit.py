"""How loops over arrays are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(function: Callable | None = None, **options: Any) -> Callable:
    """`numba.njit` without the interpreter lock, cached on disk where any cache directory can be written.

    Args:
        function: to decorate; leave it out to give options: `@jit(fastmath=True)`.
        options: of `numba.njit`; division by zero gives infinity as in numpy unless `error_model="python"`.
    """
    if function is None:
        return lambda decorated: jit(decorated, **options)
    options = {"nogil": True, "error_model": "numpy"} | options
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package, the user's cache nor NUMBA_CACHE_DIR is writable
        return njit(**options)(function)
