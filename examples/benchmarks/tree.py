"""Lifting, instance tree, language and text queries on the table-top scene, without training.

A stand-in for a trained splat is sampled from the exact geometry: one small Gaussian per cell of a fine grid, jittered,
with some that straddle two surfaces and some floaters. Reports the time of each step and text-query mIoU, boundary
IoU and accuracies (selected in 3D, rendered with occlusion, a missing prediction counts 0), per scene.

    python examples/benchmarks/tree.py --objects 14 20 --noise 1 2 --seeds 0 1 --device cpu
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View
from ag2_ns.eval.clicks import evaluate_clicks
from ag2_ns.eval.tabletop import GroundTruth, compared, evaluate_selections, labelled_views, read_ground_truth
from ag2_ns.grouping.lifting import lift_masks
from ag2_ns.grouping.refine import refine_anchors
from ag2_ns.grouping.tree import build_tree
from ag2_ns.ops.neighbours import radius_edges
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.query.click import answer_click
from ag2_ns.query.text import select_text
from ag2_ns.scene.scene_index import SceneIndex, language_of
from ag2_ns.splat.anchors import voxel_groups
from ag2_ns.synthetic.stand_in import cameras
from ag2_ns.synthetic.stand_in import stand_in as sampled
from ag2_ns.synthetic.tabletop.generate import generate, tabletop


def click_of(*args) -> object:
    return answer_click(*args).selection


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--objects", type=int, nargs="+", default=[14])
    p.add_argument("--noise", type=float, nargs="+", default=[1.0])
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    p.add_argument("--views", type=int, default=40)
    p.add_argument("--width", type=int, default=320)
    p.add_argument("--spacing", type=float, default=0.009, help="cells of the stand-in splat, scene units")
    p.add_argument("--voxel", type=float, default=0.015, help="size of an anchor, share of the scene's extent")
    p.add_argument("--device", default="cpu")
    p.add_argument("--each", action="store_true", help="print every prompt")
    p.add_argument("--folder", type=Path, help="keep the scenes here")
    return p.parse_args()


def stand_in(seed: int, objects: int, views: int, width: int, height: int, spacing: float) -> tuple[Gaussians, list]:
    """A splat of the scene and its cameras."""
    world = tabletop(seed, objects, views, width, height)
    return sampled(world, spacing, world.more["table_half"], seed), cameras(world)


def read_masks(folder: Path) -> tuple[list[MaskSet], list[torch.Tensor]]:
    masks, features = [], []
    for path in sorted((folder / "masks_sparse").glob("*.pt")):
        dense = torch.load(path, weights_only=True).to_dense().bool()
        masks.append(MaskSet.from_dense(dense))
        features.append(torch.load(folder / "clip_features" / path.name, weights_only=True).float())
    return masks, features


class Clock:
    def __init__(self, device: str):
        self.device, self.times = device, {}

    def __call__(self, name, function, *args, **options):
        start = time.perf_counter()
        out = function(*args, **options)
        if self.device != "cpu":
            torch.cuda.synchronize()
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - start
        return out


def index_of(rasterizer, gaussians, views, masks, features, voxel: float, clock: Clock) -> SceneIndex:
    centres = torch.stack([-(v.viewmat[:3, :3].T @ v.viewmat[:3, 3]) for v in views])
    size = voxel * 1.1 * float((centres - centres.mean(0)).norm(dim=1).max())
    anchor = voxel_groups(gaussians.means, size)
    count = torch.bincount(anchor)
    xyz = torch.zeros(len(count), 3, device=anchor.device).index_add_(0, anchor, gaussians.means) / count[:, None]
    edges = clock("graph", radius_edges, xyz, 2 * size, 64)
    by_gaussian = clock("lift", lift_masks, rasterizer, gaussians, views, masks)
    lifted = clock("lift", by_gaussian.group, anchor, len(xyz))
    tree = clock("tree", build_tree, lifted, edges)
    anchor = clock("refine", refine_anchors, by_gaussian, gaussians.means, anchor, xyz, edges, tree.cut())
    lifted = clock("refine", by_gaussian.group, anchor, len(xyz))
    tree = clock("tree", build_tree, lifted, edges)
    language = clock("language", language_of, tree, lifted, features)
    return SceneIndex(anchor, xyz, edges, tree, language)


def oracle(rasterizer, gaussians, named: list[tuple[str, View]], truth: GroundTruth) -> torch.Tensor:
    """[N, K] whether each Gaussian accounts for more pixels of an id than of any other: what a selection can reach."""
    total = torch.zeros(len(gaussians), 256, device=gaussians.device)
    for _, _, view, image in labelled_views(truth, named):
        number, place = torch.unique(torch.from_numpy(image), return_inverse=True)
        maps = torch.nn.functional.one_hot(place, len(number)).float().to(gaussians.device)
        total[:, number] += rasterizer.lift(
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, maps, view
        )
    return total.argmax(1)[:, None] == torch.tensor(list(truth.labels), device=gaussians.device)


def text_features(folder: Path, device: str) -> dict[str, torch.Tensor]:
    """The feature of each text that the scene comes with."""
    table = json.loads((folder / "text_features.json").read_text())
    return {text: torch.tensor(feature, device=device) for text, feature in table.items()}


def main() -> None:
    options = parse()
    console = Console(width=200)
    if options.device == "cpu":
        from ag2_ns.rendering.cpu import CpuRasterizer as Backend
    else:
        from ag2_ns.rendering.gsplat import GsplatRasterizer as Backend
    rasterizer = Backend()
    table = Table(title="Text queries without training")
    steps = ("lift", "graph", "tree", "refine", "language", "text", "click")
    heads = (
        "scene",
        "Gaussians",
        "anchors",
        "nodes",
        "instances",
        "oracle",
        "mIoU",
        "mBIoU",
        "Acc@.25",
        "Acc@.5",
        "clicks",
        *steps,
    )
    for name in heads:
        table.add_column(name, justify="right")
    height = options.width * 3 // 4
    with tempfile.TemporaryDirectory() as scratch:
        base = options.folder or Path(scratch)
        for objects in options.objects:
            for seed in options.seeds:
                cpu_splat, views = stand_in(seed, objects, options.views, options.width, height, options.spacing)
                gaussians = cpu_splat.to(options.device)
                for noise in options.noise:
                    folder = base / f"o{objects}n{noise:g}s{seed}v{options.views}w{options.width}"
                    if not folder.exists():
                        generate(
                            folder, objects=objects, noise=noise, seed=seed, views=options.views, width=options.width,
                            height=height, progress=False,
                        )  # fmt: skip
                    masks, features = read_masks(folder)
                    clock = Clock(options.device)
                    index = index_of(rasterizer, gaussians, views, masks, features, options.voxel, clock)
                    truth = read_ground_truth(folder / "ground_truth")
                    named = [(f"{stem}.png", v.to(options.device)) for stem, v in zip(truth.files, views)]
                    labels, known = list(truth.labels.items()), {}
                    scene = (labels, truth, named, rasterizer)
                    meaning = text_features(folder, options.device)
                    negatives = torch.stack([meaning[n] for n in NEGATIVES])
                    picked = [
                        clock("text", select_text, index, t, meaning[t], negatives, several=False) for _, t in labels
                    ]
                    clock.times["text"] /= len(picked)
                    texts = evaluate_selections(gaussians, picked, *scene, known=known)
                    best = oracle(rasterizer, gaussians, named, truth)
                    bound = compared(gaussians, best, list(truth.labels), truth, named, rasterizer)
                    bound = [np.mean(b.iou) if b.iou else np.nan for b in bound]
                    click = partial(clock, "click", click_of, index, gaussians, rasterizer)
                    clicked = evaluate_clicks(click, gaussians, *scene, known=known)
                    clock.times["click"] /= max(len(clicked.clicks), 1)
                    total = texts.as_dict()["mean_over_prompts"]
                    table.add_row(
                        folder.name, str(len(gaussians)), str(index.num_anchors), str(index.tree.num_nodes),
                        str(len(index.tree.instances())), f"{np.nanmean(bound):.3f}",
                        *(f"{v:.3f}" for v in total.values()), f"{clicked.as_dict()['miou']:.3f}",
                        *(f"{clock.times[s]:.3f}" for s in steps),
                    )  # fmt: skip
                    if options.each:
                        for k in np.argsort([p.miou for p in texts.prompts]):
                            prompt = texts.prompts[k]
                            console.print(f"  {prompt.miou:.3f} of {bound[k]:.3f} {prompt.label} {picked[k].nodes}")
    console.print(table)


if __name__ == "__main__":
    main()
