"""Similarity transforms of Gaussians: centres, orientations, sizes and spherical harmonics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.sh import sh_basis

DIRECTIONS = 64
"""Directions at which the bands of spherical harmonics are matched; 7 would do, more are better conditioned."""


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation, in double precision on the CPU."""

    rotation: Float[Tensor, "3 3"]
    """Orthogonal; may be a reflection."""
    scale: float
    """Positive."""
    translation: Float[Tensor, "3"]

    @staticmethod
    def identity() -> Similarity:
        """The transform that changes nothing."""
        return Similarity(torch.eye(3, dtype=torch.double), 1.0, torch.zeros(3, dtype=torch.double))

    @staticmethod
    def about(
        pivot: tuple[float, float, float],
        wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
        scale: float = 1.0,
        translation: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Similarity:
        """Rotate and scale about a pivot, then translate.

        Args:
            pivot: the point that rotation and scaling leave in place.
            wxyz: rotation as a quaternion of any length but 0.
            scale: factor on all lengths.
            translation: in scene units.
        """
        w, x, y, z = wxyz
        rotation = torch.from_numpy(Rotation.from_quat([x, y, z, w]).as_matrix())
        centre = torch.tensor(pivot, dtype=torch.double)
        shift = torch.tensor(translation, dtype=torch.double)
        return Similarity(rotation, float(scale), centre + shift - scale * (rotation @ centre))

    def quaternion(self) -> tuple[float, float, float, float]:
        """The rotation as w, x, y, z; that of -R for a reflection."""
        proper = self.rotation if float(torch.det(self.rotation)) > 0 else -self.rotation
        x, y, z, w = Rotation.from_matrix(proper.numpy()).as_quat().tolist()
        return (w, x, y, z)

    def inverse(self) -> Similarity:
        """The transform that undoes this one."""
        return Similarity(self.rotation.T, 1.0 / self.scale, -(self.rotation.T @ self.translation) / self.scale)

    def then(self, other: Similarity) -> Similarity:
        """This transform followed by `other`."""
        return Similarity(
            other.rotation @ self.rotation,
            other.scale * self.scale,
            other.scale * (other.rotation @ self.translation) + other.translation,
        )

    def points(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Transformed points, on their device and in their precision; computed in double."""
        rotation, translation = self.rotation.to(points.device), self.translation.to(points.device)
        return (self.scale * (points.double() @ rotation.T) + translation).to(points.dtype)

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Transformed Gaussians: they look the same from a camera that is transformed along with them.

        Opacities stay. A reflection has no quaternion, but the ellipsoid of a covariance is its own mirror image
        through its centre, so the rotation part -R does.
        """
        return Gaussians(
            self.points(gaussians.means),
            quaternion_product(self.quaternion(), gaussians.quats),
            gaussians.scales * self.scale,
            gaussians.opacities,
            rotate_sh(gaussians.sh, self.rotation),
        )


def quaternion_product(left: tuple[float, float, float, float], right: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Hamilton product of one quaternion with many, all w, x, y, z: the rotations `right`, then `left`."""
    w, x, y, z = left
    matrix = right.new_tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return right @ matrix.T


def sh_rotation(rotation: Float[Tensor, "3 3"], degree: int) -> Float[Tensor, "K K"]:
    """The matrix D that rotates spherical harmonic coefficients: sum_k b_k(R d) (D s)_k = sum_k b_k(d) s_k.

    A rotation mixes coefficients only within a degree, so each block follows exactly from the values of that degree's
    basis at a few directions before and after it; this needs no recursion (Green 2003, "Spherical Harmonic Lighting:
    The Gritty Details", states the property) and holds for reflections too.

    Args:
        rotation: orthogonal.
        degree: highest degree, 0 to 3; K = (degree + 1)^2.
    """
    directions, inverse = _probes(degree)
    turned = sh_basis(directions @ rotation.double().cpu(), degree)  # rows are R^T d
    out = torch.zeros((degree + 1) ** 2, (degree + 1) ** 2, dtype=torch.double)
    for band in range(degree + 1):
        own = slice(band**2, (band + 1) ** 2)
        out[own, own] = inverse[band] @ turned[:, own]
    return out


@lru_cache
def _probes(degree: int) -> tuple[Float[Tensor, "P 3"], tuple[Float[Tensor, "B P"], ...]]:
    """Directions spread over the sphere (a Fibonacci lattice), and the pseudo-inverse of each degree's basis there."""
    k = np.arange(DIRECTIONS) + 0.5
    z, angle = 1 - 2 * k / DIRECTIONS, k * math.pi * (3 - math.sqrt(5))
    ring = np.sqrt(1 - z * z)
    directions = torch.from_numpy(np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1))
    basis = sh_basis(directions, degree)
    bands = (basis[:, band**2 : (band + 1) ** 2] for band in range(degree + 1))
    return directions, tuple(torch.linalg.pinv(b) for b in bands)


def rotate_sh(sh: Float[Tensor, "N K 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "N K 3"]:
    """Coefficients of the rotated functions: what was seen along d is seen along R d."""
    degree = math.isqrt(sh.shape[1]) - 1
    if degree == 0 or bool(torch.equal(rotation, torch.eye(3, dtype=rotation.dtype))):
        return sh
    return torch.einsum("jk,nkc->njc", sh_rotation(rotation, degree).to(sh), sh)
