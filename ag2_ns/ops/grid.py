"""A uniform voxel grid over points, hashed by sorting: candidates for neighbour search in bounded pieces.

Pure tensor code, any device. Cells that are neighbours along z are neighbours in the sorted order too, so the 27 cells
around a point are 9 contiguous runs of points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.ops.ranges import spread

PIECE = {"cpu": 1 << 20, "cuda": 1 << 22}
"""Candidate pairs handled at a time (some 100 bytes each)."""


class Grid:
    """Points sorted into cubic cells of one size; query points find every point within one cell size of them."""

    def __init__(self, points: Float[Tensor, "N 3"], cell: float, queries: Float[Tensor, "Q 3"] | None = None) -> None:
        """Sort `points` (double precision, finite) into cells; `queries` default to the points themselves."""
        both = points if queries is None or queries is points else torch.cat([points, queries])
        key, self._stride = _cell_keys(both, cell)
        own = key[: len(points)]
        self._order = torch.argsort(own, stable=True)
        """Point index by place in the sorted order."""
        self._sorted_key = own[self._order]
        self._query_key = own if both is points else key[len(points) :]
        self._piece = PIECE.get(points.device.type, PIECE["cpu"])

    @staticmethod
    def occupancy(points: Float[Tensor, "N 3"], cell: float) -> float:
        """Mean number of points that share a point's cell, itself included."""
        _, counts = torch.unique(_cell_keys(points, cell)[0], return_counts=True)
        return float((counts.double() ** 2).sum() / len(points))

    def candidates(self) -> int:
        """Unordered candidate pairs that `half_candidates` will yield."""
        start, stop = self._half_runs()
        return int((stop - start).sum())

    def half_candidates(self) -> Iterator[tuple[Int[Tensor, " P"], Int[Tensor, " P"]]]:
        """Every unordered pair of points in the same or adjacent cells once, in pieces; order within a pair is free."""
        start, stop = self._half_runs()
        place = torch.arange(len(self._order), device=start.device)
        for part in self._pieces((stop - start).sum(1)):
            row, candidate = _expand(place[part], start[part], stop[part])
            yield self._order[row], self._order[candidate]

    def candidates_of(self, rows: Int[Tensor, " R"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For the query points in `rows`: (rows of this piece, query index, point index) for the 27 cells around."""
        rows = rows[torch.argsort(self._query_key[rows], stable=True)]  # neighbours in memory, neighbours in space
        start, stop = self._runs(self._query_key[rows], _COLUMNS)
        for part in self._pieces((stop - start).sum(1)):
            row, candidate = _expand(rows[part], start[part], stop[part])
            yield rows[part], row, self._order[candidate]

    def _half_runs(self) -> tuple[Tensor, Tensor]:
        """Runs of sorted places after each place: rest of its own cell column, then the later columns."""
        start, stop = self._runs(self._sorted_key, [(0, 0), *_LATER_COLUMNS])
        start[:, 0] = torch.arange(1, len(start) + 1, device=start.device)
        return start, stop

    def _runs(self, key: Tensor, columns: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """First and one-past-last sorted place of cells z - 1 .. z + 1 in each column around the cells `key`."""
        unique, inverse = torch.unique(key, return_inverse=True)
        shift = torch.tensor([x * self._stride[0] + y * self._stride[1] for x, y in columns], device=key.device)
        centre = unique[:, None] + shift
        start = torch.searchsorted(self._sorted_key, centre - 1, side="left")
        stop = torch.searchsorted(self._sorted_key, centre + 1, side="right")
        return start[inverse], stop[inverse]

    def _pieces(self, counts: Tensor) -> Iterator[slice]:
        """Consecutive rows with about `_piece` candidates between them (one row may hold more)."""
        total = counts.cumsum(0)
        if len(total) == 0:
            return
        bounds = torch.arange(self._piece, int(total[-1]) + self._piece, self._piece, device=counts.device)
        stops = torch.searchsorted(total, bounds, side="right").tolist()
        begin = 0
        for stop in [*stops, len(counts)]:
            stop = min(max(stop, begin + 1), len(counts))
            if stop > begin:
                yield slice(begin, stop)
            begin = stop
            if begin == len(counts):
                return


_LATER_COLUMNS = [(0, 1), (1, -1), (1, 0), (1, 1)]
_COLUMNS = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def _cell_keys(points: Tensor, cell: float) -> tuple[Tensor, tuple[int, int]]:
    """One integer per point for its cell, z fastest, and the strides of x and y.

    Empty stretches between occupied slices are squeezed to one empty slice, so keys stay small however far apart the
    points are, and cells are adjacent after squeezing exactly when they were before.
    """
    columns, extents = [], []
    cells = torch.floor((points - points.amin(0)) / (cell * (1 + 1e-6)))  # a little larger: rounding loses no pair
    for axis in range(3):
        slices, inverse = torch.unique(cells[:, axis], return_inverse=True)
        steps = torch.ones_like(slices)
        steps[1:] = (slices[1:] - slices[:-1]).clamp(max=2)
        squeezed = steps.long().cumsum(0)  # from 1: slice 0 and the one after the last stay empty
        columns.append(squeezed[inverse])
        extents.append(int(squeezed[-1]) + 2)
    if extents[0] * extents[1] * extents[2] >= 2**63:
        raise ValueError("points are spread too far for this cell size; use a larger one")
    stride = (extents[1] * extents[2], extents[2])
    return columns[0] * stride[0] + columns[1] * stride[1] + columns[2], stride


def _expand(row: Tensor, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Every (row, place) with start <= place < stop, over all runs of each row."""
    length = (stop - start).clamp(min=0).reshape(-1)
    runs, place = spread(length, start.reshape(-1))
    return row[runs // start.shape[1]], place
