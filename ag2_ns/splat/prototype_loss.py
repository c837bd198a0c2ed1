"""The loss that trains COS3D's instance field: sampled pixels against the means of their masks (arXiv 2510.20238).

The form is that of the published code. Drawn features are divided by their length; the sum over the pixels of a mask is
averaged over the masks only, so a view of forty masks weighs the contrast several hundred times as much as a mean over
pixels would; and the norm term looks at every pixel of the rendered map, as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.masks import MaskSet


@dataclass(frozen=True)
class PrototypeConfig:
    """Constants of the prototype loss; the defaults are the published ones."""

    samples: int = 32_768
    """Pixels drawn from a view, with replacement."""
    least: int = 20
    """Clusters with as many draws or fewer are left out, as prototypes and as samples."""
    norm_weight: float = 100.0
    """Of the mean of (|f| - 1)^2 over all pixels."""
    scale: float = 1e-3
    """Of the whole loss."""
    temperature_scale: float = 10.0
    temperature_offset: float = 10.0
    temperature_min: float = 0.5
    temperature_max: float = 1.0
    """phi = clip(scale * sum |f - u| / (n ln(n + offset)), min, max)."""
    unmasked_cluster: bool = False
    """The pixels of no mask are a cluster of their own, as in the published code. They have nothing in common, so by
    default they take no part."""


PUBLISHED = PrototypeConfig(unmasked_cluster=True)
"""The published code, its cluster of unmasked pixels included."""

EPS = 1e-6
"""Added to lengths and to the sum of the softmax (published)."""


@dataclass(frozen=True)
class PrototypeTerms:
    """The two terms of the prototype loss, unweighted."""

    nce: Float[Tensor, ""]
    """Sum over the pixels of each cluster of -log of the probability of its prototype, averaged over the clusters."""
    norm: Float[Tensor, ""]
    """Mean over all pixels of (|f| - 1)^2."""


def prototype_loss(
    feature: Float[Tensor, "H W F"],
    masks: MaskSet,
    config: PrototypeConfig = PrototypeConfig(),
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """`scale` * (nce + `norm_weight` * norm) (COS3D, instance field).

    Args:
        feature: rendered instance features, not normalised again.
        masks: masks at the size of `feature`, on its device; they may overlap.
        config: constants.
        generator: draws the pixels, on any device; the global one when missing.

    Raises:
        ValueError: features and masks of different sizes, or fewer than one sample.
    """
    terms = prototype_terms(feature, masks, config, generator)
    return weighted(terms, config)


def weighted(terms: PrototypeTerms, config: PrototypeConfig) -> Float[Tensor, ""]:
    """The loss from its terms."""
    return config.scale * (terms.nce + config.norm_weight * terms.norm)


def prototype_terms(
    feature: Float[Tensor, "H W F"],
    masks: MaskSet,
    config: PrototypeConfig = PrototypeConfig(),
    generator: torch.Generator | None = None,
) -> PrototypeTerms:
    """Both terms of the prototype loss; see `prototype_loss`.

    Masks that overlap are more than COS3D knows: a pixel is drawn once for each mask that holds it, and the other masks
    that do are no negatives of it.
    """
    if feature.ndim != 3 or feature.shape[:2] != (masks.height, masks.width):
        raise ValueError(f"features {tuple(feature.shape)} do not match masks of {masks.height} x {masks.width} pixels")
    if config.samples < 1:
        raise ValueError(f"samples must be at least 1, not {config.samples}")
    flat = feature.reshape(-1, feature.shape[-1])
    norm = (torch.linalg.vector_norm(flat, dim=-1) - 1).square().mean()
    pixel, cluster, count = clusters(masks, config.unmasked_cluster)
    if len(pixel) == 0:
        return PrototypeTerms(flat.sum() * 0, norm)
    device = pixel.device if generator is None else generator.device
    drawn = torch.randint(len(pixel), (config.samples,), generator=generator, device=device).to(pixel.device)
    pixel, cluster = pixel[drawn], cluster[drawn]
    also = _held_too(masks, pixel, cluster, count) if overlapping(masks) else None
    return PrototypeTerms(prototype_nce(flat.index_select(0, pixel), cluster, count, config, also), norm)


def prototype_nce(
    value: Float[Tensor, "S F"],
    cluster: Int[Tensor, " S"],
    num_clusters: int,
    config: PrototypeConfig = PrototypeConfig(),
    also: Bool[Tensor, "S K"] | None = None,
) -> Float[Tensor, ""]:
    """The contrast of S drawn features against the prototypes of K clusters; no wait for the device.

    Args:
        value: features as rendered.
        cluster: of each.
        num_clusters: K.
        config: constants.
        also: other clusters that a sample belongs to as well, which are no negatives of it.
    """
    unit = value / (torch.linalg.vector_norm(value.detach(), dim=1, keepdim=True) + EPS)
    n = torch.bincount(cluster, minlength=num_clusters).to(unit.dtype)
    kept = n > config.least
    total = unit.new_zeros(num_clusters, unit.shape[1]).index_add(0, cluster, unit)
    prototype = total / n.clamp_min(1)[:, None]
    with torch.no_grad():
        distance = torch.linalg.vector_norm(unit - prototype.index_select(0, cluster), dim=1)
        spread = unit.new_zeros(num_clusters).index_add(0, cluster, distance)
        phi = config.temperature_scale * spread / (n * torch.log(n + config.temperature_offset)).clamp_min(1)
        phi = phi.clamp(config.temperature_min, config.temperature_max)
    logit = unit @ (prototype / phi[:, None]).T
    dropped = ~kept[None] if also is None else ~kept[None] | also
    own = logit.gather(1, cluster[:, None]).squeeze(1)
    # ln(sum e^x + eps) without overflow: eps is one more logit.
    floor = logit.new_full((len(logit), 1), EPS).log()
    rivals = torch.cat((logit.masked_fill(dropped, float("-inf")), floor), 1)
    each = torch.logsumexp(rivals, 1) - own
    inside = kept[cluster]
    return torch.where(inside, each, 0.0).sum() / kept.sum().clamp_min(1)


def clusters(masks: MaskSet, unmasked: bool) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], int]:
    """Pixel and cluster of all (pixel, cluster) pairs, and the number of clusters: masks, then the unmasked pixels."""
    if not unmasked:
        return masks.pixel, masks.mask, len(masks)
    known = masks.__dict__.get("_with_unmasked")
    if known is None:
        free = torch.ones(masks.height * masks.width, dtype=torch.bool, device=masks.pixel.device)
        free[masks.pixel] = False
        rest = free.nonzero().squeeze(1)
        known = torch.cat((masks.pixel, rest)), torch.cat((masks.mask, torch.full_like(rest, len(masks))))
        masks.__dict__["_with_unmasked"] = known  # views return every epoch
    return *known, len(masks) + 1


def overlapping(masks: MaskSet) -> bool:
    """Whether any pixel lies in two masks; kept with the masks, as looking would wait for the device."""
    known = masks.__dict__.get("_overlapping")
    if known is None:
        times = torch.bincount(masks.pixel, minlength=1)
        known = masks.__dict__["_overlapping"] = bool((times > 1).any())
    return known


def _held_too(masks: MaskSet, pixel: Int[Tensor, " S"], cluster: Int[Tensor, " S"], count: int) -> Bool[Tensor, "S K"]:
    """The clusters other than its own that hold each pixel. The pairs are sorted, so each is one binary search."""
    size = masks.height * masks.width
    pairs = masks.mask * size + masks.pixel
    which = torch.arange(count, device=pixel.device)
    wanted = which * size + pixel[:, None]
    place = torch.searchsorted(pairs, wanted).clamp_(max=max(len(pairs) - 1, 0))
    return (pairs[place] == wanted) & (which != cluster[:, None])
