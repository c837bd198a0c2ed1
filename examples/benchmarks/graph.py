"""Speed of the instance field: neighbours, super-anchors, and one loss step (sparse against dense).

    python examples/benchmarks/graph.py                       # 20 000 and 100 000 anchors, every device there is
    python examples/benchmarks/graph.py --anchors 400000 --device cuda

Anchors lie on a bumpy sphere with about `--neighbours` of them within the merging reach (s = 4); features are those of
40 regions plus noise, as after training. Times are the best of three, after one call to warm up on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.core.masks import MaskSet
from ag2_ns.grouping.anchor_graph import build_graph, components, grow
from ag2_ns.grouping.super_anchors import super_anchors
from ag2_ns.ops.neighbours import nearest, radius_edges
from ag2_ns.splat.mask_losses import mask_contrastive_loss
from ag2_ns.splat.propagation import propagation_loss
from ag2_ns.splat.prototype_loss import prototype_loss


def seconds(call: Callable[[], object], device: str, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats + (device == "cuda")):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best


def scene(anchors: int, neighbours: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Positions, features, true regions and the reach that gives about `neighbours` neighbours."""
    g = torch.Generator().manual_seed(0)
    xyz = normalize(torch.randn(anchors, 3, generator=g), dim=1) * (1 + 0.002 * torch.randn(anchors, 1, generator=g))
    region = (xyz @ normalize(torch.randn(40, 3, generator=g), dim=1).T).argmax(1)
    feature = normalize(torch.randn(40, 3, generator=g), dim=1)[region] + 0.03 * torch.randn(anchors, 3, generator=g)
    return xyz, feature, region, (4 * neighbours / anchors) ** 0.5


def graph_row(anchors: int, neighbours: int, device: str, repeats: int) -> list[str]:
    xyz, feature, region, reach = scene(anchors, neighbours)
    xyz, feature, voxel = xyz.to(device), feature.to(device), reach / 64
    near, far = (build_graph(xyz, torch.zeros(anchors, device=device), voxel, s) for s in (2.0, 4.0))
    label = super_anchors(feature, xyz, far)
    found = int((torch.bincount(label) >= 10).sum())
    leaf = feature.clone().requires_grad_()
    visible = torch.arange(anchors, device=device) % 2 == 0
    seed = torch.tensor([0], device=device)
    calls = [
        lambda: nearest(xyz, xyz, 4),
        lambda: radius_edges(xyz, reach / 2),
        lambda: radius_edges(xyz, reach),
        lambda: super_anchors(feature, xyz, far),
        lambda: components(far),
        lambda: grow(near, seed, feature, 0.1, 50),
        lambda: propagation_loss(leaf, near, 0.1, visible).backward(),
    ]
    times = [f"{seconds(call, device, repeats):.4f}" for call in calls]
    truth = len(region.unique())
    return [f"{anchors:,}", device, f"{len(near):,}", f"{len(far):,}", *times, f"{found} / {truth}"]


def graph_table(sizes: list[int], neighbours: int, devices: list[str], repeats: int, console: Console) -> None:
    table = Table(title="anchor graph: seconds")
    columns = ("anchors", "device", "edges s=2", "edges s=4", "nearest 4", "neighbours s=2", "neighbours s=4")
    for column in (*columns, "super-anchors", "components", "grow 50", "propagation step", "found / true"):
        table.add_column(column, justify="right")
    for anchors in sizes:
        for device in devices:
            table.add_row(*graph_row(anchors, neighbours, device, repeats))
    console.print(table)


def discs(count: int, height: int = 480, width: int = 640) -> Tensor:
    g = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = torch.rand(count, 2, generator=g) * torch.tensor([height, width])
    radius = 40 + 80 * torch.rand(count, 1, 1, generator=g)
    return (y - centre[:, 0, None, None]) ** 2 + (x - centre[:, 1, None, None]) ** 2 < radius**2


def dense_contrastive(feature: Tensor, masks: Tensor) -> Tensor:
    """The same loss over M x H x W floats."""
    inside = masks[..., None].to(feature.dtype)
    mean = (inside * feature).sum((1, 2)) / inside.sum((1, 2))
    smooth = torch.linalg.vector_norm((feature - mean[:, None, None]) * inside, dim=-1).mean()
    value = (1 / (torch.pdist(mean) + 1)).sort().values
    return 3.0 * smooth + 0.5 * (torch.linspace(0.1, 1.0, len(value), device=value.device) * value).mean()


def kept(call: Callable[[], Tensor]) -> float:
    """MiB that one forward pass keeps for its backward pass."""
    storage: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(storage.values()) / 2**20


def loss_row(count: int, width: int, device: str, repeats: int) -> list[str]:
    dense = discs(count).to(device)
    masks = MaskSet.from_dense(dense)
    feature = torch.rand(480, 640, width, device=device, requires_grad=True)
    calls = [
        lambda: mask_contrastive_loss(feature, masks),
        lambda: dense_contrastive(feature, dense),
        lambda: prototype_loss(feature, masks),
    ]
    times = [1e3 * seconds(lambda c=c: c().backward(), device, repeats) for c in calls]
    memory = [kept(c) for c in calls[:2]]
    apart = float((calls[0]() - calls[1]()).abs().detach())
    cells = [str(count), str(width), device, *(f"{t:.1f}" for t in times), *(f"{m:.0f}" for m in memory)]
    return [*cells, f"{apart:.0e}"]


def loss_table(devices: list[str], repeats: int, console: Console) -> None:
    table = Table(title="mask losses at 640 x 480, forward and backward")
    for column in ("masks", "F", "device", "sparse ms", "dense ms", "prototype ms", "sparse MiB", "dense MiB", "apart"):
        table.add_column(column, justify="right")
    for count, width in ((20, 3), (20, 16), (60, 3)):
        for device in devices:
            table.add_row(*loss_row(count, width, device, repeats))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anchors", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--neighbours", type=int, default=60)
    parser.add_argument("--device", choices=["cpu", "cuda"], nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    devices = options.device or ["cpu"] + ["cuda"] * torch.cuda.is_available()
    console = Console(width=180)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {', '.join(devices)}")
    graph_table(options.anchors, options.neighbours, devices, options.repeats, console)
    loss_table(devices, options.repeats, console)


if __name__ == "__main__":
    main()
