"""Launches into a CUDA graph, so that a recording that fails leaves torch as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_BROKEN: list[tuple] = []
"""Recordings that broke off: the allocator goes on asking them. Their pools take no others."""


def capture(work: Callable[[], Any], stream: torch.cuda.Stream, pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Record what `work` launches, and what it returns.

    By hand, since torch's context empties the allocator's cache, which takes long. Other threads may go on allocating.

    Args:
        work: must not wait for the device.
        stream: where it is recorded; the same one for all graphs of a pool.
        pool: see `MemoryPool`; one that a recording fails in takes no others.

    Raises:
        RuntimeError: it cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
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
        _BROKEN.append((graph, pool))
        # The generator goes on believing that it is recorded; a copy of it does not.
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
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
