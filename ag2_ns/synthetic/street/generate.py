"""Make drives through simulated streets: pictures, depth, LiDAR, features, exact voxels; nuScenes-like plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ag2_ns.core.errors import UserError
from ag2_ns.io.occ3d import GRID, Labels, write_labels
from ag2_ns.ops.processes import Workers
from ag2_ns.ops.voxels import VoxelGrid
from ag2_ns.synthetic.folder import check_new, in_place_of
from ag2_ns.synthetic.street import features, occupy, sensors
from ag2_ns.synthetic.street.layout import Street, kinds_made, lay
from ag2_ns.synthetic.tabletop.shapes import Packed

MARK = Path("street.json")
STEP = 0.5
"""Seconds from one frame to the next."""
FRAMES_A_DRIVE = 4
"""More drives of fewer frames show more different streets."""
AROUND = 4
"""Frames before and after whose LiDAR beams make up `mask_lidar`."""
SPACING = 0.008
"""Radians between the rays that say which voxels the cameras see: 0.32 m at 40 m."""
FAR = 80.0
"""Depth of the sky, metres: beyond what the network takes as far."""


def generate(
    out: Path,
    *,
    seed: int = 0,
    frames: int = 64,
    eval_frames: int = 8,
    width: int = 96,
    height: int = 56,
    patch: int = 8,
    reach: float = 40.0,
    voxel: float = 0.4,
    noise: float = 1.0,
    mixed: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write drives to a folder, which appears complete or not at all. The same options give the same drives.

    Args:
        out: folder to make; must be new, empty, or (with `overwrite`) an earlier example of streets.
        seed: which streets; different seeds have none in common.
        frames: frames to train on, four a drive.
        eval_frames: frames to evaluate, of drives of their own.
        width: pixels across a picture.
        height: pixels down.
        patch: pixels along the edge of a patch of features.
        reach: half the width of the labelled square around the car, metres.
        voxel: edge of a voxel, metres.
        noise: of depth and features, 0 for none, 1 realistic.
        mixed: trucks, buses, bicycles and barriers beside cars, people and cones.
        workers: processes that drives are shared out to.
        overwrite: replace an example already there.
        progress: show a progress bar.

    Raises:
        UserError: an option out of range, or a folder that must not or cannot be written.
    """
    out = Path(out)
    _check(seed, frames, eval_frames, width, height, patch, reach, voxel, noise)
    if workers < 1:
        raise UserError(f"--workers {workers}: give a number from 1")
    check_new(out, MARK, overwrite)
    cells = round(2 * reach / voxel)
    grid = GRID if (reach, voxel) == (40.0, 0.4) else VoxelGrid(
        (-voxel * cells / 2, -voxel * cells / 2, -1.0), voxel, (cells, cells, round(6.4 / voxel))
    )  # fmt: skip
    lengths = [*_drives(frames), *_drives(eval_frames)]
    trained = len(_drives(frames))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with in_place_of(out) as new, Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(f"Streets, {len(lengths)} drives", total=sum(lengths))
        job = _Drives(new, seed, width, height, patch, grid, noise, mixed)
        if workers == 1:
            for number, length in enumerate(lengths):
                job.write(number, length, lambda: bar.advance(task))
        else:
            with Workers(min(workers, len(lengths)), job) as hands:
                for length, _ in hands.run((length, "write", (k, length)) for k, length in enumerate(lengths)):
                    bar.advance(task, length)
        names = [f"drive_{k:03d}" for k in range(len(lengths))]
        split = {"train": names[:trained], "val": names[trained:] or names[:trained]}
        (new / "split.json").write_text(json.dumps(split, indent=1), encoding="utf-8")
        (new / "text_features.json").write_text(
            json.dumps(features.text_features(kinds=kinds_made(mixed))), encoding="utf-8"
        )
        options = {
            "seed": seed, "frames": frames, "eval_frames": eval_frames, "width": width, "height": height,
            "patch": patch, "reach": reach, "voxel": voxel, "noise": noise, "mixed": mixed,
        }  # fmt: skip
        (new / MARK).write_text(json.dumps(options, indent=1), encoding="utf-8")
    return out


