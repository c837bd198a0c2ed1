"""Exact neighbour search over points by a hashed voxel grid (any device) and a k-d tree (CPU).

Both give the same edges, decided in double precision: two points are neighbours when their squared distance is below
the squared reach, and where the cap on neighbours applies, ties go to the lower index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from ag2_ns.ops.grid import Grid

CROWDED = 8
"""Candidate pairs per point and listed neighbour from which on only nearest neighbours are searched."""

TREE_ROWS = 100_000
"""Points whose capped lists the k-d tree makes at once (16 bytes per entry)."""


def radius_edges(
    xyz: Float[Tensor, "A 3"], reach: float, max_neighbours: int = 128, *, method: Literal["grid", "kdtree"] = "grid"
) -> Int[Tensor, "2 E"]:
    """Undirected edges between points closer than `reach`.

    Every point lists its `max_neighbours` nearest other points (ties: lower index first) that are closer than `reach`;
    an edge exists when either end lists the other (AG2aussian, section 2, graph: kNN with K <= 128, distance below
    s * 16 voxels).

    Args:
        xyz: points, scene units, finite.
        reach: exclusive upper bound on the length of an edge, scene units.
        max_neighbours: neighbours that one point may list, >= 1.
        method: how pairs are found: "grid" (any device; the faster) or "kdtree" (CPU only; a second opinion).

    Returns:
        Each edge once as (i, j) with i < j, sorted by i then j, on the device of `xyz`.

    Raises:
        ValueError: points that are not finite, or a reach or cap that is not positive.
    """
    _check(xyz)
    if not 0 < reach < float("inf"):
        raise ValueError(f"reach must be positive and finite, not {reach}")
    if max_neighbours < 1:
        raise ValueError(f"max_neighbours must be at least 1, not {max_neighbours}")
    points = xyz.detach().double()
    count = len(points)
    if count < 2:
        return torch.empty(2, 0, dtype=torch.long, device=xyz.device)
    # Where balls hold far more points than may be listed, never enumerate them: ask for nearest neighbours at once.
    if method == "kdtree":
        tree = cKDTree(points.numpy())
        if tree.count_neighbors(tree, reach) > CROWDED * max_neighbours * count:
            return capped_edges(points, reach, max_neighbours)
        # The tree includes pairs at exactly `reach` and rounds in its own way: ask for a little more, decide here.
        pairs = torch.from_numpy(tree.query_pairs(reach * (1 + 1e-9), output_type="ndarray")).T
        i, j = pairs.amin(0), pairs.amax(0)
        near = _squared_distance(points, i, points, j) < reach * reach
        i, j = i[near], j[near]
    else:
        grid = Grid(points, reach)
        if grid.candidates() > CROWDED * max_neighbours * count:
            return capped_edges(points, reach, max_neighbours)
        i, j = (torch.cat(side) for side in zip(*_pairs_within(grid, points, reach)))

    degree = torch.bincount(i, minlength=count) + torch.bincount(j, minlength=count)
    crowded = degree > max_neighbours
    if crowded.any():
        # An edge with an uncrowded end is listed by that end; the others need the nearest neighbours of crowded ends.
        sure = ~(crowded[i] & crowded[j])
        rows = crowded.nonzero().squeeze(1)
        a, b = _lists(points, rows, max_neighbours, reach)
        i, j = torch.cat([i[sure], torch.minimum(a, b)]), torch.cat([j[sure], torch.maximum(a, b)])
    return _coalesce(i, j, count)


def nearest(
    query: Float[Tensor, "Q 3"],
    xyz: Float[Tensor, "N 3"],
    k: int,
    *,
    method: Literal["auto", "grid", "kdtree"] = "auto",
) -> tuple[Float[Tensor, "Q k"], Int[Tensor, "Q k"]]:
    """The `k` nearest of `xyz` to every query point, nearest first, exact.

    A query point that is itself one of `xyz` finds itself at distance 0. Where fewer than `k` points exist the rest is
    filled with distance infinity and index -1.

    Args:
        query: finite points, scene units.
        xyz: finite points, scene units, on the same device.
        k: neighbours per query point, >= 1.
        method: "kdtree" (CPU only), "grid" (any device) or the faster one for the device.

    Returns:
        Distances (dtype of `query`, scene units) and int64 indices into `xyz`.

    Raises:
        ValueError: points that are not finite, or k < 1.
    """
    _check(query)
    _check(xyz)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    distance = torch.full((len(query), k), float("inf"), dtype=torch.double, device=query.device)
    index = torch.full((len(query), k), -1, dtype=torch.long, device=query.device)
    found = min(k, len(xyz))
    if found == 0 or len(query) == 0:
        return distance.to(query.dtype), index
    if method == "auto":
        method = "grid" if xyz.is_cuda else "kdtree"
    points, queries = xyz.detach().double(), query.detach().double()
    if method == "kdtree":
        d, n = cKDTree(points.numpy()).query(queries.numpy(), k=np.arange(1, found + 1), workers=-1)
        distance[:, :found], index[:, :found] = torch.from_numpy(d), torch.from_numpy(n)
    else:
        rows = torch.arange(len(query), device=query.device)
        row, neighbour, d2 = _nearest_within(points, queries, rows, found, None, exclude_self=False)
        order = torch.argsort(row, stable=True)  # lists arrive nearest first and complete: only regroup them
        distance[:, :found] = d2[order].sqrt().reshape(-1, found)
        index[:, :found] = neighbour[order].reshape(-1, found)
    return distance.to(query.dtype), index


def _check(xyz: Tensor) -> None:
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"points must have shape N x 3, not {tuple(xyz.shape)}")
    if not torch.isfinite(xyz).all():
        raise ValueError("points must be finite")


def _squared_distance(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Tensor:
    d = a.index_select(0, i) - b.index_select(0, j)
    return d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] + d[:, 2] * d[:, 2]


def _coalesce(i: Tensor, j: Tensor, count: int) -> Int[Tensor, "2 E"]:
    """Sorted unique edges of i < j; one integer key per edge sorts faster than two rows."""
    key = torch.unique(i * count + j)
    return torch.stack([key // count, key % count])


def _pairs_within(grid: Grid, points: Tensor, reach: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Unordered pairs i < j closer than `reach` (the grid's cell size), in pieces of bounded size."""
    for a, b in grid.half_candidates():
        near = _squared_distance(points, a, points, b) < reach * reach
        a, b = a[near], b[near]
        yield torch.minimum(a, b), torch.maximum(a, b)


