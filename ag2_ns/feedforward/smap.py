"""SMAP: points of a region pooled into one image-text vector, by attention under a boolean mask (3D-AVS, section 3.2).

Published: a 1 x 1 x 1 sparse convolution, a position code (a 3 x 3 x 3 sparse convolution, a linear layer and a layer
norm, added), then per mask one query, the mean of its points, that attends to them. Here in plain PyTorch: a sparse
convolution is one matrix product per neighbour, found by hashing voxels.

Two faults of the published code are mended, and can be had back with `published=True`, as they change numbers: padded
points got weight (a float mask adds 1 to their logits instead of removing them), and a mask without points gave NaN;
here it gives zero.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ag2_ns.core.errors import UserError

SPAN = 1 << 20
"""Voxels along an axis that keys tell apart: 52 km of 5 cm."""


@dataclass(frozen=True)
class SmapConfig:
    """Sizes, as published for nuScenes."""

    in_dim: int = 768
    """Length of the point features (OpenScene: 768)."""
    dim: int = 512
    """Width inside."""
    out_dim: int = 512
    """Length of the image-text vectors (CLIP ViT-B/32: 512)."""
    heads: int = 8
    """Of the attention."""
    voxel: float = 0.05
    """Edge of the voxels, metres (indoors 0.02)."""
    published: bool = False
    """Give padded points the weight that the published code gives them."""

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Voxels:
    """V occupied voxels of N points."""

    of_point: Int[Tensor, " N"]
    """The voxel of each point."""
    neighbour: Int[Tensor, "V 27"]
    """The voxel at each of the 27 offsets (x slowest, z fastest), -1 for an empty one; 13 is the voxel itself."""

    def __len__(self) -> int:
        return len(self.neighbour)


def voxelise(xyz: Float[Tensor, "N 3"], size: float) -> Voxels:
    """Occupied voxels and their neighbours.

    Raises:
        UserError: points further apart than keys can tell.
    """
    cell = torch.floor((xyz - xyz.amin(0)) / size).long() + 1
    if bool((cell >= SPAN - 1).any()):
        raise UserError(f"points lie {float((xyz.amax(0) - xyz.amin(0)).max()):,.0f} m apart; give the cloud in metres")
    key = (cell[:, 0] * SPAN + cell[:, 1]) * SPAN + cell[:, 2]
    unique, of_point = torch.unique(key, return_inverse=True)
    steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=xyz.device)] * 3)
    wanted = unique[:, None] + (steps[:, 0] * SPAN + steps[:, 1]) * SPAN + steps[:, 2]
    place = torch.searchsorted(unique, wanted).clamp_max(len(unique) - 1)
    return Voxels(of_point, torch.where(unique[place] == wanted, place, -1))


def pool(values: Float[Tensor, "N C"], voxels: Voxels) -> Float[Tensor, "V C"]:
    """Mean of the points of each voxel."""
    count = torch.bincount(voxels.of_point, minlength=len(voxels)).clamp_min(1).to(values)
    total = values.new_zeros(len(voxels), values.shape[1]).index_add(0, voxels.of_point, values)
    return total / count[:, None]


class SparseConv(nn.Module):
    """3 x 3 x 3 convolution over occupied voxels only; empty neighbours count as zeros."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(27, in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        bound = 1 / math.sqrt(27 * in_dim)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Float[Tensor, "V C"], voxels: Voxels) -> Float[Tensor, "V D"]:
        """The sum over neighbours of their features times the weight of their offset."""
        out = self.bias.expand(len(x), -1)
        for k in range(27):
            here = (voxels.neighbour[:, k] >= 0).nonzero().squeeze(1)
            if len(here):
                # index_select, not x[…]: the gradient of the latter sorts.
                near = x.index_select(0, voxels.neighbour[here, k])
                out = out.index_add(0, here, near @ self.weight[k])
        return out


