from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch

from ag2_ns.ops import threads
from ag2_ns.ops.threads import for_ranges, in_background


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("minimum", [1, 100])
def test_every_item_is_visited_once(three_threads, count, minimum):
    visits = np.zeros(count, int)
    sizes = []

    def kernel(start, stop, visits):
        visits[start:stop] += 1
        sizes.append(stop - start)

    for_ranges(kernel, count, visits, minimum=minimum)
    assert (visits == 1).all()
    assert len(sizes) <= max(3 * threads.CHUNKS_PER_THREAD, 1)


def test_ranges_run_on_several_threads(three_threads):
    barrier = threading.Barrier(2, timeout=30)  # passes only if two ranges are under way at once

    def kernel(start, stop):
        barrier.wait()

    for_ranges(kernel, 2)


def test_an_exception_reaches_the_caller(three_threads):
    def kernel(start, stop):
        raise ValueError(f"range {start}")

    with pytest.raises(ValueError, match="range 0"):
        for_ranges(kernel, 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_in_a_forked_process_after_use_in_its_parent(three_threads):
    def kernel(start, stop, out):
        out[start:stop] = 1

    for_ranges(kernel, 100, np.zeros(100))
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        out = np.zeros(100)
        for_ranges(kernel, 100, out)
        os.write(write_end, b"y" if out.all() else b"n")
        os._exit(0)
    os.close(write_end)
    answer = os.read(read_end, 1)
    os.waitpid(child, 0)
    os.close(read_end)
    assert answer == b"y"


def test_a_job_beside_is_finished_in_the_end():
    inside, done = threading.Event(), []

    def job():
        assert inside.wait(30)
        done.append(True)

    with in_background(job):
        inside.set()
    assert done


def test_an_error_beside_is_raised():
    def job():
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"), in_background(job):
        pass
    with pytest.raises(KeyError), in_background(job):  # what happened inside comes first
        raise KeyError("inside")
