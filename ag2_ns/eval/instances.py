"""Instances against ground-truth ids: every object is compared with the union of the instances that belong to it.

Nothing is asked here, neither texts nor clicks: this measures how well the scene falls apart into objects, and into how
many pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.eval.metrics import summary
from ag2_ns.eval.tabletop import GroundTruth, Known, ViewScores, compared, labelled_views
from ag2_ns.rendering.base import Rasterizer


@dataclass
class ObjectResult(ViewScores):
    """How well the instances of one object cover it."""

    instances: list[int]
    """The instances that belong to it."""

    def as_dict(self) -> dict:
        """For JSON."""
        return super().as_dict() | {"instances": len(self.instances)}


@dataclass(frozen=True)
class InstanceReport:
    """All objects of a scene."""

    objects: list[ObjectResult]
    unlabelled: int
    """Instances that belong to no object: mostly on pixels without a label, or drawn nowhere."""

    def as_dict(self) -> dict:
        """Means over the objects that some view shows, each first averaged over its views; worst object first."""
        shown = [o for o in self.objects if o.iou]
        count = [len(o.instances) for o in shown]
        return summary([o.miou for o in shown], [float(np.mean(o.boundary_iou)) for o in shown]) | {
            "median_instances": float(np.median(count)) if count else 0.0,
            "max_instances": max(count, default=0),
            "unlabelled": self.unlabelled,
            "objects": [o.as_dict() for o in sorted(self.objects, key=lambda o: o.miou)],
        }


@torch.no_grad()
def evaluate_instances(
    gaussians: Gaussians,
    instance: Int[Tensor, " N"],
    labels: Sequence[tuple[int, str]],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
    progress: Callable[[int], None] | None = None,
    known: Known | None = None,
) -> InstanceReport:
    """Give every instance to the object that it is drawn on, render the union of each object's instances, compare.

    An instance belongs to the object that holds most of its rendering weight, summed over the views; to none when
    pixels without a label hold more. Rendering and the views that count are those of text queries
    (`tabletop.evaluate_selections`). An object without instances counts 0.

    Args:
        gaussians: the scene.
        instance: the instance of each Gaussian, -1 for none (`SceneIndex.gaussian_node`).
        labels: id and text of each object.
        truth: the ground truth.
        views: image names and cameras.
        rasterizer: a backend for the Gaussians' device.
        progress: called with the number of views done.
        known: scores to use again, and to add to (see `tabletop.Known`).

    Raises:
        UserError: no view has ground truth, or its size differs from the camera's.
    """
    names, which = torch.unique(instance, return_inverse=True)
    numbers = [i for i, _ in labels]
    weight = weight_on_objects(gaussians, which, len(names), numbers, truth, views, rasterizer)
    most, owner = weight.max(1)
    owner[(most <= 0) | (owner == len(labels)) | (names < 0)] = -1  # the last column is no label
    chosen = owner[which][:, None] == torch.arange(len(labels), device=owner.device)
    scores = compared(gaussians, chosen, numbers, truth, views, rasterizer, progress, known)
    results = [
        ObjectResult(text, names[owner == k].tolist(), **found._asdict())
        for k, ((_, text), found) in enumerate(zip(labels, scores))
    ]
    return InstanceReport(results, int(((owner < 0) & (names >= 0)).sum()))


def weight_on_objects(
    gaussians: Gaussians,
    which: Int[Tensor, " N"],
    count: int,
    ids: Sequence[int],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
) -> Float[Tensor, "K L+1"]:
    """Pixels that each of `count` instances accounts for on each id, and last on all other pixels, over the views.

    Summed by instance view after view, so memory is for the Gaussians and the ids of one view.
    """
    device = gaussians.device
    held = torch.zeros(count, len(ids) + 1, dtype=torch.double, device=device)
    for _, _, view, image in labelled_views(truth, views):
        columns = [k for k, there in enumerate(np.isin(ids, image)) if there]
        place = np.full(max(image.max(), *ids) + 1, len(columns))
        place[[ids[k] for k in columns]] = range(len(columns))
        maps = torch.eye(len(columns) + 1, device=device)[torch.from_numpy(place[image]).to(device)]
        weight = rasterizer.lift(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, maps, view)
        by_instance = torch.zeros(count, len(columns) + 1, dtype=torch.double, device=device)
        for rows in torch.arange(len(gaussians), device=device).split(ROWS):
            by_instance.index_add_(0, which[rows], weight[rows].double())
        held[:, [*columns, len(ids)]] += by_instance
    return held


ROWS = 1 << 20
"""Gaussians whose weights are summed in double precision at a time."""


@dataclass(frozen=True)
class AgnosticReport:
    """How the instances fall on the objects, whatever either is called."""

    labels: list[str]
    best: list[float]
    """IoU of each object with the one instance that fits it best, in rendering weight over all views."""
    pieces: list[int]
    """Instances that hold at least a tenth of each object."""
    merged: int
    """Instances of which two or more objects each hold a tenth, and none nine tenths."""
    precision: dict[str, float]
    """Average precision at IoU 0.5, 0.75 and over 0.5 to 0.95, instances ranked by size."""

    def as_dict(self) -> dict:
        """For JSON."""
        return {
            "best_iou": float(np.mean(self.best)) if self.best else 0.0,
            "over_segmentation": float(np.mean(self.pieces)) if self.pieces else 0.0,
            "under_segmentation": self.merged,
            "objects": dict(zip(self.labels, self.best)),
        } | self.precision


def evaluate_agnostic(
    held: Float[Tensor, "K L+1"], labels: Sequence[str], scores: Float[Tensor, " K"] | None = None
) -> AgnosticReport:
    """Compare instances with objects by what `weight_on_objects` found.

    Args:
        held: pixels of each instance on each object, and last on none.
        labels: of the L objects; those that no pixel shows are left out.
        scores: confidence of each instance; by default its pixels.
    """
    table = held.double().cpu().numpy()
    inside, size, area = table[:, :-1], table.sum(1), table[:, :-1].sum(0)
    shown = area > 0
    union = size[:, None] + area[None] - inside
    iou = np.where(union > 0, inside / np.where(union > 0, union, 1.0), 0.0)[:, shown]
    part = inside / np.where(area > 0, area, 1.0)
    share = inside / np.where(size > 0, size, 1.0)[:, None]
    merged = int((((share >= 0.1).sum(1) >= 2) & (share.max(1, initial=0) < 0.9)).sum())
    rank = size if scores is None else scores.cpu().numpy()
    # What lies on no object is neither right nor wrong, as nothing says what is there.
    counted = (size > 0) & (inside.sum(1) >= 0.5 * size)
    precision = {f"ap{round(100 * t)}": average_precision(iou[counted], rank[counted], t) for t in (0.5, 0.75)}
    steps = np.arange(0.5, 1.0, 0.05)
    precision["ap"] = float(np.mean([average_precision(iou[counted], rank[counted], t) for t in steps]))
    best = iou.max(0, initial=0.0).tolist()
    pieces = (part >= 0.1).sum(0)[shown].tolist()
    return AgnosticReport([t for t, s in zip(labels, shown) if s], best, pieces, merged, precision)


def average_precision(iou: Float[np.ndarray, "K L"], score: Float[np.ndarray, " K"], threshold: float) -> float:
    """Area under the precision-recall curve of K predictions for L objects, as COCO computes it (101 recall points).

    Predictions take, best first, the free object that they overlap most, if by at least the threshold.
    """
    num, objects = iou.shape
    if objects == 0:
        return 0.0
    free, hit = np.ones(objects, bool), np.zeros(num, bool)
    order = np.argsort(-score, kind="stable")
    for place, k in enumerate(order):
        fits = np.where(free, iou[k], -1.0)
        best = int(fits.argmax())
        if fits[best] >= threshold:
            free[best], hit[place] = False, True
    found = np.cumsum(hit)
    precision = found / np.arange(1, num + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / objects, np.linspace(0, 1, 101), side="left")
    return float(np.mean(np.append(precision, 0.0)[np.minimum(at, num)]))
