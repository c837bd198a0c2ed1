"""A scene asked by all sentences of a set: those of an example scene with ids, or those of Ref-LERF with masks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import MissingFile, UnknownWords, UserError
from ag2_ns.eval.referring import ReferringReport, SentenceResult, evaluate_sentences
from ag2_ns.eval.tabletop import GroundTruth, labelled_views
from ag2_ns.io.referring import ReferringMask, ReferringSentence, read_amodal, read_ref_lerf, read_sentences
from ag2_ns.io.view_store import view_stem
from ag2_ns.query.answer import answer
from ag2_ns.query.query import Query
from ag2_ns.query.sentence.query import Sentence
from ag2_ns.query.text import Text
from ag2_ns.rendering.overlay import SELECTED, selection_share
from ag2_ns.scene.scene import Scene

By = Literal["solver", "field", "text"]
"""Who answers: the solver, a trained field, or the scene's encoder with the sentence as a plain text."""


def _query(text: str, view: str | None, by: By) -> Query:
    return Text(text, several=None) if by == "text" else Sentence(text, view, by=by)


def ask_all(
    scene: Scene, sentences: Sequence[ReferringSentence], by: By = "solver"
) -> tuple[list[Answer | None], list[float]]:
    """The answer to each sentence, None where it makes no sense to the scene, and the seconds that each took."""
    answers, seconds = [], []
    for sentence in sentences:
        start = time.perf_counter()
        try:
            answers.append(answer(scene, _query(sentence.text, sentence.view, by)))
        except (UnknownWords, UserError):
            answers.append(None)
        seconds.append(time.perf_counter() - start)
    return answers, seconds


def evaluate_set(
    scene: Scene,
    folder: Path,
    truth: GroundTruth,
    *,
    by: By = "solver",
    split: str = "test",
    max_views: int = 24,
    progress: Callable[[int], None] | None = None,
) -> ReferringReport:
    """Ask the sentences of an example scene and compare with its ids.

    Args:
        scene: as trained.
        folder: sentences/ with sentences.json, and amodal/ where hidden parts count.
        truth: ids of its views, under the scene's names.
        by: who answers.
        split: "test" for what is held out, "train", or "all".
        max_views: views compared, evenly spread.
        progress: called with the number of views done.

    Raises:
        UserError: no such files, or the ground truth is not of this scene.
    """
    sentences = [s for s in read_sentences(folder) if split == "all" or s.split == split]
    if not sentences:
        raise MissingFile(f"{folder}: holds no sentences of the split {split!r}")
    if by == "solver":
        answer(scene, Sentence("the thing on the table"))  # facts are gathered once per scene, not per sentence
    answers, seconds = ask_all(scene, sentences, by)
    amodal = (folder if folder.is_dir() else folder.parent) / "amodal"
    matched = [(v.name, v.view) for v in scene.views if view_stem(v.name) in truth.files]
    matched = matched[:: max(1, len(matched) // max_views)]
    views = []
    for _, name, view, ids in labelled_views(truth, matched):
        file = amodal / f"{view_stem(name)}.npz"
        views.append((view, ids, read_amodal(file) if file.is_file() else None))
    return evaluate_sentences(
        scene.gaussians,
        sentences,
        [None if a is None else a.selection for a in answers],
        views,
        scene.rasterizer,
        seconds=seconds,
        reasons=["" if a is None else a.reason for a in answers],
        progress=progress,
    )


@torch.no_grad()
def evaluate_ref_lerf(scene: Scene, folder: Path, *, by: By = "solver", name: str | None = None) -> ReferringReport:
    """The published protocol of Ref-LERF: IoU per test frame and category, empty masks left out.

    Args:
        scene: trained on the training frames.
        folder: of the scene, with json/ and masks.
        by: who answers.
        name: of the LERF scene, where the folder is called otherwise.

    Raises:
        UserError: no annotations, or none of the scene's pictures.
    """
    entries = [e for e in read_ref_lerf(folder, name) if e.split == "test"]
    views = {view_stem(v.name): v.view for v in scene.views}
    entries = [e for e in entries if e.frame in views]
    if not entries:
        raise MissingFile(f"{folder}: no test frame is among the pictures of this scene")
    results = []
    for entry in entries:
        for text in entry.sentences:
            start = time.perf_counter()
            try:
                found = answer(scene, _query(text, entry.frame, by))
            except UserError:
                found = None
            result = _compared(scene, entry, text, found, views[entry.frame])
            if result is not None:
                result.seconds = time.perf_counter() - start
                results.append(result)
    return ReferringReport(results)


def _compared(scene: Scene, entry: ReferringMask, text: str, found: Answer | None, view) -> SentenceResult | None:
    mask = entry.read()
    if not mask.any():
        return None
    sentence = ReferringSentence(text, (1,), entry.frame, entry.category)
    result = SentenceResult(sentence, found is not None and not found.selection.empty, False, 0.0, 0.0)
    if result.answered:
        chosen = found.selection.gaussian_mask[:, None]
        drawn = (selection_share(scene.gaussians, chosen, view, scene.rasterizer)[..., 0] > SELECTED).cpu().numpy()
        if drawn.shape != mask.shape:
            rows = (np.arange(drawn.shape[0]) * mask.shape[0] / drawn.shape[0]).astype(int)
            columns = (np.arange(drawn.shape[1]) * mask.shape[1] / drawn.shape[1]).astype(int)
            mask = mask[np.ix_(rows, columns)]
        union = np.count_nonzero(drawn | mask)
        result.iou.append(np.count_nonzero(drawn & mask) / union if union else 1.0)
        result.score, result.reason = float(found.selection.score), found.reason
    else:
        result.iou.append(0.0)
    result.right = result.miou > 0.5
    return result


def table_of(title: str, report: ReferringReport):
    """A rich table: all, by kind, by what was held out."""
    from rich.table import Table

    content = report.as_dict()
    columns = ("sentences", "right", "miou", "amodal_miou", "acc50", "n_acc", "t_acc", "milliseconds")
    table = Table("", *(c.replace("_", " ") for c in columns), title=title)
    for part in ("by_kind", "by_held_out"):
        for name, row in content[part].items():
            table.add_row(name if part == "by_kind" else f"held out: {name}", *(_cell(row[c]) for c in columns))
        table.add_section()
    table.add_row("all", *(_cell(content["all"][c]) for c in columns))
    for name, row in content["by_stratum"].items():
        table.add_row(name, str(row["pairs"]), "", "", _cell(row["amodal_miou"]), "", "", "", "")
    return table


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if value != value else f"{value:.3f}"
