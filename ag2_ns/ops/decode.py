"""Children of anchors to Gaussians and their colours in one pass, and back in another.

In single steps under autograd that is some thirty operations with copies of all coefficients in between: half of what
the CPU launches in a training step on a GPU. `ag2_ns.splat.anchors.decode` and `ag2_ns.ops.sh.sh_colours` say what is
computed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.ops import decode_kernels
from ag2_ns.ops.threads import as_array, for_ranges


def decode_seen(
    xyz: Float[Tensor, "A 3"],
    radius: Float[Tensor, "A 1"],
    anchor: Int[Tensor, " N"],
    offset: Float[Tensor, "N 3"],
    log_scale: Float[Tensor, "N 3"],
    logit: Float[Tensor, "N 1"],
    dc: Float[Tensor, "N 3"],
    rest: Float[Tensor, "N R 3"],
    eye: Float[Tensor, " 3"],
    degree: int,
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"], Float[Tensor, " N"], Float[Tensor, "N 3"]]:
    """Centres, scales, opacities and colours of children, differentiable in all that is trainable.

    Args:
        xyz: anchors' centres.
        radius: their radii.
        anchor: each child's anchor, int64.
        offset: in radii.
        log_scale: logarithms of the scales.
        logit: of the opacities.
        dc: constant band.
        rest: the other bands.
        eye: camera centre, outside of the autograd graph.
        degree: highest band to use, as far as there are so many.

    Returns:
        Means, scales, opacities, and colours seen from `eye`.
    """
    return _Decode.apply(xyz, radius, anchor, offset, log_scale, logit, dc, rest, eye, degree)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, xyz, radius, anchor, offset, log_scale, logit, dc, rest, eye, degree):
        bands = min((degree + 1) ** 2 - 1, rest.shape[1])
        means, scales, rgb = (torch.empty_like(offset) for _ in range(3))
        out = means, scales, offset.new_empty(len(anchor)), rgb
        given = xyz, radius, anchor, offset, log_scale, logit, dc, rest, eye
        if offset.is_cuda:
            from ag2_ns.ops import decode_triton

            decode_triton.decode(given, bands, out)
        else:
            arrays = (*map(as_array, given), bands, *map(as_array, out))
            for_ranges(decode_kernels.decode, len(anchor), *arrays, minimum=4096)
        ctx.save_for_backward(radius, anchor, rest, eye, *out)
        ctx.bands = bands
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        saved = ctx.saved_tensors
        rest, means = saved[2], saved[4]
        d_offset, d_log_scale, d_dc = (torch.empty_like(means) for _ in range(3))
        # Bands that are not in use yet get no gradient.
        d_rest = torch.empty_like(rest) if ctx.bands == rest.shape[1] else torch.zeros_like(rest)
        out = d_offset, d_log_scale, means.new_empty(len(means), 1), d_dc, d_rest
        gradients = tuple(g.contiguous() for g in gradients)
        if means.is_cuda:
            from ag2_ns.ops import decode_triton

            decode_triton.decode_backward(saved, ctx.bands, gradients, out)
        else:
            arrays = (*map(as_array, saved[:4]), ctx.bands, *map(as_array, (*saved[4:], *gradients, *out)))
            for_ranges(decode_kernels.decode_backward, len(means), *arrays, minimum=4096)
        return None, None, None, *out, None, None
