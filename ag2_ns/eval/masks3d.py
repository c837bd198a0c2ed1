"""Protocol `3d`: select Gaussians, render the selection, compare with masks.

Two ways to render are in use, and both are reported. `alone` draws nothing but the selection and takes alpha > 0.7
(COS3D and, with other thresholds, OpenGaussian): things that stand in front do not hide it. `share` draws the whole
scene and takes pixels of which the selection holds more than half (AG2aussian): what is hidden is not selected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.benchmark import Benchmark, Matched
from ag2_ns.eval.overlap import boundaries, ious
from ag2_ns.eval.tabletop import BATCH, PromptResult, Report, chosen_sets
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.overlay import SELECTED, selection_share

ALONE = 0.7
"""Opacity above which a selection that is drawn alone covers a pixel (COS3D, evaluation)."""

Rule = str
"""`share` or `alone`."""


def drawn(
    gaussians: Gaussians, chosen: Bool[Tensor, "N S"], view: View, rasterizer: Rasterizer, rule: Rule
) -> Bool[Tensor, "H W S"]:
    """Sets of Gaussians as masks of a view.

    Args:
        gaussians: the whole scene.
        chosen: S sets.
        view: the camera.
        rasterizer: a backend for the Gaussians' device.
        rule: how to render, see the top of this file.
    """
    if rule == "share":
        return selection_share(gaussians, chosen, view, rasterizer) > SELECTED
    if rule != "alone":
        raise ValueError(f"rule {rule!r}: either share or alone")
    out = []
    for column in chosen.unbind(1):
        part = gaussians[column]
        if len(part) == 0:
            out.append(torch.zeros(view.height, view.width, dtype=torch.bool, device=chosen.device))
            continue
        ones = torch.ones(len(part), 1, device=chosen.device)
        alpha = rasterizer.rasterize(part.means, part.quats, part.scales, part.opacities, ones, view).alpha
        out.append(alpha.reshape(view.height, view.width) > ALONE)
    return torch.stack(out, -1)


@torch.no_grad()
def evaluate_masks(
    gaussians: Gaussians,
    selections: Mapping[str, Selection | None],
    benchmark: Benchmark,
    matched: Matched,
    rasterizer: Rasterizer,
    rule: Rule = "share",
    progress: Callable[[int], None] | None = None,
    save: Callable[[str, str, np.ndarray], None] | None = None,
) -> Report:
    """Compare the selection of each prompt with its masks.

    Args:
        gaussians: the scene.
        selections: of the prompts; None, an empty one or none at all is a missing prediction and counts 0.
        benchmark: prompts and masks.
        matched: cameras of its frames; pairs in frames without one count 0.
        rasterizer: a backend for the Gaussians' device.
        rule: how to render, see the top of this file.
        progress: called with the number of frames done.
        save: called with frame, prompt and the mask predicted for it.
    """
    found = {p: s for p, s in selections.items() if s is not None and not s.empty}
    results = {
        p: PromptResult(p, p not in found, 0.0 if selections.get(p) is None else float(selections[p].score))
        for p in benchmark.prompts
    }
    for done, frame in enumerate(sorted(benchmark.sizes), 1):
        masks = benchmark.masks(frame)
        asked = [p for p in masks if p in found and frame in matched.views]
        scores = dict.fromkeys(masks, (0.0, 0.0))
        size = max(1, BATCH // max(len(gaussians), int(np.prod(benchmark.sizes[frame]))))
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            sets, place = _distinct(chosen_sets(gaussians, [found[p] for p in part]))
            predicted = drawn(gaussians, sets, matched.views[frame][1], rasterizer, rule)[..., place]
            target = torch.stack([torch.from_numpy(masks[p]) for p in part], -1).to(predicted.device)
            both = torch.stack((ious(predicted, target), ious(boundaries(predicted), boundaries(target))), 1)
            scores |= dict(zip(part, map(tuple, both.tolist())))
            if save is not None:
                for k, prompt in enumerate(part):
                    save(frame, prompt, predicted[..., k].cpu().numpy())
        for prompt, (value, boundary) in scores.items():
            result = results[prompt]
            result.view.append(matched.views[frame][0] if frame in matched.views else frame)
            result.iou.append(value)
            result.boundary_iou.append(boundary)
        if progress is not None:
            progress(done)
    return Report(list(results.values()))


def _distinct(sets: Bool[Tensor, "N S"]) -> tuple[Bool[Tensor, "N T"], list[int]]:
    """The different columns, and which of them each column is."""
    contents = [bits.tobytes() for bits in np.packbits(sets.T.contiguous().cpu().numpy(), axis=1)]
    first: dict[bytes, int] = {}
    place = [first.setdefault(c, len(first)) for c in contents]
    return sets[:, [place.index(k) for k in range(len(first))]], place
