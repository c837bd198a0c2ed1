"""Where Triton's kernels run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

ANY_COUNT = {"do_not_specialize": ["count"], "do_not_specialize_on_alignment": ["count"]}
"""For `triton.jit`: it would compile anew for each `count` that is a multiple of 16, which changes all the time."""


def on(device: torch.device) -> AbstractContextManager:
    """Launch on this device; Triton's interpreter (TRITON_INTERPRET=1) runs the same kernels on the CPU, for tests."""
    elsewhere = device.type == "cuda" and device.index not in (None, torch.cuda.current_device())
    return torch.cuda.device(device) if elsewhere else nullcontext()
