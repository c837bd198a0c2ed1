"""Jobs for worker processes, importable in them."""

from __future__ import annotations

import os
import signal
import time

from ag2_ns.core.errors import UserError


class Chores:
    """Things that workers do and that go wrong in them."""

    def square(self, x: int) -> int:
        return x * x

    def who(self) -> tuple[int, str]:
        return os.getpid(), __name__

    def refuse(self) -> None:
        raise UserError("that.png: broken; mend it")

    def stumble(self) -> None:
        raise KeyError("gone")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dawdle(self, path) -> None:
        try:
            time.sleep(60)
        finally:
            path.write_text("cleaned up")
