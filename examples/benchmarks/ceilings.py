"""What a scene allows at best for each thing, part and group of a generated world, and where on the way it is lost.

    python examples/benchmarks/ceilings.py --load-config RUN --world WORLD

Every column is a best answer, chosen with the ground truth and drawn as `ag2 eval` draws an answer to a click:

- masks: the best mask of each view by itself (nothing in 3D; a view without any counts 0);
- merged: Gaussians that the best masks of the views hold together (oracle merge of masks);
- gaussian, anchor: those of which more than half is on the target;
- order: the best region that comes up while anchors are merged;
- candidate: the best of those that masks are asked about;
- node: the best node of the tree.

So a part lost between anchor and order was merged with something else first, one lost between candidate and node was
voted down by the masks, and what lies between node and the clicks of `ag2 eval` is the choice of the node.
Nodes of parts come from masks that recur, not from merging (`grouping/parts.py`), so they may be better than order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ag2_ns
from ag2_ns.core.masks import MaskSet
from ag2_ns.eval.benchmark import Benchmark, Matched, match_views
from ag2_ns.eval.formats import own
from ag2_ns.eval.levels import VIEWS
from ag2_ns.eval.masks3d import drawn
from ag2_ns.eval.overlap import ious
from ag2_ns.grouping.condense import candidates
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.csr import Rows
from ag2_ns.grouping.lifting import lift_masks
from ag2_ns.grouping.merge import merge_regions
from ag2_ns.scene.scene import Scene

COLUMNS = ("masks", "merged", "gaussian", "anchor", "order", "candidate", "node")
KINDS = {"things": own.each_thing, "parts": own.read_parts, "groups": own.read_groups}
ABOUT = 0.3
"""IoU from which the best mask of a view is taken for one of the target."""


@torch.no_grad()
def ceilings(scene: Scene, world: Path, config: GroupingConfig = DEFAULTS) -> dict[str, dict[str, dict[str, float]]]:
    """By kind and target, the columns of the table."""
    views = [v for v in scene.views if v.split == "train"]
    masks = [MaskSet.from_dense(_dense(world, Path(v.name).stem)) for v in views]
    index, gaussians = scene.require_index(), scene.gaussians
    lifted = lift_masks(
        scene.rasterizer, gaussians, [v.view for v in views], masks, unit=index.gaussian_anchor,
        num_units=index.num_anchors,
    )  # fmt: skip
    seen = lifted.visible >= config.seen
    edges = index.edges[:, seen[index.edges[0]] & seen[index.edges[1]]].cpu().numpy()
    merges = merge_regions(Rows.of(lifted, keep=seen), edges, None, config)
    up = np.full(merges.num_anchors + len(merges.one), -1)
    for k, pair in enumerate(zip(merges.one, merges.other)):
        up[list(pair)] = merges.num_anchors + k
    regions = _Regions(up, candidates(merges, config), index)
    out = {}
    for kind, read in KINDS.items():
        benchmark = read(world / "ground_truth")
        if benchmark is not None:
            benchmark = benchmark.named_like(scene.names_of)
            matched = match_views(benchmark, [(v.name, v.view) for v in scene.views])
            out[kind] = _of_kind(scene, world, benchmark, matched, regions)
    return out


def means(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """The mean of each column, by kind."""
    return {
        f"{kind}: {column}": float(np.mean([row[column] for row in rows.values()]))
        for kind, rows in found.items()
        for column in COLUMNS
        if rows
    }


def _dense(world: Path, stem: str) -> Tensor:
    return torch.load(world / "masks_sparse" / f"{stem}.pt", weights_only=True).to_dense().bool()


class _Regions:
    """Which sets of anchors come up: by units that are summed from below."""

    def __init__(self, up: np.ndarray, found, index) -> None:
        self.up, self.index, self.found = up, index, found

    def best(self, held: Tensor, total: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Per hierarchy: [K] the best region of each target, and the region above each ([R]).

        Args:
            held: [A, K] weight of the anchors on the targets.
            total: [A] their weight in all.
        """
        whole = held.sum(0)
        tree, found = self.index.tree, self.found
        hierarchies = {
            "order": (self.up, np.arange(len(total))),
            "candidate": (found.parent, found.anchor_node),
            "node": (tree.parent.cpu().numpy(), tree.anchor_node.cpu().numpy()),
        }
        out = {}
        for name, (up, first) in hierarchies.items():
            values = np.zeros((len(up), held.shape[1] + 1))
            np.add.at(values, first[first >= 0], np.c_[held, total][first >= 0])
            order = range(len(up)) if name == "order" else range(len(up) - 1, -1, -1)  # children first
            for n in order:
                if up[n] >= 0:
                    values[up[n]] += values[n]
            iou = values[:, :-1] / np.maximum(values[:, -1:] + whole.numpy() - values[:, :-1], 1e-9)
            best = iou.argmax(0)
            inside = np.zeros((len(up), len(best)), bool)
            inside[best, np.arange(len(best))] = True
            for n in reversed(order):
                if up[n] >= 0:
                    inside[n] |= inside[up[n]]
            out[name] = torch.from_numpy(np.where((first >= 0)[:, None], inside[first.clip(0)], False))
        return out


