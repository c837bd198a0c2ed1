"""A job done by several processes, none of which is forked from one that has threads or a CUDA context.

Workers come from a server that is started empty, loads what they need once, and forks. Each has one task at a time, so
memory is bound by their number. Ctrl-C reaches the parent alone; workers finish the task in hand or, where that takes
longer than `PATIENCE`, are told to drop it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, forkserver, get_all_start_methods, get_context
from types import ModuleType
from typing import Any

from ag2_ns.core.errors import UserError

PATIENCE = 1.0
"""Seconds that workers get to finish after a failure or Ctrl-C."""

START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"

Task = tuple[Any, str, tuple]
"""A tag that comes back with the result, a method of the job, and its arguments."""


def prepare_server(module: str) -> None:
    """Start the server now: it imports `module`, and with that what the workers' jobs need, while others work."""
    if START == "forkserver":
        get_context(START).set_forkserver_preload([module])
        forkserver.ensure_running()


class Workers:
    """`with Workers(4, job) as workers: for tag, result in workers.run(tasks): …`

    Args:
        count: processes.
        job: pickled; its methods do the tasks in the workers.
    """

    def __init__(self, count: int, job: object) -> None:
        context = get_context(START)
        self._processes, self._free = [], []
        with _without_main():
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, job), daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._free.append(ours)
        self._all = list(self._free)

    def __enter__(self) -> Workers:
        return self

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Any, Any]]:
        """Do tasks as workers come free; yields (tag, result) in the order in which they are done.

        Raises:
            UserError: as the job does, or a worker ended.
        """
        busy: dict[connection.Connection, Any] = {}
        tasks = iter(tasks)
        coming = next(tasks, None)  # one is at hand when a worker comes free
        while coming is not None or busy:
            if coming is not None and self._free:
                tag, *call = coming
                to = self._free.pop()
                self._talk(to.send, call)
                busy[to], coming = tag, next(tasks, None)
                continue
            for each in connection.wait(list(busy)):
                failure, result = self._talk(each.recv)
                if failure is not None:
                    raise failure
                self._free.append(each)
                yield busy.pop(each), result

    def _talk(self, how: Callable, *what: object) -> Any:
        try:
            return how(*what)
        except (EOFError, OSError):
            raise UserError(
                "a worker process ended (out of memory?); what is done is kept: run it again with fewer --workers"
            ) from None

    def __exit__(self, *_: object) -> None:
        for each in self._all:
            each.close()  # an idle worker ends, a busy one when its task is done
        deadline = time.monotonic() + PATIENCE
        for process in self._processes:
            process.join(max(deadline - time.monotonic(), 0))
        late = [process for process in self._processes if process.is_alive()]
        for process in late:
            process.terminate()  # leaves no half-written file, see `_serve`
        deadline = time.monotonic() + PATIENCE / 2
        for process in late:
            process.join(max(deadline - time.monotonic(), 0))
            process.kill()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(pipe: connection.Connection, job: object) -> None:
    """What a worker does: tasks from the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _drop)
    one_thread()
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = None, getattr(job, name)(*arguments)
        except UserError as error:
            answer = UserError(str(error)), None
        except Exception:
            answer = RuntimeError(f"in a worker process:\n{traceback.format_exc()}"), None
        try:
            pipe.send(answer)
        except OSError:
            return


def _drop(*_: object) -> None:
    raise SystemExit(0)


def one_thread() -> None:
    """Keep libraries from starting threads of their own: every core has its process."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(1)
    if (numba := sys.modules.get("numba")) is not None:
        numba.set_num_threads(1)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that are started import the program's main script again, which may be long; jobs are not from there."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
