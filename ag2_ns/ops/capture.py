"""Launches into a CUDA graph, so that a recording that fails leaves torch as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch


def capture(work: Callable[[], Any], stream: torch.cuda.Stream, pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Record what `work` launches, and what it returns.

    By hand, since torch's context empties the allocator's cache, which takes long. Other threads may go on allocating.

    Args:
        work: must not wait for the device.
        stream: where it is recorded; the same one for all graphs of a pool.
        pool: see `MemoryPool`.

    Raises:
        RuntimeError: it cannot be recorded.
    """
    graph, device = torch.cuda.CUDAGraph(), torch.cuda.current_device()
    pool = torch.cuda.graph_pool_handle() if pool is None else pool
    torch.cuda.synchronize()
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                found = work()
            finally:
                graph.capture_end()
    except BaseException:
        torch.cuda.synchronize()
        # Where a recording breaks off, allocator and generator go on believing that it lasts; a copy of the latter
        # does not.
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device, pool)
        generator = torch.cuda.default_generators[device]
        generator.graphsafe_set_state(generator.clone_state())
        raise
    return graph, found


class MemoryPool:
    """Memory that recordings share one after the other: torch takes none into a pool whose graphs are all gone.

    A graph of one launch, which is never played, keeps it. What a recording that is gone had used is used again.
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.handle = torch.cuda.graph_pool_handle()
        one = torch.zeros(1, device="cuda")
        self._keeper, _ = capture(lambda: one.add_(0), self.stream, self.handle)
