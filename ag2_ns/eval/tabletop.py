"""Text queries against ground-truth ids: every label is asked, selected in 3D, rendered and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.metrics import summary
from ag2_ns.eval.overlap import boundaries, id_boundaries, ious
from ag2_ns.io.view_store import view_stem
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.overlay import SELECTED, selection_share

MIN_PIXELS = 200
"""A view counts for an object that covers at least this many of 640 x 480 pixels (in proportion for other sizes)."""
BATCH = 2**25
"""Sets are drawn so many at once that their pictures, and their columns over the Gaussians, hold this many values."""
KEPT = 2**28
"""Bytes of ground truth that are kept once they are read."""


@dataclass(frozen=True)
class GroundTruth:
    """Ids per view and their labels."""

    folder: Path
    labels: dict[int, str]
    """Id to text."""
    files: dict[str, Path]
    """Image name without suffix (`view_stem`) to the PNG of its ids."""
    _read: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def ids(self, stem: str) -> Int[np.ndarray, "H W"]:
        """The ids of one view, 0 where nothing is labelled.

        Raises:
            UserError: the file cannot be read, or holds colours.
        """
        image = self._read.get(stem)
        if image is None:
            path = self.files[stem]
            try:
                with Image.open(path) as file:
                    image = np.asarray(file)
            except (OSError, SyntaxError) as error:
                raise UserError(f"{path}: not a readable image of ids ({error}); restore it") from error
            if image.ndim != 2:
                raise UserError(f"{path}: has {image.shape[2]} channels; save one id per pixel as a grey image")
            if sum(i.nbytes for i in self._read.values()) + image.nbytes <= KEPT:
                self._read[stem] = image
        return image.astype(np.int64)


def read_ground_truth(folder: Path) -> GroundTruth:
    """Open `ids/*.png` and `labels.json`.

    Raises:
        UserError: either is missing or damaged.
    """
    path = folder / "labels.json"
    try:
        labels = {int(k): str(v) for k, v in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; --ground-truth takes a folder with ids/ and labels.json") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a JSON table of id to text ({error})") from error
    files = {view_stem(p.relative_to(folder / "ids")): p for p in sorted((folder / "ids").rglob("*.png"))}
    if not labels or not files:
        raise UserError(f"{folder}: no {'labels' if not labels else 'ids/*.png'} in it")
    return GroundTruth(folder, labels, files)


def named_like(truth: GroundTruth, names_of: Callable[[str], Sequence[str]]) -> GroundTruth:
    """The ground truth, its files under the names that a run has for the images.

    Args:
        truth: files named like images, with or without their folders.
        names_of: the images that a name may mean (`LoadedRun.names_of`).
    """
    files = {}
    for stem, path in truth.files.items():
        found = [view_stem(name) for name in names_of(stem)]
        key = found[0] if len(found) == 1 else stem
        if key == stem or key not in truth.files:  # a file that has the very name goes first
            files[key] = path
    return replace(truth, files=files)


class Scores(NamedTuple):
    """How one set of Gaussians compares with one object, in each view that shows the object."""

    view: list[str]
    iou: list[float]
    boundary_iou: list[float]


Known = dict[tuple[int, bytes], Scores]
"""What was compared before, by the id of the object and the Gaussians of the set: one such table per scene and truth.

A text, a click and an instance often are the same set; given the same table, they are drawn once.
"""


@dataclass
class ViewScores:
    """How what stands for one label compares with it, in each view that shows it."""

    label: str
    iou: list[float] = field(default_factory=list, kw_only=True)
    boundary_iou: list[float] = field(default_factory=list, kw_only=True)
    view: list[str] = field(default_factory=list, kw_only=True)

    @property
    def miou(self) -> float:
        """Mean IoU over the views."""
        return float(np.mean(self.iou)) if self.iou else 0.0

    def as_dict(self) -> dict:
        """For JSON."""
        return {"label": self.label, "views": len(self.iou)} | summary(self.iou, self.boundary_iou)


@dataclass
class PromptResult(ViewScores):
    """How one prompt did."""

    missing: bool
    """Whether the query found nothing; it then counts 0 in every view."""
    score: float

    def as_dict(self) -> dict:
        """For JSON."""
        return super().as_dict() | {"missing": self.missing, "query_score": self.score}


@dataclass(frozen=True)
class Report:
    """All prompts of a scene."""

    prompts: list[PromptResult]

    def as_dict(self) -> dict:
        """Means over prompts (each prompt first averaged over its views) and over all pairs, and every prompt."""
        shown = [p for p in self.prompts if p.iou]
        by_prompt = summary([p.miou for p in shown], [float(np.mean(p.boundary_iou)) for p in shown])
        pairs = summary([v for p in shown for v in p.iou], [v for p in shown for v in p.boundary_iou])
        return {
            "mean_over_prompts": by_prompt,
            "mean_over_views": pairs,
            "missing": sum(p.missing for p in self.prompts),
            "prompts": [p.as_dict() for p in sorted(self.prompts, key=lambda p: p.miou)],
        }


def evaluate_selections(
    gaussians: Gaussians,
    selections: Sequence[Selection | None],
    labels: Sequence[tuple[int, str]],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
    progress: Callable[[int], None] | None = None,
    known: Known | None = None,
) -> Report:
    """Render each selection in every view that shows its object and compare with the ids.

    Args:
        gaussians: the scene.
        selections: one per label; None or an empty one is a missing prediction and counts 0.
        labels: id and text of each.
        truth: the ground truth.
        views: image names and cameras.
        rasterizer: a backend for the Gaussians' device.
        progress: called with the number of views done.
        known: scores to use again, and to add to (see `Known`).

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    found = [s if s is not None and not s.empty else None for s in selections]
    chosen = chosen_sets(gaussians, found)
    scores = compared(gaussians, chosen, [i for i, _ in labels], truth, views, rasterizer, progress, known)
    results = [
        PromptResult(text, ok is None, 0.0 if s is None else float(s.score), **score._asdict())
        for (_, text), s, ok, score in zip(labels, selections, found, scores)
    ]
    return Report(results)


