"""Time to make table-top scenes, compilation excluded: python examples/benchmarks/tabletop.py [--views 80]"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ag2_ns.synthetic.tabletop.generate import generate

BAR = {(14, 640, 480): 120.0}
"""Seconds allowed for 80 views on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=80)
    views = parser.parse_args().views
    table = Table("objects", "image", "views", "wall s", "CPU s", "folder MB", "bar s", title=f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "warm", objects=2, views=2, width=32, height=32, progress=False)
        for objects, width, height in ((8, 160, 120), (14, 640, 480), (20, 640, 480), (40, 640, 480)):
            out, wall, busy = Path(folder) / "scene", time.perf_counter(), time.process_time()
            generate(out, objects=objects, views=views, width=width, height=height, overwrite=True)
            wall, busy = time.perf_counter() - wall, time.process_time() - busy
            size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 2**20
            bar = BAR.get((objects, width, height))
            limit = "" if bar is None or views != 80 else f"{bar:.0f} ({'met' if wall <= bar else 'missed'})"
            row = (objects, f"{width}x{height}", views, f"{wall:.1f}", f"{busy:.1f}", f"{size:.0f}", limit)
            table.add_row(*map(str, row))
    Console().print(table)


if __name__ == "__main__":
    main()
