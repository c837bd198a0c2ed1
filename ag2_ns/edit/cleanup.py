"""What else must go, and what must stay, when an object is removed.

A selection is made of anchors. Around its border some Gaussians outside of it mainly drew the object (floaters, the
fringe, what filled its inside unseen), and some inside of it mainly draw the support that it stands on. Both are
found by how they were rendered: a Gaussian whose rendering weight, over the views, lies in the pixels that the object
dominates belongs to the object. (Removal along the boundary anchors of the graph: AG2aussian, section 3.5; votes by
rendering weight as in `graph.lifting`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View
from ag2_ns.edit.config import EditConfig
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.ops.bounds import inliers
from ag2_ns.rendering.base import Rasterizer

DEFAULT = EditConfig()


@dataclass(frozen=True)
class Votes:
    """Rendering weight of every Gaussian (pixels, summed over views)."""

    inside: Float[Tensor, " N"]
    """On pixels that the object dominates."""
    total: Float[Tensor, " N"]
    pixels: Mapping[int, Bool[Tensor, "H W"]]
    """The object's pixels in each view that was asked, by the view's index."""

    @property
    def share(self) -> Float[Tensor, " N"]:
        """The part of the weight inside, 0 for Gaussians never seen."""
        return self.inside / self.total.clamp_min(1e-9)


@dataclass(frozen=True)
class Cleanup:
    """What a removal takes along and leaves, over the Gaussians it was asked of."""

    residue: Bool[Tensor, " N"]
    """Not selected, but mainly drew the object, or filled its inside."""
    spared: Bool[Tensor, " N"]
    """Selected, but mainly draws something else."""
    votes: Votes | None = None
    """What this was decided by; None where there was nothing to decide."""

    def removed(self, selected: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Everything that goes."""
        return (selected & ~self.spared) | self.residue

    def also(self, residue: Bool[Tensor, " N"]) -> Cleanup:
        """The same with more residue."""
        return replace(self, residue=self.residue | residue)


def spread_views(views: Sequence[View], count: int) -> list[int]:
    """Indices of at most `count` views, evenly spread over their order."""
    return sorted(set(np.linspace(0, len(views) - 1, min(count, len(views))).round().astype(int).tolist()))


@torch.no_grad()
def object_pixels(
    gaussians: Gaussians,
    selected: Bool[Tensor, " N"],
    view: View,
    rasterizer: Rasterizer,
    masks: MaskSet | None = None,
    config: EditConfig = DEFAULT,
) -> Bool[Tensor, "H W"]:
    """The pixels of a view that the selected Gaussians dominate.

    Args:
        gaussians: the scene.
        selected: the object.
        view: a camera of any device.
        rasterizer: a backend for the Gaussians' device.
        masks: the segmenter's masks of the view; the one that agrees with the selection has the better border.
        config: thresholds.
    """
    g = gaussians
    value = selected.to(g.means.dtype)[:, None]
    raster = rasterizer.rasterize(g.means, g.quats, g.scales, g.opacities, value, view.to(g.device))
    held = raster.values[..., 0]
    pixels = (held > 0.5 * raster.alpha[..., 0]) & (held > 0.1)
    if masks is None or len(masks) == 0 or not bool(pixels.any()):
        return pixels
    common = torch.zeros(len(masks), device=g.device).index_add_(
        0, masks.mask.to(g.device), pixels.reshape(-1)[masks.pixel.to(g.device)].float()
    )
    iou = common / (masks.areas.to(g.device) + pixels.sum() - common).clamp_min(1)
    best = int(iou.argmax())
    if float(iou[best]) < config.mask_iou:
        return pixels
    out = torch.zeros(view.height * view.width, dtype=torch.bool, device=g.device)
    out[masks.pixel[masks.mask == best].to(g.device)] = True
    return out.reshape(view.height, view.width)


@torch.no_grad()
def object_votes(
    gaussians: Gaussians,
    selected: Bool[Tensor, " N"],
    views: Sequence[View],
    rasterizer: Rasterizer,
    masks: Sequence[MaskSet] | None = None,
    config: EditConfig = DEFAULT,
    before: Votes | None = None,
) -> Votes:
    """How much of every Gaussian's rendering lies in the object; two passes per view. Arguments as `find_residue`.

    With the votes `before`, of another selection in the same scene, only views whose pixels have changed take the
    second pass: weights are sums over pixels.
    """
    g, found = gaussians, {}
    zero = torch.zeros(len(g), device=g.device)
    inside, total = (zero, zero.clone()) if before is None else (before.inside.clone(), before.total)
    for i in spread_views(views, config.max_views):
        view = views[i].to(g.device)
        found[i] = pixels = object_pixels(g, selected, view, rasterizer, None if masks is None else masks[i], config)
        if before is None:
            maps = torch.stack([pixels.float(), torch.ones_like(pixels, dtype=torch.float32)], -1)
        else:
            maps = (pixels.float() - before.pixels[i].float())[..., None]
            if not bool(maps.any()):
                continue
        weight = rasterizer.lift(g.means, g.quats, g.scales, g.opacities, maps, view)
        inside += weight[:, 0]
        if before is None:
            total += weight[:, 1]
    return Votes(inside.clamp_min(0), total, found)


