"""A language field for any splat: instance features trained on its masks, language regressed from them (COS3D)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View
from ag2_ns.language.field import LanguageField
from ag2_ns.language.pairs import InstancePairs, instance_pairs
from ag2_ns.language.regression import KernelConfig, MlpConfig, fit_mlp, kernel_regression, mlp_regression
from ag2_ns.language.smoothing import smooth_graph, smooth_nearest
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.splat.instance_field import InstanceFieldConfig, render_features, train_instance_field

Smoothing = Literal["graph", "nearest", "published", "none"]
"""Along the anchor graph; over the 10 nearest centres; the same in place, chunk by chunk, as published; or not."""


class Described(Protocol):
    """Masks of a view and their image-text features."""

    masks: MaskSet
    features: Float[Tensor, "M D"] | None


@dataclass(frozen=True)
class LanguageFieldConfig:
    """How a language field is made."""

    units: Literal["anchor", "gaussian"] = "anchor"
    """What carries features: anchors, or every Gaussian for itself, as published."""
    instance: InstanceFieldConfig = field(default_factory=InstanceFieldConfig)
    regression: Literal["kernel", "mlp"] = "kernel"
    """From instance features to language."""
    kernel: KernelConfig = field(default_factory=lambda: KernelConfig("paper"))
    """The paper's by default: the published code's gives a thing the language of what touches it, too (table-tops of
    seeds 1 and 2: text mIoU 0.898 and 0.869 against 0.866 and 0.783)."""
    mlp: MlpConfig = field(default_factory=MlpConfig)
    smoothing: Smoothing = "graph"
    """Of language over neighbours; anchors only have a graph."""


ENOUGH = 30_000
"""Steps that the published learning rate is meant for."""


def field_config(steps: int) -> LanguageFieldConfig:
    """The configuration for a number of steps: fewer than published make larger ones, to get as far."""
    lr = min(InstanceFieldConfig.lr * max(1.0, (ENOUGH / max(steps, 1)) ** 0.5), MOST)
    return LanguageFieldConfig(instance=InstanceFieldConfig(steps=steps, lr=lr))


MOST = 5e-2
"""Largest learning rate of the instance field."""


def build_language_field(
    gaussians: Gaussians,
    views: Sequence[View],
    described: Callable[[int], Described],
    rasterizer: Rasterizer,
    config: LanguageFieldConfig = LanguageFieldConfig(),
    *,
    anchor: Int[Tensor, " N"] | None = None,
    anchor_xyz: Float[Tensor, "A 3"] | None = None,
    edges: Int[Tensor, "2 E"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> LanguageField:
    """Train an instance field on the masks of a splat and regress language from it.

    Args:
        gaussians: N Gaussians on the device where the work is done; they stay as they are.
        views: the views that have masks.
        described: masks and features of view i.
        rasterizer: a backend for that device.
        config: see there.
        anchor: the anchor of each Gaussian; needed where anchors carry the features.
        anchor_xyz: centres of the anchors.
        edges: the anchor graph, where it smooths.
        progress: called with the number of steps done.

    Raises:
        UserError: a view without features, or masks of another size than their image.
    """
    by_anchor = config.units == "anchor"
    if by_anchor and (anchor is None or anchor_xyz is None):
        raise ValueError("a field on anchors needs the anchor of each Gaussian and the anchors' centres")
    unit, num = (anchor, len(anchor_xyz)) if by_anchor else (None, len(gaussians))
    device = gaussians.device
    with torch.enable_grad():
        instance = train_instance_field(
            gaussians,
            views,
            lambda i: described(i).masks.to(device),
            rasterizer,
            config.instance,
            unit=unit,
            num_units=num,
            progress=progress,
        )
    pairs = collect_pairs(gaussians, views, described, rasterizer, instance, unit)
    language = regress(instance, pairs, config)
    xyz = anchor_xyz if by_anchor else gaussians.means
    language = smooth(language, config.smoothing, xyz, edges if by_anchor else None)
    return LanguageField(instance.half(), language, pairs.spread, not by_anchor)


@torch.no_grad()
def collect_pairs(
    gaussians: Gaussians,
    views: Sequence[View],
    described: Callable[[int], Described],
    rasterizer: Rasterizer,
    instance: Float[Tensor, "U F"],
    unit: Int[Tensor, " N"] | None,
) -> InstancePairs:
    """Instance feature and language of every mask of every view.

    Raises:
        UserError: a view without features.
    """
    splat = gaussians.detach()

    def each() -> Iterator[tuple[Tensor, MaskSet, Tensor]]:
        for index, view in enumerate(views):
            found = described(index)
            if found.features is None:
                raise UserError(
                    f"view {index}: its masks have no language features; run `ag2 prepare` with an encoder, then lift"
                )
            picture = render_features(splat, instance, view, rasterizer, unit)
            yield picture, found.masks.to(picture.device), found.features.to(picture.device)

    return instance_pairs(each())


def regress(instance: Float[Tensor, "U F"], pairs: InstancePairs, config: LanguageFieldConfig) -> Float[Tensor, "U D"]:
    """Language of units from their instance features."""
    if config.regression == "mlp":
        return mlp_regression(instance, fit_mlp(pairs, config.mlp))
    return kernel_regression(instance, pairs, config.kernel)


def smooth(
    language: Float[Tensor, "U D"],
    how: Smoothing,
    xyz: Float[Tensor, "U 3"],
    edges: Int[Tensor, "2 E"] | None,
) -> Float[Tensor, "U D"]:
    """Language made alike among neighbours; without a graph over the nearest centres."""
    if how == "none":
        return language
    if how == "graph" and edges is not None:
        return smooth_graph(language, edges)
    return smooth_nearest(language, xyz, in_place=how == "published")
