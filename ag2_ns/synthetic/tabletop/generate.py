"""Make the table-top example scene: what stands where, the camera path, and the folder with all of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.io.referring import write_amodal
from ag2_ns.synthetic.tabletop import sentences, write
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, KINDS
from ag2_ns.synthetic.tabletop.layout import FURNITURE, MAX_OBJECTS, Layout, lay, orbit
from ag2_ns.synthetic.tabletop.render import light_up
from ag2_ns.synthetic.wild.difficulty import Difficulty
from ag2_ns.synthetic.wild.truth import SceneTruth
from ag2_ns.synthetic.world import World, require_new, write_world

FOCAL = 0.95
"""Focal length over picture width: a horizontal field of view of 55.5 degrees."""


def check_options(seed: int, views: int, width: int, height: int, noise: float | Difficulty) -> None:
    """Refuse options that make no scene.

    Raises:
        UserError: one of them is out of range.
    """
    if seed < 0:
        raise UserError(f"--seed {seed}: must not be negative; choose 0 or more.")
    if not 2 <= views <= 99999:
        raise UserError(f"--views {views}: a scene needs 2 to 99999 views; choose a number in that range.")
    if min(width, height) < 32 or max(width, height) > 8192:
        raise UserError(f"--width {width} --height {height}: both must lie between 32 and 8192 pixels.")
    if not isinstance(noise, Difficulty) and not 0 <= noise <= 3:
        raise UserError(f"--noise {noise}: the masks' noise level must lie between 0 and 3 (1 is realistic).")


def truth_of(layout: Layout) -> tuple[SceneTruth, np.ndarray]:
    """The names in a layout, and the part of each primitive."""
    parts, part_of_primitive = layout.parts
    owner = np.repeat([item.id for item in layout.placed], [len(item.body.primitives) for item in layout.placed])
    part_of = {int(n): int(owner[part_of_primitive == n][0]) for n in parts}
    supports = layout.supports or (max(layout.labels),)
    return SceneTruth(layout.labels, parts, part_of, layout.groups, supports), part_of_primitive


def tabletop(
    seed: int = 0,
    objects: int = 14,
    views: int = 80,
    width: int = 640,
    height: int = 480,
    noise: float | Difficulty = 1.0,
) -> World:
    """The table-top scene, ready to be drawn (options: see `generate`).

    Raises:
        UserError: an option out of range.
    """
    check_options(seed, views, width, height, noise)
    if not 1 <= objects <= MAX_OBJECTS:
        raise UserError(
            f"--objects {objects}: a scene holds 1 to {MAX_OBJECTS} objects; choose a number in that range."
        )
    wild = isinstance(noise, Difficulty)
    layout = lay(objects, seed, wild)
    scene = layout.pack()
    truth, part_of_primitive = truth_of(layout)
    texels = int(np.clip(0.8 * width, 64, 512))
    return World(
        f"Table-top scene, {objects} objects",
        layout.placed,
        scene,
        orbit(views, layout.table_half, seed),
        FOCAL * width,
        width,
        height,
        truth,
        part_of_primitive,
        tuple(ALL_KINDS if wild else KINDS),
        {len(layout.placed) - len(FURNITURE) + k: word for k, word in enumerate(FURNITURE)},
        partial(light_up, scene, layout.light, layout.table_half, layout.rug_half, texels),
        {"seed": seed, "objects": objects, "views": views, "width": width, "height": height},
        {"table_half": layout.table_half},
    )


def generate(
    out: Path,
    *,
    seed: int = 0,
    objects: int = 14,
    views: int = 80,
    width: int = 640,
    height: int = 480,
    noise: float | Difficulty = 1.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write the table-top scene to a folder, which appears complete or not at all.

    The same options give the same bytes on the same machine, whatever the number of threads.

    Args:
        out: folder to make; must be new, empty, or (with `overwrite`) an earlier example scene.
        seed: what stands where, colours, camera jitter and noise.
        objects: objects on the table.
        views: pictures.
        width: pixels across.
        height: pixels down.
        noise: level of the masks' and features' defects: 0 perfect, 1 mild, 2 twice as bad; a `Difficulty` makes a wild
            scene, with look-alikes, parts, groups and prompts that name nothing.
        overwrite: replace an example scene already there.
        progress: show a progress bar.

    Returns:
        `out`.

    Raises:
        UserError: an option out of range, or a folder that must not or cannot be written.
    """
    out = Path(out)
    world = tabletop(seed, objects, views, width, height, noise)
    require_new(out, overwrite)
    layout = lay(objects, seed, isinstance(noise, Difficulty))
    write_world(out, world, noise, seed, progress, partial(write_sentences, layout=layout, world=world, seed=seed))
    return out


def write_sentences(out: Path, layout: Layout, world: World, seed: int, amodal: bool = True) -> None:
    """Write sentences/: what they mean, and per view what each thing would cover alone."""
    names = [write.stem(i) for i in range(len(world.poses))]
    made = sentences.make_sentences(layout, world.poses, seed)
    folder = out / "sentences"
    folder.mkdir()
    (folder / "sentences.json").write_text(sentences.to_json(made, names), encoding="utf-8")
    if not amodal:
        return
    (folder / "amodal").mkdir()
    for name, pose in zip(names, world.poses):
        masks = sentences.amodal_masks(layout, pose, world.focal, world.width, world.height)
        write_amodal(folder / "amodal" / f"{name}.npz", masks)
