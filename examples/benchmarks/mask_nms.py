"""Time of mask suppression on 300 segmenter-like masks: python examples/benchmarks/mask_nms.py"""

from __future__ import annotations

import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.mask_nms import pairwise_intersections, suppress_masks


def blobs(count: int, height: int, width: int, seed: int = 0) -> tuple[MaskSet, torch.Tensor]:
    """Noisy discs of all sizes, a third of them near copies of others."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    noise = [gaussian_filter(rng.normal(size=(height, width)).astype(np.float32), s) for s in (1.5, 6)]
    noise = 4 * noise[0] / noise[0].std() + 10 * noise[1] / noise[1].std()
    masks, discs = [], []
    for k in range(count):
        if k % 3 == 2:
            cy, cx, r = discs[int(rng.integers(len(discs)))]
            cy, cx, r = cy + rng.normal() * 3, cx + rng.normal() * 3, r * rng.uniform(0.95, 1.05)
        else:
            cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), 15 + rng.exponential(90)
        discs.append((cy, cx, r))
        shift = np.roll(noise, (int(rng.integers(3)), int(rng.integers(3))), (0, 1))
        masks.append(torch.from_numpy(np.hypot(y - cy, x - cx) + shift < r))
    return MaskSet.from_dense(torch.stack(masks)), torch.from_numpy(rng.uniform(0.6, 1, count))


def main() -> None:
    table = Table("masks", "image", "threads", "pairs (million)", "intersections s", "all s", "kept")
    for count, height, width in ((100, 728, 986), (300, 728, 986), (1000, 728, 986)):
        masks, score = blobs(count, height, width)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            seconds = []
            for work, arguments in ((pairwise_intersections, (masks,)), (suppress_masks, (masks, score))):
                started = time.perf_counter()
                result = work(*arguments)
                seconds.append(time.perf_counter() - started)
            table.add_row(
                str(count), f"{width}x{height}", str(threads), f"{len(masks.pixel) / 1e6:.1f}",
                f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", str(int(result.sum())),
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
