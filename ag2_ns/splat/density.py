"""When anchors are added and dropped during training: the stateful half of `growth`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.optim import Optimizer

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.splat.anchors import Anchors, Children
from ag2_ns.splat.growth import GrowthRule, PruneRule, grow, growth_signal, prunable_anchors
from ag2_ns.splat.split import SplitRule, asking, split

BEHIND = 0.9
"""Opacity of what is behind a Gaussian from which it hides something; before less, it fills a gap."""


class AnchorOwner(Protocol):
    """The part of the model that density control reads and rewrites."""

    def anchor_state(self) -> Anchors: ...  # noqa: D102
    def child_state(self) -> Children: ...  # noqa: D102
    def gaussians(self) -> Gaussians: ...  # noqa: D102

    def restructure(
        self,
        keep_anchor: Bool[Tensor, " A"],
        keep_child: Bool[Tensor, " N"],
        new_anchors: Anchors | None,
        new_children: Children | None,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Drop and append anchors and children, moving optimizer state along."""
        ...


@dataclass
class ScreenStatistics:
    """What training views reported about every child since the last refinement."""

    gradient: Float[Tensor, " N"]
    seen: Int[Tensor, " N"]
    radius: Float[Tensor, " N"]

    @staticmethod
    def zeros(count: int, device: torch.device) -> ScreenStatistics:
        """No reports yet for `count` children."""
        return ScreenStatistics(
            torch.zeros(count, device=device),
            torch.zeros(count, dtype=torch.long, device=device),
            torch.zeros(count, device=device),
        )

    def add(self, gradient: Float[Tensor, "N 2"], radii: Int[Tensor, " N"], width: int, height: int) -> None:
        """Record one view.

        Args:
            gradient: of the loss with respect to the 2D centres, per pixel; 0 where not drawn.
            radii: screen radius, pixels; 0 where not drawn.
            width: of the view, pixels.
            height: of the view, pixels.
        """
        self.gradient += torch.hypot(gradient[:, 0] * (width / 2), gradient[:, 1] * (height / 2))
        self.seen += radii > 0
        self.radius = torch.maximum(self.radius, radii)


def refine(
    owner: AnchorOwner,
    statistics: ScreenStatistics,
    optimizers: dict[str, Optimizer],
    *,
    extent: float,
    voxel: float,
    growth: GrowthRule | SplitRule,
    prune: PruneRule,
    use_screen_size: bool,
    after_reset: bool,
    max_gaussians: int,
    generator: torch.Generator | None = None,
) -> ScreenStatistics:
    """One growth and pruning step; returns fresh statistics for the new children.

    Args:
        owner: the model.
        statistics: reports since the last step.
        optimizers: by parameter group name.
        extent: scene extent.
        voxel: finest growth cell, scene units.
        growth: constants of growth, whose kind says which.
        prune: constants of pruning.
        use_screen_size: whether children may be too large on screen.
        after_reset: whether opacities have just had time to recover from a reset.
        max_gaussians: growth stops at this many children.
        generator: source of randomness on the model's device.
    """
    gaussians, anchors, children = owner.gaussians().detach(), owner.anchor_state(), owner.child_state()
    drop = prunable_anchors(
        gaussians, children.anchor, len(anchors), extent, prune, statistics.radius if use_screen_size else None
    )
    least = prune.min_recovered_opacity if after_reset else prune.min_child_opacity
    keep = ~drop[children.anchor] & (gaussians.opacities >= least)
    if not keep.any():
        # Dropping everything would end the run; a faded scene recovers within a few steps.
        keep = torch.ones_like(keep)
    budget = max(0, max_gaussians - int(keep.sum()))
    if isinstance(growth, SplitRule):
        chosen = asking(statistics.gradient, statistics.seen, growth, budget)
        large = gaussians.scales.amax(-1) > growth.large * extent
        replaced, new_children = split(gaussians, children, anchors, chosen & keep, large, growth, generator)
        keep &= ~replaced
        new_anchors = None
    else:
        radius = anchors.radius[children.anchor]
        signal = growth_signal(
            statistics.gradient, statistics.seen, children.offset.detach(), gaussians.scales, radius, growth
        )
        budget //= growth.children
        new_anchors, new_children = grow(gaussians, anchors, signal, voxel, growth, budget=budget, generator=generator)
    owners = torch.cat((children.anchor[keep], new_children.anchor[new_children.anchor < len(anchors)]))
    filled = torch.bincount(owners, minlength=len(anchors)) > 0
    owner.restructure(filled, keep, new_anchors, new_children, optimizers)
    return ScreenStatistics.zeros(len(owner.child_state()), gaussians.device)


