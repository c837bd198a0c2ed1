"""Close the hole that a removed object leaves in the surface it stood on.

Nothing was ever seen there, so there is nothing to reconstruct: where the object stood on a flat support, the part of
the support that no training view saw is covered with flat Gaussians in the colours around it. What any view did see,
be it table or empty air beyond its edge, is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.edit.cleanup import DEFAULT, Votes
from ag2_ns.edit.config import EditConfig
from ag2_ns.edit.operations import Patch
from ag2_ns.grouping.anchor_graph import AnchorGraph, boundary_anchors
from ag2_ns.ops.neighbours import nearest
from ag2_ns.ops.sh import sh_to_rgb
from ag2_ns.ops.similarity import Similarity
from ag2_ns.rendering.base import Rasterizer


@dataclass(frozen=True)
class Plane:
    """Points x with normal . x = offset; the object is on the side that the normal points to."""

    normal: Float[Tensor, "3"]
    offset: float
    support: Bool[Tensor, " N"]
    """The Gaussians of the boundary that lie on it."""

    def height(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Distance above the plane."""
        return points @ self.normal - self.offset

    def axes(self) -> Float[Tensor, "2 3"]:
        """Two directions that span it."""
        helper = torch.zeros_like(self.normal)
        helper[int(self.normal.abs().argmin())] = 1.0
        u = torch.nn.functional.normalize(torch.linalg.cross(self.normal, helper), dim=0)
        return torch.stack([u, torch.linalg.cross(self.normal, u)])


@torch.no_grad()
def support_plane(
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    graph: AnchorGraph,
    removed: Bool[Tensor, " N"],
    votes: Votes,
    config: EditConfig = DEFAULT,
) -> Plane | None:
    """The plane that an object stands on, or None where its surroundings are not flat.

    Found by sampling (RANSAC, Fischler and Bolles 1981) among the Gaussians of the boundary anchors, weighted by
    opacity; a plane counts if nearly all of the object is on one side of it and the object reaches down to it.

    Args:
        gaussians: the scene with the object.
        gaussian_anchor: the anchor of each.
        graph: the anchor graph.
        removed: all that goes with the object.
        votes: how the views see the Gaussians.
        config: thresholds.
    """
    anchors = torch.zeros(graph.num_anchors, dtype=torch.bool, device=graph.device)
    anchors[gaussian_anchor[removed]] = True
    ring = boundary_anchors(graph, anchors)[gaussian_anchor] & ~removed
    ring &= (votes.total >= config.seen) & (votes.share < config.object_share)
    means, object_means = gaussians.means[ring], gaussians.means[removed]
    weight, object_weight = gaussians.opacities[ring], gaussians.opacities[removed]
    if len(means) < 8 or len(object_means) < 8:
        return None
    middle = object_means.mean(0)
    size = float((object_means - middle).norm(dim=1).median()) * 2
    tolerance, trials = config.flat * size, config.plane_trials
    # The surface next to the object matters, not the wall behind it.
    gap = (means - middle).norm(dim=1)
    weight = weight * torch.exp(-((gap / (1.5 * size)) ** 2))
    if float(weight.sum()) <= 0:
        return None
    generator = torch.Generator().manual_seed(0)
    picks = torch.multinomial(weight.double().cpu(), 3 * trials, replacement=True, generator=generator)
    a, b, c = means[picks.to(means.device)].reshape(trials, 3, 3).unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    length = normals.norm(dim=1)
    usable = length > 1e-3 * size**2
    normals, a = normals[usable] / length[usable, None], a[usable]
    if len(normals) == 0:
        return None
    offsets = (normals * a).sum(1)
    above = object_means @ normals.T - offsets
    side = torch.sign((above * object_weight[:, None]).sum(0))
    normals, offsets, above = normals * side[:, None], offsets * side, above * side
    share = ((above > -2 * tolerance) * object_weight[:, None]).sum(0) / object_weight.sum()
    reaches = torch.quantile(_thin(above), 0.05, dim=0) < config.plane_reach * size
    on = (means @ normals.T - offsets).abs() < tolerance
    score = (on * weight[:, None]).sum(0) / weight.sum()
    score = torch.where((share >= config.plane_above) & reaches, score, -1.0)
    best = int(score.argmax())
    if float(score[best]) < config.plane_agrees:
        return None
    normal, offset, on = _refit(means, weight, on[:, best], normals[best], tolerance)
    support = torch.zeros_like(removed)
    support[ring.nonzero().squeeze(1)[on]] = True
    return Plane(normal, offset, support)


