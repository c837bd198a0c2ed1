"""Make the table-top example scene: render, simulate masks, features and SfM points, write a folder in one go."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.tabletop import language, segmenter, sfm, write
from ag2_ns.synthetic.tabletop.layout import MAX_OBJECTS, Layout, lay, orbit
from ag2_ns.synthetic.tabletop.render import Frame, Lit, light_up, render

FOCAL = 0.95
"""Focal length over picture width: a horizontal field of view of 55.5 degrees."""

MARK = Path("ground_truth") / "scene.json"


def _check(
    out: Path, seed: int, objects: int, views: int, width: int, height: int, noise: float, overwrite: bool
) -> None:
    if seed < 0:
        raise UserError(f"--seed {seed}: must not be negative; choose 0 or more.")
    if not 1 <= objects <= MAX_OBJECTS:
        raise UserError(
            f"--objects {objects}: a scene holds 1 to {MAX_OBJECTS} objects; choose a number in that range."
        )
    if not 2 <= views <= 99999:
        raise UserError(f"--views {views}: a scene needs 2 to 99999 views; choose a number in that range.")
    if min(width, height) < 32 or max(width, height) > 8192:
        raise UserError(f"--width {width} --height {height}: both must lie between 32 and 8192 pixels.")
    if not 0 <= noise <= 3:
        raise UserError(f"--noise {noise}: the masks' noise level must lie between 0 and 3 (1 is realistic).")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file is in the way; name another folder or remove it.")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise UserError(f"{out}: the folder is not empty; name another one or add --overwrite.")
        if not (out / MARK).is_file():
            raise UserError(f"{out}: --overwrite only replaces an example scene, and this folder holds none ({MARK}).")


@contextmanager
def _in_place_of(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block succeeds and vanishes when it fails."""
    out = Path(os.path.abspath(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new = out.parent / f".{out.name}.{os.getpid()}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
    except OSError as e:
        raise UserError(f"{out}: cannot make the folder ({e.strerror}); name another one.") from e
    old = out.parent / f".{out.name}.{os.getpid()}.old"
    try:
        yield new
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    except OSError as e:
        raise UserError(f"{out}: cannot write the scene ({e.strerror}); free some space or name another folder.") from e
    finally:
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def world_points(frame: Frame, pose: np.ndarray, focal: float) -> np.ndarray:
    """World point at each pixel's centre, H x W x 3."""
    height, width = frame.ids.shape
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = -(np.arange(height) + 0.5 - height / 2) / focal
    way = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.full((height, width), -1.0)], axis=2)
    way = way / np.linalg.norm(way, axis=2, keepdims=True)
    return pose[:, 3] + (way @ pose[:, :3].T) * frame.distance[..., None]


def _view(out: Path, index: int, frame: Frame, points: np.ndarray, lit: Lit, layout: Layout, noise: float, seed: int):
    """Simulate and write everything of one view but its points."""
    rng = np.random.default_rng([seed, 4, index])
    table = max(layout.labels)
    scene = lit.scene
    found = segmenter.propose(frame.ids, frame.primitive, scene.first, points, scene.room, table, noise, rng)
    features = language.image_features(found, layout.labels, noise, seed, rng)
    write.write_view(out, index, frame.rgb, frame.ids)
    write.write_masks(out, index, found, features, *frame.ids.shape)


def generate(
    out: Path,
    *,
    seed: int = 0,
    objects: int = 14,
    views: int = 80,
    width: int = 640,
    height: int = 480,
    noise: float = 1.0,
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
        noise: level of the masks' and features' defects: 0 perfect, 1 realistic, 2 twice as bad.
        overwrite: replace an example scene already there.
        progress: show a progress bar.

    Returns:
        `out`.

    Raises:
        UserError: an option out of range, or a folder that must not or cannot be written.
    """
    out = Path(out)
    _check(out, seed, objects, views, width, height, noise, overwrite)
    layout = lay(objects, seed)
    scene, poses, focal = layout.pack(), orbit(views, layout.table_half, seed), FOCAL * width
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _in_place_of(out) as new, Progress(*columns, disable=not progress) as bar:
        for folder in write.FOLDERS:
            (new / folder).mkdir(parents=True)
        task = bar.add_task(f"Table-top scene, {objects} objects", total=views + 2)
        texels = int(np.clip(0.8 * width, 64, 512))
        lit = light_up(scene, layout.light, layout.table_half, layout.rug_half, texels)
        bar.advance(task)
        each = int(np.ceil(sfm.SPARE * sfm.wanted(views, width, height) / views))
        lifted, jobs = [], []
        with ThreadPoolExecutor(1) as pool:
            for i, pose in enumerate(poses):
                frame = render(lit, pose, focal, width, height)
                points = world_points(frame, pose, focal)
                jobs.append(pool.submit(_view, new, i, frame, points, lit, layout, noise, seed))
                if i >= 2:
                    jobs[i - 2].result()
                lifted.append(sfm.candidates(frame.rgb, points, each, np.random.default_rng([seed, 5, i])))
                bar.advance(task)
            for job in jobs:
                job.result()
        sparse = sfm.reconstruct(scene, lifted, poses, focal, width, height, np.random.default_rng([seed, 6]))
        write.write_transforms(new, poses, focal, width, height)
        write.write_ply(new / "sparse_pc.ply", sparse)
        write.write_colmap(new / "sparse" / "0", sparse, poses, focal, width, height)
        _write_truth(new, layout, {
            "seed": seed, "objects": objects, "views": views, "width": width, "height": height, "noise": noise,
        })  # fmt: skip
        bar.advance(task)
    return out


def _write_truth(out: Path, layout: Layout, options: dict) -> None:
    """Write labels.json, scene.json (options, where things stand) and text_features.json."""
    labels = {str(i): text for i, text in layout.labels.items()}
    (out / "ground_truth" / "labels.json").write_text(json.dumps(labels, indent=1), encoding="utf-8")
    things = [
        {
            "id": p.id,
            "label": layout.labels[p.id],
            "position": list(p.position),
            "turn": np.asarray(p.turn).tolist(),
            "scale": p.scale,
        }
        for p in layout.placed
        if p.id
    ]
    scene = {"options": options, "table_half": layout.table_half, "things": things}
    (out / MARK).write_text(json.dumps(scene, indent=1), encoding="utf-8")
    texts = language.text_features([*layout.labels.values(), *language.NEGATIVES])
    (out / "text_features.json").write_text(json.dumps(texts), encoding="utf-8")
