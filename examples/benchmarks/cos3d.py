"""COS3D's language field on table-tops, faithful and ours, with its branches, image queries and absent prompts.

A stand-in for a trained splat is sampled from the exact geometry, as in tree.py; the field is trained on simulated
masks of it. Every way to answer is asked every label as a text, the image feature of an object of the same kind from
another seed, and labels of other scenes that are absent here.

    python examples/benchmarks/cos3d.py --device cuda --objects 14 20 40 --noise 1 2 --seeds 200 201 202 203 204
    python examples/benchmarks/cos3d.py --objects 8 --views 24 --width 160 --spacing 0.02 --steps 300 --seeds 200
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tree import Clock, index_of, read_masks, stand_in

from ag2_ns.core.masks import MaskSet
from ag2_ns.core.selection import Selection
from ag2_ns.eval.tabletop import evaluate_selections, read_ground_truth
from ag2_ns.language.field import LanguageField
from ag2_ns.language.regression import KernelConfig, MlpConfig
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.query.collaborative import Strategy, ask_field, refined, select_units
from ag2_ns.query.config import DEFAULTS
from ag2_ns.query.refinement import stretched
from ag2_ns.query.vector import select_vector
from ag2_ns.scene.build_field import LanguageFieldConfig, collect_pairs, field_config, regress, smooth
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.splat.instance_field import InstanceFieldConfig, train_instance_field
from ag2_ns.splat.prototype_loss import PUBLISHED
from ag2_ns.synthetic.tabletop import language as simulated
from ag2_ns.synthetic.tabletop.generate import generate
from ag2_ns.synthetic.tabletop.kinds import COLOURS, KINDS
from ag2_ns.synthetic.tabletop.segmenter import Proposal

ABSENT = 12
"""Labels of other scenes that each scene is asked."""


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--objects", type=int, nargs="+", default=[14])
    p.add_argument("--noise", type=float, nargs="+", default=[1.0])
    p.add_argument("--seeds", type=int, nargs="+", default=[200])
    p.add_argument("--views", type=int, default=40)
    p.add_argument("--width", type=int, default=320)
    p.add_argument("--spacing", type=float, default=0.009, help="cells of the stand-in splat, scene units")
    p.add_argument("--voxel", type=float, default=0.015, help="size of an anchor, share of the scene's extent")
    p.add_argument("--device", default="cpu")
    p.add_argument("--steps", type=int, default=3000, help="of the instance field on anchors")
    p.add_argument("--lr", type=float, default=None, help="of the instance field on anchors")
    p.add_argument("--published-steps", type=int, default=None, help="of that on Gaussians; default: the same")
    p.add_argument("--ways", nargs="+", default=None, help="only these rows")
    p.add_argument("--folder", type=Path, help="keep the scenes here")
    p.add_argument("--rows", type=Path, help="append every row here as JSON")
    return p.parse_args()


@dataclass
class Scene:
    """One table-top."""

    index: SceneIndex
    gaussians: object
    views: list
    masks: list[MaskSet]
    features: list[torch.Tensor]
    rasterizer: object

    def described(self, i: int):
        return argparse.Namespace(masks=self.masks[i], features=self.features[i])


Ask = Callable[[str, torch.Tensor, torch.Tensor | None], Selection]


def train(scene: Scene, unit: torch.Tensor | None, num: int, config: InstanceFieldConfig) -> torch.Tensor:
    return train_instance_field(
        scene.gaussians, scene.views, scene.masks.__getitem__, scene.rasterizer, config, unit=unit, num_units=num
    )


def field_of(scene: Scene, instance: torch.Tensor, unit, config: LanguageFieldConfig) -> LanguageField:
    pairs = collect_pairs(scene.gaussians, scene.views, scene.described, scene.rasterizer, instance, unit)
    language = regress(instance, pairs, config)
    xyz = scene.gaussians.means if unit is None else scene.index.anchor_xyz
    language = smooth(language, config.smoothing, xyz, None if unit is None else scene.index.edges)
    return LanguageField(instance.half(), language, pairs.spread, unit is None)


def whole_answer(scene: Scene, field: LanguageField) -> Ask:
    """The published way: something always answers."""

    def ask(label, vector, negatives):
        said = ask_field(field, scene.index, scene.gaussians, vector, negatives)
        return select_units(field, scene.index, said, refined(field, said), label)

    return ask


def language_alone(scene: Scene, field: LanguageField) -> Ask:
    """Units of the top quarter of the query's range, without refinement."""

    def ask(label, vector, negatives):
        said = ask_field(field, scene.index, scene.gaussians, vector, negatives)
        return select_units(field, scene.index, said, stretched(said.relevancy) > 0.5, label)

    return ask


