"""Worlds made, scenes trained or lifted, all protocols run: one Markdown table with plots.

    python examples/benchmarks/suite.py --output OUT                                   # CPU, minutes: stand-in splats
    python examples/benchmarks/suite.py --output OUT --methods ag2aussian splatfacto features published \\
        --worlds tabletop:14 tabletop:20 tabletop:40 room:64 --seeds 200 201 202 203 204 --jobs 6   # GPUs
    python examples/benchmarks/suite.py --output OUT --sweep wholes parts border margin    # where does it break?
    python examples/benchmarks/suite.py --output OUT --captures LERF_OVS --labels LERF_OVS/label --methods ag2aussian

`stand-in` samples a splat from the exact geometry and lifts the masks onto it: no training. Everything stays in OUT,
and what is there is not done again. `features` is the run of `ag2aussian`, lifted again by its trained features alone.
Choose constants on seeds below 100; 200 to 204 are for reporting.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from ceilings import ceilings, means
from rich.console import Console

import ag2_ns
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import NamedView
from ag2_ns.eval.formats import read_benchmark
from ag2_ns.eval.report import machine
from ag2_ns.eval.suite import evaluate, headline, revision
from ag2_ns.io.atomic import write_atomic
from ag2_ns.ops.neighbours import radius_edges
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.rendering.choose import choose_rasterizer
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import build_index
from ag2_ns.splat.anchors import Anchors, voxel_groups
from ag2_ns.synthetic.folder import in_place_of
from ag2_ns.synthetic.room import room
from ag2_ns.synthetic.stand_in import cameras, stand_in
from ag2_ns.synthetic.tabletop.generate import tabletop
from ag2_ns.synthetic.tabletop.render import Frame
from ag2_ns.synthetic.wild import WILD, Difficulty
from ag2_ns.synthetic.world import World, draw, write_world

METHODS = {
    "ag2aussian": ["ns-train", "ag2aussian"],
    "features": ["ns-train", "ag2aussian"],
    "published": ["ns-train", "ag2aussian-published"],
    "published-short": ["ns-train", "ag2aussian-published", "--max-num-iterations", "10000"],
    "small": ["ns-train", "ag2aussian-small", "--machine.device-type", "cpu"],
    "splatfacto": ["ns-train", "splatfacto", "--max-num-iterations", "7000"],
}
"""Commands that train; published-short squeezes the published schedule into the steps of ag2aussian."""

AG2 = (sys.executable, "-m", "ag2_ns.cli.main")

LIFTED = {"splatfacto": [], "features": ["--instances", "features"]}
"""Methods whose runs `ag2 lift` makes the instances of, with its options."""

SWEEPS = {
    "wholes": (1.0, 0.8, 0.65, 0.5, 0.35, 0.2),
    "parts": (0.0, 0.25, 0.5, 0.75, 0.9),
    "border": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
    "margin": (0.18, 0.12, 0.09, 0.06, 0.04, 0.02),
    "clutter": (0.0, 0.5, 1.0, 2.0, 3.0),
    "groups": (0.0, 0.2, 0.4, 0.6, 0.8),
}
"""Values of each knob, from easy to hard."""

PUBLISHED = {
    "LERF-OVS, 3d alone (pairs mIoU / Acc@0.25)": {
        "LangSplat": (9.66, 12.41),
        "OpenGaussian": (38.36, 51.43),
        "Dr.Splat": (43.29, 64.30),
        "InstanceGaussian": (45.30, 58.44),
        "Occam's LGS": (47.22, 74.84),
        "COS3D (repository)": (50.01, 72.87),
        "VALA (third-party rerun)": (54.12, 79.35),
        "OpenGaFF": (54.36, 80.84),
        "PairGS": (60.4, None),
    },
    "LERF-OVS, 2d (pairs mIoU)": {"LangSplat": (51.4, None), "LangSplatV2": (59.9, None), "LEGO": (68.4, None)},
    "NVOS, scribbles (mIoU)": {
        "SA3D": (91.1, None),
        "SAGA": (92.6, None),
        "OmniSeg3D": (92.8, None),
        "LEGO": (94.2, None),
    },
}
"""Rows of the papers, in hundredths, means over the scenes; not measured here."""

BARS = {
    "tabletop:14": {"text mIoU": 0.96, "Acc@0.5": 0.99, "clicks": 0.94, "parts": 0.7, "groups": 0.85, "rejected": 0.9},
    "tabletop:20": {"text mIoU": 0.94, "Acc@0.5": 0.97, "clicks": 0.92, "parts": 0.7, "groups": 0.85, "rejected": 0.9},
    "tabletop:40": {"text mIoU": 0.90, "Acc@0.5": 0.94, "clicks": 0.88, "parts": 0.7, "groups": 0.85, "rejected": 0.9},
    "room:64": {"text mIoU": 0.85, "twins": 0.95},
}


class TableTexts:
    """The texts of a generated scene, without a prepared capture."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "text_features.json").read_text())
        self._rows = {text: torch.tensor(row) for text, row in content.items()}

    def encoder(self) -> TableTexts:
        return self

    def known_texts(self) -> list[str]:
        return list(self._rows)

    def embed(self, text: str) -> torch.Tensor:
        return self._rows[text]

    def negatives(self) -> torch.Tensor:
        return torch.stack([self._rows[n] for n in NEGATIVES])


