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
    """Unit quaternions (w, x, y, z) of rotation matrices, w >= 0; without gradient."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_matrix(matrices.detach().cpu().double().numpy())
    x, y, z, w = torch.from_numpy(turns.as_quat(canonical=True)).unbind(-1)
    return torch.stack((w, x, y, z), -1).to(matrices)
