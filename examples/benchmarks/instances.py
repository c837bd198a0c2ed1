"""Instances, text queries and clicks on table-top scenes, trained from scratch: quality, time and ablations.

Every scene is made, prepared and trained with the commands that a user would type, several at once where there are
several GPUs; then every way to make instances is measured on each run, without training again.

    python examples/benchmarks/instances.py --objects 14 20 40 --noise 1 2 --seeds 3 4 5 --output OUT
    python examples/benchmarks/instances.py --variants full "no propagation" F=8 --modes lifting features --output OUT
    python examples/benchmarks/instances.py --small --objects 8 --views 60 --width 240 --variants full --output OUT

Scenes, runs and `rows.jsonl` stay in OUT; what is there is not done again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

VARIANTS = {
    "full": ("ag2aussian", []),
    "no features": ("ag2aussian", ["--pipeline.model.mask-loss", "none"]),
    "no propagation": ("ag2aussian", ["--pipeline.model.propagation-weight", "0"]),
    "no contrast": ("ag2aussian", ["--pipeline.model.contrast-weight", "0"]),
    "prototype": ("ag2aussian", ["--pipeline.model.mask-loss", "prototype"]),
    "prototype F=16": (
        "ag2aussian",
        ["--pipeline.model.mask-loss", "prototype", "--pipeline.model.feature-width", "16"],
    ),
    "F=8": ("ag2aussian", ["--pipeline.model.feature-width", "8"]),
    "F=16": ("ag2aussian", ["--pipeline.model.feature-width", "16"]),
    "published": ("ag2aussian-published", []),
    "splatfacto": ("splatfacto", ["--max-num-iterations", "7000"]),
}
"""Method and options of each variant."""

COLUMNS = {
    "PSNR": "psnr",
    "Gaussians": "gaussians",
    "train s": "train_seconds",
    "ms/step": "step_ms",
    "index s": "index_seconds",
    "text mIoU": "text",
    "text bIoU": "text_boundary",
    "Acc@0.5": "acc50",
    "ms/text": "text_ms",
    "clicks": "clicks",
    "ms/click": "click_ms",
    "instances": "instances",
    "worst": "instances_worst",
    "per object": "per_object",
}


@dataclass
class Instances:
    """Measure."""

    output: Path
    """Scenes, runs, logs and rows go here."""
    objects: tuple[int, ...] = (14,)
    noise: tuple[float, ...] = (1.0,)
    """Of the simulated masks. Runs train on those of the first; the others are lifted onto the same run."""
    seeds: tuple[int, ...] = (3,)
    variants: tuple[str, ...] = ("full", "splatfacto")
    """Of `VARIANTS`."""
    views: int = 80
    width: int = 640
    modes: tuple[Literal["lifting", "features", "both"], ...] = ("lifting",)
    """Ways to make instances that are measured on each run with features."""
    gpus: int = 1
    """Runs at once, each on a GPU of its own. (Several on one slow each other more than they gain.)"""
    train: str = "ns-train"
    """The command that trains."""
    options: str = ""
    """Further options of every training."""
    small: bool = False
    """Train ag2aussian-small on the CPU in place of ag2aussian."""
    measure: Path | None = None
    """Only measure this run and print its rows as JSON."""
    lift: tuple[Path, ...] = ()
    """With --measure: also lift the masks of these scenes (other noise) onto the run and measure that."""

    def main(self) -> None:
        """Do everything that is missing, then print the tables."""
        if self.measure is not None:
            print("\n" + json.dumps(measure(self.measure, self.modes, self.lift, self.output / "lifted")))
            return
        self.output = self.output.resolve()
        self.output.mkdir(parents=True, exist_ok=True)
        jobs = list(product(self.objects, self.seeds, self.variants))
        free: Queue[int] = Queue()
        for gpu in range(self.gpus):
            free.put(gpu)
        makers_at_once = max(1, (os.cpu_count() or 1) // MAKER_THREADS)
        with ThreadPoolExecutor(makers_at_once) as makers, ThreadPoolExecutor(self.gpus) as pool:
            for scene in product(self.objects, self.seeds, self.noise):  # ahead of the GPUs
                makers.submit(self.scene, *scene)
            list(pool.map(lambda job: self.on_gpu(free, job), jobs))
        show([json.loads(line) for line in (self.output / "rows.jsonl").read_text().splitlines()])

    def call(self, log: str, command: list[str], gpu: int | None = None) -> float:
        """Run a command; returns its seconds. Raises with the end of the log where it fails."""
        threads = {"NUMBA_NUM_THREADS": str(min(MAKER_THREADS, os.cpu_count() or 1))}
        env = os.environ | (threads if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)})
        path = self.output / "logs" / f"{log}.log"
        path.parent.mkdir(exist_ok=True)
        start = time.perf_counter()
        with open(path, "w") as out:
            code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=env).returncode
        if code:
            raise RuntimeError(f"{shlex.join(command)}\n{path.read_text()[-2000:]}")
        return time.perf_counter() - start

    def scene(self, objects: int, seed: int, noise: float) -> None:
        """Make and prepare a scene, once."""
        name = scene_name(objects, seed, noise)
        with MAKING[name]:
            if not (self.output / f"{name}.done").exists():
                self._scene(name, objects, seed, noise)

    def _scene(self, name: str, objects: int, seed: int, noise: float) -> None:
        size = ["--views", str(self.views), "--width", str(self.width), "--height", str(self.width * 3 // 4)]
        what = ["--objects", str(objects), "--seed", str(seed), "--noise", str(noise)]
        self.call(f"{name}-example", [*AG2, "example", str(self.output / name), *what, *size])
        self.call(f"{name}-prepare", [*AG2, "prepare", str(self.output / name)])
        (self.output / f"{name}.done").touch()

    def on_gpu(self, free: Queue[int], job: tuple) -> None:
        """One job on the next free GPU; a failure is told, and the others go on."""
        gpu = free.get()
        try:
            self.job(gpu, *job)
        except RuntimeError as error:
            Console(stderr=True).print(f"failed: {job}: {error}", soft_wrap=True, markup=False)
        finally:
            free.put(gpu)

    def job(self, gpu: int, objects: int, seed: int, variant: str) -> None:
        """Train one variant on one scene with the masks of the first noise; lift those of the others; append rows."""
        method, extra = VARIANTS[variant]
        if self.small and method == "ag2aussian":
            method, extra = "ag2aussian-small", [*extra, "--machine.device-type", "cpu"]
        scene = self.output / scene_name(objects, seed, self.noise[0])
        tag = f"{scene.name}-{variant.replace(' ', '-').replace('=', '')}"
        if (self.output / f"{tag}.done").exists():
            return
        for noise in self.noise:
            self.scene(objects, seed, noise)
        where = ["--output-dir", str(self.output / "runs"), "--experiment-name", tag, "--timestamp", "run"]
        parser = ["ag2-data"] if method == "splatfacto" else []
        options = [*extra, *shlex.split(self.options), "--vis", "tensorboard", *parser]
        seconds = self.call(tag, [*shlex.split(self.train), method, "--data", str(scene), *where, *options], gpu)
        config = self.output / "runs" / tag / method / "run" / "config.yml"
        base = {
            "variant": variant,
            "objects": objects,
            "seed": seed,
            "train_seconds": seconds,
            "step_ms": step_milliseconds(config.parent),
        }
        scenes = [self.output / scene_name(objects, seed, noise) for noise in self.noise]
        lift = scenes if method == "splatfacto" else scenes[1:]
        me = [sys.executable, __file__, "--output", str(self.output), "--measure", str(config), "--modes", *self.modes]
        self.call(f"{tag}-measure", [*me, "--lift", *map(str, lift)] if lift else me, gpu)
        text = (self.output / "logs" / f"{tag}-measure.log").read_text()
        rows = json.loads(text[text.rindex("\n[{") :])
        with open(self.output / "rows.jsonl", "a") as file:
            file.writelines(json.dumps(base | row) + "\n" for row in rows)
        (self.output / f"{tag}.done").touch()


MAKING: dict[str, Lock] = defaultdict(Lock)
MAKER_THREADS = 8
"""Of each scene that is being made."""
AG2 = [sys.executable, "-m", "ag2_ns.cli.main"]


def scene_name(objects: int, seed: int, noise: float) -> str:
    """The folder of a scene."""
    return f"o{objects}s{seed}n{noise:g}"


def step_milliseconds(run: Path) -> float:
    """Time per step over the last 40 % of a training, in which features train, from its events; NaN from too few."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    if "Train Loss" not in events.Tags()["scalars"]:
        return float("nan")
    found = events.Scalars("Train Loss")
    late = [e for e in found if e.step >= 0.6 * found[-1].step]
    if late[-1].step == late[0].step:
        return float("nan")
    return 1e3 * (late[-1].wall_time - late[0].wall_time) / (late[-1].step - late[0].step)


