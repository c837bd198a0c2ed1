"""Rasteriser backends behind one protocol."""

from ag2_ns.rasterizer.base import Raster, Rasterizer, View
from ag2_ns.rasterizer.choose import RasterizerName, choose_rasterizer
from ag2_ns.rasterizer.render import RenderOutput, render
from ag2_ns.rasterizer.sh import sh_colours

__all__ = [
    "Raster",
    "Rasterizer",
    "RasterizerName",
    "RenderOutput",
    "View",
    "choose_rasterizer",
    "render",
    "sh_colours",
]
