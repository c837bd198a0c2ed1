"""How well tree nodes answer a text: relevancy against canonical negatives, trusted as far as the evidence goes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.language.node_language import NodeLanguage

TEMPERATURE = 10.0
"""Of the pairwise softmax (LERF)."""


def relevancy(
    feature: Float[Tensor, "R D"], text: Float[Tensor, " D"], negatives: Float[Tensor, "K D"] | None
) -> Float[Tensor, " R"]:
    """Relevancy of nodes, 0 to 1: the least probability of the text in a softmax of two against each negative.

    Args:
        feature: image-text features of unit length, or zero.
        text: the embedded text.
        negatives: embedded `NEGATIVES`; without any, the scene's own median takes their place, so that 0.5 means
            average for this scene.
    """
    unit = torch.nn.functional.normalize
    feature = feature.float()
    text = text.to(feature)
    positive = feature @ unit(text, dim=0)
    if negatives is None or len(negatives) == 0:
        valued = (feature != 0).any(1)
        rival = positive[valued].median() if bool(valued.any()) else positive.new_zeros(())
    else:
        rival = (feature @ unit(negatives.to(feature), dim=1).T).amax(1)
    return torch.sigmoid(TEMPERATURE * (positive - rival))


def trusted_relevancy(
    language: NodeLanguage, text: Float[Tensor, " D"], negatives: Float[Tensor, "K D"] | None
) -> tuple[Float[Tensor, " R"], float]:
    """Relevancies drawn towards the scene's typical one by how little their node is to be trusted.

    Image-text models give everything nearly the same cosine, so factors on the relevancy itself would decide the
    ranking; only a node's distance from the typical relevancy says something, and only that is discounted: by the root
    of trust, so that what few views show is found as well.

    Returns:
        (relevancies [R], the typical one: the median weighted by trust).
    """
    value = relevancy(language.feature, text, negatives)
    trust = language.trust.to(value)
    if not bool((trust > 0).any()):
        return torch.zeros_like(value), 0.0
    order = torch.argsort(value)
    weight = torch.cumsum(trust[order], 0)
    middle = value[order[torch.searchsorted(weight, weight[-1:] / 2)[0].clamp_max(len(order) - 1)]]
    return (middle + trust.sqrt() * (value - middle)).clamp(0, 1), float(middle)