@torch.no_grad()
def measure(config: Path, modes: Sequence[str], scenes: Sequence[Path], folder: Path) -> list[dict]:
    """How well a run answers: with instances made in every way that is asked for and that it knows, then with the
    masks of other scenes (of the same views) lifted onto it by `ag2 lift`.
    """
    import ag2_ns
    from ag2_ns.cli.lift import Lift
    from ag2_ns.plugin.run import load_run, read_config

    rows, console = [], Console(soft_wrap=True)
    if read_config(config).method_name != "splatfacto":
        run = load_run(config)
        model = run.model
        for mode in modes if model.config.mask_loss != "none" else ("lifting",):
            model.config.instances = mode
            for _ in range(2):  # the first also compiles and reads
                start = clock()
                run.pipeline.build_instances()
                seconds = clock() - start
            rows.append(row_of(run.scene, run.pipeline, mode, seconds))
        del run, model
    for data in scenes:
        lift = Lift(load_config=config, data=data, output_dir=folder / config.parent.parent.parent.name)
        path, pipeline, seconds = lift.lift(console.print)
        rows.append(row_of(ag2_ns.open(path, edits=False), pipeline, "lifting", seconds))
    return rows


def row_of(scene, pipeline, mode: str, seconds: float) -> dict:
    """What is measured of a run."""
    psnr, name = pipeline.get_average_eval_image_metrics()["psnr"], scene.source.data.name
    base = {"mode": mode, "noise": float(name[name.rindex("n") + 1 :]), "psnr": psnr, "index_seconds": seconds}
    start = clock()
    row = base | measure_index(scene)
    return row | {"measure_seconds": clock() - start}


