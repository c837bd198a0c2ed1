"""Which device a command works on."""

from __future__ import annotations

from typing import Literal

from ag2_ns.core.errors import UserError


def choose_device(name: str) -> Literal["cuda", "cpu"]:
    """`name`, or for "auto" CUDA where torch sees it and the CPU elsewhere.

    Raises:
        UserError: CUDA is asked for and torch sees none.
    """
    import torch

    cuda = torch.cuda.is_available()
    if name.startswith("cuda") and not cuda:
        raise UserError(f"--device {name}: torch sees no CUDA device; leave --device out or take --device cpu")
    if name == "auto":
        return "cuda" if cuda else "cpu"
    return name  # type: ignore[return-value]
