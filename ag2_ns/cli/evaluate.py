"""`ag2 eval`: how well text queries and clicks select what they mean, and how well instances are the objects."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    vocabulary: bool = False
    """Measure the names that `ag2 name` gave instead: words, named mIoU, TPSS with its control."""
    mapping: Path | None = None
    """JSON of word to class of the ground truth, or to a language model's answer (with --vocabulary)."""
    point_labels: Path | None = None
    """Classes of the cloud's points (SemanticKITTI .label, nuScenes _lidarseg.bin, .npy) instead of ids/ (with
    --vocabulary); --ground-truth then is a folder with labels.json: class id to name."""

    def main(self) -> None:
        """Run the evaluation and print the table."""
        from ag2_ns.core.notice import view_progress
        from ag2_ns.eval.run import evaluate_run
        from ag2_ns.eval.tabletop import named_like, read_ground_truth
        from ag2_ns.io.atomic import require_writable, write_atomic

        if self.vocabulary:
            return self._names()
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
        write_atomic(self.output_dir / "report.json", (json.dumps(content, indent=2) + "\n").encode())
        self._sheet(scene, truth, report)
        self._print(content)

    def _names(self) -> None:
        """Measure the scene's names."""
        from ag2_ns.core.console import console
        from ag2_ns.core.notice import view_progress
        from ag2_ns.eval.named import evaluate_pictures, gaussian_classes, report_of, require_vocabulary
        from ag2_ns.eval.tabletop import named_like, read_ground_truth
        from ag2_ns.eval.vocabulary import map_by_answers, map_by_table, read_mapping, segmentation
        from ag2_ns.io.atomic import require_writable, write_atomic
        from ag2_ns.synthetic.captions import kind_of, same_thing

        require_writable(self.output_dir)
        scene = self.open(edits=False)
        words = require_vocabulary(scene).words
        labels = self._class_names() if self.point_labels else read_ground_truth(self.ground_truth).labels
        classes = sorted({kind_of(label) for label in labels.values()})
        place = {number: classes.index(kind_of(label)) for number, label in labels.items()}
        table = read_mapping(self.mapping) if self.mapping else {}
        if any("'" in answer for answer in table.values()):
            mapping = map_by_answers(words, classes, table)
        else:
            known = {w: c for w in words for c in classes if same_thing(w, c)}
            mapping = map_by_table(words, classes, known | table)
        if self.point_labels is not None:
            truth = self._point_classes(len(scene.gaussians), place)
            score = segmentation(gaussian_classes(scene, mapping), truth, classes)
            there = {classes[k] for k in truth.unique().tolist() if 0 <= k < len(classes)}
        else:
            pictures = named_like(read_ground_truth(self.ground_truth), scene.names_of)
            with view_progress(len(scene.views), "comparing") as progress:
                score = evaluate_pictures(scene, pictures, classes, place, mapping, progress)
            there = set(classes)
        by_class = lambda word, label: mapping.get(word, -1) == classes.index(label)  # noqa: E731
        report = report_of(scene, score, sorted(there), by_class, self._noun_vectors(scene))
        content = report.as_dict() | {"mapping": {w: classes[k] if k >= 0 else "void" for w, k in mapping.items()}}
        write_atomic(self.output_dir / "vocabulary.json", (json.dumps(content, indent=2) + "\n").encode())
        out = console()
        out.print(
            f"words      {report.count}; recall {report.words.recall:.3f}, precision {report.words.precision:.3f}"
        )
        if report.words.missed:
            out.print(f"missed     {', '.join(report.words.missed)}")
        if report.words.wrong:
            out.print(f"wrong      {', '.join(report.words.wrong)}")
        out.print(
            f"named mIoU {score.miou:.3f} (void left out, as published: {score.miou_published:.3f}); "
            f"{score.void:.1%} void"
        )
        mean, deviation = report.random_tpss
        out.print(f"TPSS       {report.tpss:.2f}; {report.count} random nouns {mean:.2f} +- {deviation:.2f}")
        out.print(f"report     {self.output_dir / 'vocabulary.json'}")

    def _class_names(self) -> dict[int, str]:
        """Class id to name, from labels.json."""
        path = self.ground_truth / "labels.json" if self.ground_truth.is_dir() else self.ground_truth
        try:
            return {int(k): str(v) for k, v in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            raise UserError(f"{path}: not a JSON of class id to name; --point-labels needs one") from None

    def _point_classes(self, count: int, place: dict[int, int]):
        """The class of each point, 255 for those without."""
        import numpy as np
        import torch

        from ag2_ns.io.points import PointCloud, read_labels

        labels = read_labels(self.point_labels, PointCloud(np.zeros((count, 3), np.float32)))
        out = np.full(len(labels), 255, np.int64)
        for number, k in place.items():
            out[labels == number] = k
        return torch.from_numpy(out)

    @staticmethod
    def _noun_vectors(scene: OpenScene):
        """Vectors of the nouns that the scene's encoder knows; None without one."""
        from ag2_ns.core.errors import EncoderGone, MissingLanguage
        from ag2_ns.perception.tagger import embed_words, words_for

        if scene.texts is None:
            return None
        try:
            encoder = scene.texts.encoder()
        except (EncoderGone, MissingLanguage):
            return None
        return embed_words(encoder, words_for(encoder))[1]

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