def instance_alone(scene: Scene, field: LanguageField) -> Ask:
    """The region of like instance features around the single best unit."""

    def ask(label, vector, negatives):
        said = ask_field(field, scene.index, scene.gaussians, vector, negatives)
        unit = torch.nn.functional.normalize(field.instance.float(), dim=1)
        best = int(torch.where(said.opacity > 0.1, torch.nan_to_num(said.relevancy), -1.0).argmax())
        return select_units(field, scene.index, said, unit @ unit[best] > 1 - 0.4 * field.spread, label)

    return ask


def ours(scene: Scene, field: LanguageField | None, strategy: Strategy, floor: bool = True) -> Ask:
    def ask(label, vector, negatives):
        least = (DEFAULTS.floor if negatives is not None else DEFAULTS.image_floor) if floor else 0.0
        return select_vector(
            scene.index, label, vector, negatives, strategy=strategy, field=field, gaussians=scene.gaussians,
            floor=least, several=False,
        ).selection  # fmt: skip

    return ask


def image_of(label: str, seed: int, noise: float) -> np.ndarray:
    """The image feature of an object of this label in a picture of another scene: other appearance, other noise."""
    dense = np.zeros((480, 640), bool)
    dense[:100, :60] = True
    rng = np.random.default_rng([seed, 99])
    return simulated.image_features([Proposal(dense, ((1, 1.0),))], {1: label}, noise, seed + 1000, rng)[0]


