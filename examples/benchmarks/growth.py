"""Does lifting and the instance tree grow linearly with views, Gaussians and pixels? Time and peak memory per size.

Gaussians lie on balls on a table; masks are the discs that balls and their upper parts are seen as. Both are made on
the fly, nothing is trained and nothing is written. Each size runs in a process of its own, so that its peak is its own.

    python examples/benchmarks/growth.py                 # reduced on a CPU, full size on CUDA
    python examples/benchmarks/growth.py --only largest  # 1,000 views of 1920x1080 with 100 masks each

The largest has 24 GiB of the device, whatever there is. "moved": Gaussians that joined another anchor at a border.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View


def clock() -> float:
    """Seconds; of the processor where that does the work, since its cores may be shared."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


@dataclass(frozen=True)
class Size:
    views: int
    gaussians: int
    width: int
    height: int
    masks: int
    device: str
    gib: int = 0
    """Memory of the device that may be taken; 0: all."""


class World:
    """Balls on a table, seen from a ring of cameras."""

    def __init__(self, size: Size, seed: int = 0):
        self.size, rng = size, np.random.default_rng(seed)
        self.balls = math.ceil(size.masks / 2)
        side = math.ceil(self.balls**0.5)
        cell = np.stack(np.unravel_index(np.arange(self.balls), (side, side)), 1)
        self.radius = 0.36 / side
        self.centre = np.column_stack([(cell + 0.5) / side * 2 - 1, np.full(self.balls, self.radius)])

        table = size.gaussians // 3
        which = rng.integers(0, self.balls, size.gaussians - table)
        way = rng.standard_normal((len(which), 3))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        self.ball = np.concatenate([which, np.full(table, self.balls)])
        points = self.centre[which] + self.radius * way
        flat = np.column_stack([rng.uniform(-1.3, 1.3, (table, 2)), np.zeros(table)])
        self.means = np.concatenate([points, flat])
        area = self.balls * 4 * math.pi * self.radius**2 + 2.6**2
        self.scale = 0.7 * (area / size.gaussians) ** 0.5

    def splat(self) -> Gaussians:
        n, to = len(self.means), {"device": self.size.device}
        return Gaussians(
            torch.tensor(self.means, dtype=torch.float32, **to),
            torch.tensor([1.0, 0, 0, 0], **to).repeat(n, 1),
            torch.full((n, 3), self.scale, **to),
            torch.full((n,), 0.9, **to),
            torch.zeros(n, 1, 3, **to),
        )

    def view(self, k: int) -> View:
        size = self.size
        turn, height = 2 * math.pi * k / size.views, 1.6 + 0.5 * math.sin(5 * math.pi * k / size.views)
        eye = np.array([2.4 * math.cos(turn), 2.4 * math.sin(turn), height])
        ahead = -eye / np.linalg.norm(eye)
        right = np.cross(ahead, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
        pose[:3, 3] = -pose[:3, :3] @ eye
        focal = 1.1 * size.width
        K = torch.tensor([[focal, 0, size.width / 2], [0, focal, size.height / 2], [0, 0, 1.0]])
        return View(torch.tensor(pose).float(), K, size.width, size.height)

    def seen_from(self, view: View, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixel x, y and depth of points."""
        seen = points @ view.viewmat[:3, :3].double().numpy().T + view.viewmat[:3, 3].double().numpy()
        (fx, _, cx), (_, fy, cy) = view.K[:2].tolist()
        return fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy, seen[:, 2]

    def masks(self, k: int) -> MaskSet:
        """What is seen of every ball, and of its upper part."""
        size, view = self.size, self.view(k)
        x, y, depth = self.seen_from(view, self.centre)
        radius = float(view.K[0, 0]) * self.radius / depth
        owner = np.full((size.height, size.width), -1, np.int32)
        for b in np.argsort(-depth):  # near ones last
            top, bottom = (int(np.clip(y[b] + s * radius[b], 0, size.height)) for s in (-1, 1))
            left, right = (int(np.clip(x[b] + s * radius[b], 0, size.width)) for s in (-1, 1))
            rows, columns = np.ogrid[top:bottom, left:right]
            inside = (rows + 0.5 - y[b]) ** 2 + (columns + 0.5 - x[b]) ** 2 < radius[b] ** 2
            owner[top:bottom, left:right][inside] = b
        pixel = np.flatnonzero(owner.reshape(-1) >= 0)
        ball = owner.reshape(-1)[pixel]
        row, column = np.divmod(pixel, size.width)
        cap = self.seen_from(view, self.centre + [0, 0, 0.5 * self.radius])
        upper = np.hypot(column + 0.5 - cap[0][ball], row + 0.5 - cap[1][ball]) < 0.6 * radius[ball]
        mask = np.concatenate([2 * ball, 2 * ball[upper] + 1]).astype(np.int64)
        order = np.argsort(mask, kind="stable")
        pixel = np.concatenate([pixel, pixel[upper]])[order]
        return MaskSet(
            size.height, size.width, torch.from_numpy(pixel), torch.from_numpy(mask[order]), torch.ones(2 * self.balls)
        )

    def found(self, index) -> int:
        """Balls whose visible part is a node of the tree, with an IoU above 0.5."""
        node, seen = index.tree.anchor_node[index.gaussian_anchor].cpu(), index.tree.seen[index.gaussian_anchor].cpu()
        ball, shared = torch.from_numpy(self.ball), torch.zeros(index.tree.num_nodes + 1, self.balls + 1)
        shared.index_put_((node[seen], ball[seen]), torch.ones(()), accumulate=True)
        inside = index.tree.to("cpu").subtree_sum(shared[:-1])
        union = inside.sum(1, keepdim=True) + shared.sum(0) - inside
        return int((inside > 0.5 * union)[:, :-1].any(0).sum())


class Masks:
    """The masks of all views, made when they are asked for; how long that takes is not counted."""

    def __init__(self, world: World):
        self.world, self.seconds, self.rounds = world, 0.0, 0

    def __iter__(self) -> Iterator[MaskSet]:
        self.rounds += 1
        for k in range(self.world.size.views):
            start = clock()
            found = self.world.masks(k)
            self.seconds += clock() - start
            yield found


def measure(size: Size) -> dict:
    """Lift, group and attach language once, after a small one that loads everything."""
    from ag2_ns.grouping.config import DEFAULTS
    from ag2_ns.rendering.choose import choose_rasterizer
    from ag2_ns.scene import scene_index
    from ag2_ns.scene.build import merging_graph
    from ag2_ns.splat.regroup import group_by_voxel

    rasterizer, extent, cuda = choose_rasterizer("auto", size.device), 2.4 * 1.1, size.device == "cuda"
    parts: dict[str, float] = {}

    def timed(name: str):
        inner = getattr(scene_index, name)

        def outer(*args, **options):
            start = clock()
            out = inner(*args, **options)
            if cuda:
                torch.cuda.synchronize()
            parts[name] = parts.get(name, 0.0) + clock() - start
            return out

        setattr(scene_index, name, outer)

    def build(size: Size):
        world = World(size)
        splat, masks = world.splat(), Masks(world)
        views = [world.view(k).to(size.device) for k in range(size.views)]
        features = [torch.nn.functional.normalize(torch.randn(2 * world.balls, 64), dim=1)] * size.views
        anchors, children = group_by_voxel(splat, extent, DEFAULTS.voxel)
        start = clock()
        graph = merging_graph(anchors.xyz, anchors.radius, extent, 2 * DEFAULTS.voxel * extent)
        index = scene_index.build_index(
            rasterizer, splat, children.anchor, anchors.xyz, graph.edges, views, masks, features
        )
        if cuda:
            torch.cuda.synchronize()
        moved = int((index.gaussian_anchor != children.anchor).sum())
        return index, masks, clock() - start - masks.seconds, moved

    if size.gib:
        room = size.gib << 30
        torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
        scene_index.free_memory = lambda device: room - torch.cuda.memory_allocated(device)
    build(replace(size, views=4, gaussians=3000, width=64, height=48, masks=8))
    for name in ("lift_masks", "build_tree", "refine_anchors", "add_parts", "node_language"):
        timed(name)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    index, masks, seconds, moved = build(size)
    return {
        "seconds": seconds,
        "lift": parts["lift_masks"] - masks.seconds,
        "tree": parts["build_tree"],
        "rest": seconds - parts["lift_masks"] + masks.seconds - parts["build_tree"],
        "host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device": torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0,
        "anchors": index.num_anchors,
        "found": masks.world.found(index),
        "balls": masks.world.balls,
        "rounds": masks.rounds,
        "moved": moved,
    }


def run(size: Size, console: Console) -> dict | None:
    """`measure` in a process of its own; None where it failed, which is said."""
    command = [sys.executable, __file__, "--one", json.dumps(asdict(size))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        console.print(f"{size}: failed: {done.stderr.strip().splitlines()[-1:]}", markup=False)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def exponent(xs: list[float], ys: list[float]) -> float:
    """Slope of log y over log x: 1 is linear."""
    return float(np.polyfit(np.log(xs), np.log(np.maximum(ys, 1e-9)), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=("views", "Gaussians", "pixels", "largest"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(Size(**json.loads(options.one)))))
        return
    full = options.device == "cuda"
    base = Size(80, 300_000, 640, 480, 24, "cuda") if full else Size(10, 30_000, 160, 120, 12, "cpu")
    views = (80, 300, 1000) if full else (10, 30, 100)
    counts = (300_000, 1_000_000, 5_000_000) if full else (30_000, 100_000, 300_000)
    sizes = ((640, 480), (1280, 960), (1920, 1440)) if full else ((160, 120), (320, 240), (480, 360))
    sweeps = {
        "views": [(n, replace(base, views=n)) for n in views],
        "Gaussians": [(n, replace(base, gaussians=n)) for n in counts],
        "pixels": [(w * h, replace(base, width=w, height=h)) for w, h in sizes],
    }
    if options.only and "largest" in options.only:
        large = Size(1000, 1_000_000, 1920, 1080, 100, "cuda", 24) if full else Size(100, 50_000, 480, 270, 40, "cpu")
        sweeps["largest"] = [(1, large)]
    console, known = Console(width=160), {}
    table = Table(
        title=f"Lifting, tree and language on {options.device}; bar: exponents of at most 1"
        + ("" if full else " (processor seconds)")
    )
    for head in (
        "",
        "size",
        "lift s",
        "tree s",
        "rest s",
        "total s",
        "host GiB",
        "device GiB",
        "anchors",
        "moved",
        "found",
    ):
        table.add_column(head, justify="right")
    for sweep, points in sweeps.items():
        if options.only and sweep not in options.only:
            continue
        kept = []
        for x, size in points:
            found = known[size] = known.get(size) or run(size, console)
            if found is None:
                continue
            kept.append((x, found))
            console.print(asdict(size), found, soft_wrap=True)  # as it goes: later sizes take minutes
            label = f"{size.views} x {size.width}x{size.height}, {size.gaussians / 1e6:g} M, {size.masks} masks"
            table.add_row(
                sweep, label, *(f"{found[k]:.2f}" for k in ("lift", "tree", "rest", "seconds", "host", "device")),
                f"{found['anchors']:,}", f"{found['moved']:,}", f"{found['found']} of {found['balls']}",
            )  # fmt: skip
        if len(kept) > 1:
            xs = [x for x, _ in kept]
            slopes = [exponent(xs, [f[k] for _, f in kept]) for k in ("lift", "tree", "rest", "seconds")]
            memory = [exponent(xs, [f[k] for _, f in kept]) for k in ("host", "device")]
            table.add_row("", "exponent", *(f"{s:.2f}" for s in (*slopes, *memory)), "", "", "", style="bold")
    console.print(table)


if __name__ == "__main__":
    main()
