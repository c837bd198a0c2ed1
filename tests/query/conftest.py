"""One small scene with an index, for all queries."""

from dataclasses import dataclass

import pytest
import torch
import toy_scene

from ag2_ns.ops.neighbours import radius_edges
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.scene_index import SceneIndex, build_index


@dataclass(frozen=True)
class Queried:
    toy: toy_scene.Toy
    index: SceneIndex
    text: torch.Tensor
    """[ids, D] embedding of each id's name."""
    nodes: list
    """The node of each id, -1 for the background."""

    def iou(self, selection, name):
        """By Gaussians sampled from the surface of `name`."""
        chosen, truth = selection.gaussian_mask, self.toy.owner == name
        return float((chosen & truth).sum() / (chosen | truth).sum())


@pytest.fixture(scope="session")
def scene():
    toy = toy_scene.make(objects=6, views=12, width=128, height=96, spacing=0.03, seed=0)
    pairs = toy_scene.noisy_masks(toy.ids, 0.5, 0)
    images, text = toy_scene.features([n for _, n in pairs], noise=1.0)
    means, size = toy.gaussians.means, 0.05
    _, anchor = torch.unique(torch.floor(means / size).long(), dim=0, return_inverse=True)
    count = torch.bincount(anchor)
    xyz = torch.zeros(len(count), 3).index_add_(0, anchor, means) / count[:, None]
    index = build_index(
        CpuRasterizer(), toy.gaussians, anchor, xyz, radius_edges(xyz, 2 * size, 32), toy.views,
        [m for m, _ in pairs], images,
    )  # fmt: skip
    label = index.gaussian_node()
    nodes = [-1] + [int(label[(toy.owner == k) & (label >= 0)].mode().values) for k in range(1, 8)]
    assert len(set(nodes)) == 8
    return Queried(toy, index, text, nodes)