def absent_labels(present: set[str], seed: int) -> list[str]:
    """Labels of other scenes: half of them of a kind that is here in another colour, where there are such."""
    rng = np.random.default_rng([seed, 98])
    every = [f"{c} {k}" for c in COLOURS for k in KINDS]
    every = [t for t in every if t not in present]
    here = {label.partition(" ")[2] for label in present}
    alike = [t for t in every if t.partition(" ")[2] in here]
    other = [t for t in every if t.partition(" ")[2] not in here]
    pick = lambda pool, n: list(rng.choice(pool, min(n, len(pool)), replace=False)) if pool else []  # noqa: E731
    return pick(alike, ABSENT // 2) + pick(other, ABSENT - ABSENT // 2)


def ways(scene: Scene, o: argparse.Namespace, clock: Clock, wanted) -> dict[str, tuple[Ask, float]]:
    """Every way to answer, with the seconds that its field took to make."""
    out: dict[str, tuple[Ask, float]] = {}
    asked = lambda name: wanted is None or name in wanted  # noqa: E731
    faithful = [
        n for n in ("published kernel", "paper's kernel", "MLP", "language alone", "instance alone") if asked(n)
    ]
    if faithful:
        config = replace(field_config(o.published_steps or o.steps).instance, loss=PUBLISHED)
        start = time.perf_counter()
        instance = clock("field", train, scene, None, len(scene.gaussians), config)
        trained = time.perf_counter() - start
        published = LanguageFieldConfig(units="gaussian", smoothing="nearest")
        kinds = {
            "published kernel": published,
            "paper's kernel": replace(published, kernel=KernelConfig("paper")),
            "MLP": replace(published, regression="mlp", mlp=MlpConfig()),
        }
        for name, kind in kinds.items():
            start = time.perf_counter()
            field = clock("regression", field_of, scene, instance, None, kind)
            took = trained + time.perf_counter() - start
            if asked(name):
                out[name] = whole_answer(scene, field), took
            if name == "published kernel":
                for branch, make in (("language alone", language_alone), ("instance alone", instance_alone)):
                    if asked(branch):
                        out[branch] = make(scene, field), took
    if asked("tree"):
        out["tree"] = ours(scene, None, "tree"), 0.0
    if asked("collaborative") or asked("both"):
        config = field_config(o.steps).instance
        config = config if o.lr is None else replace(config, lr=o.lr)
        start = time.perf_counter()
        anchor = scene.index.gaussian_anchor
        instance = clock("field", train, scene, anchor, scene.index.num_anchors, config)
        field = clock("regression", field_of, scene, instance, anchor, LanguageFieldConfig())
        took = time.perf_counter() - start
        for name in ("collaborative", "both"):
            if asked(name):
                out[name] = ours(scene, field, name), took
    return out


def main() -> None:
    o = parse()
    console = Console(width=180)
    if o.device == "cpu":
        from ag2_ns.rendering.cpu import CpuRasterizer as Backend
    else:
        from ag2_ns.rendering.gsplat import GsplatRasterizer as Backend
    rasterizer, height = Backend(), o.width * 3 // 4
    rows: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as scratch:
        base = o.folder or Path(scratch)
        for objects in o.objects:
            for seed in o.seeds:
                splat, views = stand_in(seed, objects, o.views, o.width, height, o.spacing)
                gaussians = splat.to(o.device)
                for noise in o.noise:
                    folder = base / f"o{objects}n{noise:g}s{seed}v{o.views}w{o.width}"
                    if not folder.exists():
                        generate(
                            folder, objects=objects, noise=noise, seed=seed, views=o.views, width=o.width,
                            height=height, progress=False,
                        )  # fmt: skip
                    masks, features = read_masks(folder)
                    clock = Clock(o.device)
                    cameras = [v.to(o.device) for v in views]
                    index = index_of(rasterizer, gaussians, cameras, masks, features, o.voxel, clock)
                    masks = [m.to(o.device) for m in masks]
                    scene = Scene(index, gaussians, cameras, masks, features, rasterizer)
                    for name, (ask, seconds) in ways(scene, o, clock, o.ways).items():
                        row = measure(scene, folder, ask, seed, noise, o.device)
                        row |= {"field s": seconds}
                        for key, value in row.items():
                            rows[objects, noise, name][key].append(value)
                        if o.rows is not None:
                            with open(o.rows, "a") as file:
                                about = {"objects": objects, "noise": noise, "seed": seed, "way": name}
                                file.write(json.dumps(about | row) + "\n")
                        console.print(folder.name, name, {k: round(v, 3) for k, v in row.items()}, highlight=False)
    show(console, rows)


@torch.no_grad()
def measure(scene: Scene, folder: Path, ask: Ask, seed: int, noise: float, device: str) -> dict[str, float]:
    """Quality of one way on one scene."""
    truth = read_ground_truth(folder / "ground_truth")
    labels = list(truth.labels.items())
    named = [(f"{stem}.png", v) for stem, v in zip(truth.files, scene.views)]
    vector = lambda rows: torch.tensor(np.array(rows), device=device).float()  # noqa: E731
    table = simulated.text_features([t for _, t in labels] + list(NEGATIVES))
    negatives = vector([table[n] for n in NEGATIVES])
    ask("warm up", vector(table[labels[0][1]]), negatives)
    times, texts = [], []
    for _, text in labels:
        start = now(device)
        texts.append(ask(text, vector(table[text]), negatives))
        times.append(now(device) - start)
    objects = [(i, t) for i, t in labels if t != "table"]
    images = [ask(t, vector(image_of(t, seed, noise)), None) for _, t in objects]
    absent = absent_labels({t for _, t in labels}, seed)
    known = simulated.text_features(absent)
    wrong = [not ask(t, vector(known[t]), negatives).empty for t in absent]
    pictured = [not ask(t, vector(image_of(t, seed, noise)), None).empty for t in absent[ABSENT // 2 :]]
    common = (truth, named, scene.rasterizer)
    found = evaluate_selections(scene.gaussians, texts, labels, *common)
    shown = evaluate_selections(scene.gaussians, images, objects, *common)
    text, image = (r.as_dict()["mean_over_prompts"] for r in (found, shown))
    hits = lambda r: float(np.mean([p.miou > 0.5 for p in r.prompts if p.iou]))  # noqa: E731
    return {
        "text mIoU": text["miou"],
        "Acc@.5": hits(found),
        "missed": float(np.mean([s.empty for s in texts])),
        "image mIoU": image["miou"],
        "image Acc": hits(shown),
        "absent": float(np.mean(wrong)),
        "absent kind": float(np.mean(wrong[ABSENT // 2 :])),
        "absent image": float(np.mean(pictured)),
        "ms/text": 1000 * float(np.median(times)),
        "GB": torch.cuda.max_memory_allocated() / 2**30 if device != "cpu" else 0.0,
    }


def now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def show(console: Console, rows: dict) -> None:
    table = Table(title="Means over seeds; 'absent': share of absent prompts that select something")
    heads = (
        "text mIoU", "Acc@.5", "missed", "image mIoU", "image Acc", "absent", "absent kind", "absent image", "ms/text",
        "field s", "GB",
    )  # fmt: skip
    for head in ("objects", "noise", "way", *heads):
        table.add_column(head, justify="right")
    for (objects, noise, way), values in sorted(rows.items(), key=lambda r: r[0][:2]):
        table.add_row(str(objects), f"{noise:g}", way, *(f"{np.mean(values[h]):.3f}" for h in heads))
    console.print(table)


if __name__ == "__main__":
    main()
