"""Patches lifted into space without any training: what a trained network is compared with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.feedforward.config import FAR
from ag2_ns.feedforward.head import depth_at, lift
from ag2_ns.io.surround import Frame
from ag2_ns.ops.rotations import quaternions


def lifted_patches(frame: Frame, scale: float, opacity: float = 0.9) -> tuple[Gaussians, Float[Tensor, "N C"]]:
    """One Gaussian per patch that is not far, at the depth of its middle, and its feature.

    Args:
        frame: views, depth and features.
        scale: standard deviation, in edges of a patch at its depth.
        opacity: of every Gaussian.
    """
    h, w = frame.features.shape[-2:]
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    points = torch.stack((x, y), -1).reshape(1, -1, 2).expand(len(frame.views), -1, -1)
    K = torch.stack([v.K for v in frame.views])
    cam2ego = torch.linalg.inv(torch.stack([v.viewmat for v in frame.views]))
    depth = depth_at(frame.depth, points, "border")
    view = frame.views[0]
    means = lift(points, depth, K, cam2ego, view.width, view.height).reshape(-1, 3)
    edge = depth * (view.width / w) / K[:, 0, 0, None]
    scales = (scale * edge).reshape(-1, 1).expand(-1, 3)
    quats = quaternions(cam2ego[:, :3, :3])[:, None].expand(-1, h * w, -1).reshape(-1, 4)
    features = frame.features.movedim(1, -1).reshape(-1, frame.features.shape[1])
    keep = depth.reshape(-1) < FAR - 1e-3
    count = int(keep.sum())
    made = Gaussians(means[keep], quats[keep], scales[keep], torch.full((count,), opacity), torch.zeros(count, 1, 3))
    return made, features[keep]