def labelled_views(
    truth: GroundTruth, views: Sequence[tuple[str, View]]
) -> Iterator[tuple[int, str, View, Int[np.ndarray, "H W"]]]:
    """The views that have ground truth, with it: (views done, this one included; image name; camera; ids).

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    matched = [(n, v) for n, v in views if view_stem(n) in truth.files]
    if not matched:
        raise UserError(f"{truth.folder / 'ids'}: none of its files is named like an image of the scene")
    for done, (name, view) in enumerate(matched, 1):
        ids = truth.ids(view_stem(name))
        if ids.shape != (view.height, view.width):
            raise UserError(
                f"{truth.files[view_stem(name)]}: {ids.shape[1]}x{ids.shape[0]} pixels where the camera has "
                f"{view.width}x{view.height}; evaluate at the size that the ground truth was made for"
            )
        yield done, name, view, ids


def compared(
    gaussians: Gaussians,
    chosen: Bool[Tensor, "N S"],
    numbers: Sequence[int],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
    progress: Callable[[int], None] | None = None,
    known: Known | None = None,
) -> list[Scores]:
    """Render S sets of Gaussians, each in every view that shows its object (see `MIN_PIXELS`), and compare.

    Equal sets are rendered once per view.

    Args:
        gaussians: the scene.
        chosen: the sets; an empty one scores 0.
        numbers: the id of the object that each set is compared with.
        truth: the ground truth.
        views: image names and cameras.
        rasterizer: a backend for the Gaussians' device.
        progress: called with the number of views done.
        known: scores to use again, and to add to (see `Known`).

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    known = {} if known is None else known
    contents = [bits.tobytes() for bits in np.packbits(chosen.T.contiguous().cpu().numpy(), axis=1)]
    column = {content: c for c, content in enumerate(contents)}
    pairs = list(zip(numbers, contents))
    new = {pair: Scores([], [], []) for pair in pairs if pair not in known}
    for done, name, view, ids in labelled_views(truth, views):
        present = set(shown(ids, {number for number, _ in new}))
        asked = [pair for pair in new if pair[0] in present]
        pictured = torch.from_numpy(ids.astype(np.int32)).to(gaussians.device)
        size = max(1, BATCH // max(ids.size, len(gaussians)))
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            columns = [column[content] for _, content in part]
            values = _compare(gaussians, chosen, columns, [i for i, _ in part], pictured, view, rasterizer)
            for pair, row in zip(part, values):
                for found, value in zip(new[pair], (name, *row)):
                    found.append(value)
        if progress is not None:
            progress(done)
    known.update(new)
    return [known[pair] for pair in pairs]


def _compare(
    gaussians: Gaussians,
    chosen: Bool[Tensor, "N S"],
    columns: Sequence[int],
    numbers: Sequence[int],
    ids: Int[Tensor, "H W"],
    view: View,
    rasterizer: Rasterizer,
) -> list[list[float]]:
    """IoU and boundary IoU in one view of some of the sets, each with the object of that number."""
    sets = list(dict.fromkeys(columns))
    drawn = selection_share(gaussians, chosen[:, sets], view, rasterizer) > SELECTED
    edges = boundaries(drawn)
    if len(sets) < len(columns):
        which = [sets.index(c) for c in columns]
        drawn, edges = drawn[..., which], edges[..., which]
    target = ids[..., None] == torch.tensor(numbers, device=ids.device, dtype=ids.dtype)
    return torch.stack((ious(drawn, target), ious(edges, target & id_boundaries(ids)[..., None])), 1).tolist()


def shown(ids: Int[np.ndarray, "H W"], numbers: Iterable[int], least: float = 1.0) -> list[int]:
    """Those objects that a view shows well enough to count for them (`MIN_PIXELS`, times `least`)."""
    count = np.bincount(ids.ravel())
    least = least * MIN_PIXELS * ids.size / (640 * 480)
    return [n for n in numbers if 0 <= n < len(count) and count[n] >= least]


def chosen_sets(gaussians: Gaussians, selections: Sequence[Selection | None]) -> Bool[Tensor, "N S"]:
    """The Gaussians of each selection, as columns."""
    nothing = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    return torch.stack([nothing if s is None else s.gaussian_mask.to(nothing.device) for s in selections], dim=1)
