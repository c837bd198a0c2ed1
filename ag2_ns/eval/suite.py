"""All protocols over one scene: what `ag2 eval` and the benchmark suite run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ag2_ns.core.errors import UnknownWords, UserError
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.absent import evaluate_absent
from ag2_ns.eval.benchmark import Benchmark, Matched, match_views, scaled
from ag2_ns.eval.formats import lerf_ovs, own
from ag2_ns.eval.heat2d import evaluate_heat
from ag2_ns.eval.instances import evaluate_agnostic, weight_on_objects
from ag2_ns.eval.levels import evaluate_levels
from ag2_ns.eval.masks3d import evaluate_masks
from ag2_ns.eval.scribbles import answer_strokes
from ag2_ns.eval.tabletop import Report, named_like, read_ground_truth
from ag2_ns.io.view_store import view_stem
from ag2_ns.query.click import answer_click
from ag2_ns.query.text import Text
from ag2_ns.scene.scene import Scene

PROTOCOLS = ("3d", "2d", "clicks", "scribbles", "instances", "parts", "groups", "absent")

Watch = Callable[[int, str], AbstractContextManager[Callable[[int], None] | None]]


@dataclass
class Evaluation:
    """What was measured."""

    results: dict[str, dict] = field(default_factory=dict)
    """By protocol, as JSON."""
    selections: dict[str, Selection | None] = field(default_factory=dict)
    """What each prompt selects; None for one that the encoder does not know."""
    report: Report | None = None
    """Of protocol 3d (or scribbles)."""
    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each protocol, and the mean of one text query and one click."""


def suits(benchmark: Benchmark) -> tuple[str, ...]:
    """The protocols that a ground truth allows."""
    if benchmark.format == "nvos":
        return ("scribbles",)
    if benchmark.format == "spin-nerf":
        return ("clicks",)
    if benchmark.format != "ids":
        return ("3d", "2d")
    further = [name for name in ("parts", "groups") if (benchmark.folder / name / "labels.json").is_file()]
    return ("3d", "2d", "clicks", "instances", *further, *(("absent",) if benchmark.absent else ()))


@torch.no_grad()
def evaluate(
    scene: Scene,
    benchmark: Benchmark,
    protocols: Sequence[str] = (),
    *,
    clicks: int = 3,
    seed: int = 0,
    watch: Watch | None = None,
    save: Callable[[str, str, np.ndarray], None] | None = None,
) -> Evaluation:
    """Run protocols.

    Args:
        scene: as trained, with instances.
        benchmark: what is asked, and what would be right.
        protocols: of `PROTOCOLS`; by default all that the ground truth allows.
        clicks: random clicks per target.
        seed: draws clicks.
        watch: shows progress.
        save: called with frame, prompt and predicted mask by protocol 3d.

    Raises:
        UserError: an unknown protocol or one that the ground truth does not allow, no instances, no encoder, or a
            ground truth of another scene.
    """
    allowed = suits(benchmark)
    for name in protocols:
        if name not in PROTOCOLS:
            raise UserError(f"--protocol {name}: unknown; there are {', '.join(PROTOCOLS)}")
        if name not in allowed:
            raise UserError(
                f"--protocol {name}: {benchmark.folder} ({benchmark.format}) does not allow it; it allows "
                f"{', '.join(allowed)}"
            )
    run = _Run(scene, benchmark.named_like(scene.names_of), clicks, seed, watch, save)
    for name in protocols or allowed:
        start = _clock()
        run.out.results[name] = getattr(run, f"protocol_{name}")()
        run.out.seconds[name] = _clock() - start
    return run.out


