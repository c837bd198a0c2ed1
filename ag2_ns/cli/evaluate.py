"""`ag2 eval`: how well a scene answers texts, clicks and scribbles, by protocols with fixed thresholds."""

from __future__ import annotations

import os
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ag2_ns.cli.picking import Opened
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from ag2_ns.eval.benchmark import Benchmark
    from ag2_ns.eval.suite import Evaluation
    from ag2_ns.session.opened import OpenScene

PIPED = 160
"""Columns of a table that no terminal shows, unless COLUMNS says otherwise."""

Protocol = Literal["3d", "2d", "clicks", "scribbles", "instances", "parts", "groups", "absent"]
Format = Literal["auto", "ids", "lerf-ovs", "folders", "lerf-mask", "spin-nerf", "nvos"]
Layout = Literal["folders", "lerf-mask", "spin-nerf", "lerf-ovs"]


@dataclass
class Eval(Opened):
    """Measure how a scene answers: mIoU, Acc@0.25, Acc@0.5 and boundary IoU of texts, clicks, parts, groups, scribbles.

    Thresholds are fixed beforehand and printed; what is missing counts 0, and frames or names that do not fit are told.
    The scene is measured as trained, without edits.
    """

    ground_truth: Path
    """Labels: ids/ and labels.json, LERF-OVS frame_*.json, <frame>/<text>.png, LERF-Mask, SPIn-NeRF or NVOS."""
    output_dir: Path
    """Where report.json, prompts.csv, worst_first.png and plots.png go."""
    _: KW_ONLY
    protocol: Annotated[tuple[Protocol, ...], tyro.conf.UseAppendAction] = ()
    """What to measure, may be given several times; by default all that the labels allow."""
    format: Format = "auto"
    """Of the labels, where it cannot be told from the files."""
    predictions: Layout | None = None
    """Also write the predicted masks to OUTPUT_DIR/predictions in this layout, for other projects' scripts."""
    clicks: int = 3
    """Random clicks per thing, part and group."""
    seed: int = 0
    """Draws the clicks."""
    sheet_rows: int = 12
    """Prompts on the picture sheet."""
    vocabulary: bool = False
    """Measure the names that `ag2 name` gave instead: words, named mIoU, TPSS with its control."""
    mapping: Path | None = None
    """JSON of word to class of the ground truth, or to a language model's answer (with --vocabulary)."""
    point_labels: Path | None = None
    """Classes of the cloud's points (SemanticKITTI .label, nuScenes _lidarseg.bin, .npy) instead of ids/ (with
    --vocabulary); --ground-truth then is a folder with labels.json: class id to name."""
    sentences: Path | None = None
    """Also ask sentences: sentences/ of an example scene, or a scene's folder of Ref-LERF (with json/)."""
    sentences_by: tuple[Literal["solver", "field", "text"], ...] = ("solver",)
    """Who answers the sentences; text asks the encoder for the whole sentence."""
    sentences_split: Literal["test", "train", "all"] = "test"
    """Held-out sentences, those for training, or all."""

    def main(self) -> None:
        """Run the evaluation and print the table."""
        from ag2_ns.core.notice import view_progress
        from ag2_ns.eval.formats import read_benchmark
        from ag2_ns.eval.report import write_report
        from ag2_ns.eval.suite import evaluate
        from ag2_ns.io.atomic import require_writable

        if self.vocabulary:
            from ag2_ns.cli.evaluate_names import measure_names

            return measure_names(self)
        for option, value, least in (("--clicks", self.clicks, 1), ("--sheet-rows", self.sheet_rows, 0)):
            if value < least:
                raise UserError(f"{option} {value}: give a number from {least}")
        benchmark = read_benchmark(self.ground_truth, self.format)
        require_writable(self.output_dir)
        scene = self.open(edits=False)
        found = evaluate(
            scene, benchmark, self.protocol, clicks=self.clicks, seed=self.seed, watch=view_progress, save=self._saver()
        )
        extra, tables = {"config": str(self.load_config), "seed": self.seed}, []
        if self.sentences is not None:
            from ag2_ns.cli.evaluate_sentences import measure_sentences

            extra["sentences"], tables = measure_sentences(self, scene)
        content = write_report(self.output_dir, scene, benchmark, found, extra)
        if self.sheet_rows and found.report is not None:
            self._sheet(scene, benchmark.named_like(scene.names_of), found)
        self._print(content, found)
        from ag2_ns.core.console import console

        for table in tables:
            console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED).print(table)

    def _saver(self):
        if self.predictions is None:
            return None
        from ag2_ns.eval.formats import write_prediction

        out, kept = self.output_dir / "predictions", {}

        def save(frame: str, prompt: str, mask: np.ndarray) -> None:
            kept.setdefault(frame, {})[prompt] = mask
            if self.predictions == "lerf-ovs":
                write_prediction(self.predictions, out, frame, kept[frame])
            else:
                write_prediction(self.predictions, out, frame, {prompt: mask})

        return save

    def _sheet(self, scene: OpenScene, benchmark: Benchmark, found: Evaluation) -> None:
        import numpy as np

        from ag2_ns.eval.benchmark import match_views
        from ag2_ns.eval.masks3d import drawn
        from ag2_ns.eval.tabletop import chosen_sets
        from ag2_ns.io.view_store import view_stem
        from ag2_ns.rendering import render
        from ag2_ns.rendering.overlay import marked, to_uint8
        from ag2_ns.rendering.sheet import contact_sheet

        rows, names = [], []
        views = match_views(benchmark, [(v.name, v.view) for v in scene.views]).views
        for result in sorted((p for p in found.report.prompts if p.iou), key=lambda p: p.miou)[: self.sheet_rows]:
            worst = int(np.argmin(result.iou))
            frame = view_stem(result.view[worst])
            if frame not in views:
                continue
            view = views[frame][1]
            picture = to_uint8(render(scene.gaussians, view, scene.rasterizer, depth=False).rgb)
            sets = chosen_sets(scene.gaussians, [found.selections.get(result.label)])
            mask = drawn(scene.gaussians, sets, view, scene.rasterizer, "share")[..., 0].cpu().numpy()
            target = benchmark.masks(frame)[result.label]
            rows.append([picture, marked(picture, target, (0.25, 0.86, 0.25)), marked(picture, mask)])
            names.append(
                f"{result.label}   mIoU {result.miou:.3f}   worst view {result.view[worst]} {min(result.iou):.3f}"
                + ("   NOT FOUND" if result.missing else "")
            )
        if rows:
            contact_sheet(self.output_dir / "worst_first.png", rows, ["rendered", "ground truth", "selected"], names)

    def _print(self, content: dict, found: Evaluation) -> None:
        from rich.table import Table

        from ag2_ns.core.console import console

        out = console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED)
        if found.report is not None:
            of = content["protocols"].get("clicks", {}).get("targets", {})
            table = Table(title="prompts, worst first")
            for name in ("prompt", "frames", "mIoU", "bIoU", "Acc@0.25", "Acc@0.5", "clicks"):
                table.add_column(name, justify="left" if name == "prompt" else "right")
            for p in found.report.as_dict()["prompts"]:
                label = p["label"] + ("  (not found)" if p["missing"] else "")
                clicked = f"{of[p['label']]:.3f}" if p["label"] in of else ""
                numbers = (f"{p[k]:.3f}" for k in ("miou", "mbiou", "acc25", "acc50"))
                table.add_row(label, str(p["views"]), *numbers, clicked)
            out.print(table)
        table = Table(title=f"{content['ground_truth']}  ({content['format']})")
        for name in ("figure", "value"):
            table.add_column(name, justify="left" if name == "figure" else "right")
        for name, value in content["headline"].items():
            table.add_row(name, f"{value:.3f}")
        out.print(table)
        out.print(content["thresholds"])
        for line in content["problems"]:
            out.print(f"note      {line}", markup=False)
        out.print(f"report    {self.output_dir / 'report.json'}")
        if found.report is not None:
            out.print(f"pictures  {self.output_dir / 'worst_first.png'}")
