"""Which instances each view shows, and how much of it they fill."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.rendering.base import Rasterizer


@torch.no_grad()
def visible_share(
    rasterizer: Rasterizer,
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    tree: InstanceTree,
    views: Sequence[View],
    longest: int = 160,
) -> Float[Tensor, "R V"]:
    """Share of each view's pixels that a node and the nodes below it fill, occlusion included.

    Args:
        rasterizer: a backend for the Gaussians' device.
        gaussians: the scene.
        gaussian_anchor: the anchor of each Gaussian.
        tree: the instances.
        views: the cameras.
        longest: pixels on the longer side at which the views are drawn: shares need no more.
    """
    device = gaussians.device
    node = tree.anchor_node[gaussian_anchor]
    held = node >= 0
    out = torch.zeros(tree.num_nodes, len(views), device=device)
    for i, view in enumerate(views):
        factor = min(1.0, longest / max(view.width, view.height))
        width, height = max(1, round(view.width * factor)), max(1, round(view.height * factor))
        K = view.K.clone()
        K[0] *= width / view.width
        K[1] *= height / view.height
        small = View(view.viewmat, K, width, height).to(device)
        ones = torch.ones(height, width, 1, device=device)
        g = gaussians
        weight = rasterizer.lift(g.means, g.quats, g.scales, g.opacities, ones, small)[:, 0].float()
        out[:, i] = torch.zeros(tree.num_nodes, device=device).index_add_(0, node[held], weight[held]) / ones.numel()
    return tree.subtree_sum(out)
