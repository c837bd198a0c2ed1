"""Point clouds as scenes: points as small Gaussians, so that lifting, trees, language and queries need nothing new."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.settings import changed_settings
from ag2_ns.core.view import NamedView
from ag2_ns.grouping.anchor_graph import AnchorGraph, build_graph
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.io.calibration import Rig
from ag2_ns.io.points import PointCloud
from ag2_ns.io.view_store import Manifest, data_folder, view_key
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.ops.sh import rgb_to_sh
from ag2_ns.perception.encoder import Encoder
from ag2_ns.perception.segmenter import Segmenter
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.point_projection import OVERLAP, point_sizes, project_points
from ag2_ns.scene.scene import Scene, Source, WorldFrame
from ag2_ns.scene.scene_index import SceneIndex, build_index
from ag2_ns.splat.anchors import Anchors, voxel_groups, voxel_size

OPACITY = 0.95
"""Points are solid: what lies behind them is not seen."""

ANCHOR_POINTS = 4
"""Points that an anchor holds on the average: the voxels that make anchors grow until it does."""

LEAST_SEEN = 0.005
"""A rig that sees fewer of the points than this share of them does not belong to the cloud."""

GREY = 0.55
"""Of points without colours that no camera sees."""


@dataclass(frozen=True)
class PointScene:
    """A lifted cloud. Gaussian n is point n."""

    cloud: PointCloud
    gaussians: Gaussians
    index: SceneIndex
    rig: Rig | None
    masks: tuple[MaskSet, ...]
    """Of each view."""
    features: tuple[Float[Tensor, "M D"], ...]
    """Of each view; empty without an encoder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of grouping, see `Scene.settings`."""


def point_colours(cloud: PointCloud, rig: Rig | None, size: Float[Tensor, " N"]) -> Float[Tensor, "N 3"]:
    """Colour of each point, 0 to 1: its own, else the mean of the pictures that see it, else its intensity as grey."""
    if cloud.rgb is not None:
        return torch.from_numpy(cloud.rgb).float() / 255
    count = len(cloud)
    grey = torch.full((count,), GREY)
    if cloud.intensity is not None:
        top = float(np.percentile(cloud.intensity, 99)) or 1.0
        grey = torch.from_numpy(np.clip(cloud.intensity / top, 0, 1)).float() * 0.6 + 0.25
    total, seen = torch.zeros(count, 3), torch.zeros(count)
    for i in range(0 if rig is None else len(rig)):
        found = project_points(torch.from_numpy(cloud.xyz), rig.views[i], size)
        column, row = found.pixel[found.visible].unbind(1)
        total[found.visible] += torch.from_numpy(rig.image(i)[row, column]).float() / 255
        seen[found.visible] += 1
    return torch.where(seen[:, None] > 0, total / seen.clamp_min(1)[:, None], grey[:, None].expand(-1, 3))


def gaussians_of_points(cloud: PointCloud, rig: Rig | None = None) -> Gaussians:
    """One isotropic Gaussian per point, as large as the gap to its neighbours, in the point's colour."""
    size = torch.from_numpy(point_sizes(cloud.xyz))
    count = len(cloud)
    return Gaussians(
        torch.from_numpy(np.ascontiguousarray(cloud.xyz)),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        size[:, None].repeat(1, 3),
        torch.full((count,), OPACITY),
        rgb_to_sh(point_colours(cloud, rig, size))[:, None],
    )


