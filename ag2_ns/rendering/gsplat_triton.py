"""What the CUDA backend does beside gsplat's kernels, in one of its own."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ag2_ns.ops.launch import ANY_COUNT, on

BLOCK = 512
"""Radii of one program."""


@triton.jit(**ANY_COUNT)
def _reach(radii, opacities, out, count, axes, sigmas, least, BLOCK: tl.constexpr):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < count
    ratio = tl.load(opacities + n // axes, mask=ok, other=1.0) / least
    squared = tl.minimum(2.0 * tl.log(tl.maximum(ratio, 1.0)), sigmas * sigmas)
    radius = tl.load(radii + n, mask=ok, other=0) * (tl.sqrt(squared) / sigmas)
    tl.store(out + n, tl.ceil(radius).to(tl.int32), mask=ok)


def reach(radii: Tensor, opacities: Tensor, sigmas: float, least: float) -> Tensor:
    """Radii within which Gaussians are above `least`.

    Args:
        radii: int32, of `sigmas` standard deviations, one or two for each Gaussian.
        opacities: of the Gaussians.
        sigmas: of the radii that are given; no other is larger.
        least: smallest opacity that counts.
    """
    out = torch.empty_like(radii)
    if count := out.numel():
        with on(out.device):
            _reach[(triton.cdiv(count, BLOCK),)](
                radii, opacities, out, count, count // len(opacities), sigmas, least, BLOCK=BLOCK
            )
    return out
