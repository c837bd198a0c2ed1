"""Where to add anchors and which to drop: pure functions.

AG2aussian (ICCV 2025), section 3 and its published constants: children whose screen-space gradient is large, or that
strain away from their anchor, propose new anchors on three grids; an anchor goes when its children have faded or blown
up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.neighbours import nearest
from ag2_ns.splat.anchors import Anchors, Children, children_around, voxel_groups

LEVELS = 3
"""Growth grids: cells of 16, 4 and 1 voxels."""


@dataclass(frozen=True)
class GrowthRule:
    """Constants of one growth step."""

    threshold: float = 1.5e-4
    """Signal above which a child proposes anchors on the coarsest grid; doubles with every finer grid."""
    offset_weight: float = 1e-4
    """Share of |offset| in the signal."""
    oversize_weight: float = 5e-5
    """Share of relu(largest scale - radius) in the signal."""
    min_seen: int = 10
    """Children seen in no more views than this propose nothing."""
    children: int = 5
    """Children of a new anchor."""
    opacity: float = 0.01
    """Their opacity."""
    scale: float = 0.8
    """Their scale, in cells."""
    spread: float = 1.0
    """How far candidates land from their Gaussians' centres, in standard deviations of these (3 published)."""


@dataclass(frozen=True)
class PruneRule:
    """Constants of one pruning step."""

    min_opacity: float = 0.0099
    """An anchor goes when the mean opacity of its children is below this."""
    min_child_opacity: float = 0.05
    """A child goes when its own opacity is below this (0 published: children only go with their anchor)."""
    min_recovered_opacity: float = 0.05
    """The same at the first pruning after an opacity reset: floaters do not recover (0 published)."""
    max_scale: float = 0.1
    """A child is too large above this share of the extent."""
    max_radius: float = 40.0
    """A child is too large above this many pixels on screen."""
    oversize_share: float = 0.3
    """An anchor goes when more than this share of its children is too large."""


def growth_signal(
    gradient: Float[Tensor, " N"],
    seen: Int[Tensor, " N"],
    offset: Float[Tensor, "N 3"],
    scale: Float[Tensor, "N 3"],
    radius: Float[Tensor, "N 1"],
    rule: GrowthRule,
) -> Float[Tensor, " N"]:
    """How much each child asks for new anchors; 0 for children seen too rarely.

    Args:
        gradient: sum of screen-space gradient norms (normalised device coordinates) over the views that saw the child.
        seen: number of those views.
        offset: offsets in radii.
        scale: standard deviations, scene units.
        radius: radius of each child's anchor, scene units.
        rule: constants.
    """
    strain = rule.offset_weight * offset.norm(dim=-1)
    oversize = rule.oversize_weight * (scale.amax(-1) - radius.squeeze(-1)).relu()
    signal = gradient / seen.clamp(min=1) + strain + oversize
    return torch.where(seen > rule.min_seen, signal, torch.zeros_like(signal)).nan_to_num(0.0)


