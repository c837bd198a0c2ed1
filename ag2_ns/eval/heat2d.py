"""Protocol `2d`: a relevancy map, thresholded, and whether its peak lies on the thing (LERF, LangSplat).

The map is what the instances' relevancies look like from a camera, blended by rendering weights. As LangSplat's
evaluator
does, it is smoothed by a box of 29 pixels (at 988x731; in proportion elsewhere) and averaged with itself, stretched to
-1 to 1 over the frame, and thresholded at 0.4, the figure that its released script uses for every scene; the peak is
that
of the smoothed map before. Unlike there, one map is made from the tree, so no level is chosen. Where nothing is drawn,
and where what is drawn belongs to no instance, the map has its least value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.eval.benchmark import Benchmark, Matched
from ag2_ns.eval.metrics import boundary_iou, iou
from ag2_ns.eval.tabletop import PromptResult, Report
from ag2_ns.rendering.base import Rasterizer

THRESHOLD = 0.4
"""Of the map stretched to -1 to 1: the top 0.3 of its range (LangSplat, eval.sh: mask_thresh)."""
BOX = 29 / 988
"""Side of the smoothing box over the picture's width."""

Boxes = Mapping[str, Mapping[str, list[tuple[float, float, float, float]]]]
"""By frame and prompt: x0, y0, x1, y1."""


@dataclass(frozen=True)
class HeatReport:
    """Masks, and where the peaks lie."""

    masks: Report
    localised: dict[str, list[bool]]
    """By prompt, for each frame: whether the peak lies in a box (or, without boxes, on the mask)."""

    def as_dict(self) -> dict:
        """For JSON."""
        hits = [hit for each in self.localised.values() for hit in each]
        return self.masks.as_dict() | {"localisation": float(np.mean(hits)) if hits else 0.0}


def smooth(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Half the map and half its box average."""
    size = max(1, round(BOX * values.shape[1]))
    return 0.5 * (values + cv2.blur(values.astype(np.float32), (size, size)))


def thresholded(values: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """A smoothed map, stretched to -1 to 1 over the frame and thresholded; nothing where it is flat or not finite."""
    if not np.isfinite(values).all():
        return np.zeros(values.shape, bool)
    low, high = float(values.min()), float(values.max())
    return np.zeros(values.shape, bool) if high - low < 1e-9 else 2 * (values - low) / (high - low) - 1 > THRESHOLD


@torch.no_grad()
def evaluate_heat(
    gaussians: Gaussians,
    scores: Mapping[str, Float[Tensor, " N"] | None],
    benchmark: Benchmark,
    matched: Matched,
    rasterizer: Rasterizer,
    boxes: Boxes | None = None,
    progress: Callable[[int], None] | None = None,
) -> HeatReport:
    """Compare each prompt's map with its masks.

    Args:
        gaussians: the scene.
        scores: relevancy of each Gaussian, by prompt; None or nothing at all is a missing prediction and counts 0.
        benchmark: prompts and masks.
        matched: cameras of its frames.
        rasterizer: a backend for the Gaussians' device.
        boxes: for localisation; by default the masks.
        progress: called with the number of frames done.
    """
    results = {p: PromptResult(p, scores.get(p) is None, 0.0) for p in benchmark.prompts}
    localised: dict[str, list[bool]] = {p: [] for p in benchmark.prompts}
    for done, frame in enumerate(sorted(benchmark.sizes), 1):
        masks = benchmark.masks(frame)
        asked = [p for p in masks if scores.get(p) is not None and frame in matched.views]
        maps: dict[str, np.ndarray] = {}
        if asked:
            values = torch.stack([scores[p] for p in asked], 1).float()
            values = values - torch.where(values > 0, values, torch.inf).amin(0)
            values = values.clamp_min(0).nan_to_num(0.0)
            view = matched.views[frame][1]
            g = gaussians
            drawn = rasterizer.rasterize(g.means, g.quats, g.scales, g.opacities, values, view).values.cpu().numpy()
            maps = {p: smooth(drawn[..., k]) for k, p in enumerate(asked)}
        for prompt, target in masks.items():
            predicted = thresholded(maps[prompt]) if prompt in maps else None
            results[prompt].view.append(matched.views[frame][0] if frame in matched.views else frame)
            results[prompt].iou.append(iou(predicted, target))
            results[prompt].boundary_iou.append(boundary_iou(predicted, target))
            localised[prompt].append(
                prompt in maps and _hit(maps[prompt], target, (boxes or {}).get(frame, {}), prompt)
            )
        if progress is not None:
            progress(done)
    return HeatReport(Report(list(results.values())), localised)


def _hit(values: np.ndarray, target: np.ndarray, boxes: Mapping, prompt: str) -> bool:
    if not np.isfinite(values).all():
        return False
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    if prompt in boxes:
        return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes[prompt])
    return bool(target[y, x])
