"""Text queries against ground-truth ids: every label is asked, selected in 3D, rendered and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from ag2_ns.errors import UserError
from ag2_ns.eval.metrics import boundary_iou, iou, summary
from ag2_ns.gaussians.gaussians import Gaussians
from ag2_ns.query.picture import SELECTED, selection_share
from ag2_ns.query.selection import Selection
from ag2_ns.rasterizer.base import Rasterizer, View

MIN_PIXELS = 200
"""A view counts for an object that covers at least this many of 640 x 480 pixels (in proportion for other sizes)."""


@dataclass(frozen=True)
class GroundTruth:
    """Ids per view and their labels."""

    folder: Path
    labels: dict[int, str]
    """Id to text."""
    files: dict[str, Path]
    """Image stem to the PNG of its ids."""

    def ids(self, stem: str) -> Int[np.ndarray, "H W"]:
        """The ids of one view, 0 where nothing is labelled.

        Raises:
            UserError: the file cannot be read.
        """
        path = self.files[stem]
        try:
            with Image.open(path) as image:
                return np.asarray(image).astype(np.int64)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path}: not a readable image of ids ({error}); restore it") from error


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
    files = {p.stem: p for p in sorted((folder / "ids").glob("*.png"))}
    if not labels or not files:
        raise UserError(f"{folder}: no {'labels' if not labels else 'ids/*.png'} in it")
    return GroundTruth(folder, labels, files)


@dataclass
class ViewScores:
    """How what stands for one label compares with it, in each view that shows it."""

    label: str
    iou: list[float] = field(default_factory=list, kw_only=True)
    boundary_iou: list[float] = field(default_factory=list, kw_only=True)
    view: list[str] = field(default_factory=list, kw_only=True)

    def add(self, name: str, drawn: Bool[np.ndarray, "H W"] | None, target: Bool[np.ndarray, "H W"]) -> None:
        """Compare in one more view; None for what was not found at all."""
        self.iou.append(iou(drawn, target))
        self.boundary_iou.append(boundary_iou(drawn, target))
        self.view.append(name)

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

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    found = [s is not None and not s.empty for s in selections]
    results = [
        PromptResult(text, not ok, float(s.score) if s is not None else 0.0)
        for (_, text), s, ok in zip(labels, selections, found)
    ]
    chosen = chosen_sets(gaussians, selections)
    for name, k, drawn, target in compared(gaussians, chosen, labels, truth, views, rasterizer, progress):
        results[k].add(name, drawn if found[k] else None, target)
    return Report(results)


def labelled_views(
    truth: GroundTruth, views: Sequence[tuple[str, View]]
) -> Iterator[tuple[int, str, View, Int[np.ndarray, "H W"]]]:
    """The views that have ground truth, with it: (views done, this one included; image name; camera; ids).

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    matched = [(n, v) for n, v in views if Path(n).stem in truth.files]
    if not matched:
        raise UserError(f"{truth.folder / 'ids'}: none of its files is named like an image of the scene")
    for done, (name, view) in enumerate(matched, 1):
        ids = truth.ids(Path(name).stem)
        if ids.shape != (view.height, view.width):
            raise UserError(
                f"{truth.files[Path(name).stem]}: {ids.shape[1]}x{ids.shape[0]} pixels where the camera has "
                f"{view.width}x{view.height}; evaluate at the size that the ground truth was made for"
            )
        yield done, name, view, ids


def compared(
    gaussians: Gaussians,
    chosen: Bool[Tensor, "N S"],
    labels: Sequence[tuple[int, str]],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, int, Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]]:
    """Render one set of Gaussians per label in every view that shows its object (see `MIN_PIXELS`).

    Yields:
        Image name, which label, where the set is drawn, where the object is.

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    for done, name, view, ids in labelled_views(truth, views):
        count = np.bincount(ids.ravel(), minlength=max(i for i, _ in labels) + 1)
        present = [k for k, (i, _) in enumerate(labels) if count[i] >= least_pixels(ids.size)]
        if present:
            picks = torch.tensor(present, device=gaussians.device)
            drawn = (selection_share(gaussians, chosen[:, picks], view, rasterizer) > SELECTED).cpu().numpy()
            for column, k in enumerate(present):
                yield name, k, drawn[..., column], ids == labels[k][0]
        if progress is not None:
            progress(done)


def least_pixels(size: int) -> float:
    """Pixels of an object from which a view of `size` pixels counts (see `MIN_PIXELS`)."""
    return MIN_PIXELS * size / (640 * 480)


def chosen_sets(gaussians: Gaussians, selections: Sequence[Selection | None]) -> Bool[Tensor, "N S"]:
    """The Gaussians of each selection, as columns."""
    nothing = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    return torch.stack([nothing if s is None else s.gaussian_mask.to(nothing.device) for s in selections], dim=1)
