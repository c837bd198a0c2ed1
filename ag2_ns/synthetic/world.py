"""From a furnished, lit scene and a camera path to a folder: pictures, masks, features, points and ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ag2_ns.synthetic.folder import check_new, in_place_of
from ag2_ns.synthetic.tabletop import language, segmenter, sfm, write
from ag2_ns.synthetic.tabletop.kinds import COLOURS
from ag2_ns.synthetic.tabletop.render import Frame, Lit, render
from ag2_ns.synthetic.tabletop.shapes import Packed, Placed
from ag2_ns.synthetic.wild.difficulty import Difficulty
from ag2_ns.synthetic.wild.language import Meanings, WildEncoder
from ag2_ns.synthetic.wild.masks import WildSegmenter
from ag2_ns.synthetic.wild.prompts import OTHER_KINDS, absent_prompts
from ag2_ns.synthetic.wild.truth import SceneTruth, ViewTruth

MARK = Path("ground_truth") / "scene.json"
"""The file by which a folder is known to hold a generated scene."""

ABSENT = 30
"""Prompts that name nothing, per wild scene."""


@dataclass(frozen=True)
class World:
    """Everything that is drawn and everything that has a name."""

    what: str
    """For the progress bar."""
    placed: list[Placed]
    scene: Packed
    poses: Float[np.ndarray, "V 3 4"]
    focal: float
    width: int
    height: int
    truth: SceneTruth
    part_of_primitive: Int[np.ndarray, " P"]
    """Number of the part of each primitive, 0 for none."""
    kinds: tuple[str, ...]
    """Kinds that labels may hold."""
    furniture: dict[int, str]
    """A word for each body without an id."""
    light_up: Callable[[], Lit]
    options: dict
    """What it was made with, for scene.json."""
    more: dict
    """Further entries of scene.json."""


def require_new(out: Path, overwrite: bool) -> None:
    """Refuse a folder that must not be written.

    Raises:
        UserError: a file, or a folder that holds something else than a generated scene.
    """
    check_new(out, MARK, overwrite)


def world_points(
    distance: Float[np.ndarray, "H W"], pose: Float[np.ndarray, "3 4"], focal: float
) -> Float[np.ndarray, "H W 3"]:
    """World point at each pixel's centre, from distances along the pixels' rays."""
    height, width = distance.shape
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = -(np.arange(height) + 0.5 - height / 2) / focal
    way = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.full((height, width), -1.0)], axis=2)
    way = way / np.linalg.norm(way, axis=2, keepdims=True)
    return pose[:, 3] + (way @ pose[:, :3].T) * distance[..., None]


class _Artist:
    """Makes masks and features of one view after the other."""

    def __init__(self, world: World, noise: float | Difficulty, seed: int) -> None:
        self.world, self.noise, self.seed = world, noise, seed
        self.support = min(world.truth.supports)
        if isinstance(noise, Difficulty):
            self.segmenter = WildSegmenter(world.truth, noise, seed)
            self.encoder = WildEncoder(world.truth, Meanings(world.kinds), noise, seed)

    def view(self, out: Path, index: int, frame: Frame, points: np.ndarray) -> None:
        """Simulate and write everything of one view but its points."""
        rng = np.random.default_rng([self.seed, 4, index])
        write.write_view(out, index, frame.rgb, frame.ids)
        scene = self.world.scene
        if not isinstance(self.noise, Difficulty):
            found = segmenter.propose(
                frame.ids, frame.primitive, scene.first, points, scene.room, self.support, self.noise, rng
            )
            labels = self.world.truth.labels
            features = language.image_features(found, labels, self.noise, self.seed, rng)
        else:
            truth = self.truth(frame, points)
            found = self.segmenter.propose(truth, rng)
            features = self.encoder.describe(found, truth, rng)
            write.write_levels(out, index, frame.ids, truth.parts, self.world.truth.groups)
        write.write_masks(out, index, found, features, *frame.ids.shape)

    def truth(self, frame: Frame, points: np.ndarray) -> ViewTruth:
        """What there is to see in a view."""
        part_of, scene = self.world.part_of_primitive, self.world.scene
        parts = np.where(frame.primitive >= 0, part_of[frame.primitive.clip(0)], 0)
        surfaces = []
        for name, mask in segmenter.background(frame.ids, frame.primitive, scene.first, points, scene.room):
            if not name.startswith("furniture"):
                surfaces.append((name, mask))
                continue
            word = self.world.furniture.get(int(name.split()[1]), "stuff")
            surfaces.append((word, mask))
            pieces = np.unique(frame.primitive[mask])
            if len(pieces) > 1:
                surfaces += [(word, mask & (frame.primitive == k)) for k in pieces]
        return ViewTruth(frame.rgb, frame.ids, parts, frame.distance, tuple(surfaces))


def draw(world: World) -> Iterator[Frame]:
    """All views of a world."""
    lit = world.light_up()
    for pose in world.poses:
        yield render(lit, pose, world.focal, world.width, world.height)


def write_world(
    out: Path,
    world: World,
    noise: float | Difficulty,
    seed: int,
    progress: bool = True,
    also: Callable[[Path], None] | None = None,
    frames: Iterable[Frame] | None = None,
) -> None:
    """Write a scene to a folder, which appears complete or not at all.

    The same world gives the same bytes on the same machine, whatever the number of threads.

    Args:
        out: the folder.
        world: what is there.
        noise: of masks and features.
        seed: of masks and features.
        progress: show a progress bar.
        also: writes more into the folder that becomes `out`.
        frames: the world's views where they are drawn already; noise changes masks and features only.
    """
    views, width, height, focal = len(world.poses), world.width, world.height, world.focal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    artist = _Artist(world, noise, seed)
    with in_place_of(out) as new, Progress(*columns, disable=not progress) as bar:
        levels = write.LEVEL_FOLDERS if isinstance(noise, Difficulty) else ()
        for folder in (*write.FOLDERS, *levels):
            (new / folder).mkdir(parents=True)
        task = bar.add_task(world.what, total=views + 1)
        each = int(np.ceil(sfm.SPARE * sfm.wanted(views, width, height) / views))
        lifted, jobs = [], []
        with ThreadPoolExecutor(1) as pool:
            for i, (pose, frame) in enumerate(zip(world.poses, draw(world) if frames is None else frames)):
                points = world_points(frame.distance, pose, focal)
                jobs.append(pool.submit(artist.view, new, i, frame, points))
                if i >= 2:
                    jobs[i - 2].result()
                lifted.append(sfm.candidates(frame.rgb, points, each, np.random.default_rng([seed, 5, i])))
                bar.advance(task)
            for job in jobs:
                job.result()
        rng = np.random.default_rng([seed, 6])
        sparse = sfm.reconstruct(world.scene, lifted, world.poses, focal, width, height, rng)
        write.write_transforms(new, world.poses, focal, width, height)
        write.write_ply(new / "sparse_pc.ply", sparse)
        write.write_colmap(new / "sparse" / "0", sparse, world.poses, focal, width, height)
        _write_truth(new, world, noise, seed)
        if also is not None:
            also(new)
        bar.advance(task)


def _write_truth(out: Path, world: World, noise: float | Difficulty, seed: int) -> None:
    """Write names, scene.json (options, where things stand) and text_features.json."""
    truth, folder = world.truth, out / "ground_truth"

    def save(path: Path, content: object) -> None:
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    save(folder / "labels.json", {str(i): text for i, text in truth.labels.items()})
    things = [
        {
            "id": p.id,
            "label": truth.labels[p.id],
            "position": list(p.position),
            "turn": np.asarray(p.turn).tolist(),
            "scale": p.scale,
        }
        for p in world.placed
        if p.id
    ]
    wild = isinstance(noise, Difficulty)
    options = world.options | ({"noise": "wild", "difficulty": asdict(noise)} if wild else {"noise": noise})
    save(out / MARK, {"options": options} | world.more | {"things": things})
    if not wild:
        texts = language.text_features([*truth.labels.values(), *language.NEGATIVES])
    else:
        save(folder / "parts" / "labels.json", {str(i): text for i, text in truth.parts.items()})
        save(folder / "parts" / "owners.json", {str(i): owner for i, owner in truth.part_of.items()})
        groups = {str(k): name for k, (name, _) in enumerate(truth.groups, 1)}
        save(folder / "groups" / "labels.json", groups)
        save(folder / "groups" / "members.json", {str(k): list(m) for k, (_, m) in enumerate(truth.groups, 1)})
        absent = absent_prompts(set(truth.labels.values()), world.kinds, ABSENT, seed, set(world.furniture.values()))
        save(folder / "absent.json", [{"text": text, "sort": sort} for text, sort in absent])
        names = [*truth.labels.values(), *truth.parts.values(), *groups.values(), *(text for text, _ in absent)]
        # Everything that such scenes may hold: what an open vocabulary would tell apart.
        words = [f"{colour} {kind}" for kind in sorted({*world.kinds, *OTHER_KINDS}) for colour in COLOURS]
        texts = Meanings(world.kinds).embed(dict.fromkeys([*names, *words, *language.NEGATIVES]))
    (out / "text_features.json").write_text(json.dumps(texts), encoding="utf-8")
