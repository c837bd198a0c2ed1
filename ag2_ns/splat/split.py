"""Where to add children by doubling and splitting those that there are: pure functions.

Children whose screen-space gradient is large are doubled where they are small and split in two where they are large
(3D Gaussian splatting, Kerbl et al. 2023, section 5), by the sum of absolute gradients of their pixels, in which
opposed ones do not cancel (AbsGS, Ye et al. 2024). New children belong to the anchor of the child that they come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.splat.anchors import Anchors, Children, children_of
from ag2_ns.splat.growth import sample_in_gaussians


@dataclass(frozen=True)
class SplitRule:
    """Constants of one step of splitting."""

    threshold: float = 8e-4
    """Mean absolute gradient, normalised device coordinates, above which a child asks for more."""
    first_threshold: float = 5e-4
    """The same while there are few children."""
    few: int = 150_000
    """So many children are no longer few."""
    large: float = 0.01
    """A child is large, and split, where its largest scale is above this share of the extent; else it is doubled."""
    shrink: float = 1.6
    """Scales of the halves are those of the whole divided by this."""
    most: float = 0.5
    """At most this share of the children splits in one step, those that ask loudest."""


def asking(gradient: Float[Tensor, " N"], seen: Int[Tensor, " N"], rule: SplitRule, budget: int) -> Bool[Tensor, " N"]:
    """The children that ask for more of them.

    Args:
        gradient: sum of absolute screen-space gradients over the views that saw the child.
        seen: number of those views.
        rule: constants.
        budget: at most so many, those that ask loudest.
    """
    mean = gradient / seen.clamp(min=1)
    chosen = mean > (rule.first_threshold if len(mean) < rule.few else rule.threshold)
    budget = min(budget, int(rule.most * len(mean)))
    if budget <= 0:
        return torch.zeros_like(chosen)
    if int(chosen.sum()) > budget:
        chosen &= mean >= mean.topk(budget).values[-1]
    return chosen


def split(
    gaussians: Gaussians,
    children: Children,
    anchors: Anchors,
    chosen: Bool[Tensor, " N"],
    large: Bool[Tensor, " N"],
    rule: SplitRule,
    generator: torch.Generator | None = None,
) -> tuple[Bool[Tensor, " N"], Children]:
    """Double the small ones among the chosen children and split the large ones.

    Args:
        gaussians: the decoded children.
        children: in trainable form.
        anchors: their anchors.
        chosen: which.
        large: those that are large.
        rule: constants.
        generator: source of randomness on the Gaussians' device.

    Returns:
        The children that are replaced by their halves, and the new children.
    """
    whole, small = (chosen & large).nonzero().squeeze(1), (chosen & ~large).nonzero().squeeze(1)
    pieces = whole.repeat(2)
    noise = torch.randn(len(pieces), 3, generator=generator, device=gaussians.device)
    source = torch.cat((pieces, small))
    made = gaussians[source]
    means, scales = made.means.clone(), made.scales.clone()
    means[: len(pieces)] = sample_in_gaussians(gaussians[pieces], noise)
    scales[: len(pieces)] /= rule.shrink
    made = Gaussians(means, made.quats, scales, made.opacities, made.sh)
    return chosen & large, children_of(made, anchors, children.anchor[source])
