"""GaussTR (CVPR 2025): semantic Gaussians from features and depth of surround views, in one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.feedforward.config import NetworkConfig
from ag2_ns.feedforward.decoder import DecoderLayer, mlp, sine_code, spread_points
from ag2_ns.feedforward.head import PUBLISHED_WIDTH, Head, depth_at, feature_at, lift, sizes
from ag2_ns.feedforward.neck import Neck
from ag2_ns.ops.rotations import quaternions

LEVELS = 4
REACH = 60.0
"""Metres that the code of a place in space spans to each side, for queries that see other views."""


@dataclass(frozen=True)
class Batch:
    """B frames of V views, as the network takes them."""

    features: Float[Tensor, "B V C h w"]
    depth: Float[Tensor, "B V H W"]
    K: Float[Tensor, "B V 3 3"]
    """Intrinsics of pictures H x W."""
    cam2ego: Float[Tensor, "B V 4 4"]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(*(getattr(self, k).to(device) for k in ("features", "depth", "K", "cam2ego")))


def mirrored(batch: Batch) -> Batch:
    """Frames as a mirror along the car's axis shows them: left and right change places."""
    K, cam2ego = batch.K.clone(), batch.cam2ego.clone()
    K[..., 0, 2] = batch.depth.shape[-1] - K[..., 0, 2]
    K[..., 0, 1] *= -1
    cam2ego[..., 1, :] *= -1
    cam2ego[..., :, 0] *= -1
    return Batch(batch.features.flip(-1), batch.depth.flip(-1), K, cam2ego)


@dataclass(frozen=True)
class Predicted:
    """Gaussians of B frames in their ego frames; V x Q of each."""

    means: Float[Tensor, "B N 3"]
    quats: Float[Tensor, "B N 4"]
    scales: Float[Tensor, "B N 3"]
    opacities: Float[Tensor, "B N"]
    features: Float[Tensor, "B N C"]

    def gaussians(self, index: int) -> Gaussians:
        """The Gaussians of one frame, grey."""
        sh = self.means.new_zeros(self.means.shape[1], 1, 3)
        return Gaussians(self.means[index], self.quats[index], self.scales[index], self.opacities[index], sh)


class GaussTR(nn.Module):
    """Neck, queries, decoder and heads."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        width = config.width
        self.neck = Neck(channels, width)
        self.query = nn.Embedding(config.queries, width)
        self.register_buffer("points", spread_points(config.queries))
        self.code = mlp(2 * (width // 2), width, width)
        self.place = mlp(3 * (width // 2), width, width) if config.cross_view else None
        self.layers = nn.ModuleList(DecoderLayer(config, LEVELS) for _ in range(config.layers))
        self.heads = nn.ModuleList(Head(config, channels) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, batch: Batch) -> list[Predicted]:
        """Gaussians after each layer; the last ones are the prediction."""
        b, v = batch.features.shape[:2]
        height, width = batch.depth.shape[-2:]
        levels = self.neck(batch.features.flatten(0, 1))
        depth, K, cam2ego = (t.flatten(0, 1).float() for t in (batch.depth, batch.K, batch.cam2ego))
        rows = b * v
        query = self.query.weight.expand(rows, -1, -1)
        reference = self.points.expand(rows, -1, -1)
        if self.config.reference == "random":
            reference = torch.rand_like(reference)
        focal = K[:, 0, 0] * (PUBLISHED_WIDTH / width)
        turned = quaternions(cam2ego[:, :3, :3])
        out = []
        for layer, head in zip(self.layers, self.heads):
            position = self.code(sine_code(reference, self.config.width // 2))
            if self.place is not None:
                where = lift(reference, depth_at(depth, reference, "border"), K, cam2ego, width, height)
                position = position + self.place(sine_code(where / (2 * REACH) + 0.5, self.config.width // 2))
            query = layer(query, position, levels, reference, v if self.config.cross_view else 1)
            seen = self.norm(query)
            if self.config.offset == "twice":
                reference = head.refine(query, reference)[0].detach()
            points, factor = head.refine(seen, reference)
            made = self._gaussians(head, seen, points, factor, depth, K, cam2ego, focal, turned, b, width, height)
            if self.config.carry:
                below = feature_at(batch.features.flatten(0, 1).float(), points)
                made = replace(made, features=made.features + below.reshape(made.features.shape))
            out.append(made)
            if self.config.offset == "once":
                reference = points.detach()
        return out

    def _gaussians(self, head, seen, points, factor, depth, K, cam2ego, focal, turned, b, width, height) -> Predicted:
        d = depth_at(depth, points, self.config.border)
        means = lift(points, d * (1 + factor[..., 0]), K, cam2ego, width, height)
        scales = sizes(head.scale(seen), d, focal, self.config)
        quats = turned[:, None].expand(-1, means.shape[1], -1)
        opacities = torch.sigmoid(head.opacity(seen).float())[..., 0]
        fields = (means, quats, scales, opacities, head.feature(seen).float())
        return Predicted(*(f.reshape(b, -1, *f.shape[2:]) for f in fields))
