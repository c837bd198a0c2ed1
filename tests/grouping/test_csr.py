"""Rows of lifted masks: by compiled loops as by sorting."""

import numpy as np
import pytest
import torch

from ag2_ns.grouping.csr import Rows, by_loops, by_sorting, slots
from ag2_ns.grouping.lifting import LiftedMasks


def lifted(units: int, views: int, masks: int, seed: int) -> LiftedMasks:
    """Weights in some masks and views, some of them zero."""
    draw = torch.Generator().manual_seed(seed)
    mask_view = torch.sort(torch.randint(views, (masks,), generator=draw)).values

    def sparse(columns: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
        there = torch.rand(units, columns, generator=draw) < share
        row = torch.nn.functional.pad(torch.cumsum(there.sum(1), 0), (1, 0))
        return row, there.nonzero()[:, 1]

    (row, mask), (view_row, view) = sparse(masks, 0.3), sparse(views, 0.6)
    values = [torch.randint(0, 4, (n,), generator=draw) / 256 for n in (len(mask), len(view), len(view))]
    return LiftedMasks(row, mask, values[0], view_row, view, values[1], values[2], mask_view, torch.ones(masks), views)


@pytest.mark.parametrize("seed", range(3))
def test_loops_give_what_sorting_gives(seed):
    parts = lifted(40, 7, 23, seed), lifted(5, 7, 23, seed + 10)
    parts = parts[0], LiftedMasks(**{**vars(parts[1]), "mask_view": parts[0].mask_view})
    _, view_slot, mask_slot = slots(parts[0].mask_view.numpy(), 7)
    for keep in (None, torch.rand(45) > 0.4):
        expected = by_loops(parts, keep, view_slot, mask_slot)
        for block in (1, 50, 1 << 20):
            for one, other in zip(expected, by_sorting(parts, keep, view_slot, mask_slot, block)):
                assert one.dtype == other.dtype and np.array_equal(one, other)
    rows = Rows.of(*parts)
    for u, peak in enumerate(rows.peak):
        inside = slice(rows.row[u], rows.row[u + 1])
        totals = rows.weight[inside][np.isin(rows.slot[inside], view_slot[:-1])]
        assert peak == totals.max(initial=0.0)


def test_no_units_and_no_entries():
    empty = lifted(0, 3, 4, 0)
    rows = Rows.of(empty)
    assert len(rows.row) == 1 and len(rows.slot) == 0 and len(rows.peak) == 0
    some = lifted(3, 3, 4, 0)
    assert Rows.of(some, keep=torch.zeros(3, dtype=torch.bool)).row.tolist() == [0, 0, 0, 0]
