"""Graph smoothness: features of neighbouring anchors that already agree are drawn together.

AG2aussian, section 2, graph: the bilateral Laplacian, normalised by weighted degrees.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.grouping.anchor_graph import AnchorGraph

LENGTH_MIN = 1e-12
"""Features shorter than this are not stretched to length 1."""


def propagation_loss(
    feature: Float[Tensor, "A F"], graph: AnchorGraph, tau: float, visible: Bool[Tensor, " A"] | None = None
) -> Float[Tensor, ""]:
    """Sum over edges with a visible end of w_ij / sqrt(d_i d_j) |f_i - f_j|^2 over normalised features.

    w_ij = exp(-|f_i - f_j|^2 / (2 tau^2)) and the weighted degrees d (over all edges) take no gradient. Equal to
    trace(F^T L F) with L the Laplacian of the matrix D^-1/2 W D^-1/2 when everything is visible.

    Args:
        feature: anchor features, normalised here; the gradient flows through the normalisation.
        graph: the anchor graph (s = 2).
        tau: bandwidth of the weights, 0.1 for instances, 0.05 for finer parts.
        visible: anchors with a child in view; all where missing.

    Returns:
        The sum, not a mean: weight 0.01 in the published schedule.
    """
    if len(graph) == 0:
        return feature.sum() * 0
    return _Smoothness.apply(feature, graph.edges, tau, visible)


def anchor_visibility(
    child_visible: Bool[Tensor, " N"], child_anchor: Int[Tensor, " N"], num_anchors: int
) -> Bool[Tensor, " A"]:
    """Whether any child of each anchor is visible."""
    seen = torch.zeros(num_anchors, dtype=torch.int32, device=child_visible.device)
    return seen.index_add_(0, child_anchor, child_visible.int()) > 0


class _Smoothness(torch.autograd.Function):
    """The loss with its gradient by hand: edge differences are formed once, and few kernels are launched."""

    @staticmethod
    def forward(ctx, feature: Tensor, edges: Tensor, tau: float, visible: Tensor | None) -> Tensor:
        i, j = edges
        length = torch.linalg.vector_norm(feature, dim=1, keepdim=True).clamp_min_(LENGTH_MIN)
        unit = feature / length
        apart = unit.index_select(0, i)
        apart -= unit.index_select(0, j)
        squared = apart.square().sum(1)
        weight = (squared * (-0.5 / tau**2)).exp_()
        degree = weight.new_zeros(len(feature)).index_add_(0, i, weight).index_add_(0, j, weight)
        # An anchor whose weights all vanish in floating point has no say: its edges stay at 0 instead of 0 / 0.
        scale = degree.clamp_min_(torch.finfo(weight.dtype).tiny).rsqrt_()
        weight *= scale.index_select(0, i)
        weight *= scale.index_select(0, j)
        if visible is not None:
            weight *= visible.index_select(0, i).logical_or_(visible.index_select(0, j))
        ctx.save_for_backward(unit, length, edges, apart, weight)
        return (squared * weight).sum()  # not `torch.dot`: see `Graphed`

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        unit, length, (i, j), apart, weight = ctx.saved_tensors
        pull = apart * (weight * (2 * grad))[:, None]
        out = torch.zeros_like(unit).index_add_(0, i, pull).index_add_(0, j, pull, alpha=-1)
        out -= unit * (unit * out).sum(1, keepdim=True)  # through the normalisation
        return out / length, None, None, None
