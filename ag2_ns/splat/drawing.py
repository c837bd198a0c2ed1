"""The picture that a training step makes of the children, recorded on a GPU from their parameters to the pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.view import View
from ag2_ns.ops.decode import decode_seen
from ag2_ns.ops.replayed import Replayed
from ag2_ns.rendering.gsplat import GsplatRasterizer
from ag2_ns.rendering.render import RenderOutput
from ag2_ns.splat.anchors import Anchors, Children, child_features

CHECK_ROOM = 64
"""Calls between looks at how many pairs of Gaussian and tile there are: to know it is to wait for the GPU."""

LEAVES = ("offset", "log_scale", "opacity_logit", "sh_dc", "sh_rest", "quat")


class Drawing:
    """Draws children as `ag2_ns.rendering.render` does, without a wait for the GPU and with few launches.

    What it returns is overwritten by the next call; see `Replayed`. Tile lists have a fixed size, which is made anew
    when it was short for any view since it was looked at. Where it is short, the farthest Gaussians are not drawn.

    Args:
        backend: gsplat.
        shrink: further loss of the opacities (N) and scales (N x 3), which must not wait for the device; may be None.
    """

    def __init__(
        self, backend: GsplatRasterizer, shrink: Callable[[Tensor, Tensor], Tensor | None] = lambda *_: None
    ) -> None:
        self.backend, self.shrink = backend, shrink
        self.replayed = Replayed(self._draw, watched=2)
        self._room: dict[tuple[int, int], int] = {}
        self._calls = 0
        self._most: Tensor | None = None
        """The most pairs of Gaussian and tile that were wanted since there was a look at them."""
        self._fixed: tuple[Tensor, ...] = ()

    def __call__(
        self,
        anchors: Anchors,
        children: Children,
        eye: Float[Tensor, " 3"],
        view: View,
        *,
        sh_degree: int,
        feature: bool,
        absgrad: bool,
    ) -> tuple[RenderOutput, Float[Tensor, ""] | None]:
        """The picture, and what `shrink` makes of the children.

        Args:
            anchors: whose feature is drawn.
            children: at least one.
            eye: camera centre.
            view: camera.
            sh_degree: highest band of spherical harmonics.
            feature: whether features are drawn, too.
            absgrad: whether absolute gradients are collected.
        """
        if self._most is None or self._most.device != eye.device:
            self._most = torch.zeros((), dtype=torch.int32, device=eye.device)
        self._fixed = (anchors.xyz, anchors.radius, children.anchor, self._most)
        leaves = [*(getattr(children, name) for name in LEAVES), anchors.feature]
        size = view.width, view.height
        self._calls += 1
        while True:
            room = self._room.setdefault(size, _rounded(2 * len(children)))
            rgb, alpha, means2d, radii, *others = self.replayed(
                leaves, (eye, view.viewmat, view.K), *size, sh_degree, feature, absgrad, room, fixed=self._fixed
            )
            if self.replayed.recorded and self._calls % CHECK_ROOM:
                break
            wanted = int(self._most)
            self._most.zero_()
            if 1.3 * wanted > room or 8 * wanted < room:
                self._room[size] = _rounded(2 * wanted)
            if wanted <= room:
                break
        drawn = others.pop(0) if feature else None
        return RenderOutput(rgb, drawn, None, alpha, None, means2d, radii), others[0] if others else None

    def _draw(
        self, offset, log_scale, logit, dc, rest, quat, feature, eye, viewmat, K, width, height, degree, featured,
        absgrad, room,
    ):  # fmt: skip
        xyz, radius, anchor, most = self._fixed
        means, scales, opacities, rgb = decode_seen(
            xyz, radius, anchor, offset, log_scale, logit, dc, rest, eye, degree
        )
        view = View(viewmat, K, width, height)
        projection = self.backend.project(means, quat, scales, opacities, view)
        tiles, pairs = self.backend.tiles(projection, view, room)
        torch.maximum(most, pairs, out=most)
        values = torch.cat((rgb, child_features(feature, anchor)), dim=1) if featured else rgb
        raster = self.backend.composite(projection, opacities, values, view, absgrad, tiles)
        parts = raster.values.split((3, values.shape[1] - 3), dim=-1) if featured else (raster.values,)
        shrink = self.shrink(opacities, scales)
        others = (*parts[1:], *(() if shrink is None else (shrink,)))
        return parts[0], raster.alpha, raster.means2d, raster.radii, *others


def _rounded(pairs: int) -> int:
    return -(-max(pairs, 1) // 2**17) * 2**17
