"""Anchors out: the point cloud, its instances and its graph, edits included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.edit.apply import apply_edits
from ag2_ns.edit.operations import Brighten, Edit, Members, Patch
from ag2_ns.export.formats import ExportJob, Written
from ag2_ns.io.atomic import writable
from ag2_ns.io.ply import write_anchors
from ag2_ns.ops.similarity import Similarity


def write(job: ExportJob) -> Written:
    """Write anchors.ply: centres, radii, features, instances and the graph."""
    index, anchors = job.scene.require_index(), job.scene.anchors
    instance = anchor_instances(job.trained.instance, index.gaussian_anchor, index.num_anchors)
    cloud = AnchorCloud(anchors.xyz, anchors.radius.reshape(-1), anchors.feature, instance, index.edges)
    chosen = torch.stack([s.anchor_mask for s in job.selections]).any(0) if job.selections else None
    cloud = edited_anchors(cloud, index.gaussian_anchor, job.edits, job.trained.next, chosen).moved(job.frame)
    path = job.folder / "anchors.ply"
    write_anchor_cloud(path, cloud, instance_colours(cloud.instance), job.offset)
    return [(path, f"{len(cloud.xyz)} anchors, {cloud.edges.shape[1]} edges")]


@dataclass(frozen=True)
class AnchorCloud:
    """A anchors with what belongs to them."""

    xyz: Float[Tensor, "A 3"]
    radius: Float[Tensor, " A"]
    feature: Float[Tensor, "A F"]
    instance: Int[Tensor, " A"]
    """-1 for none."""
    edges: Int[Tensor, "2 E"]

    def chosen(self, mask: Bool[Tensor, " A"]) -> AnchorCloud:
        """Some of them, and the edges between them."""
        number = torch.cumsum(mask, 0) - 1
        inside = mask[self.edges].all(0)
        return AnchorCloud(
            self.xyz[mask], self.radius[mask], self.feature[mask], self.instance[mask], number[self.edges[:, inside]]
        )

    def moved(self, frame: Similarity) -> AnchorCloud:
        """The same in another frame."""
        return replace(self, xyz=frame.points(self.xyz), radius=self.radius * frame.scale)


def anchor_instances(instance: Int[Tensor, " N"], gaussian_anchor: Int[Tensor, " N"], count: int) -> Int[Tensor, " A"]:
    """The instance that most Gaussians of each of `count` anchors belong to; the smaller one of two, -1 for none."""
    stride = int(instance.max()) + 2 if len(instance) else 1
    pair, votes = torch.unique(gaussian_anchor * stride + instance + 1, return_counts=True)
    anchor, which = torch.div(pair, stride, rounding_mode="floor"), pair % stride - 1
    order = torch.argsort(votes, descending=True, stable=True)
    order = order[torch.argsort(anchor[order], stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = anchor[order][1:] != anchor[order][:-1]
    out = torch.full((count,), -1, dtype=torch.long, device=instance.device)
    out[anchor[order[first]]] = which[order[first]]
    return out


def edited_anchors(
    cloud: AnchorCloud,
    gaussian_anchor: Int[Tensor, " N"],
    edits: Sequence[Edit],
    first: int | None = None,
    chosen: Bool[Tensor, " A"] | None = None,
) -> AnchorCloud:
    """Anchors after edits: they go where most of their Gaussians go, and duplicates take their edges along.

    Args:
        cloud: the trained anchors.
        gaussian_anchor: the anchor of each trained Gaussian.
        edits: on the Gaussians.
        first: see `EditedScene.instances`, which numbers the instances of duplicates.
        chosen: keep only these trained anchors, and their duplicates.
    """
    count = len(cloud.xyz)
    device = cloud.xyz.device
    # One Gaussian per anchor, as large as its reach.
    stand_in = Gaussians(
        cloud.xyz,
        torch.tensor([1.0, 0, 0, 0], device=device).expand(count, 4),
        cloud.radius.reshape(count, 1).expand(count, 3),
        torch.ones(count, device=device),
        torch.zeros(count, 1, 3, device=device),
    )
    moved = [
        _on_anchors(edit, gaussian_anchor.cpu(), count) for edit in edits if not isinstance(edit, (Patch, Brighten))
    ]
    scene = apply_edits(stand_in, torch.arange(count, device=device), moved)
    edges = torch.full((scene.duplicates + 1, count), -1, dtype=torch.long, device=device)
    edges[scene.copy, scene.source] = torch.arange(len(scene), device=device)
    edges = edges[:, cloud.edges].permute(1, 0, 2).reshape(2, -1)
    edited = AnchorCloud(
        scene.gaussians.means,
        scene.gaussians.scales[:, 0],
        scene.follow(cloud.feature),
        scene.instances(cloud.instance, first)[0],
        edges[:, (edges >= 0).all(0)],
    )
    return edited if chosen is None else edited.chosen(scene.follow(chosen))


def _on_anchors(edit: Edit, gaussian_anchor: Int[Tensor, " N"], count: int) -> Edit:
    """The edit with sets of anchors for its sets of Gaussians: those with at least half of their Gaussians in one."""
    total = torch.bincount(gaussian_anchor, minlength=count).clamp_min(1)
    changed: dict[str, Any] = {}
    for f in fields(edit):
        value = getattr(edit, f.name)
        if isinstance(value, Members):
            held = torch.bincount(gaussian_anchor[value.mask()], minlength=count)
            changed[f.name] = Members.of(2 * held >= total)
    return replace(edit, **changed)


def write_anchor_cloud(
    path: str | Path,
    cloud: AnchorCloud,
    rgb: UInt8[Tensor, "A 3"] | None = None,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write anchors as a PLY point cloud with radius, features, instance (`label`) and the graph as PLY edges.

    With an offset, which is added to them, positions are of type double.

    Raises:
        UserError: the file cannot be written.
    """
    with writable(path):
        write_anchors(
            path, cloud.xyz, cloud.radius, cloud.feature, cloud.instance, rgb=rgb, edges=cloud.edges, offset=offset
        )


def instance_colours(instance: Int[Tensor, " A"]) -> UInt8[Tensor, "A 3"]:
    """A colour for every instance, far apart for neighbouring numbers; grey for -1."""
    hue = (instance.double().clamp_min(0) * 0.618033988749895) % 1.0
    phase = hue[:, None] * 6 + torch.tensor([0.0, 4.0, 2.0], dtype=torch.double, device=instance.device)
    channel = ((phase % 6 - 3).abs() - 1).clamp(0, 1)
    rgb = (60 + 180 * channel).round().to(torch.uint8)
    return torch.where(instance[:, None] >= 0, rgb, torch.full_like(rgb, 128))
