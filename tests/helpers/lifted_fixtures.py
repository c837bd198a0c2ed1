"""One small scene, lifted once for the room."""

from dataclasses import dataclass

import pytest
import torch
import toy_scene

from ag2_ns.grouping.lifting import LiftedMasks, lift_masks
from ag2_ns.ops.neighbours import radius_edges
from ag2_ns.rendering.cpu import CpuRasterizer


@dataclass(frozen=True)
class Lifted:
    toy: toy_scene.Toy
    masks: list
    names: list
    by_gaussian: LiftedMasks
    anchor: torch.Tensor
    xyz: torch.Tensor
    edges: torch.Tensor

    @property
    def by_anchor(self) -> LiftedMasks:
        return self.by_gaussian.group(self.anchor, len(self.xyz))


def lifted_scene(noise: float, seed: int = 0, objects: int = 6) -> Lifted:
    toy = toy_scene.make(objects=objects, views=12, width=128, height=96, spacing=0.03, seed=seed)
    pairs = toy_scene.noisy_masks(toy.ids, noise, seed)
    masks, names = [m for m, _ in pairs], [n for _, n in pairs]
    by_gaussian = lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks)
    means, size = toy.gaussians.means, 0.05
    _, anchor = torch.unique(torch.floor(means / size).long(), dim=0, return_inverse=True)
    count = torch.bincount(anchor)
    xyz = torch.zeros(len(count), 3).index_add_(0, anchor, means) / count[:, None]
    return Lifted(toy, masks, names, by_gaussian, anchor, xyz, radius_edges(xyz, 2 * size, 32))


@pytest.fixture(scope="session")
def clean():
    return lifted_scene(0.0)


@pytest.fixture(scope="session")
def noisy():
    return lifted_scene(1.0, seed=1)
