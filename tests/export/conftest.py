from dataclasses import fields

import pytest
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.scene.scene_index import SceneIndex


@pytest.fixture
def index():
    """12 anchors of 3 Gaussians: node 0 holds nodes 1 (anchors 0-3) and 2 (4-6); node 3 holds 7-10; anchor 11 none."""
    anchor_node = torch.tensor([1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, -1])
    tree = InstanceTree(
        parent=torch.tensor([-1, 0, 0, -1]),
        last=torch.tensor([2, 1, 2, 3]),
        level=torch.tensor([0.25, 0.0, 0.0, 0.0]),
        size=torch.tensor([7, 4, 3, 4]),
        support=torch.ones(4),
        anchor_node=anchor_node,
        seen=anchor_node >= 0,
    )
    language = NodeLanguage(torch.zeros(4, 0), *[torch.zeros(4)] * (len(fields(NodeLanguage)) - 1))
    i = torch.arange(11)
    xyz = torch.stack([torch.arange(12.0), torch.zeros(12), torch.zeros(12)], 1)
    return SceneIndex(torch.arange(36) // 3, xyz, torch.stack([i, i + 1]), tree, language)


@pytest.fixture
def gaussians():
    g = torch.Generator().manual_seed(0)
    shapes = ((36, 3), (36, 4), (36, 3), (36,), (36, 16, 3))
    return Gaussians(*(0.1 + 0.8 * torch.rand(s, generator=g) for s in shapes))
