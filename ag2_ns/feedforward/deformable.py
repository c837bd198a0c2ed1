"""Multi-scale deformable attention (Zhu et al. 2021, "Deformable DETR", section 4.1) by `grid_sample` alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample


class DeformableAttention(nn.Module):
    """Every query samples each level at a few learnt offsets around its reference point; a residual is added."""

    def __init__(self, width: int, heads: int, levels: int, points: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.dropout = nn.Dropout(dropout)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Offsets on rays, one direction a head, point k at k cells; even weights."""
        nn.init.zeros_(self.offsets.weight)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ray = torch.stack((angle.cos(), angle.sin()), -1)
        ray = ray / ray.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1).float()
        bias = (ray[:, None, None] * steps[:, None]).expand(self.heads, self.levels, self.points, 2)
        self.offsets.bias.copy_(bias.reshape(-1))
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Float[Tensor, "B Q W"],
        position: Float[Tensor, "B Q W"],
        levels: list[Float[Tensor, "B W h w"]],
        reference: Float[Tensor, "B Q 2"],
    ) -> Float[Tensor, "B Q W"]:
        """Attend.

        Args:
            query: what asks.
            position: code of where, added to `query` for offsets and weights.
            levels: maps, finest first.
            reference: x, y in 0 .. 1 of the picture.
        """
        b, q, width = query.shape
        asked = query + position
        shape = (b, q, self.heads, self.levels, self.points)
        offsets = self.offsets(asked).view(*shape, 2)
        weights = self.weights(asked).view(b, q, self.heads, -1).softmax(-1).view(shape)
        out = 0
        for i, level in enumerate(levels):
            h, w = level.shape[-2:]
            value = self.value(level.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(b * self.heads, -1, h, w)
            where = reference[:, :, None, None] + offsets[:, :, :, i] / offsets.new_tensor([w, h])
            where = (2 * where - 1).transpose(1, 2).reshape(b * self.heads, q, self.points, 2)
            sampled = grid_sample(value, where.to(value.dtype), align_corners=False)  # bilinear, zeros outside
            share = weights[:, :, :, i].transpose(1, 2).reshape(b * self.heads, 1, q, self.points)
            out = out + (sampled * share).sum(-1)
        out = out.view(b, width, q).transpose(1, 2)
        return query + self.dropout(self.out(out))