class _Run:
    """One evaluation under way."""

    def __init__(self, scene: Scene, benchmark: Benchmark, clicks: int, seed: int, watch, save) -> None:
        self.scene, self.benchmark, self.clicks, self.seed, self.save = scene, benchmark, clicks, seed, save
        self.watch = watch or (lambda total, what: nullcontext())
        self.views = [(v.name, v.view) for v in scene.views]
        self.index = scene.require_index()
        self.out = Evaluation(problems=list(benchmark.problems))
        self.matched = match_views(benchmark, self.views)
        for frame in self.matched.missing:
            self.out.problems.append(f"{frame}: labelled, but the scene has no such picture; counts 0")
        if self.matched.resized:
            frame = self.matched.resized[0]
            height, width = benchmark.sizes[frame]
            self.out.problems.append(
                f"{len(self.matched.resized)} frames: labels are {width}x{height}, unlike the pictures; drawn so"
            )
        empty = [p for p in benchmark.prompts if not any(p in benchmark.masks(f) for f in benchmark.sizes)]
        self.out.problems += [f"{p!r}: labelled in no frame, or too small in all; not scored" for p in empty]
        self._texts: dict[str, Selection | None] = {}

    def ask(self, text: str, several: bool = False) -> Selection | None:
        """What a text selects; None where the encoder does not know its words."""
        if text not in self._texts:
            start = _clock()
            try:
                self._texts[text] = Text(text, several=several).reply(self.scene, None).selection
            except UnknownWords:
                self._texts[text] = None
                self.out.problems.append(f"{text!r}: the encoder does not know these words; counts 0")
            self.out.seconds["text query"] = _mean(
                self.out.seconds.get("text query"), _clock() - start, len(self._texts)
            )
        return self._texts[text]

    def click(self, view: View, x: int, y: int, level: float) -> Selection:
        """What a click selects."""
        start = _clock()
        scene = self.scene
        found = answer_click(self.index, scene.gaussians, scene.rasterizer, view, x, y, level).selection
        self._clicks = getattr(self, "_clicks", 0) + 1
        self.out.seconds["click"] = _mean(self.out.seconds.get("click"), _clock() - start, self._clicks)
        return found

    def _answers(self) -> dict[str, Selection | None]:
        self.out.selections = {p: self.ask(p, p in self.benchmark.several) for p in self.benchmark.prompts}
        return self.out.selections

    def protocol_3d(self) -> dict:
        """Both ways to render."""
        answers, scene, out = self._answers(), self.scene, {}
        for rule in ("share", "alone"):
            with self.watch(len(self.benchmark.sizes), f"texts, drawn by {rule}") as progress:
                report = evaluate_masks(
                    scene.gaussians, answers, self.benchmark, self.matched, scene.rasterizer, rule, progress,
                    self.save if rule == "share" else None,
                )  # fmt: skip
            out[rule] = report.as_dict()
            if rule == "share":
                self.out.report = report
        return out

    def protocol_2d(self) -> dict:
        answers, scene = self._answers(), self.scene
        scores = {
            p: None if s is None or s.empty else s.anchor_score[self.index.gaussian_anchor] for p, s in answers.items()
        }
        boxes = None
        if self.benchmark.format == "lerf-ovs":
            boxes = lerf_ovs.boxes_of(self.benchmark.folder)
        with self.watch(len(self.benchmark.sizes), "relevancy maps") as progress:
            return evaluate_heat(
                scene.gaussians, scores, self.benchmark, self.matched, scene.rasterizer, boxes, progress
            ).as_dict()

    def _levels(self, kind: str, benchmark: Benchmark, matched: Matched) -> dict:
        scene = self.scene
        with self.watch(len(benchmark.prompts), f"clicks on {kind}") as progress:
            return evaluate_levels(
                kind, self.click, scene.gaussians, benchmark, matched, scene.rasterizer, each=self.clicks,
                seed=self.seed, progress=progress,
            ).as_dict()  # fmt: skip

    def protocol_clicks(self) -> dict:
        if self.benchmark.format != "ids":
            return self._levels("things", self.benchmark, self.matched)
        things = own.each_thing(self.benchmark.folder).named_like(self.scene.names_of)
        out = self._levels("things", things, self.matched)
        twins = [c for c in out["clicks"] if own.is_twin(c["target"])]
        if twins:
            out["twins_told_apart"] = float(np.mean([c["iou"] > 0.5 for c in twins]))
        return out

    def _named(self, kind: str, benchmark: Benchmark | None) -> dict:
        if benchmark is None:
            return {}
        benchmark, scene = benchmark.named_like(self.scene.names_of), self.scene
        matched = match_views(benchmark, self.views)
        out = self._levels(kind, benchmark, matched)
        answers = {p: self.ask(p, p in benchmark.several) for p in benchmark.prompts}
        with self.watch(len(benchmark.sizes), f"texts of {kind}") as progress:
            report = evaluate_masks(scene.gaussians, answers, benchmark, matched, scene.rasterizer, "share", progress)
        return {"clicks": out, "texts": report.as_dict()}

    def protocol_parts(self) -> dict:
        return self._named("parts", own.read_parts(self.benchmark.folder))

    def protocol_groups(self) -> dict:
        return self._named("groups", own.read_groups(self.benchmark.folder))

    def protocol_absent(self) -> dict:
        return evaluate_absent(self.ask, self.benchmark.absent, self._answers()).as_dict()

    def protocol_instances(self) -> dict:
        truth, scene = named_like(read_ground_truth(self.benchmark.folder), self.scene.names_of), self.scene
        labels = sorted(truth.labels.items())
        out = {}
        for name, level in (("objects", 0.5), ("finest", 0.0)):
            instance = self.index.gaussian_node(level)
            names, which = torch.unique(instance, return_inverse=True)
            held = weight_on_objects(
                scene.gaussians, which, len(names), [i for i, _ in labels], truth, self.views, scene.rasterizer
            )
            out[name] = evaluate_agnostic(held[names >= 0], [t for _, t in labels]).as_dict()
        return out

    def protocol_scribbles(self) -> dict:
        strokes, scene = self.benchmark.strokes, self.scene
        stems = {view_stem(name): view for name, view in self.views}
        if strokes.frame not in stems:
            raise UserError(
                f"{self.benchmark.folder}: the scribbles are on {strokes.frame}, which is no picture of the scene"
            )
        height, width = strokes.positive.shape
        view = scaled(stems[strokes.frame], width, height)
        found = answer_strokes(self.click, view, strokes, seed=self.seed)
        self.out.selections = {self.benchmark.prompts[0]: found.selection}
        report = evaluate_masks(
            scene.gaussians,
            self.out.selections,
            self.benchmark,
            self.matched,
            scene.rasterizer,
            "share",
            None,
            self.save,
        )
        self.out.report = report
        return report.as_dict() | {"level": found.level}


