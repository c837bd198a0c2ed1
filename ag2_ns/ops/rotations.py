"""Rotations as matrices and quaternions, differentiable."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_matrices(quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Rotation matrices of (w, x, y, z) quaternions of any length (Kuipers 1999, section 5.14)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    return torch.stack(
        (
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ),
        dim=-1,
    ).view(-1, 3, 3)


def quaternions(matrices: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 4"]:
    """Unit quaternions (w, x, y, z) of rotation matrices (Shepperd 1978, "Quaternion from rotation matrix").

    Four formulas hold; each row takes the one that divides by the largest number.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrices.unbind(-2))
    squares = torch.stack((1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i), -1)
    candidates = torch.stack(
        (
            torch.stack((squares[..., 0], h - f, c - g, d - b), -1),
            torch.stack((h - f, squares[..., 1], b + d, c + g), -1),
            torch.stack((c - g, b + d, squares[..., 2], f + h), -1),
            torch.stack((d - b, c + g, f + h, squares[..., 3]), -1),
        ),
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return torch.nn.functional.normalize(candidates.gather(-2, best)[..., 0, :], dim=-1)
