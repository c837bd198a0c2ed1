"""A table-top splat with the defects of trained ones: fringes, filled insides, floaters, straddling anchors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import toy_scene
from scipy import ndimage

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.grouping.anchor_graph import AnchorGraph, build_graph
from ag2_ns.ops.sh import rgb_to_sh
from ag2_ns.rendering import render
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.scene_index import SceneIndex, build_index


@dataclass
class Surrogate:
    toy: toy_scene.Toy
    gaussians: Gaussians
    owner: torch.Tensor
    """The id that each Gaussian looks like."""
    extra: torch.Tensor
    """Whether it is one of the defects."""
    index: SceneIndex
    graph: AnchorGraph
    rasterizer: CpuRasterizer

    def node(self, oid):
        """The instance that holds most of an object's proper Gaussians."""
        own = self.index.gaussian_node(0.5)[(self.owner == oid) & ~self.extra]
        return int(torch.bincount(own[own >= 0]).argmax())

    def renders(self, gaussians):
        return [render(gaussians, v, self.rasterizer).rgb for v in self.toy.views]

    def iou(self, before, gaussians, oid, threshold=0.03):
        """Mean over views of the IoU of the pixels that changed with the object's mask."""
        out = []
        for view, ids, old in zip(self.toy.views, self.toy.ids, before):
            mask = ids == oid
            if mask.sum() < 30:
                continue
            changed = ((render(gaussians, view, self.rasterizer).rgb - old).abs().amax(-1) > threshold).numpy()
            out.append((changed & mask).sum() / (changed | mask).sum())
        return float(np.mean(out))


def _sharpened(toy, spacing, seed):
    """Without the outermost pixel of every object: Gaussians of finite size then end where the object does."""
    depth = toy.depth.copy()
    for view, ids in enumerate(toy.ids):
        for oid in np.unique(ids[ids > toy_scene.TABLE]):
            depth[view][(ids == oid) & ~ndimage.binary_erosion(ids == oid)] = 0
    splat = toy_scene._splat(toy.views, toy.ids, depth, spacing, 0, np.random.default_rng(seed))
    return replace(toy, gaussians=splat[0], owner=splat[1])


def make(objects=4, views=12, width=192, height=144, seed=0, fringe=0.06, inside=0.1, spacing=0.018) -> Surrogate:
    toy = toy_scene.make(objects, views, width, height, spacing=spacing, floaters=0, seed=seed)
    toy = _sharpened(toy, spacing, seed)
    g = torch.Generator().manual_seed(seed)
    rgb = 0.15 + 0.7 * torch.rand(objects + 2, 3, generator=g)
    rgb[toy_scene.TABLE] = torch.tensor([0.75, 0.65, 0.5])
    means, owner = [toy.gaussians.means], [toy.owner]
    scales, opacity = [0.8 * toy.gaussians.scales], [toy.gaussians.opacities]
    for oid in range(2, objects + 2):
        points = toy.gaussians.means[toy.owner == oid]
        n, m = int(fringe * len(points)) + 2, int(inside * len(points)) + 2
        base = points[torch.randint(len(points), (n,), generator=g)]
        means.append(base + 0.6 * spacing * torch.randn(n, 3, generator=g))  # fringe around the surface
        pairs = points[torch.randint(len(points), (2, m), generator=g)]
        t = 0.3 + 0.4 * torch.rand(m, 1, generator=g)
        means.append(pairs[0] * t + pairs[1] * (1 - t))  # inside, seen by nobody
        owner.append(torch.full((n + m,), oid))
        scales.append(0.4 * spacing * (0.4 + 1.2 * torch.rand(n + m, 3, generator=g)))
        opacity.append(0.2 + 0.7 * torch.rand(n + m, generator=g))
    means, owner = torch.cat(means), torch.cat(owner)
    extra = torch.arange(len(means)) >= len(toy.owner)
    colour = rgb[owner] + 0.05 * torch.randn(len(owner), 3, generator=g)
    count = len(means)
    gaussians = Gaussians(
        means,
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        torch.cat(scales),
        torch.cat(opacity),
        rgb_to_sh(colour)[:, None],
    )
    # Anchors as a foreign splat gets them: voxels, which hold Gaussians of object and table alike.
    cell = 0.09
    _, anchor = torch.unique(torch.floor(means / cell).long(), dim=0, return_inverse=True)
    total = torch.bincount(anchor).float()
    xyz = torch.zeros(len(total), 3).index_add_(0, anchor, means) / total[:, None]
    graph = build_graph(xyz, torch.full((len(xyz),), cell), cell / 16, reach_factor=2.0, max_neighbours=24)
    masks = [m for m, _ in toy_scene.noisy_masks(toy.ids, 1.0, seed)]
    raster = CpuRasterizer()
    index = build_index(raster, gaussians, anchor, xyz, graph.edges, toy.views, masks)
    return Surrogate(toy, gaussians, owner, extra, index, graph, raster)
