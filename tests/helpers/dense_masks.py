"""Lifted masks written down as dense tables."""

import torch

from ag2_ns.grouping.lifting import LiftedMasks


def lifted_from(weight, total, covered, mask_view):
    """LiftedMasks from dense [U, M], [U, V], [U, V] and [M]."""
    w, t = torch.as_tensor(weight, dtype=torch.float32), torch.as_tensor(total, dtype=torch.float32)
    c, mask_view = torch.as_tensor(covered, dtype=torch.float32), torch.as_tensor(mask_view)
    unit, mask = w.nonzero(as_tuple=True)
    vunit, view = t.nonzero(as_tuple=True)
    offsets = lambda u: torch.cat([torch.zeros(1), torch.cumsum(torch.bincount(u, minlength=len(w)), 0)]).long()  # noqa: E731
    return LiftedMasks(
        offsets(unit), mask, w[unit, mask], offsets(vunit), view, t[vunit, view], c[vunit, view],
        mask_view, w.sum(0), t.shape[1],
    )  # fmt: skip
