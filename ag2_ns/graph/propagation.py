"""Graph smoothness: features of neighbouring anchors that already agree are drawn together.

AG2aussian, section 2, graph: the bilateral Laplacian, normalised by weighted degrees.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from ag2_ns.graph.anchor_graph import AnchorGraph, weighted_degree

PIECE = 1 << 20
"""Edges handled at a time: bounds memory at about PIECE x F x 3 floats."""


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
    unit = normalize(feature, dim=1)
    i, j = graph.edges
    with torch.no_grad():
        weight = torch.cat([_squared(unit, part).mul_(-0.5 / tau**2).exp_() for part in graph.edges.split(PIECE, 1)])
        # An anchor whose weights all vanish in floating point has no say: its edges stay at 0 instead of 0 / 0.
        scale = weighted_degree(weight, graph).clamp_min_(torch.finfo(weight.dtype).tiny).rsqrt_()
        weight = weight.mul_(scale.index_select(0, i)).mul_(scale.index_select(0, j))
        if visible is not None:
            weight *= visible.index_select(0, i) | visible.index_select(0, j)
    return _Smoothness.apply(unit, graph.edges, weight)


def anchor_visibility(
    child_visible: Bool[Tensor, " N"], child_anchor: Int[Tensor, " N"], num_anchors: int
) -> Bool[Tensor, " A"]:
    """Whether any child of each anchor is visible."""
    out = torch.zeros(num_anchors, dtype=torch.bool, device=child_visible.device)
    out[child_anchor[child_visible]] = True
    return out


def _squared(unit: Tensor, edges: Tensor) -> Tensor:
    return (unit.index_select(0, edges[0]) - unit.index_select(0, edges[1])).square_().sum(1)


class _Smoothness(torch.autograd.Function):
    """Sum of weight * |f_i - f_j|^2 in pieces; keeps no per-edge features for the backward pass."""

    @staticmethod
    def forward(ctx, unit: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(unit, edges, weight)
        total = unit.new_zeros(())
        for part, w in zip(edges.split(PIECE, 1), weight.split(PIECE)):
            total += torch.dot(_squared(unit, part), w)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        unit, edges, weight = ctx.saved_tensors
        out = torch.zeros_like(unit)
        for part, w in zip(edges.split(PIECE, 1), weight.split(PIECE)):
            pull = unit.index_select(0, part[0]) - unit.index_select(0, part[1])
            pull *= (2 * grad * w)[:, None]
            out.index_add_(0, part[0], pull).index_add_(0, part[1], pull, alpha=-1)
        return out, None, None
