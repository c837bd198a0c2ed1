"""Real spherical harmonics up to degree 3, in the order and with the signs of 3D Gaussian splatting files.

Bands are ordered by degree l, within a degree by m = -l … l, with the Condon-Shortley phase; the constants are
sqrt((2l + 1) (l - |m|)! / (4 pi (l + |m|)!)) and so on, written out (Sloan 2013, "Efficient Spherical Harmonic
Evaluation", JCGT 2(2)).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError

MAX_DEGREE = 3
_PI = math.pi
C0 = math.sqrt(1 / (4 * _PI))
"""The constant band."""


def rgb_to_sh(rgb: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """Coefficient of the constant band that gives a colour in [0, 1]; takes arrays as well."""
    return (rgb - 0.5) / C0


def sh_to_rgb(coefficient: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """Colour that the constant band alone gives; takes arrays as well."""
    return 0.5 + C0 * coefficient


def sh_basis(directions: Float[Tensor, "N 3"], degree: int) -> Float[Tensor, "N K"]:
    """Values of the K = (degree + 1)^2 basis functions at unit directions.

    Raises:
        UserError: if the degree is not 0 … 3.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise UserError(f"Spherical harmonics of degree {degree} are not supported: choose a degree from 0 to 3.")
    x, y, z = directions.unbind(-1)
    bands = [torch.full_like(x, C0)]
    if degree >= 1:
        c = math.sqrt(3 / (4 * _PI))
        bands += [-c * y, c * z, -c * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        c = math.sqrt(15 / (4 * _PI))
        bands += [
            c * x * y,
            -c * y * z,
            math.sqrt(5 / (16 * _PI)) * (3 * zz - 1),
            -c * x * z,
            0.5 * c * (xx - yy),
        ]
    if degree >= 3:
        c1, c2, c3 = math.sqrt(21 / (32 * _PI)), math.sqrt(105 / (16 * _PI)), math.sqrt(35 / (32 * _PI))
        bands += [
            -c3 * y * (3 * xx - yy),
            2 * c2 * x * y * z,
            -c1 * y * (5 * zz - 1),
            math.sqrt(7 / (16 * _PI)) * z * (5 * zz - 3),
            -c1 * x * (5 * zz - 1),
            c2 * z * (xx - yy),
            -c3 * x * (xx - 3 * yy),
        ]
    return torch.stack(bands, dim=-1)


def sh_colours(
    sh: Float[Tensor, "N K 3"], directions: Float[Tensor, "N 3"], degree: int | None = None
) -> Float[Tensor, "N 3"]:
    """Colours max(sum of bands + 0.5, 0) seen along `directions` (from the camera; any length).

    Args:
        sh: coefficients, K = (stored degree + 1)^2.
        directions: Gaussian centre minus camera centre, not normalised.
        degree: highest degree to evaluate; all that is stored if None.

    Raises:
        UserError: if `degree` is above the stored degree or above 3, or K is no square.
    """
    stored = math.isqrt(sh.shape[1]) - 1
    if (stored + 1) ** 2 != sh.shape[1]:
        raise UserError(f"{sh.shape[1]} spherical harmonic coefficients: give 1, 4, 9 or 16 of them.")
    degree = stored if degree is None else degree
    if degree > stored:
        raise UserError(f"Degree {degree} asked of spherical harmonics stored to degree {stored}: lower sh_degree.")
    if degree == 0:
        return sh_to_rgb(sh[:, 0]).clamp(min=0)
    basis = sh_basis(torch.nn.functional.normalize(directions, dim=-1), degree)
    return ((basis[:, :, None] * sh[:, : basis.shape[1]]).sum(1) + 0.5).clamp(min=0)
