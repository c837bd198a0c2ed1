"""SMAP on simulated streets: python examples/benchmarks/smap.py [--seeds 200 …] [--steps 600] [--paper]

Each row trains on 48 streets (--streets) and is measured on 24 others: cosine to the vectors of unseen pictures, and
F1 of the words read off unseen 30-degree sectors, beside an untrained model and the plain mean of the points'
features. --paper takes the published sizes (768-d features, width 512, 30 000 points, voxels of 5 cm), for a GPU.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.feedforward.decode import words_in
from ag2_ns.feedforward.smap import Smap, SmapConfig, sector_masks
from ag2_ns.feedforward.smap_train import SmapSample, SmapTrainConfig, train_smap
from ag2_ns.ops.device import choose_device
from ag2_ns.synthetic import point_streets

LEAST = 0.02
"""A class is in a sector that holds this share of its points of it, and five points."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(200, 205)))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--published", action="store_true", help="padded points get weight, as in the published code")
    parser.add_argument("--streets", type=int, nargs=2, default=(48, 24), help="to train on, and to measure on")
    options = parser.parse_args()
    device = choose_device("auto")
    width, points = (768, 30_000) if options.paper else (64, 2500)
    sizes = {"dim": 512, "out_dim": 512, "voxel": 0.05} if options.paper else {"dim": 64, "out_dim": 64, "voxel": 0.3}
    config = SmapConfig(in_dim=width, published=options.published, **sizes)
    rate = 3e-4 if options.paper else 3e-3
    title = f"{device}, {options.steps} steps"
    torch.backends.cuda.matmul.allow_tf32 = True
    table = Table(
        "seed", "cosine", "F1", "cosine untrained", "F1 untrained", "F1 mean of points", "train s", title=title
    )
    rows = []
    for seed in options.seeds:
        make = lambda k: sample(k, width, config.out_dim, points)  # noqa: E731
        train = [make(1000 * seed + k)[0].to(device) for k in range(options.streets[0])]
        held = [make(1000 * seed + 500 + k) for k in range(options.streets[1])]
        start = time.perf_counter()
        torch.manual_seed(seed)
        before = measure(Smap(config).to(device).eval(), held, config.out_dim, device)
        schedule = SmapTrainConfig(steps=options.steps, batch=4, lr=rate, seed=seed)
        model = train_smap(train, config, schedule, device=device)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        after = measure(model, held, config.out_dim, device)
        rows.append([*after[:2], *before[:2], after[2], seconds])
        print(f"seed {seed}: cosine {after[0]:.3f}, F1 {after[1]:.3f}, {seconds:.0f} s", flush=True)
        table.add_row(str(seed), *(f"{v:.3f}" for v in rows[-1][:-1]), f"{seconds:.0f}")
    mean = np.mean(rows, 0)
    met = "bars met" if mean[0] >= 0.95 and mean[1] >= 0.75 else "BARS MISSED (0.95, 0.75)"
    table.add_row("mean", *(f"{v:.3f}" for v in mean[:-1]), f"{mean[-1]:.0f} ({met})")
    Console().print(table)


def sample(seed: int, width: int, out: int, points: int) -> tuple[SmapSample, np.ndarray]:
    """A street as a sample, and the classes of its points."""
    street = point_streets.make(seed, width=width, points=points)
    target = street.vectors[:, :out]
    if out != width:  # features and picture vectors live in spaces of their own, as OpenSeg's and CLIP's do
        rng = np.random.default_rng([seed, 32])
        distance = np.maximum(np.linalg.norm(street.xyz, axis=1), 3)
        texts = point_streets.class_vectors(out)
        pictures = [
            point_streets.picture_vector(street.label[c], 1 / distance[c], texts, rng, 1.0) for c in street.cameras
        ]
        target = np.stack(pictures).astype(np.float32)
    parts = (street.xyz, street.feature, street.cameras, target)
    return SmapSample(*map(torch.from_numpy, parts)), street.label


@torch.no_grad()
def measure(model: Smap, held: list, out: int, device: str) -> tuple[float, float, float]:
    """Cosine to unseen pictures, F1 of sector words, F1 of those read off the mean of the points."""
    words, texts = list(point_streets.CLASSES), torch.from_numpy(point_streets.class_vectors(out)).float()
    own = torch.from_numpy(point_streets.class_vectors(held[0][0].feature.shape[1])).float()
    cosine, f1, plain = [], [], []
    for street, label in held:
        s = street.to(device)
        cosine.append(float(torch.nn.functional.cosine_similarity(model(s.feature, s.xyz, s.masks), s.target).mean()))
        sectors = sector_masks(s.xyz)
        f1 += scores(words_in(model(s.feature, s.xyz, sectors), words, texts), sectors.cpu().numpy(), label)
        mean = sectors.float() @ s.feature / sectors.sum(1, keepdim=True).clamp_min(1)
        plain += scores(words_in(mean, words, own), sectors.cpu().numpy(), label)
    return float(np.mean(cosine)), float(np.mean(f1)), float(np.mean(plain))


def scores(found: list, sectors: np.ndarray, label: np.ndarray) -> list[float]:
    """F1 of the words of each sector that shows anything."""
    out = []
    for said, inside in zip(found, sectors):
        count = np.bincount(label[inside], minlength=len(point_streets.CLASSES))
        true = {point_streets.CLASSES[k] for k in np.flatnonzero(count >= max(5, LEAST * count.sum()))}
        if true:
            said = {w for w, _ in said}
            out.append(2 * len(said & true) / max(len(said) + len(true), 1))
    return out


if __name__ == "__main__":
    main()
