"""Picks the rasteriser backend."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.rendering.base import Rasterizer

RasterizerName = Literal["auto", "gsplat", "cpu"]


def choose_rasterizer(name: RasterizerName, device: torch.device | str) -> Rasterizer:
    """The backend called `name` for tensors on `device`; "auto" is gsplat on a CUDA device and cpu otherwise.

    Raises:
        UserError: for an unknown name, or for a backend that cannot run on `device`.
    """
    kind = torch.device(device).type
    if name not in get_args(RasterizerName):
        raise UserError(f"Unknown rasteriser '{name}': choose one of {', '.join(get_args(RasterizerName))}.")
    if name == "gsplat" or (name == "auto" and kind == "cuda"):
        if kind != "cuda" or not torch.cuda.is_available():
            why = "PyTorch finds no CUDA device" if not torch.cuda.is_available() else f"the device is '{kind}'"
            raise UserError(f"The rasteriser 'gsplat' needs a CUDA device, but {why}: choose 'cpu' or 'auto'.")
        from ag2_ns.rendering.gsplat import GsplatRasterizer

        return GsplatRasterizer()
    if kind != "cpu":
        raise UserError(
            f"The rasteriser 'cpu' cannot run on '{kind}': choose 'auto', or the CPU as device "
            "(--machine.device-type cpu)."
        )
    from ag2_ns.rendering.cpu import CpuRasterizer

    return CpuRasterizer()
