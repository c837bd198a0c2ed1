"""A picture sheet of the instance tree: levels side by side, every instance in a colour of its own, with its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ag2_ns.core.view import View
from ag2_ns.export.anchors import instance_colours
from ag2_ns.rendering import render
from ag2_ns.rendering.overlay import outline, to_uint8
from ag2_ns.rendering.sheet import CELL
from ag2_ns.scene.scene import Scene

TINT = 0.45
"""Share of an instance's colour in its pixels."""

SETS = 24
"""Instances drawn at a time."""

LEAST = 30
"""Pixels below which an instance gets no name on the sheet."""

FONT = 11


@torch.no_grad()
def instance_map(scene: Scene, view: View, level: float) -> Int[Tensor, "H W"]:
    """The node that holds most of each pixel at a level, -1 where none holds as much as nothing does."""
    index, gaussians = scene.require_index(), scene.gaussians
    node = index.gaussian_node(level)
    nodes = index.tree.instances(level)
    best = torch.full((view.height, view.width), 0.25, device=scene.device)
    shown = torch.full((view.height, view.width), -1, dtype=torch.long, device=scene.device)
    for some in nodes.split(SETS):
        chosen = (node[:, None] == some).float()
        share = scene.rasterizer.rasterize(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, chosen, view
        ).values
        top, which = share.max(-1)
        shown = torch.where(top > best, some[which], shown)
        best = torch.maximum(best, top)
    return shown


@torch.no_grad()
def level_picture(scene: Scene, view: View, level: float, names: Mapping[int, str]) -> UInt8[np.ndarray, "H W 3"]:
    """A view with its instances of a level tinted, outlined and named."""
    shown = instance_map(scene, view, level)
    rgb = render(scene.gaussians, view, scene.rasterizer, sh_degree=scene.sh_degree, depth=False).rgb.clamp(0, 1)
    colours = instance_colours(shown.clamp_min(0).flatten()).view(*shown.shape, 3).to(rgb) / 255
    inside = (shown >= 0)[..., None]
    grey = rgb.mean(-1, keepdim=True)
    picture = torch.where(inside, grey + TINT * (colours - grey), 0.5 * rgb)
    width = max(1, round(min(rgb.shape[:2]) / 240))
    present = torch.unique(shown[shown >= 0]).tolist()
    for node in present:
        picture = torch.where(outline(shown == node, width)[..., None], colours, picture)
    image = Image.fromarray(to_uint8(picture))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=FONT)
    taken: list[tuple[float, float, float, float]] = []
    for node in sorted(present, key=lambda n: -int((shown == n).sum())):
        rows, columns = (shown == node).nonzero(as_tuple=True)
        if len(rows) < LEAST:
            continue
        # The pixel of the instance that is nearest to its middle: a ring's middle is not its own.
        far = (rows - rows.float().mean()).square() + (columns - columns.float().mean()).square()
        k = int(far.argmin())
        place, name = (int(columns[k]), int(rows[k])), names.get(node, str(node))
        left, top, right, bottom = draw.textbbox(place, name, font=font, anchor="mm", stroke_width=1)
        if any(left < r and l < right and top < b and t < bottom for l, t, r, b in taken):  # noqa: E741
            continue  # the name of something larger is there
        taken.append((left, top, right, bottom))
        draw.text(place, name, fill="white", font=font, anchor="mm", stroke_width=1, stroke_fill="black")
    return np.asarray(image)


def sized(view: View, side: int = CELL) -> View:
    """The same camera with pictures whose longer side is `side`."""
    factor = side / max(view.width, view.height)
    K = view.K.clone()
    K[:2] *= factor
    return View(view.viewmat, K, max(1, round(view.width * factor)), max(1, round(view.height * factor)))


def tree_rows(
    scene: Scene, views: Sequence[View], levels: Sequence[float], names: Mapping[int, str]
) -> list[list[UInt8[np.ndarray, "H W 3"]]]:
    """For every view its picture, then each level."""
    rows = []
    for view in map(sized, views):
        picture = render(scene.gaussians, view, scene.rasterizer, sh_degree=scene.sh_degree, depth=False).rgb
        rows.append([to_uint8(picture)] + [level_picture(scene, view, level, names) for level in levels])
    return rows
