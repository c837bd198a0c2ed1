"""Queries that look at feature levels and at each other, and move towards what they describe."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ag2_ns.feedforward.config import NetworkConfig
from ag2_ns.feedforward.deformable import DeformableAttention


def logit(p: Tensor) -> Tensor:
    """Inverse of the sigmoid, for p cut to 1e-5 .. 1 - 1e-5."""
    p = p.clamp(1e-5, 1 - 1e-5)
    return torch.log(p / (1 - p))


def sine_code(points: Float[Tensor, "... D"], width: int, temperature: float = 1e4) -> Float[Tensor, "... DW"]:
    """Sines and cosines of each coordinate (0 .. 1), `width` numbers each, the last coordinate first."""
    power = 2 * (torch.arange(width, device=points.device) // 2) / width
    angle = points.flip(-1)[..., None] * (2 * math.pi) / temperature ** power.to(points.dtype)
    both = torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1)
    return both.flatten(-3)


def spread_points(count: int) -> Float[Tensor, "N 2"]:
    """Points that cover the unit square evenly: the R2 sequence.

    (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences".)
    """
    plastic = 1.32471795724474602596
    k = torch.arange(1, count + 1, dtype=torch.double)
    return torch.stack(((0.5 + k / plastic) % 1, (0.5 + k / plastic**2) % 1), -1).float()


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class DecoderLayer(nn.Module):
    """Deformable attention to the view, attention among queries, and a perceptron; normalised after each."""

    def __init__(self, config: NetworkConfig, levels: int) -> None:
        super().__init__()
        width = config.width
        self.look = DeformableAttention(width, config.heads, levels, config.points, config.dropout)
        self.attend = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.think = mlp(width, config.ffn, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        query: Float[Tensor, "BV Q W"],
        position: Float[Tensor, "BV Q W"],
        levels: list[Tensor],
        reference: Float[Tensor, "BV Q 2"],
        views: int,
    ) -> Float[Tensor, "BV Q W"]:
        """One layer; `views` consecutive rows attend to each other."""
        query = self.norms[0](self.look(query, position, levels, reference))
        rows, count, width = query.shape
        together = (rows // views, views * count, width)
        values, where = query.reshape(together), position.reshape(together)
        asked = values + where
        values = values + self.attend(asked, asked, values, need_weights=False)[0]
        query = self.norms[1](values).reshape(rows, count, width)
        return self.norms[2](query + self.think(query))
