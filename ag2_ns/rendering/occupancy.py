"""Pictures of occupancy: from above, and beside the cameras' pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from ag2_ns.io.occ3d import CLASSES, COLOURS, FREE, Labels
from ag2_ns.io.surround import Record, load_images

BACKGROUND = (255, 255, 255)
TILE = 320
"""Pixels across a camera's picture on the sheet."""


def from_above(semantics: UInt8[np.ndarray, "X Y Z"], scale: int = 3) -> UInt8[np.ndarray, "H W 3"]:
    """The highest full voxel of each column in its class's colour, brighter the higher; ahead is up, left is left."""
    full = semantics != FREE
    top = semantics.shape[2] - 1 - full[:, :, ::-1].argmax(2)
    kind = np.take_along_axis(semantics, top[..., None], 2)[..., 0]
    light = 0.55 + 0.45 * (top + 1) / semantics.shape[2]
    out = (COLOURS[kind] * light[..., None]).astype(np.uint8)
    out[~full.any(2)] = BACKGROUND
    return np.ascontiguousarray(out[::-1, ::-1].repeat(scale, 0).repeat(scale, 1))


def sheet(record: Record, prediction: UInt8[np.ndarray, "X Y Z"], truth: Labels | None) -> UInt8[np.ndarray, "H W 3"]:
    """The pictures of a frame, and beside them its occupancy from above, and the truth where it is known."""
    images = dict(zip((c.name for c in record.cameras), load_images(record)))
    order = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"]
    names = order if set(order) == set(images) else list(images)
    columns = 3 if len(names) > 2 else len(names)
    tiles = []
    for name in names:
        picture = Image.fromarray(images[name])
        picture = picture.resize((TILE, round(TILE * picture.height / picture.width)))
        ImageDraw.Draw(picture).text((4, 2), name, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
        tiles.append(np.asarray(picture))
    height = max(t.shape[0] for t in tiles)
    tiles = [np.pad(t, ((0, height - t.shape[0]), (0, 0), (0, 0))) for t in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    left = np.concatenate([np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)])
    views = [("predicted", prediction)]
    if truth is not None:
        seen = np.where(truth.mask_camera, prediction, FREE).astype(np.uint8)
        known = np.where(truth.mask_camera, truth.semantics, FREE).astype(np.uint8)
        views = [("predicted", prediction), ("predicted, where seen", seen), ("truth, where seen", known)]
    parts = [left]
    for title, semantics in views:
        picture = Image.fromarray(from_above(semantics, max(1, round(400 / semantics.shape[0]))))
        ImageDraw.Draw(picture).text((6, 4), title, fill=(0, 0, 0), stroke_width=2, stroke_fill=(255, 255, 255))
        parts.append(np.asarray(picture))
    parts.append(_legend(np.unique(np.concatenate([s.reshape(-1) for _, s in views]))))
    tall = max(p.shape[0] for p in parts)
    return np.concatenate(
        [np.pad(p, ((0, tall - p.shape[0]), (0, 8), (0, 0)), constant_values=255) for p in parts], axis=1
    )


def _legend(present: np.ndarray) -> np.ndarray:
    kinds = [int(k) for k in present if k != FREE]
    picture = Image.new("RGB", (150, 18 * len(kinds) + 8), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for row, kind in enumerate(kinds):
        draw.rectangle((4, 6 + 18 * row, 16, 18 + 18 * row), fill=tuple(COLOURS[kind].tolist()))
        draw.text((22, 5 + 18 * row), CLASSES[kind], fill=(0, 0, 0))
    return np.asarray(picture)
