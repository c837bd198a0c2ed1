"""The view of a capture to begin with: one that looks at what the capture is about."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.view import View

PARALLEL = 1e-3
"""Optical axes that are nearer to parallel than this (smallest over largest eigenvalue) meet nowhere in particular."""


def middle_of(views: Sequence[View]) -> Float[Tensor, "3"]:
    """The point that the optical axes pass nearest to; along the mean axis where they are parallel."""
    poses = torch.stack([v.viewmat.detach().double().cpu() for v in views])
    axis = poses[:, 2, :3]
    eyes = -(poses[:, :3, :3].transpose(1, 2) @ poses[:, :3, 3:]).squeeze(-1)
    across = torch.eye(3, dtype=torch.double) - axis[:, :, None] * axis[:, None, :]
    total, wanted = across.sum(0), (across @ eyes[:, :, None]).sum(0).squeeze(-1)
    spread = torch.linalg.eigvalsh(total)
    if float(spread[0]) < PARALLEL * float(spread[-1]):
        reach = (eyes - eyes.mean(0)).norm(dim=1).max().clamp_min(1.0)
        return eyes.mean(0) + reach * torch.nn.functional.normalize(axis.mean(0), dim=0)
    return torch.linalg.solve(total, wanted)


def first_view(views: Sequence[View]) -> int:
    """The number of the view that has the middle of the capture most in the middle of its picture.

    Args:
        views: at least one.
    """
    middle = middle_of(views)
    offsets = []
    for view in views:
        pose, K = view.viewmat.detach().double().cpu(), view.K.detach().double().cpu()
        point = pose[:3, :3] @ middle + pose[:3, 3]
        if float(point[2]) <= 0:
            offsets.append(float("inf"))
            continue
        x, y = (K @ (point / point[2]))[:2].tolist()
        offsets.append(max(abs(x / view.width - 0.5), abs(y / view.height - 0.5)))
    return min(range(len(views)), key=offsets.__getitem__)
