"""Referring expressions on table-tops: the solver, the published field, plain text; by kind, stratum, what is held out.

Each scene is made, reconstructed and lifted by the commands that a user would type, then asked its held-out sentences.
With --splat surface the splat is ray-traced instead of trained (no GPU, half a minute a scene), so that only masks,
features and the query itself are measured.

    python examples/benchmarks/referring.py --output OUT --processes 12 --minutes 8 --field code paper \\
        --worlds tabletop:14 tabletop:20 wild:14 room:40                                       # CUDA
    python examples/benchmarks/referring.py --splat surface --views 40 --width 320 --height 240 --output OUT   # CPU
    python examples/benchmarks/referring.py --hand --splat surface --output OUT      # sentences written by hand

Scenes and runs stay in OUT; what is there is not made again. Constants were chosen on seeds below 100.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from runs import Making, Method, ag2, at_once

if TYPE_CHECKING:
    from ag2_ns.scene.scene import Scene

HAND = Path(__file__).parents[2] / "tests" / "fixtures" / "hand_sentences.py"


@dataclass
class Benchmark:
    """Solver, field and plain text on the same runs."""

    output: Path
    """Where scenes, runs and rows go."""
    worlds: tuple[str, ...] = ("tabletop:14", "tabletop:20")
    """tabletop:OBJECTS[:NOISE], wild:OBJECTS or room:OBJECTS."""
    seeds: tuple[int, ...] = (200, 201, 202, 203, 204)
    views: int = 80
    width: int = 640
    height: int = 480
    splat: Method = "ag2aussian"
    """Method that is trained, or a ray-traced splat that is lifted (of a table-top)."""
    steps: int = 0
    """Of training; 0 for the method's own."""
    field: tuple[Literal["ours", "code", "paper"], ...] = ()
    """Presets of the published field to train and ask as well (`ag2 refer-train`)."""
    masks: tuple[Literal["exact", "pseudo", "solver"], ...] = ("exact",)
    """What fields are trained on."""
    field_steps: int = 0
    """Of each field; 0 for five passes."""
    curve: tuple[int, ...] = ()
    """Ask each field after so many steps (of one training), on exact masks, in place of once."""
    as_ref_lerf: bool = False
    """Curves of a set like Ref-LERF: about each thing five sentences that need no viewer, one of them for the test,
    the others in every view; in place of the generator's held-out wordings and relations."""
    field_downscale: int = 2
    text_model: Path | None = None
    """Of fields; by default MiniLM of the extra `words`."""
    text: bool = True
    """Also ask the sentence as a plain text."""
    processes: int = 1
    """Scenes worked on at once."""
    minutes: float = 0.0
    """After which no more is begun and what runs is ended; 0 for no limit."""
    tables: bool = True
    """Print tables at the end."""
    hand: bool = False
    """Ask the sentences written by hand instead, in their own scenes (seeds 300 to 304)."""
    hand_set: Literal["seen", "unseen", "both"] = "both"
    """Those that were looked at while the grammar grew, or those that were not."""

    def main(self) -> None:
        """Make, ask, print."""
        self.output = self.output.resolve()
        (self.output / "rows").mkdir(parents=True, exist_ok=True)
        if self.hand:
            self._hand()
            return
        jobs = [(world, seed) for seed in self.seeds for world in self.worlds]
        if self.processes > 1:
            same = [word for name in ("output", "views", "width", "height", "splat", "steps", "field_steps",
                                      "field_downscale", "text_model")
                    if (value := getattr(self, name)) is not None
                    for word in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
            same += ["--masks", *self.masks, "--no-tables", *(["--field", *self.field] if self.field else [])]
            same += [
                *(["--curve", *self.curve] if self.curve else []),
                *(["--as-ref-lerf"] if self.as_ref_lerf else []),
            ]
            same += [] if self.text else ["--no-text"]
            at_once([[*same, "--worlds", w, "--seeds", s] for w, s in jobs], self.processes, self.minutes)
        else:
            for world, seed in jobs:
                self._ask(world, seed)
        if self.tables:
            self._print()

    @property
    def making(self) -> Making:
        return Making(self.output, self.views, self.width, self.height, self.splat, self.steps)

    # Asking.

    def _ask(self, world: str, seed: int) -> None:
        import ag2_ns
        from ag2_ns.eval.referring_run import evaluate_set
        from ag2_ns.eval.tabletop import named_like, read_ground_truth

        config, data = self.making.run(world, seed), self.making.data(world, seed)
        scene = ag2_ns.open(config).as_trained()
        truth = named_like(read_ground_truth(data / "ground_truth"), scene.names_of)
        path, rows = self.output / "rows" / f"{data.name}_{self.splat}.json", []

        def ask(by: str, label: str, seconds: float = 0.0, sentences: Path = data / "sentences") -> None:
            report = evaluate_set(scene, sentences, truth, by=by)
            rows.append({"by": label, "seed": seed, "world": world, "train_seconds": seconds, **report.as_dict()})
            rows[-1]["wrong"] = [(r.sentence.text, r.sentence.kind, r.reason) for r in report.results if not r.right]
            path.write_text(json.dumps(rows, indent=1))
            print(world, seed, label, json.dumps(rows[-1]["all"]), flush=True)

        ask("solver", "solver")
        if self.text:
            ask("text", "text")
        for preset in self.field if self.curve else ():
            folder = self._like_ref_lerf(data, world, seed) if self.as_ref_lerf else data / "sentences"
            self._curve(preset, scene, folder, ask)
        for preset, masks in ((p, m) for p in self.field for m in self.masks if not self.curve):
            start = time.perf_counter()
            steps = ("--steps", self.field_steps) if self.field_steps else ()
            model = ("--text-model", self.text_model) if self.text_model else ()
            ag2("refer-train", "--load-config", config, "--sentences", data / "sentences", "--masks", masks,
                "--preset", preset, "--downscale", self.field_downscale, *steps, *model)  # fmt: skip
            scene = ag2_ns.open(config).as_trained()
            ask("field", f"field {preset}, {masks} masks", time.perf_counter() - start)

    def _like_ref_lerf(self, data: Path, world: str, seed: int) -> Path:
        """sentences.json of a table-top as Ref-LERF splits it, in a folder beside the other one."""
        from ag2_ns.synthetic.tabletop.layout import lay, orbit
        from ag2_ns.synthetic.tabletop.sentences import make_sentences, to_json

        layout = lay(int(world.split(":")[1]), seed, world.startswith("wild"))
        by_thing: dict[tuple[int, ...], list] = defaultdict(list)
        for made in make_sentences(layout, orbit(self.views, layout.table_half, seed), seed + 5000, each=60):
            if made.view is None and len(made.wanted) == 1:
                by_thing[made.wanted].append(made)
        rng, kept = np.random.default_rng(seed), []
        for mine in by_thing.values():
            chosen = [mine[k] for k in rng.permutation(len(mine))[:5]]
            kept += [replace(s, split="train" if k else "test", held_out=()) for k, s in enumerate(chosen)]
        folder = data / "sentences_like_ref_lerf"
        folder.mkdir(exist_ok=True)
        (folder / "sentences.json").write_text(to_json(kept, []))
        return folder

    def _curve(self, preset: str, scene: Scene, sentences: Path, ask: Callable[..., None]) -> None:
        """How a field's answers become better with its steps."""
        from ag2_ns.eval.refer_job import gather_samples
        from ag2_ns.eval.refer_options import ReferOptions
        from ag2_ns.language.word_meaning import WordEncoder, minilm_folder
        from ag2_ns.splat.refer_field import PRESETS, ReferField
        from ag2_ns.splat.refer_training import FILE_NAME, save_field, train_field

        if self.as_ref_lerf:
            ask("solver", "solver, as Ref-LERF", sentences=sentences)
        options = ReferOptions(
            preset, downscale=self.field_downscale, views_per_sentence=1000 if self.as_ref_lerf else 8
        )
        samples = gather_samples(scene, sentences, options)
        model = self.text_model or minilm_folder()
        words = WordEncoder(model)
        index = scene.require_index()
        torch.manual_seed(0)
        config = replace(PRESETS[preset], steps=max(self.curve))
        field = ReferField(index.anchor_xyz, words.width, config).to(scene.device)
        print(preset, len(samples), "pairs", len(index.anchor_xyz), "anchors", flush=True)
        start = time.perf_counter()

        def progress(done: int, loss: float) -> None:
            if done in self.curve:
                seconds = time.perf_counter() - start
                save_field(scene.folder / FILE_NAME, field, str(model), {"steps": done})
                how = ", as Ref-LERF" if self.as_ref_lerf else ""
                ask("field", f"field {preset}, {done} steps{how}", seconds, sentences)

        train_field(
            field, samples, words, scene.gaussians.detach(), index.gaussian_anchor, scene.rasterizer, progress=progress
        )

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
                config, data = (made(f"tabletop:{objects}", seed) for made in (self.making.run, self.making.data))
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

    def _print(self) -> None:
        rows = [row for path in sorted((self.output / "rows").glob("*.json")) for row in json.loads(path.read_text())]
        for world in dict.fromkeys(row["world"] for row in rows):
            here = [row for row in rows if row["world"] == world]
            seeds = ", ".join(str(s) for s in sorted({row["seed"] for row in here}))
            for part in ("by_kind", "by_held_out"):
                names = sorted({name for row in here for name in row[part]})
                title = f"{world}, seeds {seeds}, {part.replace('_', ' ')}: mean over scenes (least)"
                table = Table("who", "figure", *names, "all", title=title)
                for by in dict.fromkeys(row["by"] for row in here):
                    mine = [row for row in here if row["by"] == by]
                    for figure in ("right", "miou", "amodal_miou", "acc50", "n_acc", "t_acc", "milliseconds"):
                        cells = [_cell([r[part][n][figure] for r in mine if n in r[part]]) for n in names]
                        table.add_row(by, figure, *cells, _cell([r["all"][figure] for r in mine]))
                    table.add_row(by, "train seconds", *[""] * len(names), _cell([r["train_seconds"] for r in mine]))
                    table.add_section()
                Console(width=200).print(table)
            table = Table("who", "hidden", "half hidden", "visible", title="amodal IoU by how much a view shows")
            for by in dict.fromkeys(row["by"] for row in here):
                mine = [row["by_stratum"] for row in here if row["by"] == by]
                strata = ("hidden", "half hidden", "visible")
                table.add_row(by, *(_cell([m[n]["amodal_miou"] for m in mine if n in m]) for n in strata))
            Console().print(table)


def _cell(values: list[float]) -> str:
    values = [v for v in values if v == v]
    return f"{np.mean(values):.3f} ({min(values):.2f})" if values else ""


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
