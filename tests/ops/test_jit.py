"""Compiling loops."""

import numpy as np

from ag2_ns.ops import jit as module
from ag2_ns.ops.jit import jit


def test_kernels_compile_without_any_cache_directory(monkeypatch):
    def njit_without_locator(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: ("compiled", options, function)

    monkeypatch.setattr(module, "njit", njit_without_locator)
    kind, options, function = jit(len)
    assert (kind, function) == ("compiled", len) and options["nogil"] and "cache" not in options
    assert jit(fastmath=True)(len)[1]["fastmath"] is True


def test_division_by_zero_is_that_of_numpy_unless_told_otherwise():
    def inverse(x):
        return 1.0 / x

    assert np.isinf(jit(inverse)(0.0))