def check_rig(cloud: PointCloud, rig: Rig) -> None:
    """Refuse cameras that do not see the cloud.

    Raises:
        UserError: hardly a point falls into any picture; the message says so where another unit would mend it.
    """
    sample = cloud.xyz[:: max(1, len(cloud) // 20000)]

    def share(scale: float) -> float:
        points = torch.from_numpy(sample) * scale
        return float(
            torch.stack([project_points(points, v, occlusion=False).visible for v in rig.views]).any(0).float().mean()
        )

    def plausible(scale: float) -> bool:
        """Cameras are in or near the cloud, and the cloud is neither a grain nor a country."""
        centre = np.median(sample, axis=0) * scale
        eyes = torch.stack([-(v.viewmat[:3, :3].T @ v.viewmat[:3, 3]) for v in rig.views]).numpy()
        reach = max(cloud.extent * scale, 1e-9)
        return bool(np.median(np.linalg.norm(eyes - centre, axis=1)) < 3 * reach and reach < 5000)

    if share(1.0) >= LEAST_SEEN and plausible(1.0):
        return
    mended = [
        unit
        for unit, scale in (("mm", 0.001), ("cm", 0.01), ("ft", 0.3048))
        if share(scale) >= 0.05 and plausible(scale)
    ]
    if mended:
        raise UserError(
            f"{rig.source}: the cameras do not fit a cloud that is {cloud.extent:,.0f} m across; its unit may be "
            f"another: add --unit {mended[0]}"
        )
    raise UserError(
        f"{rig.source}: the cameras see {share(1.0):.1%} of the points; name the calibration of this cloud (lidar2cam "
        "maps the cloud's frame to the camera's)"
    )


def anchors_of_points(
    xyz: Float[Tensor, "N 3"], size: Float[Tensor, " N"], each: int = ANCHOR_POINTS
) -> tuple[Int[Tensor, " N"], Float[Tensor, "A 3"], float]:
    """Voxels as anchors: the anchor of each point, their centres, and the voxels' edge.

    The edge is doubled from the typical gap between points until voxels hold `each` points on the average.
    """
    edge = 2.0 * float(size.median()) / OVERLAP
    group = voxel_groups(xyz, edge)
    while len(xyz) / (int(group.max()) + 1) < min(each, len(xyz)):
        edge *= 1.4
        group = voxel_groups(xyz, edge)
    count = torch.bincount(group)
    centre = xyz.new_zeros(len(count), 3).index_add_(0, group, xyz) / count[:, None]
    return group, centre, edge


def point_graph(centre: Float[Tensor, "A 3"], edge: float) -> AnchorGraph:
    """Anchors joined to those within two voxels, further where the cloud is sparse."""
    radius = centre.new_full((len(centre),), 3**0.5 / 2 * edge)
    voxel = voxel_size(1.0)
    return build_graph(centre, radius, voxel, 2.5 * edge / (16 * voxel), 32)


@torch.no_grad()
def scene_of_points(
    cloud: PointCloud,
    rig: Rig,
    segmenter: Segmenter,
    encoder: Encoder | None,
    rasterizer: Rasterizer,
    *,
    device: torch.device | str = "cpu",
    config: GroupingConfig = DEFAULTS,
    progress: Callable[[int], None] | None = None,
    prepared: Sequence[tuple[MaskSet, Float[Tensor, "M D"] | None]] | None = None,
) -> PointScene:
    """Segment and encode the pictures, lift their masks onto the points, group the points, attach language.

    Args:
        cloud: the points.
        rig: the cameras.
        segmenter: makes masks of each picture.
        encoder: makes a vector per mask; None makes instances without language.
        rasterizer: a backend for `device`.
        device: where lifting and grouping are done.
        config: thresholds of grouping.
        progress: called with the number of views done.
        prepared: masks and features of each view, where they are there already; segmenter and encoder then rest.

    Raises:
        UserError: the cameras do not see the cloud, a picture cannot be read, or none has a mask.
    """
    config.check()
    check_rig(cloud, rig)
    gaussians = gaussians_of_points(cloud, rig)
    masks: list[MaskSet] = []
    features: list[Tensor] = []
    for i, name in enumerate(rig.names):
        if prepared is not None:
            found, vectors = prepared[i]
        else:
            image = rig.image(i)
            found = segmenter.segment(image, name)
            vectors = None if encoder is None else encoder.encode_image(image, found, name).float()
        masks.append(found)
        if vectors is not None:
            features.append(vectors)
    if not any(len(m) for m in masks):
        raise UserError("no mask was found in any picture; take another --segmenter, or other weights for it")
    on_device = gaussians.to(device)
    group, centre, edge = anchors_of_points(on_device.means, on_device.scales[:, 0])
    graph = point_graph(centre, edge)
    index = build_index(
        rasterizer,
        on_device,
        group,
        centre,
        graph.edges,
        [v.to(device) for v in rig.views],
        masks,
        features if len(features) == len(masks) else None,
        config=config,
        progress=progress,
    )
    return PointScene(cloud, gaussians, index, rig, tuple(masks), tuple(features), changed_settings(config))


def as_scene(lifted: PointScene, encoder: Encoder | None, provenance: Mapping[str, Any]) -> Scene:
    """A lifted cloud as a scene that every command opens; its frame is the cloud's own, in metres.

    Args:
        lifted: the cloud.
        encoder: what its language is by.
        provenance: how it was made (JSON).
    """
    index, rig = lifted.index, lifted.rig
    if encoder is not None:
        index = replace(index, encoder=Manifest(encoder.name, encoder.settings, encoder.options).to_bytes())
    radius = index.anchor_xyz.new_full((index.num_anchors, 1), float(lifted.gaussians.scales.max()))
    names = _file_names(rig)
    views = tuple(
        NamedView(n, view_key(p, data_folder(rig.source)), "train", v) for n, p, v in zip(names, rig.images, rig.views)
    )
    eyes = torch.stack([-(v.viewmat[:3, :3].T @ v.viewmat[:3, 3]) for v in rig.views])
    spread = float((eyes - eyes.mean(0)).norm(dim=1).max())
    source = Source(data_folder(rig.source).absolute())
    made_by = index.encoder
    return Scene(
        lifted.gaussians,
        Anchors(index.anchor_xyz.cpu(), radius.cpu(), torch.ones(index.num_anchors, 3)),
        index.gaussian_anchor.cpu(),
        max(1.1 * spread, 0.25 * lifted.cloud.extent),
        index.to("cpu"),
        views,
        None,
        0,
        source,
        WorldFrame(),
        lifted.settings,
        dict(provenance),
        texts=None if encoder is None else TextEncoder(source.data, 1.0, "cpu", lambda: made_by),
    )


def _file_names(rig: Rig) -> list[str]:
    """Names of the pictures: the file's, with the camera's in front where several share one."""
    plain = [p.name for p in rig.images]
    return plain if len(set(plain)) == len(plain) else [f"{n}{p.suffix}" for n, p in zip(rig.names, rig.images)]
