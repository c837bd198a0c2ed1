"""One step of Adam (Kingma and Ba 2015) over several tensors in one CUDA kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ag2_ns.ops.launch import on

BLOCK = 1024
"""Numbers of one program."""


@triton.jit
def _adam(
    parameters, gradients, firsts, seconds, steps, odd_counts, rates, beta1, beta2, rest1, rest2, log_beta1, log_beta2,
    eps, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    begin = 0
    for k in tl.static_range(len(parameters)):
        count = odd_counts[k] // 2
        end = begin + tl.cdiv(count, BLOCK)
        if (program >= begin) & (program < end):
            n = (program - begin).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
            ok = n < count
            gradient = tl.load(gradients[k] + n, mask=ok, other=0.0)
            first = tl.load(firsts[k] + n, mask=ok, other=0.0)
            second = tl.load(seconds[k] + n, mask=ok, other=0.0)
            first = beta1 * first + rest1 * gradient
            second = beta2 * second + rest2 * gradient * gradient
            # In double precision: 1 - beta2^t is a small difference of large numbers in the first steps.
            time = (tl.load(steps[k]) + 1.0).to(tl.float64)
            rate = (rates[k] / (1.0 - tl.exp(time * log_beta1))).to(tl.float32)
            share = tl.sqrt(1.0 - tl.exp(time * log_beta2)).to(tl.float32)
            old = tl.load(parameters[k] + n, mask=ok, other=0.0)
            tl.store(parameters[k] + n, old - rate * first / (tl.sqrt(second) / share + eps), mask=ok)
            tl.store(firsts[k] + n, first, mask=ok)
            tl.store(seconds[k] + n, second, mask=ok)
        begin = end


def adam(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    firsts: Sequence[Tensor],
    seconds: Sequence[Tensor],
    steps: Sequence[Tensor],
    rates: Sequence[float],
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Move contiguous float32 parameters and their moments one step on; `steps` (before this one) stay as they are.

    Args:
        parameters: to be trained, on one device.
        gradients: of the same sizes.
        firsts: running means of the gradients.
        seconds: running means of their squares.
        steps: how many were taken, one number each, on the device.
        rates: learning rates.
        betas: shares of the running means that stay.
        eps: added to roots of second moments.
    """
    counts = [p.numel() for p in parameters]
    programs = sum(triton.cdiv(count, BLOCK) for count in counts)
    if programs:
        # Triton compiles anew for numbers that are multiples of 16; the lengths of the parameters change all the time.
        odd = [2 * count + 1 for count in counts]
        lists = (tuple(x) for x in (parameters, gradients, firsts, seconds, steps, odd, map(float, rates)))
        with on(parameters[0].device):
            rests, logs = ((1 - b for b in betas), map(math.log, betas))
            _adam[(programs,)](*lists, *betas, *rests, *logs, eps, BLOCK=BLOCK)