def _drives(frames: int) -> list[int]:
    """Lengths of the drives that make up this many frames."""
    full, rest = divmod(frames, FRAMES_A_DRIVE)
    return [FRAMES_A_DRIVE] * full + ([rest] if rest else [])


@dataclass(frozen=True)
class _Drives:
    """What all drives of an example have in common."""

    root: Path
    seed: int
    width: int
    height: int
    patch: int
    grid: VoxelGrid
    noise: float
    mixed: bool

    def write(self, number: int, length: int, each: Callable[[], object] = int) -> None:
        """Write a drive of `length` frames; `each` is called after every frame."""
        seed = self.seed * 10_000 + number
        street = lay(seed, length * STEP, self.mixed)
        name = f"drive_{number:03d}"
        writer = _Writer(self.root, name, street, seed, self.width, self.height, self.patch, self.grid, self.noise)
        for k in range(length):
            writer.frame(k)
            each()
        writer.close()


class _Writer:
    """Writes one drive."""

    def __init__(self, root, name, street: Street, seed, width, height, patch, grid: VoxelGrid, noise) -> None:
        self.root, self.name, self.street, self.seed = root, name, street, seed
        self.width, self.height, self.patch, self.grid, self.noise = width, height, patch, grid, noise
        self.kinds = np.array(street.kinds, np.int64)
        self.samples = 2 if width * height <= 8_000 else 1  # of colours alone; large pictures show no steps
        self.frames: list[dict] = []
        for mount in sensors.CAMERAS:
            for kind in ("images", "depth", "features"):
                (self.folder / kind / mount.name).mkdir(parents=True)
        (self.folder / "lidar").mkdir()

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def frame(self, k: int) -> None:
        """Write the frame `k` of the drive."""
        time = k * STEP
        token = f"{self.seed:08d}{k:04d}"
        scene, ego = self.street.pack(time), self.street.ego(time)
        rng = np.random.default_rng([self.seed, 13, k])
        cameras = {m.name: self._camera(m, k, time, scene, rng) for m in sensors.CAMERAS}
        semantics, _ = occupy.occupied(scene, self.kinds, ego, self.grid)
        lidar_seen = self._beams_around(scene, time, ego)
        camera_seen = lidar_seen & self._pixels(scene, time, ego)
        path = self.root / "gts" / self.name / token / "labels.npz"
        write_labels(path, Labels(semantics, camera_seen, lidar_seen, self.grid))
        self.frames.append(
            {
                "sample_token": token,
                "timestamp_s": time,
                "ego2global": ego.tolist(),
                "lidar": self._lidar(scene, ego, k, rng),
                "cameras": cameras,
            }
        )

    def close(self) -> None:
        """Write drive.json."""
        content = {"dataset": "ag2 street", "scene_name": self.name, "frames": self.frames}
        (self.folder / "drive.json").write_text(json.dumps(content), encoding="utf-8")

    def _camera(self, mount: sensors.Mount, k: int, time: float, scene: Packed, rng: np.random.Generator) -> dict:
        ego, K = self.street.ego(time + mount.delay), mount.intrinsics(self.width, self.height)
        shot = sensors.expose(scene, ego @ mount.cam2ego(), K, self.width, self.height, self.samples)
        image = f"images/{mount.name}/{k:04d}.jpg"
        Image.fromarray(shot.rgb).save(self.folder / image, quality=93)
        depth = np.where(np.isfinite(shot.depth), shot.depth * _depth_error(shot.depth.shape, self.noise, rng), FAR)
        np.save(self.folder / "depth" / mount.name / f"{k:04d}.npy", depth.astype(np.float32))
        made = features.patch_features(shot.body, self.kinds, self.patch, self.seed, rng, self.noise)
        np.save(self.folder / "features" / mount.name / f"{k:04d}.npy", made.astype(np.float16))
        return {
            "file": image, "width": self.width, "height": self.height, "timestamp_s": time + mount.delay,
            "cam2img": K.tolist(), "cam2ego": mount.cam2ego().tolist(), "ego2global": ego.tolist(),
        }  # fmt: skip

    def _lidar(self, scene: Packed, ego: np.ndarray, k: int, rng: np.random.Generator) -> dict:
        directions, ring = sensors.beams()
        pose = ego @ sensors.lidar2ego()
        distance, body = sensors.cast(
            scene, np.broadcast_to(pose[:3, 3], directions.shape), directions @ pose[:3, :3].T
        )
        hit = distance < sensors.LIDAR_REACH
        measured = distance + 0.02 * self.noise * rng.standard_normal(len(distance))
        points = directions[hit] * measured[hit, None]
        rows = np.column_stack([points, np.full(len(points), 30.0), ring[hit]]).astype("<f4")
        file, ids = f"lidar/{k:04d}.bin", f"lidar/{k:04d}_ids.npy"
        rows.tofile(self.folder / file)
        # Per point: its class, and which thing of the drive it lies on.
        np.save(self.folder / ids, np.column_stack([self.kinds[body[hit]], body[hit] + 1]).astype(np.uint16))
        return {"file": file, "ids": ids, "lidar2ego": sensors.lidar2ego().tolist()}

    def _beams_around(self, scene: Packed, time: float, ego: np.ndarray) -> np.ndarray:
        """Voxels reached by the beams of the frames around this one, in the world of this one."""
        directions, _ = sensors.beams()
        out = np.zeros(self.grid.shape, bool)
        for k in range(-AROUND, AROUND + 1):
            pose = self.street.ego(time + k * STEP) @ sensors.lidar2ego()
            turned = directions @ pose[:3, :3].T
            out |= occupy.seen(scene, np.broadcast_to(pose[:3, 3], turned.shape), turned, ego, self.grid)
        return out

    def _pixels(self, scene: Packed, time: float, ego: np.ndarray) -> np.ndarray:
        """Voxels that the cameras' rays reach."""
        out = np.zeros(self.grid.shape, bool)
        for mount in sensors.CAMERAS:
            wide = 2 * np.tan(np.radians(mount.view_angle) / 2)
            columns = int(np.ceil(wide / SPACING))
            rows = int(np.ceil(wide / SPACING * self.height / self.width))
            x = ((np.arange(columns) + 0.5) / columns - 0.5) * wide
            y = ((np.arange(rows) + 0.5) / rows - 0.5) * wide * self.height / self.width
            x, y = np.meshgrid(x, y)
            ways = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
            ways /= np.linalg.norm(ways, axis=1, keepdims=True)
            pose = self.street.ego(time + mount.delay) @ mount.cam2ego()
            turned = ways @ pose[:3, :3].T
            out |= occupy.seen(scene, np.broadcast_to(pose[:3, 3], turned.shape), turned, ego, self.grid)
        return out


