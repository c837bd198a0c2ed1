"""Captures described by a COLMAP model beside a folder of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.io.colmap import UNREADABLE, ColmapImage, count_views, is_model, read_images, read_points
from ag2_ns.plugin.capture import Capture, Frame, Points, each_once, say_once
from ag2_ns.plugin.names import Locator, portable
from ag2_ns.plugin.transforms import SPLITS, complete_splits, no_points

FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse", ".")
"""Where COLMAP models are looked for, and in the folders of `PARENTS` in any numbered one."""

PARENTS = ("sparse", "colmap/sparse")
"""Folders in which COLMAP's mapper leaves a sub-model for each part that it could not join."""

UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""COLMAP's world, whose y mostly points down, to one whose z points up, as nerfstudio turns it."""


def models(data: Path) -> list[Path]:
    """The COLMAP models of a scene's folder, in the order in which one is preferred to another of as many views."""
    found = [data / name for name in FOLDERS if is_model(data / name)]
    for parent in PARENTS:
        numbered = [p for p in (data / parent).glob("*") if p.name.isdigit() and is_model(p)]
        found += sorted((p for p in numbered if p not in found), key=lambda p: int(p.name))
    return found


def chosen_model(data: Path, choice: Path | None = None) -> Path | None:
    """The model to read: the one asked for, or the one with most views; a line says what else there is.

    Args:
        data: the scene's folder.
        choice: `--colmap-path`: relative to the scene's folder.

    Raises:
        UserError: there is no model at `choice`.
    """
    found = models(data)
    if choice is not None:
        if not is_model(data / choice):
            there = ", ".join(p.relative_to(data).as_posix() for p in found) or "none"
            raise UserError(f"{data / choice}: no COLMAP model there; --colmap-path takes one of: {there}")
        return data / choice
    if len(found) < 2:
        return found[0] if found else None
    views = {path: count_views(path) for path in found}
    best = max(found, key=views.__getitem__)
    others = ", ".join(f"{p.relative_to(data).as_posix()} ({views[p]})" for p in found if p != best)
    say_once(
        f"{data}: {len(found)} COLMAP models; taking {best.relative_to(data).as_posix()} ({views[best]} views), not "
        f"{others}; choose with ag2-data --colmap-path FOLDER"
    )
    return best


def read_colmap(data: Path, model: Path) -> Capture:
    """The capture of a COLMAP model whose pictures lie in `data`/images.

    Raises:
        UserError: the model is damaged, has fewer than two images, or a list of a split names a picture that it has
            not.
    """
    images = read_images(model)
    if len(images) < 2:
        raise UserError(f"{model}: only one view; reconstruction needs at least two")
    root = data / "images"
    locator = Locator(root)
    frames = [_frame(model, locator, image) for image in images]
    lists = None
    files = {split: path for split in SPLITS if (path := data / f"{split}_list.txt").is_file()}
    if files:
        given = {
            split: [portable(name) for name in path.read_text(encoding="utf-8-sig").splitlines()]
            for split, path in files.items()
        }
        names = [portable(image.name) for image in images]
        by_name = {Path(name): frame.file for name, frame in zip(names, frames)}
        complete = complete_splits(given, names, files)
        lists = {split: frozenset(by_name[Path(name)] for name in listed) for split, listed in complete.items()}
    return Capture(
        model,
        each_once(model, frames),
        lists,
        UPRIGHT[:3],
        points=lambda: colmap_points(model),
    )


def _frame(model: Path, locator: Locator, image: ColmapImage) -> Frame:
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3], world_to_camera[:3, 3] = image.rotation, image.translation
    if not np.isfinite(world_to_camera).all():
        raise UserError(f"{model}: the pose of {image.name} is not finite; remove that image")
    pose = np.linalg.inv(world_to_camera)
    pose[:3, 1:3] *= -1
    return Frame(locator.find(image.name), UPRIGHT @ pose, image.camera, image.lens)


def colmap_points(model: Path) -> Points | None:
    """The sparse points in the capture's frame; None (and a line that says so) where there are none."""
    if not any((model / f"points3D.{end}").is_file() for end in ("bin", "txt")):
        return no_points(f"{model}: no points3D file")
    try:
        points = read_points(model)
    except UNREADABLE as error:
        return no_points(f"{model}: points3D cannot be read ({first_line(error)})")
    if not len(points.xyz):
        return no_points(f"{model}: no points in points3D")
    return Points(points.xyz @ UPRIGHT[:3, :3].T, points.rgb, points.error, points.track)
