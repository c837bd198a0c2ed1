"""Answers of the instance tree, of the language field, or of both together (COS3D, section 3.3, and beyond it)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.language.field import LanguageField
from ag2_ns.query.refinement import PUBLISHED, RefinementConfig, refine_prompt, stretched
from ag2_ns.scene.scene_index import SceneIndex

Strategy = Literal["tree", "collaborative", "both"]
"""The best node of the instance tree; COS3D's refinement of the language field; or nodes by both kinds of language."""

HALF = 0.5
"""An anchor of a selection of Gaussians is selected where this share of its opacity is."""


@dataclass(frozen=True)
class FieldAnswer:
    """What the field says to one question."""

    relevancy: Float[Tensor, " U"]
    """Of each unit, before any stretch, 0 to 1; NaN without language."""
    opacity: Float[Tensor, " U"]
    """Of each unit: the sum of its Gaussians'."""
    best: float = field(default=0.0)
    """The largest relevancy."""


def ask_field(
    language: LanguageField,
    index: SceneIndex,
    gaussians: Gaussians,
    vector: Float[Tensor, " D"],
    negatives: Float[Tensor, "K D"] | None,
) -> FieldAnswer:
    """Relevancy and opacity of every unit of the field."""
    value = language.relevancy(vector, negatives)
    finite = value[torch.isfinite(value)]
    best = float(finite.max()) if len(finite) else 0.0
    return FieldAnswer(value, unit_opacity(language, index, gaussians), best)


def unit_opacity(language: LanguageField, index: SceneIndex, gaussians: Gaussians) -> Float[Tensor, " U"]:
    """Opacity of the field's units: of each Gaussian, or summed over those of an anchor."""
    opacity = gaussians.opacities.detach().float()
    if language.per_gaussian:
        return opacity
    return opacity.new_zeros(index.num_anchors).index_add_(0, index.gaussian_anchor, opacity)


def refined(
    language: LanguageField,
    said: FieldAnswer,
    called: Bool[Tensor, " U"] | None = None,
    config: RefinementConfig = PUBLISHED,
) -> Bool[Tensor, " U"]:
    """The units that answer, by COS3D's refinement.

    Args:
        language: the field.
        said: what it says.
        called: units that nothing else names better; the others answer nothing. (A white book lies in the top quarter
            of what "red book" ranges over, which is all that the published threshold asks.)
        config: thresholds.
    """
    score = stretched(said.relevancy)
    score = score if called is None else torch.where(called, score, 0.0)
    return refine_prompt(score, language.direction, said.opacity, language.spread, config)


def mean_language(language: LanguageField, said: FieldAnswer, chosen: Bool[Tensor, " U"]) -> Float[Tensor, " D"]:
    """Language of chosen units as a whole, weighted by opacity."""
    return (language.language[chosen].float() * said.opacity[chosen, None]).sum(0)


def select_units(
    language: LanguageField, index: SceneIndex, said: FieldAnswer, chosen: Bool[Tensor, " U"], label: str
) -> Selection:
    """Chosen units of the field as a selection; its score is their mean relevancy, weighted by opacity."""
    value = torch.nan_to_num(said.relevancy)
    weight = said.opacity * chosen
    score = float((value * weight).sum() / weight.sum().clamp_min(1e-12))
    if not language.per_gaussian:
        return Selection(value, chosen, chosen[index.gaussian_anchor], label, score)
    total = value.new_zeros(index.num_anchors, 3)
    rows = torch.stack((said.opacity, said.opacity * value, weight), 1)
    total.index_add_(0, index.gaussian_anchor, rows)
    opacity, answered, inside = total.unbind(1)
    anchor_score = answered / opacity.clamp_min(1e-12)
    return Selection(anchor_score, inside > HALF * opacity.clamp_min(1e-12), chosen, label, score)


def node_relevancy(language: LanguageField, index: SceneIndex, said: FieldAnswer) -> Float[Tensor, " R"]:
    """Mean relevancy of the field over every node of the tree, weighted by opacity; NaN for a node without any."""
    tree = index.tree
    value, known = torch.nan_to_num(said.relevancy), torch.isfinite(said.relevancy)
    weight = said.opacity * known
    anchor = index.gaussian_anchor if language.per_gaussian else torch.arange(index.num_anchors, device=value.device)
    node = tree.anchor_node[anchor]
    held = node >= 0
    sums = torch.zeros(tree.num_nodes, 2, dtype=torch.float64, device=value.device)
    sums.index_add_(0, node[held], torch.stack((weight, weight * value), 1)[held].double())
    total, answered = tree.subtree_sum(sums).unbind(1)
    return torch.where(total > 0, answered / total.clamp_min(1e-12), torch.nan).to(value.dtype)
