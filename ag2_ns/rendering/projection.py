"""Projection of 3D Gaussians to screen-space ellipses, in plain differentiable PyTorch.

Elliptical weighted average splatting (Zwicker et al. 2001, "EWA volume splatting", section 3.2): the camera-space
covariance goes through the Jacobian of the perspective map at the centre. Conventions and constants follow gsplat, so
that values and gradients agree with its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.view import View
from ag2_ns.ops.rotations import rotation_matrices
from ag2_ns.rendering.base import BLUR, NEAR_PLANE

SIGMAS = 3.0
"""Half the side of a Gaussian's screen-space square, in standard deviations of its longest axis."""

GUARD_BAND = 0.3
"""Directions are clamped, for the Jacobian only, this fraction of the half field of view outside of the image."""

MAX_RADIUS = float(2**30)


@dataclass(frozen=True)
class Projected:
    """Screen-space ellipses of N Gaussians in one view; rows of Gaussians that are not drawn hold finite fillers."""

    means2d: Float[Tensor, "N 2"]
    """Centres in pixels, pixel centres at +0.5."""
    conics: Float[Tensor, "N 3"]
    """Inverse covariance xx, xy, yy in 1 / pixels squared."""
    depths: Float[Tensor, " N"]
    """Camera-space z, scene units."""
    radii: Int[Tensor, " N"]
    """Pixels; 0 for Gaussians that are not drawn."""
    variances: Float[Tensor, "N 2"]
    """Diagonal of the covariance in pixels squared, blur included; outside of the autograd graph."""

    @property
    def visible(self) -> Bool[Tensor, " N"]:
        """Gaussians that are in front of the camera and overlap the image."""
        return self.radii > 0


def guarded(focal: float, centre: float, size: int) -> tuple[float, float]:
    """Least and greatest direction, along one axis of the image, at which the Jacobian is taken."""
    guard = GUARD_BAND * 0.5 * size / focal
    return -centre / focal - guard, (size - centre) / focal + guard


def project(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    view: View,
    *,
    near: float = NEAR_PLANE,
    blur: float = BLUR,
) -> Projected:
    """Project Gaussians into a view; differentiable in means, quats, scales and `view.viewmat`.

    Args:
        means: centres, scene units.
        quats: rotations w, x, y, z; need not be normalised.
        scales: standard deviations, scene units.
        view: the camera, whose matrices live on the device of `means`.
        near: Gaussians whose centre is closer than this are not drawn.
        blur: variance in pixels squared added to both image axes.
    """
    dtype = means.dtype
    world_to_camera = view.viewmat.to(dtype)
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    (fx, _, cx), (_, fy, cy) = view.K[:2].tolist()

    camera = means @ rotation.T + translation
    depths = camera[:, 2]
    in_front = depths > near
    z = torch.where(in_front, depths, torch.ones_like(depths))
    inverse_z = 1.0 / z
    u, v = (camera[:, :2] * inverse_z[:, None]).unbind(-1)
    means2d = torch.stack((u * fx + cx, v * fy + cy), dim=-1)

    # Rows of (Jacobian x rotation): what a camera-space offset does to the pixel, written for world-space offsets.
    u_clamped, v_clamped = u.clamp(*guarded(fx, cx, view.width)), v.clamp(*guarded(fy, cy, view.height))
    row_x = (fx * inverse_z)[:, None] * (rotation[0] - u_clamped[:, None] * rotation[2])
    row_y = (fy * inverse_z)[:, None] * (rotation[1] - v_clamped[:, None] * rotation[2])
    axes = rotation_matrices(quats) * scales[:, None, :]
    axes_x = (row_x[:, :, None] * axes).sum(1)
    axes_y = (row_y[:, :, None] * axes).sum(1)
    xx = (axes_x * axes_x).sum(-1) + blur
    xy = (axes_x * axes_y).sum(-1)
    yy = (axes_y * axes_y).sum(-1) + blur
    determinant = (xx * yy - xy * xy).clamp(min=1e-10)
    conics = torch.stack((yy, -xy, xx), dim=-1) / determinant[:, None]

    with torch.no_grad():
        half_trace = 0.5 * (xx + yy)
        longest = half_trace + (half_trace * half_trace - determinant).clamp(min=0.01).sqrt()
        radius = (SIGMAS * longest.sqrt()).ceil()
        x, y = means2d.unbind(-1)
        drawn = in_front & (x + radius > 0) & (x - radius < view.width) & (y + radius > 0) & (y - radius < view.height)
        radii = torch.where(drawn, radius.clamp(max=MAX_RADIUS), torch.zeros_like(radius)).int()
        variances = torch.stack((xx, yy), dim=-1)
    return Projected(means2d, conics, depths, radii, variances)
