"""From the run's frame back to the world that the cameras were given in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.ops.similarity import Similarity

FILE_NAME = "dataparser_transforms.json"
"""Written by nerfstudio beside config.yml when training starts."""

TOLERANCE = 1e-3
"""How far the rotation of a transform may be from orthogonal: it is stored in single precision."""


def world_frame(transform: Float[Tensor, "3 4"], scale: float) -> Similarity:
    """The similarity that takes the run's frame to the original world.

    nerfstudio's dataparsers turn and centre the poses by `transform` (which includes the `applied_transform` of
    ns-process-data, so that the world is that of COLMAP), then multiply positions by `scale`.

    Raises:
        ValueError: the transform is not rigid or the scale not positive.
    """
    matrix = torch.as_tensor(transform, dtype=torch.double).reshape(3, 4)
    rotation = matrix[:, :3]
    if not bool(torch.isfinite(matrix).all()) or not (math.isfinite(scale) and scale > 0):
        raise ValueError("it holds numbers that are not finite or a scale that is not positive")
    # ns-process-data may put a scale of its own into the matrix; rotations are stored in single precision.
    own = float(torch.det(rotation).abs()) ** (1 / 3)
    if own == 0 or float((rotation @ rotation.T / own**2 - torch.eye(3, dtype=torch.double)).abs().max()) > TOLERANCE:
        raise ValueError("its matrix is not a rotation and translation")
    u, _, v = torch.linalg.svd(rotation)
    return Similarity(u @ v, own * scale, scale * matrix[:, 3]).inverse()


def run_to_world(config: Path) -> Similarity:
    """The similarity that takes the frame of the run with this config.yml to the original world.

    Raises:
        UserError: nerfstudio's file of transforms is missing or damaged.
    """
    path = Path(config).parent / FILE_NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file, so the original world frame is unknown; export without --world")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return world_frame(torch.tensor(content["transform"], dtype=torch.double), float(content["scale"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not usable ({why}); restore it, or export without --world") from error