class MaskedAttention(nn.Module):
    """Multi-head attention of one query per mask to the points inside it."""

    def __init__(self, dim: int, out_dim: int, heads: int, published: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"a width of {dim} cannot be shared by {heads} heads; choose a multiple")
        self.heads, self.published = heads, published
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, out_dim)

    def forward(self, x: Float[Tensor, "V C"], mask: Bool[Tensor, "J V"]) -> Float[Tensor, "J D"]:
        """One vector per mask; zero for an empty one."""
        size = mask.sum(1)
        inside = mask.to(x)
        mean = inside @ x / size.clamp_min(1)[:, None].to(x)
        split = lambda t: t.unflatten(-1, (self.heads, -1))  # noqa: E731
        query, key, value = split(self.query(mean)), split(self.key(x)), split(self.value(x))
        scale = query.shape[-1] ** -0.5
        logit = torch.einsum("jhd,vhd->jhv", query, key) * scale
        logit = logit.masked_fill(~mask[:, None], -torch.inf)
        values = value.permute(1, 0, 2)
        if self.published:
            # All padded points are alike, so one stands for them: zeros have the biases as their key and value.
            padded = (size.max() - size).to(x)
            extra = torch.einsum("jhd,hd->jh", query, split(self.key.bias)) * scale + 1 + padded.log()[:, None]
            logit = torch.cat([logit, extra[..., None]], -1)
            values = torch.cat([values, split(self.value.bias)[:, None]], 1)
        weight = torch.nan_to_num(logit.masked_fill(size[:, None, None] == 0, 0.0).softmax(-1))
        pooled = torch.einsum("jhv,hvd->jhd", weight, values).flatten(1)
        return self.out(pooled) * (size > 0)[:, None].to(x)


class Smap(nn.Module):
    """Points with features to image-text vectors of regions."""

    def __init__(self, config: SmapConfig = SmapConfig()) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.in_dim, config.dim)
        self.conv = SparseConv(config.dim, config.dim)
        self.mix = nn.Linear(config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        self.attention = MaskedAttention(config.dim, config.out_dim, config.heads, config.published)

    def forward(
        self, feature: Float[Tensor, "N C"], xyz: Float[Tensor, "N 3"], masks: Bool[Tensor, "J N"]
    ) -> Float[Tensor, "J D"]:
        """One vector per mask, not normalised; zero for a mask without points.

        Args:
            feature: of the points.
            xyz: their positions, metres.
            masks: the points of each region.
        """
        if feature.shape[1] != self.config.in_dim:
            raise UserError(
                f"point features have {feature.shape[1]} numbers, this model takes {self.config.in_dim}; use the "
                "features that it was trained on"
            )
        if not len(xyz):
            return feature.new_zeros(len(masks), self.config.out_dim)
        voxels = voxelise(xyz, self.config.voxel)
        x = self.project(pool(feature, voxels))
        x = x + self.norm(self.mix(self.conv(x, voxels)))
        inside = torch.zeros(len(masks), len(voxels), device=x.device)
        inside.index_add_(1, voxels.of_point, masks.to(inside))
        return self.attention(x, inside > 0)


def sector_masks(xyz: Float[Tensor, "N 3"], count: int = 12) -> Bool[Tensor, "J N"]:
    """Points by direction around the z axis, from -180 degrees on (3D-AVS: 12 sectors of 30 degrees).

    The published code loses the direction of exactly 180 degrees; it belongs to the last sector here.
    """
    angle = torch.atan2(xyz[:, 1], xyz[:, 0])
    sector = ((angle + math.pi) / (2 * math.pi) * count).long().clamp(0, count - 1)
    return sector[None] == torch.arange(count, device=xyz.device)[:, None]


def pillar_masks(xyz: Float[Tensor, "N 3"], size: float = 0.5, least: int = 150) -> Bool[Tensor, "J N"]:
    """Points by squares of the floor that hold enough of them (3D-AVS indoors; its code asks for 200 by mistake)."""
    cell = torch.floor((xyz[:, :2] - xyz[:, :2].amin(0)) / size).long()
    _, which, count = torch.unique(cell, dim=0, return_inverse=True, return_counts=True)
    kept = (count >= least).nonzero().squeeze(1)
    return which[None] == kept[:, None]
