"""A stand-in for a trained splat, sampled from a world's exact geometry in seconds.

One small Gaussian per cell of a fine grid on every surface that a camera sees, jittered, some that straddle two
surfaces and some floaters. Far surfaces have larger cells.
"""

from __future__ import annotations

import numpy as np
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.ops.sh import rgb_to_sh
from ag2_ns.synthetic.world import World, draw, world_points

STRADDLE, FLOATERS = 0.03, 0.005
"""Shares of Gaussians that are twice as large as their cell, and that float above the scene."""


def cameras(world: World) -> list[View]:
    """The world's cameras."""
    out = []
    for pose in world.poses:
        full = np.eye(4)
        full[:3] = pose
        viewmat = np.linalg.inv(full @ np.diag([1.0, -1, -1, 1]))
        K = np.array([[world.focal, 0, world.width / 2], [0, world.focal, world.height / 2], [0, 0, 1]])
        out.append(View(torch.tensor(viewmat).float(), torch.tensor(K).float(), world.width, world.height))
    return out


def stand_in(world: World, spacing: float, reach: float, seed: int = 0) -> Gaussians:
    """A splat of the world.

    Args:
        world: what is there.
        spacing: cells near the middle, scene units.
        reach: distance from the middle within which cells are `spacing` wide; beyond it they grow with the distance.
        seed: draws the defects.
    """
    rng = np.random.default_rng([seed, 31])
    points, colours = [], []
    for pose, frame in zip(world.poses, draw(world)):
        hit = frame.distance.reshape(-1) < 1e6
        points.append(world_points(frame.distance, pose, world.focal).reshape(-1, 3)[hit].astype(np.float32))
        colours.append(frame.rgb.reshape(-1, 3)[hit])
    points, colours = np.concatenate(points), np.concatenate(colours)
    cell = spacing * np.maximum(1.0, 2.0 * np.linalg.norm(points, axis=1) / reach - 2.0)
    cell = spacing * 2.0 ** np.ceil(np.log2(cell / spacing))
    key = np.concatenate([np.floor(points / cell[:, None]), cell[:, None]], axis=1)
    order = rng.permutation(len(points))
    _, first = np.unique(key[order], axis=0, return_index=True)
    points, cell, colours = points[order][first], cell[order][first], colours[order][first]
    points = points + 0.05 * cell[:, None] * rng.standard_normal(points.shape)
    n, loose = len(points), int(len(points) * FLOATERS)
    sigma = 0.45 * cell * np.exp(0.25 * rng.standard_normal(n))
    sigma[rng.random(n) < STRADDLE] *= 2.0
    opacity = np.clip(rng.normal(0.85, 0.15, n), 0.1, 0.99)
    stray = np.stack([*rng.uniform(-1, 1, (2, loose)) * reach, rng.uniform(0.4, 1.2, loose)], 1)
    means = torch.tensor(np.concatenate([points, stray])).float()
    scales = torch.tensor(np.concatenate([sigma, np.full(loose, spacing)])).float()[:, None].repeat(1, 3)
    opacities = torch.tensor(np.concatenate([opacity, rng.uniform(0.05, 0.3, loose)])).float()
    rgb = torch.tensor(np.concatenate([colours, rng.integers(0, 255, (loose, 3))]) / 255).float()
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n + loose, 1)
    return Gaussians(means, quats, scales, opacities, rgb_to_sh(rgb)[:, None])
