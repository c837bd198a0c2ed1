"""COS3D's point cloud: a Gaussian splat with the instance field as further properties semantic_0 .. semantic_15."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from plyfile import PlyData
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io.ply import read_gaussians, write_gaussians

PREFIX = "semantic_"


def write_semantic_splat(path: str | Path, gaussians: Gaussians, feature: Float[Tensor, "N F"]) -> None:
    """Write Gaussians with one number per instance feature, atomically.

    Args:
        path: the file.
        gaussians: activated.
        feature: instance features; COS3D's own tools expect 16.

    Raises:
        ValueError: another number of features than Gaussians.
    """
    if len(feature) != len(gaussians):
        raise ValueError(f"{len(feature)} features for {len(gaussians)} Gaussians")
    write_gaussians(path, gaussians, {f"{PREFIX}{k}": column for k, column in enumerate(feature.float().unbind(1))})


def read_semantic_splat(path: str | Path) -> tuple[Gaussians, Float[Tensor, "N F"]]:
    """The Gaussians of such a file and their instance features.

    Raises:
        UserError: no such file, not a splat, without these properties, or with values that are not finite.
    """
    gaussians = read_gaussians(path)
    vertex = PlyData.read(str(path))["vertex"].data
    names = [n for n in vertex.dtype.names if n.startswith(PREFIX)]
    names = [f"{PREFIX}{k}" for k in range(len(names)) if f"{PREFIX}{k}" in names]
    if not names:
        raise UserError(f"{path}: has no properties {PREFIX}0, {PREFIX}1, ...; give a point cloud of COS3D's stage 1")
    if len(vertex) != len(gaussians):
        raise UserError(f"{path}: {len(vertex) - len(gaussians)} Gaussians are not finite; export it again")
    table = np.stack([np.asarray(vertex[n], np.float32) for n in names], 1)
    if not np.isfinite(table).all():
        raise UserError(f"{path}: {PREFIX}* holds values that are not finite; train the field again")
    return gaussians, torch.from_numpy(table)
