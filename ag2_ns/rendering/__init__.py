"""Rasteriser backends behind one protocol."""

from ag2_ns.core.view import View
from ag2_ns.ops.sh import sh_colours
from ag2_ns.rendering.base import Raster, Rasterizer
from ag2_ns.rendering.choose import RasterizerName, choose_rasterizer
from ag2_ns.rendering.render import RenderOutput, over, render

__all__ = [
    "Raster",
    "Rasterizer",
    "RasterizerName",
    "RenderOutput",
    "View",
    "choose_rasterizer",
    "over",
    "render",
    "sh_colours",
]