@torch.no_grad()
def revealed(
    gaussians: Gaussians,
    removed: Bool[Tensor, " N"],
    votes: Votes,
    views: Sequence[View],
    rasterizer: Rasterizer,
    config: EditConfig = DEFAULT,
) -> Bool[Tensor, " N"]:
    """The Gaussians that only show where the object was: no picture ever said how they should look.

    Args:
        gaussians: the scene with the object.
        removed: everything that goes.
        votes: of the scene with the object.
        views: the views that the votes were taken in.
        rasterizer: a backend for the Gaussians' device.
        config: thresholds.
    """
    rest = (~removed).nonzero().squeeze(1)
    g = gaussians[rest]
    now = torch.zeros(len(rest), device=g.device)
    for i, pixels in votes.pixels.items():
        if bool(pixels.any()):
            maps = pixels.float()[..., None]
            now += rasterizer.lift(g.means, g.quats, g.scales, g.opacities, maps, views[i].to(g.device))[:, 0]
    out = torch.zeros_like(removed)
    total, inside = votes.total[rest], votes.inside[rest]
    out[rest] = (now >= config.seen) & (total < config.revealed_share * now)
    out[rest] &= total - inside < config.revealed_beside * now
    return out


@torch.no_grad()
def find_residue(
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    graph: AnchorGraph,
    instance: Int[Tensor, " N"],
    selected: Bool[Tensor, " N"],
    views: Sequence[View],
    rasterizer: Rasterizer,
    masks: Sequence[MaskSet] | None = None,
    config: EditConfig = DEFAULT,
) -> Cleanup:
    """What the removal of the selected Gaussians must take along, and what it must leave.

    Args:
        gaussians: N Gaussians of the scene as it stands.
        gaussian_anchor: the anchor of each.
        graph: the anchor graph.
        instance: the instance of each, -1 for none: Gaussians of another instance go only if they are near the object
            in the graph and seen; those of none wherever they are.
        selected: the object.
        views: the training views.
        rasterizer: a backend for the Gaussians' device.
        masks: the segmenter's masks of these views, where there are any.
        config: thresholds.
    """
    selected = selected.to(gaussians.device)
    result = Cleanup(torch.zeros_like(selected), torch.zeros_like(selected))
    if not bool(selected.any()) or len(views) == 0:
        return result
    anchors = torch.zeros(graph.num_anchors, dtype=torch.bool, device=graph.device)
    anchors[gaussian_anchor[selected]] = True
    near = graph.within(anchors, config.hops)[gaussian_anchor]
    own = torch.unique(instance[selected])
    foreign = (instance >= 0) & ~torch.isin(instance, own)
    for _ in range(config.rounds):
        votes = object_votes(gaussians, result.removed(selected), views, rasterizer, masks, config, before=result.votes)
        seen = votes.total >= config.seen
        drew = seen & (votes.share >= config.object_share) & (near | ~foreign)
        filled = ~seen & ~foreign & _within_hull(gaussians, selected, config.hull_depth)
        spared = selected & seen & (votes.share < config.support_share)
        last, result = result, Cleanup((drew | filled) & ~selected, spared, votes)
        if torch.equal(last.removed(selected), result.removed(selected)):
            break
    return result


def _within_hull(gaussians: Gaussians, selected: Bool[Tensor, " N"], depth_share: float) -> Bool[Tensor, " N"]:
    """The Gaussians well inside the convex hull of the selected ones, whose floaters do not count."""
    none = torch.zeros_like(selected)
    points = gaussians.means[selected]
    points = points[inliers(points, gaussians.opacities[selected])].double().cpu().numpy()
    if len(points) < 4:
        return none
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        return none
    margin = depth_share * float(np.ptp(points, 0).min())
    planes = torch.from_numpy(hull.equations).to(gaussians.means)
    low, high = (torch.from_numpy(b).to(gaussians.means) for b in (points.min(0), points.max(0)))
    near = ((gaussians.means >= low) & (gaussians.means <= high)).all(1).nonzero().squeeze(1)
    out = none
    if len(near):
        depth = gaussians.means[near] @ planes[:, :3].T + planes[:, 3]
        out[near] = depth.amax(1) < -margin
    return out