def drop_children(owner: AnchorOwner, keep: Bool[Tensor, " N"], optimizers: dict[str, Optimizer]) -> None:
    """Drop children and the anchors that this leaves empty."""
    if not keep.any():
        return
    children = owner.child_state()
    filled = torch.bincount(children.anchor[keep], minlength=len(owner.anchor_state())) > 0
    owner.restructure(filled, keep, None, None, optimizers)


@dataclass(frozen=True)
class Shown:
    """How much cameras show of every Gaussian."""

    total: Float[Tensor, " N"]
    """Rendering weight summed over pixels and views, pixels."""
    views: Float[Tensor, " N"]
    """In how many views: (sum of weights)^2 / sum of their squares, which is V for V equal ones."""
    most: Float[Tensor, " N"]
    """The largest weight in one view, pixels."""


def visibility(gaussians: Gaussians, views: list[View], rasterizer: Rasterizer) -> Shown:
    """Each Gaussian's rendering weight in the views.

    The published implementation accumulates |d sum(alpha) / d opacity|, which vanishes for a Gaussian in front of
    another opaque one although it is what the camera sees; the rendering weight T * alpha has no such blind spot.
    """
    total, square, most = torch.zeros(3, len(gaussians), device=gaussians.device)
    for view in views:
        ones = torch.ones(view.height, view.width, 1, device=gaussians.device)
        weight = rasterizer.lift(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, ones, view
        ).squeeze(-1)
        total += weight
        square += weight.square()
        most = torch.maximum(most, weight)
    return Shown(total, total.square() / square.clamp(min=1e-12), most)


def beside(views: list[View], most: int) -> list[View]:
    """Where the next picture might have been taken: the motion to a camera from the one nearest to it, made once more.

    Args:
        views: cameras.
        most: of so many of them, evenly spread.
    """
    if len(views) < 2:
        return []
    world = torch.stack([view.viewmat for view in views])
    pose = torch.linalg.inv(world)
    apart = torch.cdist(pose[:, :3, 3], pose[:, :3, 3]).fill_diagonal_(torch.inf)
    nearest = apart.argmin(1)
    onward = world @ pose[nearest] @ world
    chosen = torch.linspace(0, len(views) - 1, min(most, len(views))).round().long().tolist()
    return [replace(views[k], viewmat=onward[k]) for k in chosen]


def hiding(
    shown: Shown, gaussians: Gaussians, beside: list[View], rasterizer: Rasterizer, few: float
) -> Bool[Tensor, " N"]:
    """The Gaussians that would hide what is behind them from a camera beside those of training.

    One of them shows more than all training cameras see of it, few of these see it at all, and without it and its like
    the picture would be no emptier. It stands for something far behind it in a view or two, in a place that no other
    view contradicts.

    Args:
        shown: what training cameras see.
        gaussians: N of them.
        beside: cameras beside those of training, see `beside`.
        rasterizer: a backend for the Gaussians' device.
        few: Gaussians that so many training views show are right where they are.
    """
    suspect = (visibility(gaussians, beside, rasterizer).most > shown.total) & (shown.views < few)
    if not suspect.any():
        return suspect
    rest, (total, covered) = gaussians[~suspect], torch.zeros(2, len(gaussians), device=gaussians.device)
    for view in beside:
        behind = rasterizer.rasterize(
            rest.means, rest.quats, rest.scales, rest.opacities, torch.ones_like(rest.opacities)[:, None], view
        ).alpha
        maps = torch.cat((torch.ones_like(behind), behind), dim=-1)
        weight = rasterizer.lift(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, maps, view)
        total += weight[:, 0]
        covered += weight[:, 1]
    return suspect & (covered >= BEHIND * total)


def least_shown(seen: Float[Tensor, " N"], share: float) -> Bool[Tensor, " N"]:
    """The Gaussians of least rendering weight that together have no more than `share` of all of it.

    Args:
        seen: see `visibility`.
        share: 0 to 1.
    """
    value, order = seen.sort()
    least = torch.zeros_like(seen, dtype=torch.bool)
    least[order] = value.cumsum(0) <= share * value.sum()
    return least
