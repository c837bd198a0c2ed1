from __future__ import annotations

import os
import time

import pytest
from chores import Chores

from ag2_ns.core.errors import UserError
from ag2_ns.ops.processes import Workers


@pytest.fixture(scope="module")
def workers():
    with Workers(2, Chores()) as found:
        yield found


def test_tasks_are_done_elsewhere_and_only_so_many_are_at_hand(workers):
    asked, done = [], []

    def tasks():
        for k in range(20):
            asked.append(k)
            assert len(asked) - len(done) <= 2 + 1 + 1  # one with each worker, one at hand, this one
            yield k, "square", (k,)

    for tag, result in workers.run(tasks()):
        assert result == tag * tag
        done.append(tag)
    assert sorted(done) == list(range(20)) and list(workers.run(())) == []
    pids = {pid for _, (pid, _) in workers.run((k, "who", ()) for k in range(6))}
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    "task, error, words",
    [
        ("refuse", UserError, r"that\.png: broken; mend it"),
        ("stumble", RuntimeError, "KeyError: 'gone'"),
        ("die", UserError, "fewer --workers"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_said(task, error, words):
    with pytest.raises(error, match=words), Workers(1, Chores()) as workers:
        list(workers.run([(0, "square", (2,)), (1, task, ())]))


@pytest.mark.slow
def test_a_task_that_takes_too_long_is_dropped_and_cleans_up(tmp_path):
    with pytest.raises(KeyboardInterrupt), Workers(2, Chores()) as workers:

        def tasks():
            yield 0, "dawdle", (tmp_path / "note",)
            yield 1, "square", (3,)
            time.sleep(0.5)
            raise KeyboardInterrupt

        list(workers.run(tasks()))
    assert (tmp_path / "note").read_text() == "cleaned up"
