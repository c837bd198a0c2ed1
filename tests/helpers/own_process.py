"""Scripts in a process of their own: Triton reads when it is imported whether its kernels are interpreted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_script(script: str, interpreted: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python code on this package, by default with Triton's kernels interpreted on the CPU."""
    environment = os.environ | {"TRITON_INTERPRET": str(int(interpreted)), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=240)
