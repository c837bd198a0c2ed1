"""Language of neighbours made alike: over the nearest centres as COS3D does, or along an anchor graph."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.ops.neighbours import nearest

NEAREST = 10
"""Centres whose language is averaged, the own one included (published)."""

CHUNK = 10_000
"""Rows at a time, as the published code takes them."""


def smooth_nearest(
    language: Float[Tensor, "U D"], xyz: Float[Tensor, "U 3"], neighbours: int = NEAREST, *, in_place: bool = False
) -> Float[Tensor, "U D"]:
    """Mean over the nearest centres, itself included, of unit length again.

    Args:
        language: half or single precision.
        xyz: centres.
        neighbours: how many.
        in_place: later rows read what earlier rows became, chunk by chunk, as in the published code; then the answer
            depends on the order of the Gaussians.
    """
    if len(xyz) == 0:
        return language
    index = nearest(xyz, xyz, min(neighbours, len(xyz)))[1]
    source = language.clone()
    out = source if in_place else torch.empty_like(source)
    for start in range(0, len(xyz), CHUNK):
        rows = slice(start, start + CHUNK)
        out[rows] = normalize(source[index[rows]].float().mean(1), dim=1).to(source.dtype)
    return out


def smooth_graph(
    language: Float[Tensor, "A D"], edges: Int[Tensor, "2 E"], weight: Float[Tensor, " E"] | None = None
) -> Float[Tensor, "A D"]:
    """Mean over the neighbours in a graph and itself, of unit length again.

    Args:
        language: half or single precision.
        edges: undirected, each once.
        weight: of each edge, 0 to 1; an anchor's own counts 1.
    """
    out = language.float().clone()
    weight = torch.ones(edges.shape[1], device=out.device) if weight is None else weight
    for start in range(0, edges.shape[1], 1 << 20):  # bounds the copies of the rows
        i, j = edges[:, start : start + (1 << 20)]
        w = weight[start : start + (1 << 20), None]
        out.index_add_(0, i, language[j].float() * w).index_add_(0, j, language[i].float() * w)
    return normalize(out, dim=1).to(language.dtype)
