"""Gaussians to pictures: colours, features, depth and depth distortion in one pass of a rasteriser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.ops.sh import sh_colours
from ag2_ns.rendering.base import NEAR_PLANE, Rasterizer


@dataclass(frozen=True)
class RenderOutput:
    """What one view of the Gaussians looks like; nothing is composited over a background.

    `over` puts a background behind `rgb`.
    """

    rgb: Float[Tensor, "H W 3"]
    """Premultiplied colour, linear in the training images' own space; 0 where nothing is drawn, may exceed 1."""
    feature: Float[Tensor, "H W F"] | None
    """Premultiplied feature map, None if no feature was given."""
    depth: Float[Tensor, "H W 1"] | None
    """Expected camera-space z = (sum w z) / alpha, scene units; 0 where alpha is 0. None if not asked for."""
    alpha: Float[Tensor, "H W 1"]
    """Sum of rendering weights w, 0 … 1."""
    distortion: Float[Tensor, "H W 1"] | None
    """Depth distortion: half the sum over i, j of w_i w_j (m_i - m_j)^2, m = 1 - near / z. None unless asked for."""
    means2d: Float[Tensor, "N 2"]
    """Non-leaf screen-space centres in pixels, see `Raster.means2d`."""
    radii: Int[Tensor, " N"]
    """Screen-space radius in pixels, 0 for Gaussians that are not drawn."""


def render(
    gaussians: Gaussians,
    view: View,
    rasterizer: Rasterizer,
    *,
    sh_degree: int | None = None,
    rgb: Float[Tensor, "N 3"] | None = None,
    feature: Float[Tensor, "N F"] | None = None,
    depth: bool = True,
    distortion_near: float | None = None,
    absgrad: bool = False,
) -> RenderOutput:
    """Render Gaussians with the channels [rgb | feature | z | m | m^2] in one pass, differentiable in all of them.

    With M1 = sum w m, M2 = sum w m^2 and alpha = sum w, the pairwise depth distortion (Barron et al. 2022, Mip-NeRF
    360, section 4, with squared distances) is alpha * M2 - M1^2. Depths are taken as m = 1 - near / z, as by 2D
    Gaussian splatting (Huang et al. 2024, appendix): the distortion then depends on no unit, and what lies far behind a
    surface costs no more than 1. It does not change when all m shift by a constant, so m is taken relative to the mean
    of the Gaussians in front of the camera: float32 would otherwise lose thin surfaces far away.

    Args:
        gaussians: activated Gaussians.
        view: the camera, on the same device.
        rasterizer: the backend.
        sh_degree: highest spherical harmonic degree to use; all that is stored if None.
        rgb: colours seen from the camera where they are known; by default those of the spherical harmonics.
        feature: extra channels per Gaussian.
        depth: render z; without it the output has no depth, which saves a channel.
        distortion_near: also return the distortion, with depths that grow from 0 up to this z to 1 at infinity.
        absgrad: also accumulate absolute screen-space gradients, see `Raster`.

    Raises:
        UserError: if `sh_degree` exceeds what is stored.
    """
    means = gaussians.means
    if rgb is None or depth or distortion_near is not None:
        world_to_camera = view.viewmat.to(means.dtype)
        rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    if rgb is None:
        colours = getattr(rasterizer, "sh_colours", sh_colours)
        rgb = colours(gaussians.sh, means + rotation.T @ translation, sh_degree)
    channels = [rgb] if feature is None else [rgb, feature]
    if depth or distortion_near is not None:
        z = (means @ rotation[2] + translation[2])[:, None]
    if depth:
        channels.append(z)
    if distortion_near is not None:
        m = -distortion_near / z.clamp(min=distortion_near)
        m = m - _mean_ahead(m.detach(), z)
        channels += [m, m * m]

    raster = rasterizer.rasterize(
        means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        rgb if len(channels) == 1 else torch.cat(channels, dim=-1),
        view,
        absgrad=absgrad,
    )
    several = len(channels) > 1
    parts = iter(raster.values.split([c.shape[1] for c in channels], dim=-1) if several else [raster.values])
    rgb, feature = next(parts), None if feature is None else next(parts)
    expected = distortion = None
    if depth:
        drawn = raster.alpha > 0
        expected = torch.where(drawn, next(parts) / torch.where(drawn, raster.alpha, 1.0), 0.0)
    if distortion_near is not None:
        first, second = parts
        distortion = (raster.alpha * second - first * first).clamp(min=0)
    return RenderOutput(
        rgb=rgb,
        feature=feature,
        depth=expected,
        alpha=raster.alpha,
        distortion=distortion,
        means2d=raster.means2d,
        radii=raster.radii,
    )


def over(
    rgb: Float[Tensor, "H W 3"], alpha: Float[Tensor, "H W 1"], background: Float[Tensor, " 3"]
) -> Float[Tensor, "H W 3"]:
    """Premultiplied colours over a background, in [0, 1]."""
    return (rgb + (1 - alpha) * background).clamp(0, 1)


def _mean_ahead(m: Float[Tensor, "N 1"], z: Float[Tensor, "N 1"]) -> Float[Tensor, ""]:
    """Mean of what lies in front of the camera, 0 if nothing does; no device synchronisation."""
    ahead = (z > NEAR_PLANE).to(m.dtype)
    return (m * ahead).sum() / ahead.sum().clamp(min=1)
