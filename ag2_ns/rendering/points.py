"""Pictures of point clouds: from above, and drawn into the photographs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from ag2_ns.io.calibration import Rig
from ag2_ns.io.points import PointCloud
from ag2_ns.rendering.point_projection import point_sizes, project_points

SIDE = 1200
"""Pixels on the longer side of the picture from above."""

LEAST_POINTS = 15
"""Instances of fewer points are not named from above."""


def plain_colours(cloud: PointCloud) -> UInt8[np.ndarray, "N 3"]:
    """The cloud's own colours, else its height as a colour."""
    if cloud.rgb is not None:
        return cloud.rgb
    from matplotlib import colormaps

    low, high = np.percentile(cloud.xyz[:, 2], (2, 98))
    return (colormaps["turbo"](np.clip((cloud.xyz[:, 2] - low) / max(high - low, 1e-6), 0, 1))[:, :3] * 255).astype(
        np.uint8
    )


def instance_colours(node: Int[np.ndarray, " N"]) -> UInt8[np.ndarray, "N 3"]:
    """A colour per instance, grey for none."""
    from matplotlib import colormaps

    table = np.array([colormaps["hsv"]((k * 0.618) % 1.0)[:3] for k in range(int(node.max(initial=0)) + 1)])
    shade = 0.55 + 0.45 * ((np.arange(len(table)) * 0.37) % 1.0)
    out = (table * shade[:, None] * 255)[np.maximum(node, 0)]
    out[node < 0] = 90
    return out.astype(np.uint8)


def from_above(
    cloud: PointCloud,
    colours: UInt8[np.ndarray, "N 3"],
    node: Int[np.ndarray, " N"] | None = None,
    names: Mapping[int, str] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The cloud seen along its z axis (x right, y up), higher points on top, names at the middle of their instances."""
    low, high = np.percentile(cloud.xyz[:, :2], (1, 99), axis=0)
    scale = (SIDE - 1) / max(float((high - low).max()), 1e-6)
    width, height = np.maximum(((high - low) * scale).astype(int) + 1, 1)
    at = ((cloud.xyz[:, :2] - low) * scale).astype(int)
    ok = ((at >= 0) & (at < (width, height))).all(1)
    order = np.argsort(cloud.xyz[ok, 2], kind="stable")
    x, y = at[ok][order].T
    picture = np.full((height, width, 3), 18, np.uint8)
    big = len(cloud) < 200_000
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)) if big else ((0, 0),):
        picture[np.clip(height - 1 - y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)] = colours[ok][order]
    if node is None or not names:
        return picture
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=14)
    for number, name in names.items():
        inside = ok & (node == number)
        if inside.sum() >= LEAST_POINTS:
            column, row = np.median(at[inside], axis=0)
            draw.text(
                (column, height - 1 - row),
                name,
                fill="white",
                font=font,
                anchor="mm",
                stroke_width=2,
                stroke_fill="black",
            )
    return np.asarray(image)


def camera_pictures(
    cloud: PointCloud, rig: Rig, colours: UInt8[np.ndarray, "N 3"], columns: int = 3
) -> tuple[UInt8[np.ndarray, "H W 3"], list[tuple[str, int]]]:
    """The visible points drawn into the photographs, side by side, and how many each camera sees."""
    xyz, size = torch.from_numpy(cloud.xyz), torch.from_numpy(point_sizes(cloud.xyz))
    tiles, seen = [], []
    for i, (name, view) in enumerate(zip(rig.names, rig.views)):
        found = project_points(xyz, view, size)
        picture = (rig.image(i) * 0.6).astype(np.uint8)
        column, row = found.pixel[found.visible].numpy().T
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            picture[np.minimum(row + dy, view.height - 1), np.minimum(column + dx, view.width - 1)] = colours[
                found.visible.numpy()
            ]
        seen.append((name, int(found.visible.sum())))
        tiles.append(picture)
    height, width = max(t.shape[0] for t in tiles), max(t.shape[1] for t in tiles)
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * height, min(columns, len(tiles)) * width, 3), np.uint8)
    for i, tile in enumerate(tiles):
        r, c = divmod(i, columns)
        sheet[r * height : r * height + tile.shape[0], c * width : c * width + tile.shape[1]] = tile
    return sheet, seen
