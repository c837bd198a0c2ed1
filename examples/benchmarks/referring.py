"""Referring expressions on table-tops: the solver, the published field, plain text; by kind, stratum, what is held out.

Each scene is made, reconstructed and lifted by the commands that a user would type, then asked its held-out sentences.
With --splat surface the splat is ray-traced instead of trained (no GPU, half a minute a scene), so that only masks,
features and the query itself are measured.

    python examples/benchmarks/referring.py --seeds 200 201 202 203 204 --objects 14 20 --field --output OUT   # CUDA
    python examples/benchmarks/referring.py --splat surface --views 40 --width 320 --height 240 --output OUT   # CPU
    python examples/benchmarks/referring.py --hand --splat surface --output OUT      # sentences written by hand

Scenes and runs stay in OUT; what is there is not made again. Constants were chosen on seeds below 100.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

HAND = Path(__file__).parents[2] / "tests" / "fixtures" / "hand_sentences.py"


@dataclass
class Benchmark:
    """Solver, field and plain text on the same runs."""

    output: Path
    """Where scenes, runs and rows.json go."""
    seeds: tuple[int, ...] = (200, 201, 202, 203, 204)
    objects: tuple[int, ...] = (14, 20)
    noise: float = 1.0
    views: int = 80
    width: int = 640
    height: int = 480
    splat: Literal["ag2aussian", "ag2aussian-small", "surface"] = "ag2aussian"
    """Method that is trained, or a ray-traced splat that is lifted."""
    field: bool = False
    """Also train and ask the published field (`ag2 refer-train`)."""
    masks: tuple[Literal["exact", "pseudo", "solver"], ...] = ("exact",)
    """What fields are trained on."""
    field_steps: int = 0
    """Of each field; 0 for five passes."""
    field_downscale: int = 2
    text: bool = True
    """Also ask the sentence as a plain text."""
    hand: bool = False
    """Ask the sentences written by hand instead, in their own scenes (seeds 300 to 304)."""
    hand_set: Literal["seen", "unseen", "both"] = "both"
    """Those that were looked at while the grammar grew, or those that were not."""

    def main(self) -> None:
        """Make, ask, print."""
        self.output.mkdir(parents=True, exist_ok=True)
        if self.hand:
            self._hand()
            return
        rows = []
        for objects in self.objects:
            for seed in self.seeds:
                run = self.run(seed, objects)
                rows += self._asked(run, seed, objects)
                (self.output / "rows.json").write_text(json.dumps(rows, indent=1))
        self._print(rows)

    # Making.

    def run(self, seed: int, objects: int) -> Path:
        """The config.yml of a reconstructed and lifted scene."""
        name = f"{objects}_{seed}_{self.noise:g}_{self.views}_{self.width}"
        data, out = self.output / name, self.output / f"{name}_{self.splat}"
        if not data.exists():
            _ag2("example", data, "--seed", seed, "--objects", objects, "--noise", self.noise, "--views", self.views,
                 "--width", self.width, "--height", self.height)  # fmt: skip
        found = sorted(out.rglob("scene.safetensors"))
        if found:
            return found[0].with_name("config.yml")
        if not (data / "ag2").exists():
            _ag2("prepare", data, "--segmenter", "files", "--encoder", "table")
        if self.splat == "surface":
            ply = out / "surface.ply"
            self._surface(seed, objects, ply)
            _ag2("lift", "--ply", ply, "--data", data, "--output-dir", out, "--frame", "world")
        else:
            _run("ns-train", self.splat, "--data", data, "--output-dir", out, "--vis", "tensorboard")
        return next(iter(sorted(out.rglob("scene.safetensors")))).with_name("config.yml")

    def _surface(self, seed: int, objects: int, ply: Path) -> None:
        from ag2_ns.io.ply import write_gaussians
        from ag2_ns.synthetic.tabletop.generate import FOCAL
        from ag2_ns.synthetic.tabletop.layout import lay, orbit
        from ag2_ns.synthetic.tabletop.render import light_up
        from ag2_ns.synthetic.tabletop.surface import surface_splat

        layout = lay(objects, seed)
        poses = orbit(self.views, layout.table_half, seed)
        lit = light_up(layout.pack(), layout.light, layout.table_half, layout.rug_half, 128)
        surface = surface_splat(layout, poses[:: max(1, self.views // 14)], FOCAL * 240, 240, 180, lit=lit)
        ply.parent.mkdir(parents=True, exist_ok=True)
        write_gaussians(ply, surface.gaussians)

    # Asking.

    def _asked(self, config: Path, seed: int, objects: int) -> list[dict]:
        import ag2_ns
        from ag2_ns.eval.referring_run import evaluate_set
        from ag2_ns.eval.tabletop import named_like, read_ground_truth

        data = self.output / f"{objects}_{seed}_{self.noise:g}_{self.views}_{self.width}"
        scene = ag2_ns.open(config).as_trained()
        truth = named_like(read_ground_truth(data / "ground_truth"), scene.names_of)
        rows = []

        def ask(by: str, label: str) -> None:
            report = evaluate_set(scene, data / "sentences", truth, by=by).as_dict()
            rows.append({"by": label, "seed": seed, "objects": objects, **report})

        ask("solver", "solver")
        if self.text:
            ask("text", "text")
        for masks in self.masks if self.field else ():
            start = time.perf_counter()
            steps = ("--steps", self.field_steps) if self.field_steps else ()
            _ag2("refer-train", "--load-config", config, "--sentences", data / "sentences", "--masks", masks,
                 "--downscale", self.field_downscale, *steps)  # fmt: skip
            scene = ag2_ns.open(config).as_trained()
            ask("field", f"field, {masks} masks")
            rows[-1]["train_seconds"] = time.perf_counter() - start
        return rows

    def _hand(self) -> None:
        """Sentences written by hand, each judged by whether exactly the wanted things are selected."""
        import ag2_ns
        from ag2_ns.eval.referring_run import ask_all
        from ag2_ns.eval.tabletop import named_like, read_ground_truth
        from ag2_ns.io.referring import ReferringSentence

        spec = importlib.util.spec_from_file_location("hand_sentences", HAND)
        hand = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(hand)
        sets = {"seen": hand.SEEN, "unseen": hand.UNSEEN}
        table = Table("set", "sentences", "right", "by text alone", title="sentences written by hand")
        for name in sets if self.hand_set == "both" else (self.hand_set,):
            right = defaultdict(list)
            scenes: dict[tuple[int, int], list] = defaultdict(list)
            for seed, objects, view, text, wanted in sets[name]:
                scenes[seed, objects].append((view, text, wanted))
            for (seed, objects), lines in scenes.items():
                config = self.run(seed, objects)
                data = self.output / f"{objects}_{seed}_{self.noise:g}_{self.views}_{self.width}"
                scene = ag2_ns.open(config).as_trained()
                truth = named_like(read_ground_truth(data / "ground_truth"), scene.names_of)
                number = {label: i for i, label in truth.labels.items()}
                asked = [ReferringSentence(t, tuple(number[w] for w in ws), v or None) for v, t, ws in lines]
                from ag2_ns.eval.referring import evaluate_sentences

                views = [
                    (v.view, truth.ids(Path(v.name).stem)) for v in scene.views if Path(v.name).stem in truth.files
                ]
                views = [(view, ids, None) for view, ids in views[:: max(1, len(views) // 8)]]
                for by in ("solver", "text"):
                    answers, _ = ask_all(scene, asked, by)
                    report = evaluate_sentences(
                        scene.gaussians, asked, [None if a is None else a.selection for a in answers], views,
                        scene.rasterizer, reasons=["" if a is None else a.reason for a in answers],
                    )  # fmt: skip
                    right[by] += [r.right for r in report.results]
                    for r in report.results:
                        if by == "solver" and not r.right:
                            Console().print(f"wrong: {seed} {r.sentence.text!r}: {r.reason}", markup=False)
            table.add_row(name, str(len(right["solver"])), *(f"{np.mean(right[by]):.3f}" for by in ("solver", "text")))
        Console().print(table)

    # Printing.

    def _print(self, rows: list[dict]) -> None:
        for part in ("by_kind", "by_held_out"):
            names = sorted({name for row in rows for name in row[part]})
            table = Table("who", "figure", *names, "all", title=f"{part.replace('_', ' ')}: mean over scenes (least)")
            for by in dict.fromkeys(row["by"] for row in rows):
                mine = [row for row in rows if row["by"] == by]
                for figure in ("right", "miou", "amodal_miou", "acc50", "n_acc", "t_acc", "milliseconds"):
                    cells = [_cell([r[part][n][figure] for r in mine if n in r[part]]) for n in names]
                    table.add_row(by, figure, *cells, _cell([r["all"][figure] for r in mine]))
                table.add_section()
            Console(width=200).print(table)
        table = Table("who", "hidden", "half hidden", "visible", title="amodal IoU by how much a view shows")
        for by in dict.fromkeys(row["by"] for row in rows):
            mine = [row["by_stratum"] for row in rows if row["by"] == by]
            cells = [_cell([m[n]["amodal_miou"] for m in mine if n in m]) for n in ("hidden", "half hidden", "visible")]
            table.add_row(by, *cells)
        Console().print(table)


def _cell(values: list[float]) -> str:
    values = [v for v in values if v == v]
    return f"{np.mean(values):.3f} ({min(values):.2f})" if values else ""


def _ag2(*words: object) -> None:
    _run(sys.executable, "-m", "ag2_ns.cli.main", *words)


def _run(*words: object) -> None:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