def _refit(
    means: Float[Tensor, "R 3"], weight: Float[Tensor, " R"], on: Bool[Tensor, " R"], normal: Tensor, tolerance: float
) -> tuple[Float[Tensor, "3"], float, Bool[Tensor, " R"]]:
    """Least squares over the inliers, twice."""
    offset = 0.0
    for _ in range(2):
        w = (weight * on).double()[:, None]
        centre = (means.double() * w).sum(0) / w.sum()
        away = (means.double() - centre) * w.sqrt()
        direction = torch.linalg.eigh(away.T @ away)[1][:, 0].to(means.dtype)
        normal = direction * torch.sign(direction @ normal)
        offset = float(centre.to(means.dtype) @ normal)
        on = (means @ normal - offset).abs() < tolerance
    return normal, offset, on


@dataclass(frozen=True)
class Hole:
    """A hole in a flat support, and what closes it."""

    centre: Float[Tensor, "P 3"]
    """Places on the plane that no view saw."""
    rgb: Float[Tensor, "P 3"]
    """Colours to give them."""
    support: Int[Tensor, " P"]
    """The Gaussian of the support that each belongs to."""
    plane: Plane
    step: float
    """Distance between neighbouring places, scene units."""
    opacity: float
    """Of what closes it."""

    def patch(self, trained: Int[Tensor, " N'"], count: int, label: str = "") -> Patch:
        """The edit that closes it.

        Args:
            trained: the trained Gaussian of each of the scene (`EditedScene.source`).
            count: the number of trained Gaussians.
            label: what was removed.
        """
        turn = torch.stack([*self.plane.axes(), self.plane.normal], 1).double().cpu()
        wxyz = Similarity(turn, 1.0, torch.zeros(3, dtype=torch.double)).quaternion()
        scales = (0.8 * self.step, 0.8 * self.step, 0.05 * self.step)
        source = trained[self.support]
        return Patch.of(source, self.centre, self.rgb, count, label, wxyz=wxyz, scales=scales, opacity=self.opacity)

    def under(self, gaussians: Gaussians, hidden: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Of the Gaussians that were hidden, those that would stick out of the patch."""
        out = torch.zeros_like(hidden)
        rows = hidden.nonzero().squeeze(1)
        if len(rows) == 0:
            return out
        g = gaussians[rows]
        height = self.plane.height(g.means)
        distance, _ = nearest(g.means - height[:, None] * self.plane.normal, self.centre, 1)
        wide = g.scales.amax(1)
        out[rows] = (distance[:, 0] < 2 * self.step + wide) & (height > -3 * wide - 2 * self.step)
        return out


@torch.no_grad()
def find_hole(
    gaussians: Gaussians,
    plane: Plane,
    removed: Bool[Tensor, " N"],
    selected: Bool[Tensor, " N"],
    votes: Votes,
    views: Sequence[View],
    rasterizer: Rasterizer,
    config: EditConfig = DEFAULT,
) -> Hole | None:
    """The hole that an object leaves in the flat support under it, or None where there is none.

    Args:
        gaussians: the scene with the object, without its shadow.
        plane: the support.
        removed: all that goes with the object (`Cleanup.removed`).
        selected: the object as it was selected; what closes the hole belongs to none of it, even where it stays.
        votes: how the views see the Gaussians (`Cleanup.votes`).
        views: the views that the votes were taken in.
        rasterizer: a backend for the Gaussians' device.
        config: thresholds.
    """
    centres, step = _cells(gaussians.means[removed], plane, config.patch_cells)
    looks = _looks(gaussians, centres, plane, step, votes, views, rasterizer)
    centres = centres[looks < config.patch_looks]
    if len(centres) == 0:
        return None
    support = plane.support.nonzero().squeeze(1)
    near, seen = gaussians[support], votes.total[support]
    distance, neighbour = nearest(centres, near.means, min(config.patch_neighbours, len(support)))
    # What many pixels show has the right colour; slivers in the contact shadow may have any.
    weight = seen[neighbour] / (distance + 4 * step).square()
    weight = weight / weight.sum(1, keepdim=True)
    colour = sh_to_rgb(near.sh[:, 0]).clamp(0, 1)
    foreign = ~selected[support[neighbour]]
    owner = neighbour.gather(1, foreign.int().argmax(1, keepdim=True)).squeeze(1)  # the nearest, or nearest of all
    rgb = (colour[neighbour] * weight[..., None]).sum(1)
    return Hole(centres, rgb, support[owner], plane, step, config.patch_opacity)


def _cells(points: Float[Tensor, "K 3"], plane: Plane, count: int) -> tuple[Float[Tensor, "P 3"], float]:
    """A grid of points of the plane under the object, and its step."""
    flat = points @ plane.axes().T
    low, high = torch.quantile(_thin(flat), flat.new_tensor([0.01, 0.99]), dim=0)
    middle, half = (low + high) / 2, (high - low) * 0.6
    step = 2 * float(half.max()) / count
    counts = [max(int(2 * float(h) / step), 1) + 1 for h in half]
    lines = [torch.linspace(-float(h), float(h), n, device=points.device) for h, n in zip(half, counts)]
    grid = torch.cartesian_prod(*lines) + middle
    return grid @ plane.axes() + plane.offset * plane.normal, step


def _thin(values: Tensor, most: int = 100_000) -> Tensor:
    """Evenly spread rows: torch.quantile takes no more than 16 million values."""
    return values[:: max(1, len(values) // most)]


def _looks(
    gaussians: Gaussians,
    centres: Float[Tensor, "P 3"],
    plane: Plane,
    step: float,
    votes: Votes,
    views: Sequence[View],
    rasterizer: Rasterizer,
) -> Float[Tensor, " P"]:
    """How many views see each place: the others see the object, or something else that hides it."""
    looks = torch.zeros(len(centres), device=centres.device)
    for i, pixels in votes.pixels.items():
        view = views[i].to(centres.device)
        g, z = gaussians, gaussians.means @ view.viewmat[2, :3] + view.viewmat[2, 3]
        out = rasterizer.rasterize(g.means, g.quats, g.scales, g.opacities, z[:, None], view)
        camera = centres @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
        pixel = (camera @ view.K.T)[:, :2] / camera[:, 2:].clamp_min(1e-6)
        x, y = pixel.floor().long().unbind(1)
        inside = (camera[:, 2] > 0) & (x >= 0) & (y >= 0) & (x < view.width) & (y < view.height)
        x, y = x.clamp(0, view.width - 1), y.clamp(0, view.height - 1)
        eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3]
        # Depth errors that a small step across the plane explains are larger the flatter the view.
        slant = (torch.nn.functional.normalize(centres - eye, dim=1) @ plane.normal).abs().clamp_min(0.05)
        alpha = out.alpha[y, x, 0]
        depth = out.values[y, x, 0] / alpha.clamp_min(1e-6)
        # Seen: the surface rendered there is not the object, and lies at the place or behind it.
        looks += inside & ~pixels[y, x] & ((alpha < 0.5) | (depth > camera[:, 2] - 2 * step / slant))
    return looks
