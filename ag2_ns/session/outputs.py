"""Everything that one camera shows of a scene, in one raster pass: colours, features, instances, queries.

The result holds the same keys for every camera of every run, whatever is known of it, because nerfstudio averages,
selects and renders outputs by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering import over, render
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.feature_colors import color_projection
from ag2_ns.rendering.overlay import HIGHLIGHT, overlay

NO_INSTANCE = 0.32
"""Grey level of Gaussians that belong to no instance."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Looks:
    """What N Gaussians show besides their colours."""

    feature: Float[Tensor, "N 3"]
    """Colours of the instance features."""
    instance: Float[Tensor, "N 3"] | None = None
    """Colours of the instances; None where nothing is known of instances."""
    relevancy: Float[Tensor, " N"] | None = None
    """How well each answers the query, 0 (as most of the scene) to 1 (best); None without one."""
    selected: Bool[Tensor, " N"] | None = None
    """What is selected; None for nothing."""

    def __getitem__(self, keep: Bool[Tensor, " N"]) -> Looks:
        """The same for some of the Gaussians."""
        parts = (self.feature, self.instance, self.relevancy, self.selected)
        return Looks(*(None if p is None else p[keep] for p in parts))


def hues(number: Int[Tensor, " R"]) -> Float[Tensor, "R 3"]:
    """A colour for every number, always the same, those of neighbouring numbers far apart (golden-ratio hues).

    Negative numbers (no instance) are grey.
    """
    n = number.double()
    hue = (n * _GOLDEN) % 1.0
    value = torch.where(number % 2 == 0, 0.95, 0.78).to(hue)
    saturation = torch.where(number % 3 == 2, 0.5, 0.75).to(hue)
    sector = (torch.arange(3, device=hue.device)[None] * -2 + 6 * hue[:, None]) % 6
    ramp = ((sector - 3).abs() - 1).clamp(0, 1)
    color = value[:, None] * (1 - saturation[:, None] * (1 - ramp))
    return torch.where(number[:, None] >= 0, color, NO_INSTANCE).float()


def feature_looks(anchor_feature: Float[Tensor, "A F"], anchor: Int[Tensor, " N"]) -> Float[Tensor, "N 3"]:
    """Colours of the anchors' features (any F), by Gaussian; the same features always give the same colours."""
    finite = anchor_feature.nan_to_num(0.0, 0.0, 0.0)
    mean, projection = color_projection(finite)
    return ((finite - mean) @ projection + 0.5)[anchor]


@torch.no_grad()
def scene_outputs(
    gaussians: Gaussians,
    looks: Looks,
    view: View,
    rasterizer: Rasterizer,
    background: Float[Tensor, "3"],
    *,
    sh_degree: int | None = None,
) -> dict[str, Float[Tensor, "H W C"]]:
    """What a camera shows, occlusion included, as nerfstudio's outputs.

    Args:
        gaussians: the (edited) scene.
        looks: what each of them shows.
        view: the camera, on the same device.
        rasterizer: a backend for that device.
        background: colour behind everything.
        sh_degree: highest spherical harmonic degree; all that is stored if None.

    Returns:
        rgb, depth (expected z, scene units; where nothing is drawn, the largest), accumulation, background, feature
        and instance (colours, black where nothing is drawn), relevancy, selection (the selection's share of the pixel)
        and selection_overlay. Three channels or one, float, finite. Without instances, query or selection the
        respective ones are zero, and the overlay is the plain picture.
    """
    if len(gaussians) == 0:
        return _nothing(view, background)
    ones = gaussians.opacities.new_ones
    extra = [looks.feature.nan_to_num(0.0)]
    if looks.instance is not None:
        extra.append(looks.instance)
    if looks.relevancy is not None:
        extra.append(looks.relevancy[:, None].nan_to_num(0.0))
    if looks.selected is not None:
        extra.append(looks.selected[:, None].float())
    out = render(gaussians, view, rasterizer, sh_degree=sh_degree, feature=torch.cat(extra, 1), depth=True)
    alpha = out.alpha.nan_to_num(0.0).clamp(0, 1)
    parts = list(out.feature.nan_to_num(0.0).split([e.shape[1] for e in extra], dim=-1))
    zero = ones(view.height, view.width, 1) * 0
    rgb = over(out.rgb.nan_to_num(0.0), alpha, background)
    depth = out.depth.nan_to_num(0.0, 0.0, 0.0)
    feature = (parts.pop(0) / alpha.clamp_min(1e-6)).clamp(0, 1) * alpha
    instance = parts.pop(0).clamp(0, 1) if looks.instance is not None else zero.expand(-1, -1, 3)
    relevancy = parts.pop(0).clamp(0, 1) if looks.relevancy is not None else zero
    selection = parts.pop(0).clamp(0, 1) if looks.selected is not None else zero
    color = rgb.new_tensor([HIGHLIGHT])
    return {
        "rgb": rgb,
        "depth": torch.where(alpha > 0, depth, depth.amax()),
        "accumulation": alpha,
        "background": background.expand(view.height, view.width, 3),
        "feature": feature,
        "instance": instance,
        "relevancy": relevancy,
        "selection": selection,
        "selection_overlay": overlay(rgb, selection, color) if looks.selected is not None else rgb,
    }


def _nothing(view: View, background: Float[Tensor, "3"]) -> dict[str, Tensor]:
    one = background.new_zeros(view.height, view.width, 1)
    empty = background.expand(view.height, view.width, 3)
    return {
        "rgb": empty,
        "depth": one + 10,
        "accumulation": one,
        "background": empty,
        "feature": one.expand(-1, -1, 3),
        "instance": one.expand(-1, -1, 3),
        "relevancy": one,
        "selection": one,
        "selection_overlay": empty,
    }