def _depth_error(shape: tuple[int, int], noise: float, rng: np.random.Generator) -> np.ndarray:
    """A factor per pixel: 1.5 % for the picture as a whole, 2 % that varies slowly across it."""
    from scipy.ndimage import zoom

    coarse = rng.standard_normal((4, 6))
    smooth = zoom(coarse, (shape[0] / 4, shape[1] / 6), order=1, grid_mode=True, mode="nearest")
    return np.exp(noise * (0.015 * rng.standard_normal() + 0.02 * smooth[: shape[0], : shape[1]]))


def _check(seed, frames, eval_frames, width, height, patch, reach, voxel, noise) -> None:
    if seed < 0:
        raise UserError(f"--seed {seed}: must not be negative; choose 0 or more")
    if not 1 <= frames <= 100_000 or not 0 <= eval_frames <= 100_000:
        raise UserError(f"--frames {frames} --eval-frames {eval_frames}: give 1 to 100000 and 0 to 100000")
    if min(width, height) < 16 or max(width, height) > 4096:
        raise UserError(f"--width {width} --height {height}: both must lie between 16 and 4096 pixels")
    if not 1 <= patch <= min(width, height):
        raise UserError(f"--patch {patch}: must lie between 1 and the picture's shorter side, {min(width, height)}")
    if not 4 <= reach <= 200 or not 0.05 <= voxel <= 2:
        raise UserError(f"--reach {reach:g} --voxel {voxel:g}: give 4 to 200 m and 0.05 to 2 m")
    if not 0 <= noise <= 3:
        raise UserError(f"--noise {noise:g}: must lie between 0 and 3 (1 is realistic)")
