"""Superpoints: small pieces of a cloud that belong to one thing, by shape alone, and names for them.

For clouds without pictures (LiDAR-only): points with features, distilled or given, are named piece by piece, so that a
point's noise is outvoted by its neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

NEIGHBOURS = 10
"""Nearest points that say how the surface lies at a point."""

ANGLE = 20.0
"""Degrees between the normals of neighbours above which a surface ends."""

CELL = 0.6
"""Metres: pieces are cut into cells of this edge, so that none spans things whose surfaces run into each other."""


def normals(xyz: Float[Tensor, "N 3"], neighbours: int = NEIGHBOURS) -> tuple[Float[Tensor, "N 3"], Int[Tensor, "N K"]]:
    """Unit normals (either way round) from the spread of each point's neighbours, and the neighbours."""
    k = min(neighbours, len(xyz) - 1)
    near = torch.from_numpy(cKDTree(xyz.numpy()).query(xyz.numpy(), k + 1, workers=-1)[1].reshape(len(xyz), -1))
    local = xyz[near] - xyz[near].mean(1, keepdim=True)
    cov = torch.einsum("nki,nkj->nij", local, local).double()
    return torch.linalg.eigh(cov)[1][..., 0].to(xyz), near[:, 1:]


def superpoints(
    xyz: Float[Tensor, "N 3"], *, cell: float = CELL, angle: float = ANGLE, neighbours: int = NEIGHBOURS
) -> Int[Tensor, " N"]:
    """The piece of each point: neighbours in one cell whose surfaces agree.

    Args:
        xyz: metres.
        cell: edge of the cells.
        angle: degrees.
        neighbours: nearest points that a point may be joined with.
    """
    if len(xyz) < 3:
        return torch.arange(len(xyz))
    normal, near = normals(xyz.cpu().float(), neighbours)
    row = torch.arange(len(xyz))[:, None].expand_as(near)
    place = torch.floor(xyz.cpu() / cell).long()
    joined = (place[row] == place[near]).all(-1)
    flat = (normal[row] * normal[near]).sum(-1).abs() > np.cos(np.deg2rad(angle))
    joined &= flat
    edges = (row[joined].numpy(), near[joined].numpy())
    graph = csr_matrix((np.ones(len(edges[0]), bool), edges), shape=(len(xyz), len(xyz)))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def name_superpoints(
    group: Int[Tensor, " N"],
    feature: Float[Tensor, "N D"],
    texts: Float[Tensor, "T D"],
    links: Int[Tensor, "N K"] | None = None,
) -> Int[Tensor, " G"]:
    """The nearest word of each piece, by the mean of its points' features; -1 for a piece without any.

    Args:
        group: the piece of each point.
        feature: of the points; rows of zeros say nothing.
        texts: of the words.
        links: neighbours of points, which speak for a piece that has few points of its own.
    """
    unit = torch.nn.functional.normalize(feature.float(), dim=1)
    if links is not None:
        unit = unit + unit[links].mean(1)
    total = unit.new_zeros(int(group.max()) + 1, unit.shape[1]).index_add_(0, group, unit)
    score = total @ torch.nn.functional.normalize(texts.float(), dim=1).T
    return torch.where((total != 0).any(1), score.argmax(1), -1)
