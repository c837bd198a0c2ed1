"""Work that must hold up neither the viewer's messages nor its pictures, one after the other in the background."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class Lane:
    """Runs jobs in the order they come, in a thread that lives only while there are any.

    Args:
        name: of the thread.
        failed: called, in that thread, with what a job raised.
        latest_only: a job that has not begun gives way to the next one (for sliders and typing).
    """

    def __init__(self, name: str, failed: Callable[[BaseException], None], latest_only: bool = False) -> None:
        self.name, self.failed, self.latest_only = name, failed, latest_only
        self._jobs: deque[tuple[float, Job]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        LANES.add(self)

    def submit(self, job: Job, delay: float = 0.0) -> None:
        """Run a job soon, or after `delay` seconds."""
        with self._changed:
            if self.latest_only:
                self._jobs.clear()
            self._jobs.append((time.monotonic() + delay, job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"ag2-{self.name}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float = 30.0) -> bool:
        """Wait until nothing is left to do; whether that came about in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, seconds)

    def stop(self, seconds: float) -> None:
        """Forget what has not begun, and wait for what has."""
        with self._changed:
            self._jobs.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _next(self) -> Job | None:
        with self._changed:
            while self._jobs:
                left = self._jobs[0][0] - time.monotonic()
                if left <= 0:
                    return self._jobs.popleft()[1]
                self._changed.wait(left)
            self._thread = None
            self._changed.notify_all()
            return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException as error:  # the thread has nobody above it
                self.failed(error)


LANES: weakref.WeakSet[Lane] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # The interpreter aborts the process where it meets a waiting thread on its way out.
    end = time.monotonic() + 1.0
    for lane in list(LANES):
        lane.stop(max(end - time.monotonic(), 0.0))
