"""A splat of a table-top scene without training: one flat Gaussian per voxel of the surfaces that the cameras see.

Queries can be measured on it in seconds on a CPU. It is cleaner than a trained splat (no floaters, exact geometry), so
what fails on it fails because of masks, features or the query itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.sh import rgb_to_sh
from ag2_ns.synthetic.tabletop.layout import Layout
from ag2_ns.synthetic.tabletop.raytrace import cast, pixel_rays
from ag2_ns.synthetic.tabletop.render import Lit, render

OPACITY = 0.97


@dataclass(frozen=True)
class Surface:
    """Gaussians on surfaces, and what each of them lies on."""

    gaussians: Gaussians
    owner: Int[Tensor, " N"]
    """Id of the object (labels of the layout); 0 for furniture and room."""


def surface_splat(
    layout: Layout,
    poses: Float[np.ndarray, "V 3 4"],
    focal: float,
    width: int,
    height: int,
    *,
    spacing: float | None = None,
    lit: Lit | None = None,
) -> Surface:
    """Cast the pixels' rays of some views, keep the first hit per voxel, and colour it.

    Args:
        layout: the scene.
        poses: cameras to world, OpenGL axes.
        focal: focal length, pixels.
        width: pixels across; half of the pictures' size is plenty.
        height: pixels down.
        spacing: edge of a voxel; by default 1 / 70 of the table's half width.
        lit: the scene with baked shadows (`light_up`), for rendered colours; else the materials' main colours.
    """
    packed = layout.pack()
    spacing = layout.table_half / 70 if spacing is None else spacing
    points, owner, colour = [], [], []
    for pose in poses:
        origins, ways = pixel_rays(pose, focal, width, height)
        if lit is not None:
            frame = render(lit, pose, focal, width, height)
            distance, ids = frame.distance.reshape(-1), frame.ids.reshape(-1)
            rgb = frame.rgb.reshape(-1, 3) / 255
        else:
            distance, body = cast(packed, origins, ways)
            ids = np.where(body >= 0, packed.ids[body], 0)
            rgb = np.where(body[:, None] >= 0, _main_colours(layout)[body], 0.6)
        points.append(origins + ways * distance[:, None])
        owner.append(ids)
        colour.append(rgb)
    points, owner, colour = np.concatenate(points), np.concatenate(owner), np.concatenate(colour)
    near = np.abs(points).max(1) < 2.2 * layout.table_half  # the room's far walls add nothing but rows
    points, owner, colour = points[near], owner[near], colour[near]
    # A voxel that holds two objects keeps a point of each: surfaces in contact stay apart.
    key = np.concatenate([np.floor(points / spacing).astype(np.int64), owner[:, None]], 1)
    _, first = np.unique(key, axis=0, return_index=True)
    means = torch.tensor(points[first]).float()
    n = len(means)
    gaussians = Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.full((n, 3), 0.5 * spacing),
        torch.full((n,), OPACITY),
        rgb_to_sh(torch.tensor(colour[first]).float())[:, None],
    )
    return Surface(gaussians, torch.tensor(owner[first]))


def _main_colours(layout: Layout) -> Float[np.ndarray, "B 3"]:
    """sRGB of each body's most used material."""
    out = []
    for placed in layout.placed:
        colours = [p.material.colour for p in placed.body.primitives]
        linear = np.array(max(set(colours), key=colours.count))
        out.append(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
    return np.array(out)
