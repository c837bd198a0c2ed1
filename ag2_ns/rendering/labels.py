"""Names drawn into pictures: each where its thing fills the picture most, beside a tint and an outline of the thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.overlay import outline, selection_share

LEAST_PIXELS = 0.0004
"""Share of a picture that a thing must fill to be named in it."""

AT_ONCE = 32
"""Things drawn at a time: bounds memory."""


@torch.no_grad()
def thing_map(
    gaussians: Gaussians, node: Int[Tensor, " N"], things: Sequence[int], view: View, rasterizer: Rasterizer
) -> Int[np.ndarray, "H W"]:
    """Which thing each pixel shows most, as a place in `things`; -1 where none holds more than half of it.

    Args:
        gaussians: the scene.
        node: the thing of each Gaussian.
        things: those that are looked for.
        view: the camera, on the Gaussians' device.
        rasterizer: a backend for that device.
    """
    best = torch.full((view.height, view.width), 0.5, device=gaussians.device)
    which = torch.full_like(best, -1, dtype=torch.long)
    for start in range(0, len(things), AT_ONCE):
        part = torch.tensor(things[start : start + AT_ONCE], device=node.device)
        share, place = selection_share(gaussians, node[:, None] == part, view, rasterizer).max(-1)
        better = share > best
        best, which = torch.where(better, share, best), torch.where(better, place + start, which)
    return which.cpu().numpy()


def draw_names(
    picture: UInt8[np.ndarray, "H W 3"],
    gaussians: Gaussians,
    node: Int[Tensor, " N"],
    things: Sequence[int],
    names: Sequence[str],
    view: View,
    rasterizer: Rasterizer,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with the names of the things in it; see `thing_map` for the arguments."""
    which = thing_map(gaussians, node, things, view, rasterizer)
    colours = name_colours(names)
    out = picture.astype(np.float32)
    least = max(LEAST_PIXELS * which.size, 12)
    places = []
    for k, name in enumerate(names):
        mask = which == k
        if mask.sum() < least:
            continue
        out[mask] = 0.65 * out[mask] + 0.35 * colours[name]
        out[outline(torch.from_numpy(mask), 1).numpy()] = colours[name]
        # The point of the thing that lies furthest from its border: the centre of a ring is not on the ring.
        distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        places.append((name, np.unravel_index(int(distance.argmax()), mask.shape)))
    image = Image.fromarray(out.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=max(11, round(which.shape[1] / 60)))
    taken: list[tuple[float, float, float, float]] = []
    for name, (row, column) in places:
        box = _free(draw.textbbox((column, row), name, font=font, anchor="mm"), taken, which.shape)
        taken.append(box)
        draw.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=(20, 20, 20))
        draw.text((box[0], box[1]), name, fill="white", font=font, anchor="lt")
    return np.asarray(image)


def name_colours(names: Sequence[str]) -> dict[str, np.ndarray]:
    """A colour for each name, the same for the same names whatever their order."""
    from matplotlib import colormaps

    listed = sorted(set(names))
    return {name: np.array(colormaps["hsv"]((k * 0.618) % 1.0)[:3]) * 255 for k, name in enumerate(listed)}


def _free(box: tuple, taken: list[tuple], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box moved into the picture, and down until it covers no other."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    left = min(max(left, 3), max(shape[1] - width - 3, 3))
    top = min(max(top, 3), max(shape[0] - height - 3, 3))
    while any(left < r and left + width > x and top < b and top + height > y for x, y, r, b in taken):
        top += height / 2 + 1
        if top + height > shape[0]:
            break
    return left, top, left + width, top + height
