"""Make the room: what stands where, the walk through it, and the folder with all of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ag2_ns.synthetic.room.layout import FURNITURE_KINDS, furnish, walk
from ag2_ns.synthetic.tabletop.generate import check_options, truth_of, write_sentences
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS
from ag2_ns.synthetic.tabletop.render import light_up
from ag2_ns.synthetic.wild.difficulty import WILD, Difficulty
from ag2_ns.synthetic.world import World, require_new, write_world

FOCAL = 0.75
"""Focal length over picture width: a horizontal field of view of 67 degrees, as phones have."""


def room(
    seed: int = 0,
    objects: int = 64,
    views: int = 300,
    width: int = 640,
    height: int = 480,
    noise: float | Difficulty = WILD,
) -> World:
    """The room, ready to be drawn (options: see `generate_room`).

    Raises:
        UserError: an option out of range.
    """
    check_options(seed, views, width, height, noise)
    layout = furnish(objects, seed)
    scene = layout.pack()
    truth, part_of_primitive = truth_of(layout)
    texels = int(np.clip(0.8 * width, 64, 512))
    return World(
        f"Room, {objects} things",
        layout.placed,
        scene,
        walk(views, seed),
        FOCAL * width,
        width,
        height,
        truth,
        part_of_primitive,
        (*ALL_KINDS, *FURNITURE_KINDS),
        {},
        partial(light_up, scene, layout.light, layout.table_half, layout.rug_half, texels),
        {"scene": "room", "seed": seed, "objects": objects, "views": views, "width": width, "height": height},
        {"table_half": layout.table_half},
    )


def generate_room(
    out: Path,
    *,
    seed: int = 0,
    objects: int = 64,
    views: int = 300,
    width: int = 640,
    height: int = 480,
    noise: float | Difficulty = WILD,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write the room to a folder, which appears complete or not at all.

    Args:
        out: folder to make; must be new, empty, or (with `overwrite`) an earlier example scene.
        seed: what stands where, colours, the walk and noise.
        objects: things besides furniture.
        views: pictures.
        width: pixels across.
        height: pixels down.
        noise: see `tabletop.generate`.
        overwrite: replace an example scene already there.
        progress: show a progress bar.

    Returns:
        `out`.

    Raises:
        UserError: an option out of range, or a folder that must not or cannot be written.
    """
    out = Path(out)
    world = room(seed, objects, views, width, height, noise)
    require_new(out, overwrite)
    also = partial(write_sentences, layout=furnish(objects, seed), world=world, seed=seed, amodal=False)
    write_world(out, world, noise, seed, progress, also)
    return out
