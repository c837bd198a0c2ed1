"""Words of the occupancy classes, and tables of their text features as others store them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError

SKY = 17
"""Prompts of the sky make a voxel free."""

PROMPTS: dict[str, int] = {
    "barrier": 1,
    "bicycle": 2,
    "bus": 3,
    "car": 4,
    "construction vehicle": 5,
    "motorcycle": 6,
    "person": 7,
    "cone": 8,
    "trailer": 9,
    "truck": 10,
    "road": 11,
    "sidewalk": 13,
    "terrain": 14,
    "grass": 14,
    "building": 15,
    "wall": 15,
    "fence": 15,
    "pole": 15,
    "sign": 15,
    "vegetation": 16,
    "sky": SKY,
}
"""GaussTR's 21 prompts in their order, and the Occ3D class of each."""


def read_text_table(path: Path) -> tuple[list[str], Float[Tensor, "K C"]]:
    """Prompts and their features.

    .json holds prompt -> numbers. .npy and .pt (a tensor) hold one feature for each of `PROMPTS` in that order, as
    rows or, as GaussTR stores them (C x 21), as columns.

    Raises:
        UserError: missing, damaged, of another layout, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such table of text features; name a .json, .npy or .pt")
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            names, table = list(content), torch.tensor(list(content.values()), dtype=torch.float32)
        else:
            if path.suffix == ".npy":
                table = torch.from_numpy(np.load(path, allow_pickle=False))
            else:
                table = torch.load(path, map_location="cpu", weights_only=True)
            table, names = torch.as_tensor(table).float(), list(PROMPTS)
            if table.dim() == 2 and table.shape[0] != len(names) and table.shape[1] == len(names):
                table = table.T.contiguous()
    except (OSError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable table of text features ({why}); write it anew") from error
    except Exception as error:  # torch.load raises pickle's errors for what is not a tensor
        raise UserError(f"{path}: holds other things than a tensor; save the features alone") from error
    if table.dim() != 2 or len(table) != len(names):
        raise UserError(
            f"{path}: has {'x'.join(map(str, table.shape))} numbers, not one row for each of {len(names)} prompts"
        )
    if not bool(torch.isfinite(table).all()):
        raise UserError(f"{path}: holds numbers that are not finite; make the table anew")
    return names, table