def _of_kind(
    scene: Scene, world: Path, benchmark: Benchmark, matched: Matched, regions: _Regions
) -> dict[str, dict[str, float]]:
    gaussians, anchor = scene.gaussians, scene.require_index().gaussian_anchor
    device, count = gaussians.device, len(anchor)
    prompts = [p for p in benchmark.prompts if p not in benchmark.several]
    number = {p: k for k, p in enumerate(prompts)}
    held = torch.zeros(count, len(prompts), device=device)
    total = torch.zeros(count, device=device)
    chosen, possible = torch.zeros_like(held), torch.zeros_like(held)
    best_mask: dict[str, list[float]] = {p: [] for p in prompts}
    for frame, (name, view) in matched.views.items():
        truth = {p: torch.from_numpy(m).to(device) for p, m in benchmark.masks(frame).items() if p in number}
        if not truth:
            continue
        given = _dense(world, Path(name).stem).to(device).flatten(1).float()
        maps, columns, masked = [torch.ones(view.height, view.width, device=device)], [], []
        for p, mask in truth.items():
            both = given @ mask.flatten().float()
            iou = both / (given.sum(1) + mask.sum() - both).clamp_min(1e-9)
            k = int(iou.argmax()) if len(iou) else 0
            best_mask[p].append(float(iou[k]) if len(iou) else 0.0)
            maps.append(mask.float())
            columns.append(number[p])
            if best_mask[p][-1] >= ABOUT:
                masked.append((number[p], given[k].view(view.height, view.width)))
        maps += [m for _, m in masked]
        weight = scene.rasterizer.lift(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, torch.stack(maps, -1), view
        )
        total += weight[:, 0]
        held[:, columns] += weight[:, 1 : 1 + len(columns)]
        for j, (k, _) in enumerate(masked):
            chosen[:, k] += weight[:, 1 + len(columns) + j]
            possible[:, k] += weight[:, 0]
    by_anchor = torch.zeros(int(anchor.max()) + 1, held.shape[1], device=device).index_add_(0, anchor, held)
    of_anchor = torch.zeros(len(by_anchor), device=device).index_add_(0, anchor, total)
    sets = {
        "merged": chosen > 0.5 * possible.clamp_min(1e-9),
        "gaussian": held > 0.5 * total[:, None].clamp_min(1e-9),
        "anchor": (by_anchor > 0.5 * of_anchor[:, None].clamp_min(1e-9))[anchor],
    }
    sets |= {
        k: v.to(device)[anchor] for k, v in regions.best(by_anchor.cpu().double(), of_anchor.cpu().double()).items()
    }
    out: dict[str, dict[str, float]] = {}
    for p, k in number.items():
        frames = sorted(f for f in matched.views if p in benchmark.masks(f))
        if not frames:
            continue
        some = [
            frames[j] for j in np.unique(np.linspace(0, len(frames) - 1, min(VIEWS, len(frames))).round().astype(int))
        ]
        columns = torch.stack([members[:, k] for members in sets.values()], 1)
        score = torch.zeros(len(sets), dtype=torch.double)
        for frame in some:
            predicted = drawn(gaussians, columns, matched.views[frame][1], scene.rasterizer, "share")
            target = torch.from_numpy(benchmark.masks(frame)[p]).to(device)[..., None]
            score += ious(predicted, target.expand_as(predicted)).cpu()
        out[p] = {"masks": float(np.mean(best_mask[p]))} | dict(zip(sets, (score / len(some)).tolist()))
    return out


@dataclass
class Ceilings:
    """Measure."""

    load_config: Path
    """A run, or a scene file."""
    world: Path
    """The generated world it was made of."""
    report: Path | None = None
    """Write the figures here as JSON."""

    def main(self) -> None:
        found = ceilings(ag2_ns.open(self.load_config, edits=False), self.world)
        for kind, rows in found.items():
            table = Table(kind, *COLUMNS)
            for target, row in sorted(rows.items(), key=lambda item: item[1]["node"]):
                table.add_row(target, *(f"{row[c]:.2f}" for c in COLUMNS))
            table.add_row("mean", *(f"{np.mean([row[c] for row in rows.values()]):.3f}" for c in COLUMNS))
            Console(width=120).print(table)
        if self.report is not None:
            self.report.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    tyro.cli(Ceilings).main()
