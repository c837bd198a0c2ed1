"""Collecting less: what is registered to run at the end still runs, and nothing is looked through then."""

import subprocess
import sys

PROGRAM = """
import atexit, gc
from ag2_ns.core.garbage import THRESHOLD, collect_less
atexit.register(lambda: print("at the end", gc.get_freeze_count() > 1000))
collect_less()
collect_less()
print(gc.get_threshold()[0] == THRESHOLD, gc.isenabled(), gc.get_freeze_count())
"""


def test_nothing_is_looked_through_at_the_end_and_what_was_registered_runs():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["True True 0", "at the end True"], done.stderr