def sample_in_gaussians(gaussians: Gaussians, noise: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """One point per Gaussian at `noise` standard deviations along its own axes."""
    return gaussians.means + rotated(gaussians.quats, noise * gaussians.scales)


def rotated(quats: Float[Tensor, "N 4"], points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Each point turned by its quaternion w, x, y, z, which need not be normalised."""
    unit = torch.nn.functional.normalize(quats, dim=-1)
    w, u = unit[:, :1], unit[:, 1:]
    t = 2 * torch.cross(u, points, dim=-1)
    return points + w * t + torch.cross(u, t, dim=-1)


def occupied_cells(
    candidates: Float[Tensor, "P 3"], taken: Float[Tensor, "A 3"], cell: float
) -> tuple[Int[Tensor, " P"], int]:
    """Group candidates by grid cell, leaving out cells that already hold a point of `taken`.

    Returns:
        The group of every candidate (-1 for those in taken cells) and the number of groups.
    """
    key, held = voxel_groups(torch.cat((candidates, taken)), cell).split((len(candidates), len(taken)))
    free = ~torch.isin(key, held)
    group = torch.full_like(key, -1)
    cells, inverse = torch.unique(key[free], return_inverse=True)
    group[free] = inverse
    return group, len(cells)


def _group_mean(values: Float[Tensor, "P C"], group: Int[Tensor, " P"], count: int) -> Float[Tensor, "G C"]:
    total = values.new_zeros(count, values.shape[1]).index_add_(0, group, values)
    size = torch.bincount(group, minlength=count).clamp(min=1)
    return total / size[:, None]


def grow(
    gaussians: Gaussians,
    anchors: Anchors,
    signal: Float[Tensor, " N"],
    voxel: float,
    rule: GrowthRule,
    *,
    budget: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Anchors, Children]:
    """New anchors with children, proposed by children whose signal is high.

    Grid i = 0, 1, 2 has cells of 16, 4, 1 voxels and threshold `rule.threshold * 2**i`; each candidate is kept with
    probability 1 - 0.5**(i + 1) and lands at a random place inside its Gaussian. Occupied cells without an anchor
    become anchors with the cell as radius, the nearest anchor's feature and the candidates' mean colour.

    Args:
        gaussians: the decoded children, N of them.
        anchors: existing anchors.
        signal: see `growth_signal`.
        voxel: edge of the finest cell, scene units.
        rule: constants.
        budget: at most this many new anchors in all, coarse grids first; of too many in a grid a random choice.
        generator: source of randomness on the Gaussians' device.

    Returns:
        The new anchors and their children, whose `anchor` counts on from the existing anchors.
    """
    device = gaussians.device
    budget = 2**62 if budget is None else budget
    sh = gaussians.sh.flatten(1)
    xyz, radius, mean_sh = [anchors.xyz[:0]], [anchors.radius[:0]], [sh[:0]]
    for level in range(LEVELS):
        cell = 16 * voxel / 4**level
        chosen = signal > rule.threshold * 2**level
        keep = torch.rand(len(gaussians), generator=generator, device=device) < 1 - 0.5 ** (level + 1)
        index = (chosen & keep).nonzero().squeeze(-1)
        if budget <= 0 or len(index) == 0:
            continue
        noise = rule.spread * torch.randn(len(index), 3, generator=generator, device=device)
        points = sample_in_gaussians(gaussians[index], noise)
        taken = torch.cat([anchors.xyz, *xyz])
        group, count = occupied_cells(points, taken, cell)
        inside = group >= 0
        group, index, points = group[inside], index[inside], points[inside]
        centre, colour = _group_mean(points, group, count), _group_mean(sh[index], group, count)
        if count > budget:  # anywhere: cells come in spatial order
            some = torch.randperm(count, generator=generator, device=device)[:budget]
            centre, colour = centre[some], colour[some]
        budget -= len(centre)
        xyz.append(centre)
        mean_sh.append(colour)
        radius.append(torch.full((len(centre), 1), cell, device=device))
    new_xyz, new_radius, new_sh = torch.cat(xyz), torch.cat(radius), torch.cat(mean_sh)
    if len(new_xyz):
        parent = nearest(new_xyz, anchors.xyz, 1)[1][:, 0]
        feature = anchors.feature[parent]
    else:
        feature = anchors.feature[:0]
    new = Anchors(new_xyz, new_radius, feature)
    new_sh = new_sh.reshape(len(new_xyz), *gaussians.sh.shape[1:])
    children = children_around(
        new,
        new_sh[:, 0],
        new_sh[:, 1:],
        rule.scale * new_radius,
        count=rule.children,
        opacity=rule.opacity,
        first_anchor=len(anchors),
        generator=generator,
    )
    return new, children


def prunable_anchors(
    gaussians: Gaussians,
    child_anchor: Int[Tensor, " N"],
    num_anchors: int,
    extent: float,
    rule: PruneRule,
    screen_radius: Float[Tensor, " N"] | None = None,
) -> Bool[Tensor, " A"]:
    """Anchors whose children have faded, blown up or become NaN, and anchors without children.

    Args:
        gaussians: the decoded children.
        child_anchor: each child's anchor.
        num_anchors: A.
        extent: see `scene_extent`.
        rule: constants.
        screen_radius: largest radius on screen, pixels, since the last pruning; None to ignore screen size.
    """
    count = torch.bincount(child_anchor, minlength=num_anchors)

    def share(per_child: Tensor) -> Tensor:
        total = torch.zeros(num_anchors, device=per_child.device).index_add_(0, child_anchor, per_child.float())
        return total / count.clamp(min=1)

    large = gaussians.scales.amax(-1) > rule.max_scale * extent
    if screen_radius is not None:
        large = large | (screen_radius > rule.max_radius)
    broken = ~(
        gaussians.means.isfinite().all(-1)
        & gaussians.scales.isfinite().all(-1)
        & gaussians.quats.isfinite().all(-1)
        & gaussians.opacities.isfinite()
        & gaussians.sh.isfinite().all(-1).all(-1)
    )
    faded = share(gaussians.opacities.nan_to_num(0.0)) < rule.min_opacity
    return (count == 0) | faded | (share(large) > rule.oversize_share) | (share(broken) > 0)
