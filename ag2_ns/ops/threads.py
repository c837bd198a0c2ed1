"""Runs a compiled kernel over ranges of items on several threads.

The kernels release the interpreter lock, so plain threads are enough. Unlike numba's own parallel layers this may be
called from several Python threads at once (training and the viewer) and in forked processes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from torch import Tensor

CHUNKS_PER_THREAD = 8
"""Ranges handed out per thread: enough to even out tiles of different cost."""

_lock = Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="ag2-raster"), size
        return _pool


@contextmanager
def in_background(job: Callable[[], object]) -> Iterator[None]:
    """Does a job beside what is done inside, and waits for it at the end; raises what it raises."""
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(job)
        yield
        beside.result()


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor of the CPU as compiled loops take it: contiguous, and outside of the autograd graph."""
    return tensor.detach().contiguous().numpy()


def for_ranges(kernel: Callable[..., None], count: int, *args: object, minimum: int = 1) -> None:
    """Call `kernel(start, stop, *args)` for ranges that cover `range(count)`, concurrently.

    Args:
        kernel: releases the interpreter lock and writes only what belongs to its range.
        count: number of items.
        args: passed on to every call.
        minimum: least number of items worth a range of its own.
    """
    if count <= 0:
        return
    threads = torch.get_num_threads()
    chunks = min(threads * CHUNKS_PER_THREAD, -(-count // minimum))
    if threads == 1 or chunks == 1:
        kernel(0, count, *args)
        return
    begin = [count * i // chunks for i in range(chunks + 1)]
    next_chunk = itertools.count()

    def work() -> None:
        while (chunk := next(next_chunk)) < chunks:
            kernel(begin[chunk], begin[chunk + 1], *args)

    pool, helpers = _executor(threads), min(threads, chunks) - 1
    futures = [pool.submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        for future in futures:
            if not future.cancel():  # it has begun
                future.result()