@dataclass(frozen=True)
class Row:
    """One method on one world."""

    world: str
    seed: int
    method: str
    knob: str = ""
    noise: Difficulty | float | None = None
    """None for a capture."""
    views: int = 0
    width: int = 0

    @property
    def key(self) -> str:
        """Name of the world's folder."""
        if self.noise is None:
            return self.world
        size = f"s{self.seed}-v{self.views}-w{self.width}"
        return f"{self.world.replace(':', '')}-{size}" + (f"-{self.knob}" if self.knob else "")

    @property
    def tag(self) -> str:
        """Name of the row's file."""
        return f"{self.key}-{self.method}"

    def world_of(self) -> World:
        """The generated world, ready to be drawn."""
        kind, _, objects = self.world.partition(":")
        make = tabletop if kind == "tabletop" else room
        return make(
            seed=self.seed, objects=int(objects), views=self.views, width=self.width, height=self.width * 3 // 4,
            noise=self.noise,
        )  # fmt: skip


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """What is made of `path` is made by one process; others wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _take_gpu(turns: multiprocessing.Queue) -> None:
    """Let this process and those that it starts see one GPU."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpus = gpus if gpus[0] else [str(k) for k in range(torch.cuda.device_count())]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[turns.get() % len(gpus)]


@dataclass
class Suite:
    """Measure."""

    output: Path
    """Worlds, runs, reports, suite.md and plots go here."""
    worlds: tuple[str, ...] = ("tabletop:14",)
    """tabletop:OBJECTS or room:OBJECTS."""
    seeds: tuple[int, ...] = (200,)
    methods: tuple[
        Literal["stand-in", "ag2aussian", "features", "published", "published-short", "small", "splatfacto"], ...
    ] = ("stand-in",)
    noise: str = "wild"
    """Of all worlds; see `ag2 example`."""
    views: int | None = None
    """Pictures of a world; by default 40 for stand-ins, else 80 around a table and 300 in a room."""
    width: int | None = None
    """Pixels across; by default 320 for stand-ins, else 640."""
    spacing: float = 0.009
    """Cells of a stand-in, scene units."""
    voxel: float = 0.015
    """Size of a stand-in's anchors, share of the scene's extent."""
    steps: int | None = None
    """Of training, in place of each method's own; schedules are stretched."""
    clicks: int = 3
    sweep: tuple[Literal["wholes", "parts", "border", "margin", "clutter", "groups"], ...] = ()
    """Knobs to turn, on the first world and all seeds, with the first method."""
    captures: Path | None = None
    """Folder of real captures, one per scene (LERF-OVS, Mip-NeRF 360, LLFF)."""
    labels: Path | None = None
    """Folder of their labels, one per scene of the same name."""
    device: str = "auto"
    protocols: tuple[str, ...] = ()
    """By default all that the labels allow."""
    jobs: int = 1
    """Rows measured at a time, by processes that share out the GPUs. Times are then no speeds."""
    ceilings: bool = False
    """Also show what each scene with instances from masks allows at best, see `ceilings.py`."""
    known: tuple[Path, ...] = ()
    """rows.jsonl of earlier outputs: what they hold is not measured again."""

    def main(self) -> None:
        self.output = self.output.resolve()
        self.output.mkdir(parents=True, exist_ok=True)
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        rows = [r for path in self.known for r in map(json.loads, path.read_text().splitlines())]
        done = {(r["world"], r["seed"], r["method"], r["knob"]) for r in rows}
        todo = [row for row in self.wanted() if (row.world, row.seed, row.method, row.knob) not in done]
        self.write(rows)
        for row, figures in self.measured(todo):
            try:
                rows.append(figures())
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                Console(stderr=True).print(f"failed: {row.tag}: {error}", markup=False)
            self.write(rows)

    def wanted(self) -> list[Row]:
        """All rows, method by method, so that rows of different worlds come first."""
        if self.captures is not None:
            return [Row(s, 0, m) for m in self.methods if m != "stand-in" for s in self.scenes()]
        base = self.difficulty()
        if not self.sweep:
            return [self.row(w, seed, m, base) for m in self.methods for seed in self.seeds for w in self.worlds]
        return [
            self.row(self.worlds[0], seed, self.methods[0], replace(base, **{knob: value}), f"{knob}={value:g}")
            for seed in self.seeds
            for knob in self.sweep
            for value in SWEEPS[knob]
        ]

    def difficulty(self) -> Difficulty | float:
        """Of all worlds, knobs not turned."""
        return Difficulty.parse(self.noise) if self.noise.startswith("wild") else float(self.noise)

    def scenes(self) -> list[str]:
        """The captures that have labels."""
        return sorted(p.name for p in self.captures.iterdir() if self.labels and (self.labels / p.name).is_dir())

    def row(self, world: str, seed: int, method: str, noise: Difficulty | float, knob: str = "") -> Row:
        """A row of a generated world, with the number and width of its pictures."""
        table, quick = world.startswith("tabletop"), method == "stand-in"
        views = self.views or ((40 if table else 100) if quick else (80 if table else 300))
        return Row(world, seed, method, knob, noise, views, self.width or (320 if quick else 640))

    def measured(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Callable[[], dict]]]:
        """Each row with what gives its figures, as they become ready."""
        if self.jobs == 1:
            yield from ((row, partial(self.measure, row)) for row in rows)
            return
        spawn = multiprocessing.get_context("spawn")
        turns = spawn.Queue()
        for k in range(self.jobs):
            turns.put(k)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        with (
            ProcessPoolExecutor(self.jobs, spawn, os.nice, (19,)) as makers,  # of the worlds that will be asked for
            ProcessPoolExecutor(self.jobs, spawn, _take_gpu, (turns,)) as pool,
        ):
            for row in {row.key: row for row in rows if row.noise is not None}.values():
                makers.submit(self.ready, row)
            futures = {pool.submit(self.measure, row): row for row in rows}
            yield from ((futures[future], future.result) for future in as_completed(futures))

    def measure(self, row: Row) -> dict:
        """One row, measured once."""
        path = self.output / "rows" / f"{row.tag}.json"
        if not path.exists():
            start = time.perf_counter()
            found = {"world": row.world, "seed": row.seed, "method": row.method, "knob": row.knob, "code": revision()}
            if row.noise is None:
                found |= self.trained(row, self.captures / row.world, self.labels / row.world)
            else:
                folder = self.ready(row)
                found |= (
                    self.quick(row, folder)
                    if row.method == "stand-in"
                    else self.trained(row, folder, folder / "ground_truth")
                )
            found["wall_seconds"] = time.perf_counter() - start
            write_atomic(path, json.dumps(found, indent=1).encode())
            if self.ceilings and "run" in found and row.noise is not None and row.method not in LIFTED:
                found |= self.allowed(ag2_ns.open(found["run"], edits=False), folder)
                write_atomic(path, json.dumps(found, indent=1).encode())
        return json.loads(path.read_text())

    def ready(self, row: Row) -> Path:
        """The folder of a generated world, with masks and features prepared where it is trained on."""
        folder = self.made(row)
        if row.method != "stand-in":
            self.prepare(row.key, folder)
        return folder

    def made(self, row: Row) -> Path:
        """The folder of a generated world."""
        folder = self.output / "worlds" / row.key
        frames = self.frames(row) if self.sweep else None
        with locked(folder):
            if not folder.exists():
                write_world(folder, row.world_of(), row.noise, row.seed, progress=False, frames=frames)
        return folder

    def frames(self, row: Row) -> Iterator[Frame]:
        """The views of a world, drawn once for all values of a knob."""
        folder = self.output / "frames" / replace(row, knob="").key
        with locked(folder):
            if not folder.exists():
                with in_place_of(folder) as new:
                    for k, frame in enumerate(draw(row.world_of())):
                        np.savez(new / f"{k}.npz", **vars(frame))
        for k in range(row.views):
            with np.load(folder / f"{k}.npz") as kept:
                yield Frame(**kept)

    def quick(self, row: Row, folder: Path) -> dict:
        """A stand-in for a splat, in place of a trained one."""
        scene, seconds = self.lifted(row.world_of(), folder, row.seed)
        found = evaluate(scene, read_benchmark(folder / "ground_truth"), self.protocols, clicks=self.clicks)
        figures = {"headline": headline(found.results), "build_seconds": seconds, "results": found.results}
        return figures | (self.allowed(scene, folder) if self.ceilings else {})

    def trained(self, row: Row, data: Path, labels: Path) -> dict:
        """Train (and lift) by the commands that a user would type, and evaluate as `ag2 eval` does."""
        self.prepare(row.key, data)
        run, seconds = self.run_of(row, data) if not row.knob else self.run_of(*self.base_of(row))
        if row.method in LIFTED or row.knob:
            out = self.output / "lifted" / row.tag
            to = ["--load-config", str(run / "config.yml"), "--output-dir", str(out), *LIFTED.get(row.method, [])]
            self.call(f"{row.tag}-lift", [*AG2, "lift", *to, *(["--data", str(data)] if row.knob else [])])
            run = next(out.rglob("scene.safetensors")).parent
        scene = ag2_ns.open(run, edits=False)
        found = evaluate(scene, read_benchmark(labels), self.protocols, clicks=self.clicks)
        figures = {"headline": headline(found.results), "train_seconds": seconds, "results": found.results}
        return figures | {"gaussians": len(scene.gaussians), "problems": found.problems, "run": str(run)}

    def base_of(self, row: Row) -> tuple[Row, Path]:
        """The world without its knob turned, whose run serves for all values: pictures do not show them."""
        plain = replace(row, knob="", noise=self.difficulty())
        return plain, self.made(plain)

    def prepare(self, key: str, data: Path) -> None:
        """Masks and features, once."""
        with locked(data):
            if not (data / "ag2").exists():
                self.call(f"{key}-prepare", [*AG2, "prepare", str(data), "--preview-every", "0"])

    def run_of(self, row: Row, data: Path) -> tuple[Path, float]:
        """The trained run of a row's world and method, and the seconds that it took."""
        self.prepare(row.key, data)
        _, name, *options = METHODS[row.method]
        options += ["--max-num-iterations", str(self.steps)] if self.steps else []
        key = f"{row.key}-{name}"
        run = self.output / "runs" / key / name / "run"
        where = ["--output-dir", str(self.output / "runs"), "--experiment-name", key, "--timestamp", "run"]
        parser = ["ag2-data"] if row.method == "splatfacto" else []
        start = time.perf_counter()
        with locked(run.parents[1]):
            if not (run / "trained").exists():
                self.call(
                    f"{key}-train",
                    ["ns-train", name, "--data", str(data), *where, "--vis", "tensorboard", *options, *parser],
                )
                (run / "trained").touch()
        return run, time.perf_counter() - start

    def allowed(self, scene: Scene, world: Path) -> dict:
        """The best answers that the scene allows."""
        found = ceilings(scene, world)
        return {"ceilings": means(found), "ceilings of each": found}

    def call(self, log: str, command: Sequence[str]) -> None:
        """Run a command; raises with the end of its log where it fails."""
        path = self.output / "logs" / f"{log}.log"
        path.parent.mkdir(exist_ok=True)
        with open(path, "w") as out:
            code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ).returncode
        if code:
            raise RuntimeError(f"{shlex.join(command)}\n{path.read_text()[-2000:]}")

    @torch.no_grad()
    def lifted(self, world: World, folder: Path, seed: int) -> tuple[Scene, float]:
        """A stand-in splat with the world's masks lifted onto it."""
        reach = 3.0 if "room" in world.what.lower() else world.more["table_half"]
        gaussians = stand_in(world, self.spacing, reach, seed).to(self.device)
        masks, features = read_masks(folder)
        named = [(p.name, v.to(self.device)) for p, v in zip(sorted((folder / "images").glob("*.png")), cameras(world))]
        centres = torch.stack([-(v.viewmat[:3, :3].T @ v.viewmat[:3, 3]) for _, v in named])
        extent = 1.1 * float((centres - centres.mean(0)).norm(dim=1).max())
        anchor = voxel_groups(gaussians.means, self.voxel * extent)
        count = torch.bincount(anchor)
        xyz = torch.zeros(len(count), 3, device=anchor.device).index_add_(0, anchor, gaussians.means) / count[:, None]
        backend = choose_rasterizer("auto", gaussians.device)
        start = time.perf_counter()
        index = build_index(
            backend, gaussians, anchor, xyz, radius_edges(xyz, 2 * self.voxel * extent, 64), [v for _, v in named],
            masks, features,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        radius = torch.full((len(xyz), 1), self.voxel * extent, device=xyz.device)
        views = tuple(NamedView(name, Path(name).stem, "train", view) for name, view in named)
        anchors = Anchors(xyz, radius, torch.zeros(len(xyz), 3, device=xyz.device))
        return Scene(gaussians, anchors, anchor, extent, index, views, texts=TableTexts(folder)), seconds

    def write(self, rows: list[dict]) -> None:
        """The Markdown table, and a plot per knob."""
        if not rows:
            return
        lines = [f"# Suite\n\n{machine()['device']}; code {revision()}; seeds {sorted({r['seed'] for r in rows})}; "
                 f"noise {asdict(WILD) if self.noise == 'wild' else self.noise}\n"]  # fmt: skip
        lines += self.table(rows, "headline")
        if any("ceilings" in r for r in rows):
            lines += ["\nBest answers that the scenes allow (see `ceilings.py`):\n", *self.table(rows, "ceilings")]
        if self.captures is not None:
            lines.append("\nPublished rows (of the papers, by the protocol named; not measured here):\n")
            for protocol, table in PUBLISHED.items():
                lines += [f"| {protocol} | mIoU | Acc@0.25 |", "|---|---|---|"]
                lines += [
                    f"| {m} (published) | {a:g} | {'' if b is None else f'{b:g}'} |" for m, (a, b) in table.items()
                ]
                lines.append("")
        for knob in self.sweep:
            if self.plot(knob, rows):
                lines.append(f"\n![{knob}](sweep_{knob}.png)")
        write_atomic(self.output / "suite.md", ("\n".join(lines) + "\n").encode())
        short = [json.dumps({k: v for k, v in row.items() if k not in ("results", "ceilings of each")}) for row in rows]
        write_atomic(self.output / "rows.jsonl", ("\n".join(short) + "\n").encode())
        Console(soft_wrap=True).print(f"{len(rows)} rows: {self.output / 'suite.md'}", markup=False)

    def table(self, rows: list[dict], what: str) -> list[str]:
        """Mean and deviation over seeds, a line per world, method and knob."""
        columns = list(dict.fromkeys(k for r in rows for k in r.get(what, {})))
        lines = ["| world | method | knob | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 4) + "|"]
        for world, method, knob in dict.fromkeys((r["world"], r["method"], r["knob"]) for r in rows if what in r):
            mine = [
                r[what] for r in rows if (r["world"], r["method"], r["knob"]) == (world, method, knob) and what in r
            ]
            cells = []
            for key in columns:
                values = [h[key] for h in mine if h.get(key) is not None]
                cell = "" if not values else f"{np.mean(values):.3f}"
                cell += f" ± {np.std(values):.3f}" if len(values) > 1 else ""
                bar = BARS.get(world, {}).get(key) if not knob else None
                cells.append(
                    cell
                    if bar is None or not values
                    else f"{cell} ({'met' if np.mean(values) >= bar else f'bar {bar:g}'})"
                )
            lines.append(f"| {world} | {method} | {knob} | {len(mine)} | " + " | ".join(cells) + " |")
        return lines

    def plot(self, knob: str, rows: list[dict]) -> bool:
        """Quality against one knob."""
        from matplotlib.figure import Figure

        mine = [r for r in rows if r["knob"].startswith(f"{knob}=")]
        if not mine:
            return False
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        values = sorted({float(r["knob"].split("=")[1]) for r in mine})
        for key in ("text mIoU", "text ceiling", "clicks", "parts best", "groups best", "rejected"):
            points = [(v, [r["headline"][key] for r in mine if r["knob"] == f"{knob}={v:g}" and key in r["headline"]])
                      for v in values]  # fmt: skip
            points = [(v, np.mean(p), np.std(p)) for v, p in points if p]
            if points:
                x, mean, spread = zip(*points)
                axes.errorbar(x, mean, spread, marker="o", ms=3, capsize=2, label=key)
        axes.axvline(getattr(WILD, knob), color="grey", lw=0.8, ls=":")
        axes.set(xlabel=f"knob {knob} (dotted: wild)", ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(self.output / f"sweep_{knob}.png", dpi=110)
        return True


def read_masks(folder: Path) -> tuple[list[MaskSet], list[torch.Tensor]]:
    """Masks and features as the generator wrote them."""
    masks, features = [], []
    for path in sorted((folder / "masks_sparse").glob("*.pt")):
        masks.append(MaskSet.from_dense(torch.load(path, weights_only=True).to_dense().bool()))
        features.append(torch.load(folder / "clip_features" / path.name, weights_only=True).float())
    return masks, features


if __name__ == "__main__":
    tyro.cli(Suite).main()
