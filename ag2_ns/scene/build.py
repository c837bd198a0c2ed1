"""From Gaussians and the masks of their views to instances: the graph they are merged on, and the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ag2_ns.core.masks import MaskSet
from ag2_ns.core.notice import view_progress
from ag2_ns.core.view import View
from ag2_ns.grouping.anchor_graph import CELL, AnchorGraph, build_graph
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.io.view_masks import PreparedMasks
from ag2_ns.ops.neighbours import nearest
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex, build_feature_index, build_index
from ag2_ns.splat.anchors import voxel_size

Evidence = Literal["lifting", "features", "both"]
"""What instances are made from: lifted masks (no training), trained features alone (the paper's
super-anchors), or lifted masks with trained features as a further vote."""


def merging_graph(
    xyz: Float[Tensor, "A 3"],
    radius: Float[Tensor, "A 1"],
    extent: float,
    reach: float | None = None,
    max_neighbours: int | None = None,
    config: GroupingConfig = DEFAULTS,
) -> AnchorGraph:
    """The anchor graph that instances are merged on (s = 4), widened where anchors are sparse.

    The published reach of 4 * 16 voxels is a length that only dense clouds fill; a scene of few anchors would fall
    apart, so the reach is at least `sparse_reach` times the median distance to the nearest neighbour.

    Args:
        xyz: anchor centres.
        radius: anchor radii.
        extent: scene extent.
        reach: longest edge, scene units, where the caller knows better.
        max_neighbours: nearest neighbours that each anchor may list; by default as where lifted masks decide.
        config: thresholds.
    """
    voxel = voxel_size(extent)
    if reach is None:
        reach = config.reach * CELL * voxel
        if len(xyz) > 1:
            gap = float(nearest(xyz, xyz, 2)[0][:, 1].median())
            reach = max(reach, config.sparse_reach * gap)
    return build_graph(xyz, radius.squeeze(-1), voxel, reach / (CELL * voxel), max_neighbours or config.neighbours)


@torch.no_grad()
def index_scene(
    scene: Scene,
    views: Sequence[View],
    prepared: Callable[[int], PreparedMasks],
    instances: Evidence = "lifting",
    *,
    reach: float | None = None,
    encoder: UInt8[Tensor, " L"] | None = None,
) -> SceneIndex:
    """Lift the masks of the training views, group anchors into a tree, attach language.

    Args:
        scene: on the device where the work is done; instances that it has already are not looked at. Its settings say
            how (`GroupingConfig`).
        views: the training views.
        prepared: gives masks and features of a view; asked for one at a time, since all may not fit on the device.
        instances: what the tree is made from; "features" and "both" need trained features.
        reach: longest edge of the graph, see `merging_graph`.
        encoder: what the features are by (`Manifest.to_bytes`).

    Raises:
        UserError: masks or features are damaged or of another image.
    """
    anchors, splat, rasterizer = scene.anchors, scene.gaussians.detach(), scene.rasterizer
    config = scene.config(GroupingConfig)
    # Mean-shift looks at the published number of neighbours.
    neighbours = config.feature_neighbours if instances == "features" else config.neighbours
    graph = merging_graph(anchors.xyz, anchors.radius, scene.extent, reach, neighbours, config)
    features: list[Tensor | None] = [None] * len(views)

    class Masks:
        """Read anew each time: those of all views may be larger than the device."""

        def __iter__(self) -> Iterator[MaskSet]:
            for i in range(len(views)):
                found = prepared(i)
                features[i] = found.features
                yield found.masks

    feature = anchors.feature.detach()
    with view_progress(len(views), "lifting masks") as progress:
        if instances == "features":
            index = build_feature_index(
                rasterizer, splat, scene.gaussian_anchor, anchors.xyz, feature, graph, views, Masks(), features,
                config=config, progress=progress,
            )  # fmt: skip
        else:
            index = build_index(
                rasterizer, splat, scene.gaussian_anchor, anchors.xyz, graph.edges, views, Masks(), features,
                anchor_feature=feature if instances == "both" else None, config=config, progress=progress,
            )  # fmt: skip
    return index if encoder is None else replace(index, encoder=encoder)
