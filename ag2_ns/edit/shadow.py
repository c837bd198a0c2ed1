"""The contact shadow that a removed object leaves on a flat support: found, and lifted.

Around an object its support is darker, most where they touch, and by the same factor in all colours. What is darker
than the support farther out in just this way is brightened to match; a pattern of the support is left alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.edit.apply import LUMINANCE
from ag2_ns.edit.cleanup import DEFAULT
from ag2_ns.edit.config import EditConfig
from ag2_ns.edit.operations import Brighten
from ag2_ns.edit.patch import Plane
from ag2_ns.ops.neighbours import nearest
from ag2_ns.ops.sh import sh_to_rgb

LOCAL, AROUND = 24, 64
"""Gaussians that a place's own brightness, and what it should be, are averaged over."""

MANY = 50
"""Fewer Gaussians of the support on either side tell nothing."""


@torch.no_grad()
def contact_shadow(
    gaussians: Gaussians,
    removed: Bool[Tensor, " N"],
    plane: Plane,
    chosen: Bool[Tensor, " N"],
    config: EditConfig = DEFAULT,
) -> Float[Tensor, " N"] | None:
    """The factor that lifts each Gaussian out of the shadow of an object, 1 outside of it; None where there is none.

    Args:
        gaussians: the scene with the object.
        removed: all that goes with the object.
        plane: the support that it stands on.
        chosen: the object as it was selected.
        config: thresholds.
    """
    reach, near_end, least = config.shadow_reach, config.shadow_near, config.shadow_least
    points = gaussians.means[removed]
    middle = points.mean(0)
    size = 2 * float((points - middle).norm(dim=1).median())
    height = plane.height(gaussians.means)
    on = (height.abs() < 2 * config.flat * size) & ~removed & ~chosen & (gaussians.opacities > 0.1)
    # What touches the plane casts the shadow: the lower half of the object, seen from above.
    low = points[plane.height(points) < 0.5 * size]
    if len(low) < 8 or int(on.sum()) < 2 * MANY:
        return None
    flat = lambda x: x - plane.height(x)[:, None] * plane.normal  # noqa: E731
    rows = on.nonzero().squeeze(1)
    places = flat(gaussians.means[rows])
    away = nearest(places, flat(low[:: max(1, len(low) // 4000)]), 1)[0][:, 0] / max(size, 1e-9)
    inner, outer = away < reach, (away >= reach) & (away < 3 * reach)
    if int(inner.sum()) < MANY or int(outer.sum()) < MANY:
        return None
    rgb, weight = sh_to_rgb(gaussians.sh[rows, 0]).clamp(1e-3, 1), gaussians.opacities[rows, None]
    own = _mean(places[inner], places, rgb, weight, LOCAL, 0.02 * size)
    wanted = _mean(places[inner], places[outer], rgb[outer], weight[outer], AROUND, 0.1 * size)
    share = own / wanted
    grey = share @ share.new_tensor(LUMINANCE)
    uneven = (share - grey[:, None]).abs().amax(1) > config.shadow_hue * grey
    touching, ending = (
        grey[(away[inner] >= a) & (away[inner] < b)] for a, b in ((0.0, near_end), (reach - near_end, reach))
    )
    if len(touching) < 8 or len(ending) < 8 or float(ending.median() - touching.median()) < least:
        return None
    if float(uneven[away[inner] < near_end].float().mean()) > 0.5:
        return None  # it stands on something of another colour
    fade = ((reach - away[inner]) / near_end).clamp(0, 1)
    gain = 1 + fade * ((1 / grey.clamp_min(1 / config.shadow_most)) - 1)
    gain = torch.where((grey < 1 - least) & ~uneven, gain, 1.0)
    out = torch.ones_like(gaussians.opacities)
    out[rows[inner]] = gain.clamp(1, config.shadow_most).to(out)
    return out if bool((out > 1).any()) else None


def brighten(
    factor: Float[Tensor, " N'"], source: Tensor, copy: Tensor, count: int, label: str = ""
) -> Brighten | None:
    """The edit that lifts the shadow; None where it would change nothing.

    Args:
        factor: of each Gaussian of the edited scene.
        source: the trained Gaussian of each (`EditedScene.source`).
        copy: the copy that each belongs to.
        count: the number of trained Gaussians.
        label: what cast the shadow.
    """
    lifted = torch.ones(count, device=factor.device)
    own = (factor > 1) & (copy == 0)
    lifted[source[own]] = factor[own].to(lifted)
    mask = lifted > 1
    return None if not bool(mask.any()) else Brighten.of(mask, lifted[mask], label)


def _mean(
    at: Float[Tensor, "Q 3"], places: Float[Tensor, "R 3"], rgb: Tensor, weight: Tensor, count: int, blur: float
) -> Float[Tensor, "Q 3"]:
    """Mean colour of the nearest places, near ones counting most."""
    distance, which = nearest(at, places, min(count, len(places)))
    share = weight[which, 0] / (distance.square() + blur**2)
    return (rgb[which] * share[..., None]).sum(1) / share.sum(1, keepdim=True).clamp_min(1e-12)
