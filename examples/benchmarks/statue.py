"""Click a thing whose outline was drawn by hand: which level of granularity answers best, and how well?

    python examples/benchmarks/statue.py --load-config outputs/bear/.../config.yml --ground-truth tests/eval/bear_statue

The bar: the mean IoU over clicks and views at the default level, 0.5, is at least 0.85.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from scipy import ndimage

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.eval.metrics import boundary_iou, iou
from ag2_ns.eval.tabletop import chosen_sets, read_ground_truth
from ag2_ns.query.click import answer_click
from ag2_ns.rendering import render
from ag2_ns.rendering.overlay import SELECTED, marked, selection_share, to_uint8
from ag2_ns.rendering.sheet import contact_sheet

BAR = 0.85
"""Mean IoU at the default level that clicking should reach."""
DEFAULT = 0.5
INSIDE = 5
"""Clicks keep this many pixels from the outline, which is drawn by hand."""
BATCH = 16
"""Selections rendered in one pass."""


@dataclass
class Statue:
    """Measure clicking."""

    load_config: Path
    """A run of the scene, with instances."""
    ground_truth: Path = Path("tests/eval/bear_statue")
    """Folder with ids/*.png and labels.json; its first label is clicked."""
    clicks: int = 5
    """Random clicks per view."""
    levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Levels of granularity to try."""
    seed: int = 0
    """Of the clicks."""
    nodes: bool = False
    """Also try every node of the tree: the best that any click at any level could have answered."""
    pictures: Path | None = None
    """Write a sheet here: every view's outline and the selections of one click at each level."""
    report: Path | None = None
    """Write the figures here as JSON."""

    @torch.no_grad()
    def main(self) -> None:
        truth = read_ground_truth(self.ground_truth)
        number, label = min(truth.labels.items())
        scene = ag2_ns.open(self.load_config, edits=False)
        index, gaussians, backend = scene.require_index(), scene.gaussians, scene.rasterizer
        named = {Path(v.name).stem: (v.name, v.view) for v in scene.views}
        stems = [s for s in truth.files if s in named]
        if not stems:
            raise UserError(f"{self.ground_truth}: none of its ids is named like an image of {self.load_config}")
        masks = {s: truth.ids(s) == number for s in stems}
        for s in stems:
            shape = (named[s][1].height, named[s][1].width)
            if masks[s].shape != shape:
                raise UserError(f"{truth.files[s]}: {masks[s].shape} pixels where the camera has {shape}; use its size")

        rng, places = np.random.default_rng(self.seed), []
        for s in stems:
            inside = np.argwhere(ndimage.binary_erosion(masks[s], iterations=INSIDE, border_value=0))
            places += [(s, int(x), int(y)) for y, x in inside[rng.choice(len(inside), self.clicks, replace=False)]]

        start, found, answer = time.perf_counter(), {}, {}
        for c, (s, x, y) in enumerate(places):
            for level in self.levels:
                picked = answer_click(index, gaussians, backend, named[s][1], x, y, level).selection
                key = None if picked.empty else tuple(picked.nodes)
                answer[c, level] = key
                found.setdefault(key, picked)
        per_click = (time.perf_counter() - start) / len(answer)
        if self.nodes:
            found |= {(n,): index.selection([n], "node", 1.0, 0.5) for n in range(index.tree.num_nodes)}
        keys = [k for k in found if k is not None]
        drawn: dict[tuple, np.ndarray] = {}
        for s in stems:
            for i in range(0, len(keys), BATCH):
                part = keys[i : i + BATCH]
                sets = chosen_sets(gaussians, [found[k] for k in part])
                shown = (selection_share(gaussians, sets, named[s][1], backend) > SELECTED).cpu().numpy()
                drawn |= {(k, s): shown[..., j] for j, k in enumerate(part)}
        scores = {(k, s): (iou(m, masks[s]), boundary_iou(m, masks[s])) for (k, s), m in drawn.items()}
        scores |= {(None, s): (0.0, 0.0) for s in stems}

        count = range(len(places))
        table = Table("level", "mIoU", "bIoU", "IoU > 0.5", "median", "worst click", "empty", "answers",
                      title=f"{label}: {len(places)} clicks, {len(stems)} views, {len(gaussians)} splats")  # fmt: skip
        by_level = {}
        for level in self.levels:
            each = np.array([[scores[answer[c, level], s] for s in stems] for c in count])  # clicks, views, 2
            mean = each[..., 0].mean(1)
            given = [answer[c, level] for c in count]
            by_level[level] = {
                "miou": float(mean.mean()), "mbiou": float(each[..., 1].mean()), "acc50": float((mean > 0.5).mean()),
                "median": float(np.median(mean)), "worst": float(mean.min()), "empty": given.count(None),
                "answers": len(set(given)),
            }  # fmt: skip
            table.add_row(
                f"{level:g}", *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in by_level[level].values())
            )
        best = max(self.levels, key=lambda v: by_level[v]["miou"])
        mean_of = {k: float(np.mean([scores[k, s][0] for s in stems])) for k in [*keys, None]}
        own = float(np.mean([max(mean_of[answer[c, v]] for v in self.levels) for c in count]))
        top = by_level[best]["miou"]
        usual = by_level.get(DEFAULT, {"miou": 0.0})["miou"]
        console = Console(soft_wrap=True)
        console.print(table)
        verdict = "met" if usual >= BAR else "missed"
        console.print(
            f"default level {DEFAULT:g}: mIoU {usual:.3f} (bar {BAR}, {verdict}); best level {best:g}: {top:.3f}"
        )
        console.print(f"best level of each click: mIoU {own:.3f}; {per_click * 1e3:.0f} ms per click")
        best_node = max(keys, key=mean_of.get, default=None) if self.nodes else None
        if best_node is not None:
            console.print(f"best of {index.tree.num_nodes} nodes: {best_node[0]}, mIoU {mean_of[best_node]:.3f}")
        if self.report is not None:
            clicks = [[*place, [mean_of[answer[c, v]] for v in self.levels]] for c, place in enumerate(places)]
            content = {
                "label": label,
                "default_miou": usual,
                "best_level": best,
                "miou": top,
                "miou_own_level": own,
                "levels": by_level,
            }
            content |= {"clicks": clicks, "best_node": best_node and [*best_node, mean_of[best_node]]}
            self.report.parent.mkdir(parents=True, exist_ok=True)
            self.report.write_text(json.dumps(content, indent=2) + "\n")
        if self.pictures is not None:
            rows, names = [], []
            for i, s in enumerate(stems):
                c = i * self.clicks
                x, y = places[c][1:]
                picture = to_uint8(render(gaussians, named[s][1], backend, depth=False).rgb)
                nothing = np.zeros_like(masks[s])
                row = [marked(picture, masks[s], (0.25, 0.86, 0.25))]
                row += [marked(picture, drawn.get((answer[c, v], s), nothing)) for v in self.levels]
                for cell in row:
                    cell[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5] = (255, 255, 0)
                rows.append(row)
                names.append(f"{named[s][0]}, click ({x}, {y})   IoU here "
                             + "  ".join(f"{scores[answer[c, v], s][0]:.2f}" for v in self.levels))  # fmt: skip
            contact_sheet(self.pictures, rows, ["drawn by hand", *(f"level {v:g}" for v in self.levels)], names)
            console.print(f"pictures  {self.pictures}")


if __name__ == "__main__":
    try:
        tyro.cli(Statue).main()
    except UserError as error:
        raise SystemExit(str(error)) from None
