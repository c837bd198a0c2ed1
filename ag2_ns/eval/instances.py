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
    weight = _weight_on_objects(gaussians, which, len(names), numbers, truth, views, rasterizer)
    most, owner = weight.max(1)
    owner[(most <= 0) | (owner == len(labels)) | (names < 0)] = -1  # the last column is no label
    chosen = owner[which][:, None] == torch.arange(len(labels), device=owner.device)
    scores = compared(gaussians, chosen, numbers, truth, views, rasterizer, progress, known)
    results = [
        ObjectResult(text, names[owner == k].tolist(), **found._asdict())
        for k, ((_, text), found) in enumerate(zip(labels, scores))
    ]
    return InstanceReport(results, int(((owner < 0) & (names >= 0)).sum()))


def _weight_on_objects(
    gaussians: Gaussians,
    which: Int[Tensor, " N"],
    count: int,
    ids: Sequence[int],
    truth: GroundTruth,
    views: Sequence[tuple[str, View]],
    rasterizer: Rasterizer,
) -> Float[Tensor, "K L+1"]:
    """Pixels that each of `count` instances accounts for on each id, and last on all other pixels, over the views."""
    device = gaussians.device
    held = torch.zeros(len(gaussians), len(ids) + 1, dtype=torch.double, device=device)
    for _, _, view, image in labelled_views(truth, views):
        columns = [k for k, there in enumerate(np.isin(ids, image)) if there]
        place = np.full(max(image.max(), *ids) + 1, len(columns))
        place[[ids[k] for k in columns]] = range(len(columns))
        maps = torch.eye(len(columns) + 1, device=device)[torch.from_numpy(place[image]).to(device)]
        held[:, [*columns, len(ids)]] += rasterizer.lift(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, maps, view
        )
    return held.new_zeros(count, len(ids) + 1).index_add_(0, which, held)
