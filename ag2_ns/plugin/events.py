"""Event files of TensorBoard, written beside training.

For a picture nerfstudio halts training while it is compressed, and TensorBoard adds up its checksum byte by byte in
Python, in a thread that keeps the interpreter's lock: together a third of a second for two pictures of 640 x 480.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import nerfstudio.configs.base_config  # noqa: F401  # before the writer, which imports it in a circle
from nerfstudio.utils import writer


def sum_up_quickly() -> None:
    """Let TensorBoard take checksums by a compiled loop, which gives the same ones."""
    from tensorboard.summary.writer import record_writer

    from ag2_ns.ops.checksum import masked_crc32c

    record_writer.masked_crc32c = masked_crc32c


class PictureWriter:
    """Takes the pictures out of what nerfstudio is about to write, and writes them in a thread of its own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ag2-pictures")
        self._last: Future | None = None
        self._quick = False

    def take(self) -> None:
        """Take what waits for TensorBoard alone; other writers want their events in order.

        Raises:
            OSError: a picture before could not be written.
        """
        writers = [each for each in writer.EVENT_WRITERS if not isinstance(each, writer.LocalWriter)]
        stored, picture = writer.EVENT_STORAGE, writer.EventType.IMAGE
        events = [event for event in stored if event["write_type"] is picture]
        if not events or not all(isinstance(each, writer.TensorboardWriter) for each in writers):
            return
        self.wait()
        stored[:] = [event for event in stored if event["write_type"] is not picture]
        self._last = self._pool.submit(self._write, writers, events)

    def _write(self, writers: Sequence[writer.TensorboardWriter], events: Sequence[dict[str, Any]]) -> None:
        if not self._quick:
            sum_up_quickly()
            self._quick = True
        for event in events:
            for each in writers:
                each.write_image(event["name"], event["event"], event["step"])

    def wait(self) -> None:
        """Wait until all is written."""
        if self._last is not None:
            self._last.result()
            self._last = None
