"""Speed of what the host does: preparing, its end by Ctrl-C, start-up, start to queryable, lifting, the main job.

    python examples/benchmarks/speed_host.py                       # full size
    python examples/benchmarks/speed_host.py --reduced --only prepare interrupt lift

Prints measured beside bar, and the processor seconds spent, which say more than the clock where cores are shared.
`rows` gives the same to other scripts.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.ops.processes import num_cores

AG2 = [sys.executable, "-m", "ag2_ns.cli.main"]

PHASES = Path(__file__).with_name("phases.py")

IMPORTED = "import psutil, time"
SAY = "print(time.time() - psutil.Process().create_time())"
"""Seconds since the process was started."""


@dataclass(frozen=True)
class Row:
    what: str
    measured: float
    unit: str
    bar: str
    processor: float | None = None
    note: str = ""


def call(command: list[str], **environment: str) -> tuple[float, float, str]:
    """(seconds, processor seconds, what was said) of a command; raises what it says if it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-400:]} {done.stderr[-800:]}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, done.stdout


def scene(folder: Path, views: int, width: int, objects: int = 14, seed: int = 200) -> Path:
    from ag2_ns.synthetic.tabletop.generate import generate

    generate(folder, seed=seed, objects=objects, views=views, width=width, height=width * 3 // 4, noise=1.0)
    return folder


def prepare(folder: Path, reduced: bool) -> Iterator[Row]:
    views, width = (12, 320) if reduced else (64, 640)
    data, cores, rate = scene(folder, views, width), num_cores(), {}
    options = ["prepare", str(data), "--segmenter", "superpixel", "--encoder", "palette", "--overwrite"]
    call([*AG2, *options, "--workers", "1"])  # compiles
    for workers in sorted({1, 2, cores}):
        _, spent, said = call([*AG2, *options, "--workers", str(workers)], OMP_NUM_THREADS="1" if workers == 1 else "")
        rate[workers] = views / float(re.search(r"([\d.]+) s\n", said)[1])
        size = f"{width}x{width * 3 // 4}"
        if workers == 1:
            yield Row(f"prepare, one process, {size}", 1 / rate[1], "s an image", "<= 0.5", spent / views)
        else:
            bar = 1.7 if workers == 2 else 0.8 * workers
            yield Row(f"prepare, {workers} workers", rate[workers] / rate[1], "x one", f">= {bar:.1f}")


def interrupt(folder: Path, reduced: bool) -> Iterator[Row]:
    data = scene(folder, 24, 320)
    command = [*AG2, "prepare", str(data), "--segmenter", "superpixel", "--encoder", "palette", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(list(data.glob("ag2/x1/features/*.npz"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    start = time.perf_counter()
    process.wait()
    seconds = time.perf_counter() - start
    left = len(list(data.glob("ag2/**/.tmp-*")))
    _, _, said = call([*AG2, *command[3:]])
    kept = re.search(r"(\d+) valid already", said)[1]
    yield Row("prepare, end after Ctrl-C", seconds, "s", "<= 2", note=f"{left} torn files, {kept} views kept")


def phases(program: str, method: str, data: Path, folder: Path, *options: str) -> dict[str, tuple[float, float]]:
    """(seconds, processor seconds) since a training was started, by what was reached (`phases.py`)."""
    given = [method, "--data", str(data), "--output-dir", str(folder / "runs"), "--vis", "tensorboard", *options]
    _, _, said = call([sys.executable, str(PHASES), program, *given], COLUMNS="160")
    found = re.findall(r"^@ +([\d.]+) s +\(.*?\) +processor +([\d.]+) s +(.*)$", said, re.MULTILINE)
    marks = {what: (float(seconds), float(spent)) for seconds, spent, what in found}
    return marks | {"end": (float(re.search(r"^@ +([\d.]+) s +end", said, re.MULTILINE)[1]), 0.0)}


def start(folder: Path, reduced: bool) -> Iterator[Row]:
    data = scene(folder, 8 if reduced else 80, 160 if reduced else 640)
    call([*AG2, "prepare", str(data), "--segmenter", "files", "--encoder", "table"])
    method = "ag2aussian" if torch.cuda.is_available() else "ag2aussian-small"
    for what, bar in (("import torch", ""), ("import nerfstudio.scripts.train", "")):
        _, spent, said = call([sys.executable, "-c", f"{IMPORTED}; {what}; {SAY}"])
        yield Row(what, float(said.split()[-1]), "s", bar, spent)
    for program, name in (("train", "ns-train"), ("quick", "ag2 train")):
        for _ in range(2):  # the first compiles
            options = ("--max-num-iterations", "2", "--pipeline.model.instances", "none")
            seconds, spent = phases(program, method, data, folder, *options)["first step begins"]
        yield Row(f"start-up until the first step, {name}", seconds, "s", "<= 6", spent)


def whole(folder: Path, reduced: bool) -> Iterator[Row]:
    data = scene(folder, 24 if reduced else 80, 160 if reduced else 640)
    call([*AG2, "prepare", str(data), "--segmenter", "files", "--encoder", "table"])
    method = "ag2aussian" if torch.cuda.is_available() else "ag2aussian-small"
    at = phases("quick", method, data, folder, *(("--max-num-iterations", "150") if reduced else ()))
    names = ("first step begins", "last step", "instances", "scene written", "end")
    seconds = [0.0, *(at[name][0] for name in names)]
    parts = ("start-up", "training", "lift, tree, language", "facts and file", "checkpoint and end")
    each = ", ".join(f"{part} {b - a:.1f}" for part, a, b in zip(parts, seconds, seconds[1:]))
    yield Row("start to queryable, table-top", at["scene written"][0], "s", "<= 50", at["scene written"][1], each)


def lift(folder: Path, reduced: bool) -> Iterator[Row]:
    from tree import read_masks, stand_in

    from ag2_ns.grouping.config import DEFAULTS
    from ag2_ns.rendering.choose import choose_rasterizer
    from ag2_ns.scene.build import merging_graph
    from ag2_ns.scene.scene_index import build_index
    from ag2_ns.splat.regroup import group_by_voxel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    views, width, spacing = (12, 160, 0.02) if reduced else (80, 640, 0.0085)
    for objects, bar in ((14, 2), (40, 4)):
        data = scene(folder / str(objects), views, width, objects)
        splat, cameras = stand_in(200, objects, views, width, width * 3 // 4, spacing)
        splat, cameras = splat.to(device), [c.to(device) for c in cameras]
        masks, features = read_masks(data)
        eyes = torch.stack([-(c.viewmat[:3, :3].T @ c.viewmat[:3, 3]) for c in cameras])
        extent = 1.1 * float((eyes - eyes.mean(0)).norm(dim=1).max())
        anchors, children = group_by_voxel(splat, extent, DEFAULTS.voxel)
        for _ in range(2):  # the first loads what is compiled
            begin, spent = time.perf_counter(), time.process_time()
            graph = merging_graph(anchors.xyz, anchors.radius, extent, 2 * DEFAULTS.voxel * extent)
            index = build_index(
                choose_rasterizer("auto", device), splat, children.anchor, anchors.xyz, graph.edges, cameras, masks,
                features,
            )  # fmt: skip
            found = len(index.tree.instances(0.5))
            seconds, spent = time.perf_counter() - begin, time.process_time() - spent
        note = f"{len(splat):,} Gaussians, {found} objects, {device}"
        yield Row(f"lift + tree + language, {objects} objects, {views} views", seconds, "s", f"<= {bar}", spent, note)


def main_job(folder: Path, reduced: bool) -> Iterator[Row]:
    steps = ["--steps", "60", "--frames", "2"] if reduced else []
    command = [*AG2, "demo", "--device", "cpu", "--seed", "200", "--output-dir", str(folder), *steps]
    _, spent, said = call(command, OMP_NUM_THREADS="2", COLUMNS="160")
    psnr, seconds = (float(re.search(name + r"[^\d]*([\d.]+)", said)[1]) for name in ("psnr", "time: train"))
    yield Row("main job, training on 2 cores", seconds, "s", "<= 120", spent)
    yield Row("main job, held-out PSNR", psnr, "dB", ">= 27")


PARTS = {"prepare": prepare, "interrupt": interrupt, "start": start, "whole": whole, "lift": lift, "main": main_job}


def rows(reduced: bool, only: list[str] | None = None) -> Iterator[Row]:
    """Measure one part after the other."""
    for name in only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield from PARTS[name](Path(folder), reduced)
            except RuntimeError as error:
                yield Row(name, float("nan"), "", "", note=str(error)[-300:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS)
    options = parser.parse_args()
    console = Console(width=160)
    table = Table(title=f"Host, {num_cores()} cores, load {os.getloadavg()[0]:.1f}")
    for head in ("what", "measured", "", "bar", "processor s", ""):
        table.add_column(head, justify="right" if head in ("measured", "bar", "processor s") else "left")
    for row in rows(options.reduced, options.only):
        cells = row.what, f"{row.measured:.2f}", row.unit, row.bar, row.processor and f"{row.processor:.2f}", row.note
        console.print(*(cell for cell in cells if cell), markup=False)  # as it goes: later parts take minutes
        table.add_row(*(cell or "" for cell in cells))
    console.print(table)


if __name__ == "__main__":
    main()
