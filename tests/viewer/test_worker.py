import threading
import time

from ag2_ns.viewer.worker import Lane


def test_jobs_run_in_order_and_errors_are_told():
    done, failed = [], []
    lane = Lane("t", failed.append)
    for k in range(5):
        lane.submit(lambda k=k: done.append(k))
    lane.submit(lambda: 1 / 0)
    lane.submit(lambda: done.append("after"))
    assert lane.wait(5)
    assert done == [0, 1, 2, 3, 4, "after"]
    assert [type(e) for e in failed] == [ZeroDivisionError]


def test_only_the_latest_job_counts():
    done, gate = [], threading.Event()
    lane = Lane("t", done.append, latest_only=True)
    lane.submit(gate.wait)
    time.sleep(0.05)
    for k in range(5):
        lane.submit(lambda k=k: done.append(k))
    gate.set()
    assert lane.wait(5)
    assert done == [4]


def test_a_delayed_job_gives_way_to_a_later_one():
    done = []
    lane = Lane("t", done.append, latest_only=True)
    lane.submit(lambda: done.append("typing"), delay=5)
    lane.submit(lambda: done.append("button"))
    assert lane.wait(2)
    assert done == ["button"]


def test_stopping_forgets_what_has_not_begun():
    done = []
    lane = Lane("test", done.append)
    lane.submit(lambda: done.append("late"), delay=60.0)
    lane.stop(10.0)
    assert lane.wait(0.0) and done == []
    lane.submit(lambda: done.append("next"))
    assert lane.wait(10.0) and done == ["next"]