def _mean(old: float | None, new: float, count: int) -> float:
    return new if old is None else old + (new - old) / count


def _clock() -> float:
    """Seconds, with all work on the GPU done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def headline(results: Mapping[str, dict]) -> dict[str, float]:
    """The one or two figures of each protocol that tables show."""
    out: dict[str, float] = {}
    if "3d" in results:
        share, alone = results["3d"]["share"], results["3d"]["alone"]
        out |= {
            "text mIoU": share["mean_over_prompts"]["miou"],
            "bIoU": share["mean_over_prompts"]["mbiou"],
            "Acc@0.25": share["mean_over_prompts"]["acc25"],
            "Acc@0.5": share["mean_over_prompts"]["acc50"],
            "pairs mIoU": share["mean_over_views"]["miou"],
            "alone mIoU": alone["mean_over_views"]["miou"],
            "alone Acc@0.25": alone["mean_over_views"]["acc25"],
        }
    if "2d" in results:
        out |= {"2d mIoU": results["2d"]["mean_over_views"]["miou"], "2d loc.": results["2d"]["localisation"]}
    if "clicks" in results:
        out["clicks"] = results["clicks"]["miou"]
        if "twins_told_apart" in results["clicks"]:
            out["twins"] = results["clicks"]["twins_told_apart"]
    if "scribbles" in results:
        out["scribbles"] = results["scribbles"]["mean_over_views"]["miou"]
    if "instances" in results:
        out |= {
            "best IoU": results["instances"]["objects"]["best_iou"],
            "AP50": results["instances"]["objects"]["ap50"],
        }
    for kind in ("parts", "groups"):
        if results.get(kind):
            out |= {kind: results[kind]["clicks"]["miou"], f"{kind} best": results[kind]["clicks"]["best_level_miou"]}
            out[f"{kind[:-1]} texts"] = results[kind]["texts"]["mean_over_prompts"]["miou"]
    if "absent" in results:
        out |= {"rejected": results["absent"]["rejected"], "kept": results["absent"]["kept"]}
        out["rejected at 0.98 kept"] = results["absent"]["rejected_at_98_kept"]
    return out


def revision(folder: Path | None = None) -> str:
    """The git revision of the code, "-dirty" where it was changed; empty outside of a checkout."""
    import subprocess

    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder or Path(__file__).parent, capture_output=True,
            text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
