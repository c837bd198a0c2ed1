"""Example scenes that are made, prepared and reconstructed by the commands that a user would type; several at once."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Method = Literal["ag2aussian", "ag2aussian-small", "cos3d", "surface"]
"""What is trained, or a ray-traced splat that is lifted."""


@dataclass(frozen=True)
class Making:
    """How worlds are made. A world is tabletop:OBJECTS[:NOISE], wild:OBJECTS or room:OBJECTS."""

    output: Path
    views: int = 80
    width: int = 640
    height: int = 480
    splat: Method = "ag2aussian"
    steps: int = 0
    """Of training; 0 for the method's own."""

    def data(self, world: str, seed: int) -> Path:
        """The folder of a world."""
        return self.output / f"{world.replace(':', '_')}_{seed}_{self.views}_{self.width}"

    def run(self, world: str, seed: int) -> Path:
        """The config.yml of a reconstructed and lifted world. What is there is not made again."""
        kind, objects, noise = [*world.split(":"), "1"][:3]
        data = self.data(world, seed)
        out = data.with_name(f"{data.name}_{self.splat}")
        if not data.exists():
            noise = noise if kind == "tabletop" else "wild"
            ag2("example", data, "--scene", "room" if kind == "room" else "tabletop", "--seed", seed,
                "--objects", objects, "--noise", noise, "--views", self.views, "--width", self.width,
                "--height", self.height)  # fmt: skip
        found = sorted(out.rglob("scene.safetensors"))
        if found:
            return found[0].with_name("config.yml")
        if not (data / "ag2").exists():
            ag2("prepare", data, "--segmenter", "files", "--encoder", "table")
        if self.splat == "surface":
            ply = out / "surface.ply"
            if kind == "room":
                self._stand_in(seed, int(objects), ply)
            else:
                self._surface(seed, int(objects), kind == "wild", ply)
            ag2("lift", "--ply", ply, "--data", data, "--output-dir", out, "--frame", "world")
        else:
            steps = ("--max-num-iterations", self.steps) if self.steps else ()
            start = time.perf_counter()
            call("ns-train", self.splat, "--data", data, "--output-dir", out, "--vis", "tensorboard", *steps)
            print(f"{self.splat} on {data.name}: {time.perf_counter() - start:.1f} s, start-up included", flush=True)
        return next(iter(sorted(out.rglob("scene.safetensors")))).with_name("config.yml")

    def _surface(self, seed: int, objects: int, wild: bool, ply: Path) -> None:
        from ag2_ns.io.ply import write_gaussians
        from ag2_ns.synthetic.tabletop.generate import FOCAL
        from ag2_ns.synthetic.tabletop.layout import lay, orbit
        from ag2_ns.synthetic.tabletop.render import light_up
        from ag2_ns.synthetic.tabletop.surface import surface_splat

        layout = lay(objects, seed, wild)
        poses = orbit(self.views, layout.table_half, seed)
        lit = light_up(layout.pack(), layout.light, layout.table_half, layout.rug_half, 128)
        surface = surface_splat(layout, poses[:: max(1, self.views // 14)], FOCAL * 240, 240, 180, lit=lit)
        ply.parent.mkdir(parents=True, exist_ok=True)
        write_gaussians(ply, surface.gaussians)

    def _stand_in(self, seed: int, objects: int, ply: Path) -> None:
        from ag2_ns.io.ply import write_gaussians
        from ag2_ns.synthetic.room import room
        from ag2_ns.synthetic.stand_in import stand_in
        from ag2_ns.synthetic.wild import WILD

        world = room(seed, objects, self.views, self.width, self.height, WILD)
        ply.parent.mkdir(parents=True, exist_ok=True)
        write_gaussians(ply, stand_in(world, 0.02, 3.0, seed))


def ag2(*words: object) -> None:
    """An `ag2` command.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    call(sys.executable, "-m", "ag2_ns.cli.main", *words)


def call(*words: object) -> None:
    """A command; see `ag2`."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def at_once(jobs: Sequence[Sequence[object]], processes: int, minutes: float) -> int:
    """Run this script once per job, several at a time, by the GPUs of CUDA_VISIBLE_DEVICES in turn.

    Returns the number of jobs that failed or found no time.

    Args:
        jobs: arguments of each, the most important one first.
        processes: how many at a time.
        minutes: after which those that still run are ended and no more begin; 0 for no limit.
    """
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    few = {k: os.environ.get(k, threads) for k in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    turn = itertools.count()

    def one(job: Sequence[object]) -> bool:
        left = end - time.monotonic()
        if left <= 0:
            return False
        words = [sys.executable, sys.argv[0], *map(str, job)]
        seen = {"CUDA_VISIBLE_DEVICES": gpus[next(turn) % len(gpus)]} if len(gpus) > 1 else {}
        process = subprocess.Popen(words, env=os.environ | few | seen, start_new_session=True)
        try:
            return process.wait(None if left == float("inf") else left) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 15)
            return False

    with ThreadPoolExecutor(processes) as pool:
        return sum(not done for done in pool.map(one, jobs))
