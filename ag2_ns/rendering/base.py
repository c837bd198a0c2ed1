"""What every rasteriser backend takes and returns.

A backend composites any number of per-Gaussian channels; it knows nothing of spherical harmonics, losses or
nerfstudio. `ag2_ns.rendering.render` turns Gaussians into channels and channels into a `RenderOutput`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.view import View

NEAR_PLANE = 0.01
"""Gaussians closer than this to the camera (scene units) are not drawn."""

BLUR = 0.3
"""Variance (pixels squared) added to every projected covariance: the 3DGS low-pass filter."""

ALPHA_MIN = 1.0 / 255.0
"""Contributions below this opacity are skipped."""

ALPHA_MAX = 0.999
"""Opacity of one contribution is capped here."""

TRANSMITTANCE_MIN = 1e-4
"""Compositing of a pixel stops before transmittance would fall to this value or below."""


@dataclass(frozen=True)
class Raster:
    """Channels composited front to back, without background.

    `means2d` is the non-leaf tensor that the compositing consumed: call `retain_grad()` on it before the backward
    pass to obtain the screen-space gradient (pixels) that drives growth. With `absgrad=True` the tensor also gains an
    attribute `absgrad` of the same shape (sum over pixels of absolute gradients) in the backward pass.
    """

    values: Float[Tensor, "H W C"]
    alpha: Float[Tensor, "H W 1"]
    means2d: Float[Tensor, "N 2"]
    radii: Int[Tensor, " N"]
    """Screen-space radius in pixels, 0 for Gaussians that are not drawn."""


class Rasterizer(Protocol):
    """One backend. All tensors of a call live on one device."""

    name: str

    def rasterize(
        self,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, " N"],
        values: Float[Tensor, "N C"],
        view: View,
        *,
        absgrad: bool = False,
    ) -> Raster:
        """Composite `values`, differentiable in means, quats, scales, opacities and values.

        Args:
            means: centres, scene units.
            quats: rotations w, x, y, z; need not be normalised.
            scales: standard deviations, scene units, positive.
            opacities: in (0, 1).
            values: channels to composite, C >= 1.
            view: the camera.
            absgrad: also accumulate absolute screen-space gradients.
        """
        ...

    def lift(
        self,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, " N"],
        maps: Float[Tensor, "H W C"],
        view: View,
    ) -> Float[Tensor, "N C"]:
        """The transpose of compositing: for every Gaussian, the sum over pixels of its rendering weight times `maps`.

        With `maps` holding masks (and a last channel of ones) this is each Gaussian's weight inside every mask (and in
        total). No gradient flows through it.
        """
        ...
