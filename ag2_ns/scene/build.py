"""From Gaussians and a prepared scene to a `SceneIndex`: glue between nerfstudio and `graph.scene_index`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.notice import view_progress
from ag2_ns.grouping.anchor_graph import MERGE_REACH, AnchorGraph, build_graph
from ag2_ns.ops.neighbours import nearest
from ag2_ns.plugin.views import view_of
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.scene.scene_index import SceneIndex, build_feature_index, build_index
from ag2_ns.splat.anchors import voxel_size

if TYPE_CHECKING:
    from ag2_ns.core.masks import MaskSet
    from ag2_ns.plugin.datamanager import AG2DataManager

Evidence = Literal["lifting", "features", "both"]
"""What instances are made from: lifted masks (no training), trained features alone (the paper's
super-anchors), or lifted masks with trained features as a further vote."""

LIFTING_NEIGHBOURS = 32
"""Nearest neighbours that an anchor may list where lifted masks decide: regions grow, so near ones are enough."""

SPARSE_REACH = 4.0
"""The graph reaches at least this many times the typical distance between neighbouring anchors."""


def merging_graph(
    xyz: Float[Tensor, "A 3"],
    radius: Float[Tensor, "A 1"],
    extent: float,
    reach: float | None = None,
    max_neighbours: int = LIFTING_NEIGHBOURS,
) -> AnchorGraph:
    """The anchor graph that instances are merged on (s = 4), widened where anchors are sparse.

    The published reach of 4 * 16 voxels is a length that only dense clouds fill; a scene of few anchors would fall
    apart, so the reach is at least `SPARSE_REACH` times the median distance to the nearest neighbour.

    Args:
        xyz: anchor centres.
        radius: anchor radii.
        extent: scene extent.
        reach: longest edge, scene units, where the caller knows better.
        max_neighbours: nearest neighbours that each anchor may list.
    """
    voxel = voxel_size(extent)
    if reach is None:
        reach = MERGE_REACH * 16 * voxel
        if len(xyz) > 1:
            gap = float(nearest(xyz, xyz, 2)[0][:, 1].median())
            reach = max(reach, SPARSE_REACH * gap)
    return build_graph(xyz, radius.squeeze(-1), voxel, reach / (16 * voxel), max_neighbours)


@torch.no_grad()
def index_scene(
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    anchor_xyz: Float[Tensor, "A 3"],
    graph: AnchorGraph,
    datamanager: AG2DataManager,
    rasterizer: Rasterizer,
    instances: Evidence = "lifting",
    anchor_feature: Float[Tensor, "A F"] | None = None,
) -> SceneIndex | None:
    """Lift the prepared masks of all training views, group anchors into a tree, attach language.

    Args:
        gaussians: on the device where the work is done.
        gaussian_anchor: the anchor of each Gaussian.
        anchor_xyz: anchor centres.
        graph: see `merging_graph`.
        datamanager: serves views and their masks.
        rasterizer: a backend for that device.
        instances: what the tree is made from.
        anchor_feature: trained instance features; needed for "features" and "both".

    Returns:
        The index, or None where the scene has no masks.

    Raises:
        UserError: masks or features are damaged or of another image.
    """
    if datamanager.view_masks() is None:
        return None
    _ = datamanager.cached_train  # undistorts, which is what the cameras must know before they become views
    cameras = datamanager.train_dataset.cameras.to(gaussians.device)
    views = [view_of(cameras[i : i + 1]) for i in range(len(cameras))]
    features: list[Tensor | None] = []

    def masks() -> Iterator[MaskSet]:
        """One view's at a time: those of all views may be larger than the device."""
        for i in range(len(cameras)):
            prepared = datamanager.prepared("train", i)
            features.append(prepared.features)
            yield prepared.masks

    splat = gaussians.detach()
    with view_progress(len(views), "lifting masks") as progress:
        if instances == "features":
            index = build_feature_index(
                rasterizer,
                splat,
                gaussian_anchor,
                anchor_xyz,
                anchor_feature,
                graph,
                views,
                masks(),
                features,
                progress=progress,
            )
        else:
            index = build_index(
                rasterizer,
                splat,
                gaussian_anchor,
                anchor_xyz,
                graph.edges,
                views,
                masks(),
                features,
                anchor_feature=anchor_feature if instances == "both" else None,
                progress=progress,
            )
    store = datamanager.view_masks().feature_store
    return index if store is None else replace(index, encoder=store.manifest.to_bytes())