def measure_index(scene) -> dict:
    """How well the instances that a run has now answer texts and clicks."""
    from ag2_ns.eval.run import evaluate_run
    from ag2_ns.eval.tabletop import read_ground_truth

    index = scene.require_index()
    found = evaluate_run(scene, read_ground_truth(scene.source.data / "ground_truth"))
    texts, clicks, instances = (part.as_dict() for part in (found.texts, found.clicks, found.instances))
    return {
        "gaussians": len(scene.gaussians),
        "anchors": index.num_anchors,
        "nodes": index.tree.num_nodes,
        "text": texts["mean_over_prompts"]["miou"],
        "text_boundary": texts["mean_over_prompts"]["mbiou"],
        "acc50": texts["mean_over_prompts"]["acc50"],
        "text_ms": 1e3 * float(np.median(found.text_seconds)),
        "clicks": clicks["miou"],
        "click_ms": 1e3 * float(np.median(found.click_seconds)),
        "instances": instances["miou"],
        "instances_worst": min(o["miou"] for o in instances["objects"] if o["views"]),
        "per_object": instances["median_instances"],
        "prompts": {p["label"]: p["miou"] for p in texts["prompts"]},
        "clicked": clicks["objects"],
        "found": {o["label"]: o["miou"] for o in instances["objects"]},
    }


def clock() -> float:
    """Seconds, with all work on the GPU done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def show(rows: list[dict]) -> None:
    """Mean (and worst) over seeds of every kind of row."""
    table = Table(title=f"table-top scenes; mean over seeds, text: worst seed in brackets; {device()}")
    for name in ("variant", "instances by", "objects", "noise", "seeds", *COLUMNS):
        table.add_column(name, justify="right")
    kinds = sorted({(r["variant"], r["mode"], r["objects"], r["noise"]) for r in rows}, key=str)
    for kind in kinds:
        mine = [r for r in rows if (r["variant"], r["mode"], r["objects"], r["noise"]) == kind]
        cells = []
        for key in COLUMNS.values():
            values = [r[key] for r in mine]
            cell = f"{np.mean(values):,.0f}" if key in ("gaussians", "train_seconds") else f"{np.mean(values):.3f}"
            cells.append(cell + (f" ({min(values):.3f})" if key == "text" and len(mine) > 1 else ""))
        table.add_row(kind[0], kind[1], str(kind[2]), f"{kind[3]:g}", str(len(mine)), *cells)
    Console(width=240).print(table)


def device() -> str:
    """The machine."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


if __name__ == "__main__":
    tyro.cli(Instances).main()
