"""`ag2 eval`: how well text queries and clicks select what they mean, and how well instances are the objects."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ag2_ns.cli.picking import Opened
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.eval.run import RunReport
    from ag2_ns.eval.tabletop import GroundTruth
    from ag2_ns.session.opened import OpenScene

PIPED = 160
"""Columns of a table that no terminal shows, unless COLUMNS says otherwise."""


@dataclass
class Eval(Opened):
    """Ask every label of a ground truth, select in 3D, render, and compare: mIoU, Acc@0.25, Acc@0.5, boundary IoU.

    Beside that: what random clicks on each object select, and, without any query, the union of the instances that lie
    on each object, and how many they are. The scene is measured as trained, without edits.
    """

    ground_truth: Path
    """Folder with ids/*.png and labels.json."""
    output_dir: Path
    """Where report.json and worst_first.png go."""
    _: KW_ONLY
    clicks: int = 5
    """Random clicks per object; 0 leaves clicks out."""
    sheet_rows: int = 12
    """Prompts on the picture sheet."""
    sentences: Path | None = None
    """Also ask sentences: sentences/ of an example scene, or a scene's folder of Ref-LERF (with json/)."""
    sentences_by: tuple[Literal["solver", "field", "text"], ...] = ("solver",)
    """Who answers the sentences; text asks the encoder for the whole sentence."""
    sentences_split: Literal["test", "train", "all"] = "test"
    """Held-out sentences, those for training, or all."""

    def main(self) -> None:
        """Run the evaluation and print the table."""
        from ag2_ns.core.notice import view_progress
        from ag2_ns.eval.run import evaluate_run
        from ag2_ns.eval.tabletop import named_like, read_ground_truth
        from ag2_ns.io.atomic import require_writable, write_atomic

        for option, value in (("--clicks", self.clicks), ("--sheet-rows", self.sheet_rows)):
            if value < 0:
                raise UserError(f"{option} {value}: give a number from 0")
        truth = read_ground_truth(self.ground_truth)
        require_writable(self.output_dir)
        scene = self.open(edits=False)
        truth = named_like(truth, scene.names_of)
        report = evaluate_run(scene, truth, clicks=self.clicks, watch=view_progress)
        content = report.texts.as_dict() | {
            "clicks": report.clicks.as_dict(),
            "instances": report.instances.as_dict(),
            "config": str(self.load_config),
            "ground_truth": str(self.ground_truth),
            "seconds_per_query": sum(report.text_seconds) / max(1, len(report.text_seconds)),
        }
        tables = self._sentences(scene, truth, content) if self.sentences is not None else []
        write_atomic(self.output_dir / "report.json", (json.dumps(content, indent=2) + "\n").encode())
        self._sheet(scene, truth, report)
        self._print(content)
        for table in tables:
            self._console().print(table)

    def _sentences(self, scene: OpenScene, truth: GroundTruth, content: dict) -> list:
        """Ask the sentences, add the figures to the report; tables to print."""
        from ag2_ns.core.notice import view_progress
        from ag2_ns.eval.referring_run import evaluate_ref_lerf, evaluate_set, table_of

        tables = []
        content["sentences"] = {}
        for by in self.sentences_by:
            if (self.sentences / "json").is_dir():
                report = evaluate_ref_lerf(scene, self.sentences, by=by)
            else:
                with view_progress(len(scene.views), f"sentences by {by}") as progress:
                    report = evaluate_set(
                        scene, self.sentences, truth, by=by, split=self.sentences_split, progress=progress
                    )
            content["sentences"][by] = report.as_dict()
            tables.append(table_of(f"sentences by {by}", report))
        return tables

    def _console(self):
        from ag2_ns.core.console import console

        return console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED)

    def _sheet(self, scene: OpenScene, truth: GroundTruth, report: RunReport) -> None:
        import numpy as np

        from ag2_ns.eval.tabletop import chosen_sets
        from ag2_ns.io.view_store import view_stem
        from ag2_ns.rendering import render
        from ag2_ns.rendering.overlay import SELECTED, marked, selection_share, to_uint8
        from ag2_ns.rendering.sheet import contact_sheet

        rows, names, views = [], [], {v.name: v.view for v in scene.views}
        order = sorted(range(len(report.labels)), key=lambda k: report.texts.prompts[k].miou)
        for k in order[: self.sheet_rows]:
            result = report.texts.prompts[k]
            if not result.iou:
                continue
            worst = int(np.argmin(result.iou))
            view = views[result.view[worst]]
            out = render(scene.gaussians, view, scene.rasterizer, depth=False)
            picture = to_uint8(out.rgb)
            share = selection_share(
                scene.gaussians, chosen_sets(scene.gaussians, [report.selections[k]]), view, scene.rasterizer
            )
            mask = (share[..., 0] > SELECTED).cpu().numpy()
            target = truth.ids(view_stem(result.view[worst])) == report.labels[k][0]
            rows.append([picture, marked(picture, target, (0.25, 0.86, 0.25)), marked(picture, mask)])
            names.append(
                f"{result.label}   mIoU {result.miou:.3f}   worst view {result.view[worst]} {min(result.iou):.3f}"
                + ("   NOT FOUND" if result.missing else "")
            )
        if rows:
            contact_sheet(self.output_dir / "worst_first.png", rows, ["rendered", "ground truth", "selected"], names)

    def _print(self, content: dict) -> None:
        from rich.table import Table

        from ag2_ns.core.console import console

        instances = content["instances"]
        of = {o["label"]: o for o in instances["objects"]}
        table = Table(title="text queries, worst first")
        for name in ("prompt", "views", "mIoU", "bIoU", "Acc@0.25", "Acc@0.5", "clicks", "inst.", "inst. IoU"):
            table.add_column(name, justify="left" if name == "prompt" else "right")
        numbers = ("miou", "mbiou", "acc25", "acc50")
        for p in content["prompts"]:
            label = p["label"] + ("  (not found)" if p["missing"] else "")
            own = of[p["label"]]
            clicked = content["clicks"]["objects"].get(p["label"])
            row = [*(f"{p[k]:.3f}" for k in numbers), "" if clicked is None else f"{clicked:.3f}"]
            row += [str(own["instances"]), f"{own['miou']:.3f}"]
            table.add_row(label, str(p["views"]), *row)
        table.add_section()
        for title, key in (("mean over prompts", "mean_over_prompts"), ("mean over views", "mean_over_views")):
            clicked = f"{content['clicks']['miou']:.3f}" if self.clicks else ""
            own = (clicked, "", f"{instances['miou']:.3f}") if key == "mean_over_prompts" else ()
            table.add_row(title, "", *(f"{content[key][k]:.3f}" for k in numbers), *own)
        out = console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED)
        out.print(table)
        out.print(
            f"instances mean IoU {instances['miou']:.3f}; per object median {instances['median_instances']:g}, "
            f"at most {instances['max_instances']}; {instances['unlabelled']} on no object"
        )
        out.print(f"report    {self.output_dir / 'report.json'}")
        out.print(f"pictures  {self.output_dir / 'worst_first.png'}")
