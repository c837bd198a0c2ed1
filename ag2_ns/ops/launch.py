"""Where Triton's kernels run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def on(device: torch.device) -> AbstractContextManager:
    """Launch on this device; Triton's interpreter (TRITON_INTERPRET=1) runs the same kernels on the CPU, for tests."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
