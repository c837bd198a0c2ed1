"""From instance features to language: kernel regression over the masks, or a small network (COS3D, stage 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, l1_loss, mse_loss, normalize

from ag2_ns.language.pairs import InstancePairs

Kernel = Literal["published", "paper"]
"""The code's kernel, exp(-d^2 / 2 h^2) of the cosine distance d over the 25 nearest masks, or the paper's,
exp(-|I - I_m|^2 / 2 h^2) over all masks, which is far narrower (the square is 2 d on unit vectors)."""

BANDWIDTH = 0.1
"""h of both kernels."""

NEIGHBOURS = 25
"""Masks that the published kernel looks at."""

PUBLISHED_CHUNK = 1000
"""Units that the published code regresses at a time."""

ENTRIES = 1 << 24
"""Unit-mask distances at a time: bounds memory to a few hundred MB."""


@dataclass(frozen=True)
class KernelConfig:
    """Constants of the kernel regression."""

    kernel: Kernel = "published"
    bandwidth: float = BANDWIDTH
    neighbours: int = NEIGHBOURS
    """Of the published kernel."""
    chunk_sums: bool = False
    """Divide weights by their sum over a whole chunk of 1,000 units, in single precision, as the published code does:
    a chunk of units far from every mask becomes NaN."""


@dataclass(frozen=True)
class MlpConfig:
    """How the network is trained: the paper's form, or the published code's with its slip mended."""

    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    """Hidden layers."""
    lr: float = 1e-3
    batch: int = 64
    epochs: int = 100
    """At most; small scenes of few masks need them, large ones are done earlier (see `steps`)."""
    steps: int = 6000
    """At most so many steps."""
    cosine_weight: float = 1e-3
    """Of 1 - cos beside the squared error."""
    loss: Literal["mse", "l1"] = "mse"
    """mse is the published code's, l1 the paper's."""
    batch_axis_cosine: bool = False
    """Take the cosine along the batch, as the published code does by mistake."""
    seed: int = 0


def kernel_regression(
    instance: Float[Tensor, "U F"], pairs: InstancePairs, config: KernelConfig = KernelConfig()
) -> Float[Tensor, "U D"]:
    """Language of units as the weighted mean of the language of masks with a similar instance feature.

    The weights are a softmax of -d^2 / 2 h^2: the largest is never lost to underflow, however far a unit is from every
    mask (the published code divides by a sum that is 0 there, and gets NaN).

    Args:
        instance: features of units.
        pairs: of the masks.
        config: constants.

    Returns:
        Rows of unit length, half precision.
    """
    unit, masks = normalize(instance.float(), dim=1), pairs.instance.float()
    width = 2 * config.bandwidth**2
    out = torch.empty(len(unit), pairs.language.shape[1], dtype=torch.half, device=unit.device)
    for rows in _chunks(len(unit), max(len(masks), 1), PUBLISHED_CHUNK if config.chunk_sums else None):
        if config.kernel == "paper":
            weight = _weights(-torch.cdist(unit[rows], masks).square() / width, config)
            value = weight @ pairs.language
        else:
            distance = 1 - unit[rows] @ masks.T
            near = distance.topk(min(config.neighbours, len(masks)), dim=1, largest=False)
            weight = _weights(-near.values.square() / width, config)
            value = _weighted_rows(weight, near.indices, pairs.language)
        out[rows] = normalize(value, dim=1).half()
    return out


def _weights(exponent: Float[Tensor, "B K"], config: KernelConfig) -> Float[Tensor, "B K"]:
    if config.chunk_sums:
        weight = exponent.exp()
        return weight / weight.sum()
    return torch.softmax(exponent, dim=1)


def _weighted_rows(
    weight: Float[Tensor, "B K"], index: Int[Tensor, "B K"], rows: Float[Tensor, "M D"]
) -> Float[Tensor, "B D"]:
    """Weighted sums of chosen rows, without a copy of every chosen row where masks are few."""
    dense = weight.new_zeros(len(weight), len(rows)).scatter_add_(1, index, weight)
    return dense @ rows


def _chunks(rows: int, columns: int, size: int | None = None) -> Iterator[slice]:
    size = max(ENTRIES // columns, 1) if size is None else size
    return (slice(start, start + size) for start in range(0, rows, size))


class InstanceToLanguage(nn.Sequential):
    """The network: 16-32-64-128-256-256-512 as published, ReLU between, output not normalised."""

    def __init__(self, instance: int, language: int, widths: tuple[int, ...]) -> None:
        sizes = (instance, *widths, language)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        super().__init__(*layers[:-1])


def fit_mlp(pairs: InstancePairs, config: MlpConfig = MlpConfig()) -> InstanceToLanguage:
    """Train the network on the pairs; the weights of its best epoch among the last four are kept (published).

    Args:
        pairs: of the masks.
        config: constants.
    """
    device = pairs.instance.device
    x, y = normalize(pairs.instance.float(), dim=1), pairs.language
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = InstanceToLanguage(x.shape[1], y.shape[1], config.widths).to(device)
    draw = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr, fused=device.type == "cuda")
    per_epoch = -(-len(x) // config.batch)
    epochs = max(1, min(config.epochs, -(-config.steps // per_epoch)))
    best, kept = float("inf"), None
    with torch.enable_grad():
        for epoch in range(epochs):
            total = torch.zeros((), device=device)
            for rows in torch.randperm(len(x), generator=draw).to(device).split(config.batch):
                loss = mlp_loss(normalize(net(x[rows]), dim=1), y[rows], config)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            if epoch >= epochs - 4 and float(total) < best:
                best, kept = float(total), {k: v.detach().clone() for k, v in net.state_dict().items()}
    net.load_state_dict(kept)
    return net.eval().requires_grad_(False)


def mlp_loss(
    found: Float[Tensor, "B D"], wanted: Float[Tensor, "B D"], config: MlpConfig = MlpConfig()
) -> Float[Tensor, ""]:
    """What the network minimises; both arguments of unit length."""
    error = (l1_loss if config.loss == "l1" else mse_loss)(found, wanted)
    cosine = cosine_similarity(found, wanted, dim=0 if config.batch_axis_cosine else 1)
    return error + config.cosine_weight * (1 - cosine).mean()


@torch.no_grad()
def mlp_regression(instance: Float[Tensor, "U F"], net: InstanceToLanguage) -> Float[Tensor, "U D"]:
    """Language of units by the network: rows of unit length, half precision."""
    unit = normalize(instance.float(), dim=1)
    out = [normalize(net(part), dim=1).half() for part in unit.split(1 << 16)]
    return torch.cat(out) if out else unit.new_zeros(0, net[-1].out_features, dtype=torch.half)