def capped_edges(points: Tensor, reach: float, cap: int) -> Int[Tensor, "2 E"]:
    """Edges from the capped list of every point: what neither end lists is no edge."""
    a, b = _lists(points, torch.arange(len(points), device=points.device), cap, reach)
    return _coalesce(torch.minimum(a, b), torch.maximum(a, b), len(points))


def _lists(points: Tensor, rows: Tensor, cap: int, reach: float) -> tuple[Tensor, Tensor]:
    """(row, neighbour) for the `cap` nearest other points, closer than `reach`, of every point in `rows`."""
    if points.is_cuda:
        return _nearest_within(points, points, rows, cap, reach, exclude_self=True)[:2]
    tree = cKDTree(points.numpy())
    found, tied = [], []
    for part in rows.split(TREE_ROWS):
        # One for the point itself, one to see whether the last place is tied; the tree breaks ties as it likes.
        bound = reach * (1 + 1e-9)
        d, n = tree.query(points[part].numpy(), k=np.arange(1, cap + 3), distance_upper_bound=bound, workers=-1)
        distance, neighbour = torch.from_numpy(d), torch.from_numpy(n)
        last, beyond = distance[:, cap], distance[:, cap + 1]
        tie = beyond.isfinite() & (beyond <= last * (1 + 1e-12))
        tied.append(part[tie])
        real = distance[:, : cap + 1].isfinite() & ~tie[:, None]
        row, item = part[:, None].expand_as(real)[real], neighbour[:, : cap + 1][real]
        keep = (row != item) & (_squared_distance(points, row, points, item) < reach * reach)
        found.append((row[keep], item[keep]))
    found.append(_nearest_within(points, points, torch.cat(tied), cap, reach, exclude_self=True)[:2])
    return tuple(torch.cat(column) for column in zip(*found))


def _nearest_within(
    points: Tensor, queries: Tensor, rows: Tensor, k: int, reach: float | None, *, exclude_self: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """For the query points in `rows`, up to `k` nearest points closer than `reach`, exact.

    A row is settled by the first search radius that encloses `k` points: radii double from one that suits the
    density, so the work stays near k per row however uneven the points are.

    Returns row, point and squared distance of every list entry; a row's entries are contiguous, nearest first.
    """
    lower, upper = points.amin(0), points.amax(0)
    spread = torch.cat([lower.min(queries.amin(0)), upper.max(queries.amax(0))]).reshape(2, 3)
    whole = float(torch.linalg.vector_norm(spread[1] - spread[0])) * 1.001 + 1e-300
    last = whole if reach is None else min(reach, whole)
    # Start with about k points in a cell: from one point a cell, were they spread evenly over a surface, downwards.
    radius = min(last, whole * (k / len(points)) ** 0.5)
    while Grid.occupancy(points, radius) > max(k, 4) and radius > last * 2.0**-40:
        radius /= 2
    none = rows.new_empty(0)
    found = [(none, none, points.new_empty(0))]
    while len(rows):
        final = radius >= last
        # The last ball holds everything asked for: strictly closer than `reach`, or every point there is.
        limit = reach * reach if final and reach is not None else (float("inf") if final else radius * radius)
        unsettled = []
        for part, a, b in Grid(points, radius, queries).candidates_of(rows):
            d2 = _squared_distance(queries, a, points, b)
            keep = d2 < limit
            if exclude_self:
                keep &= a != b
            a, b, d2 = a[keep], b[keep], d2[keep]
            a, b, d2, rank = _rank(a, b, d2)
            enough = torch.bincount(a, minlength=len(queries)) >= (0 if final else k)
            keep = enough[a] & (rank < k)
            found.append((a[keep], b[keep], d2[keep]))
            unsettled.append(part[~enough[part]])
        rows = torch.cat(unsettled)
        radius = min(radius * 2, last)
    return tuple(torch.cat(column) for column in zip(*found))


def _rank(row: Tensor, item: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sort entries by row, key, item; return them with each entry's position within its row."""
    order = torch.argsort(item)
    order = order[torch.argsort(key[order], stable=True)]
    order = order[torch.argsort(row[order], stable=True)]
    row, item, key = row[order], item[order], key[order]
    place = torch.arange(len(row), device=row.device)
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    start = torch.cummax(torch.where(first, place, torch.zeros_like(place)), 0).values
    return row, item, key, place - start
