"""Whether a kernel of ours does on this machine what its plain form does, tried once before it is used."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ag2_ns.core.notice import notice

_FOUND: dict[str, bool] = {}


def holds(name: str, both: Callable[[], tuple[list[Tensor], list[Tensor]]]) -> bool:
    """Whether the kernel's results are the plain form's, to a thousandth of the largest number of each."""
    if name not in _FOUND:
        try:
            with torch.no_grad():
                pairs = [(a.double(), b.double()) for a, b in zip(*both(), strict=True)]
                _FOUND[name] = all(float((a - b).abs().max()) <= 1e-3 * float(b.abs().max()) + 1e-7 for a, b in pairs)
        except Exception as error:  # whatever a compiler raises
            notice(f"the kernel for {name} fails here ({type(error).__name__}: {str(error)[:200]})")
            _FOUND[name] = False
        if not _FOUND[name]:
            notice(f"the kernel for {name} is not used: its results are not those of the plain form")
    return _FOUND[name]
