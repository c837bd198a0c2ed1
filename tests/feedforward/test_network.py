"""The network: shapes, values against slow references, gradients, and the published rules beside the mended ones."""

import math
from dataclasses import replace

import pytest
import torch

from ag2_ns.feedforward.config import FAR, GaussTRConfig, NetworkConfig, published, small
from ag2_ns.feedforward.decoder import logit, sine_code, spread_points
from ag2_ns.feedforward.deformable import DeformableAttention
from ag2_ns.feedforward.head import PUBLISHED_WIDTH, depth_at, feature_at, lift, sizes
from ag2_ns.feedforward.model import Batch, GaussTR, mirrored
from ag2_ns.feedforward.neck import Neck
from ag2_ns.ops.rotations import rotation_matrices

TINY = NetworkConfig(width=16, queries=7, layers=3, heads=4, points=2, ffn=24, head_width=20, dropout=0.0)


def batch(frames=2, views=3, channels=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    K = torch.tensor([[20.0, 0, 12], [0, 20, 7], [0, 0, 1]]).expand(frames, views, 3, 3).clone()
    pose = torch.eye(4).expand(frames, views, 4, 4).clone()
    pose[..., :3, :3] = rotation_matrices(torch.randn(frames * views, 4, generator=g)).view(frames, views, 3, 3)
    pose[..., :3, 3] = torch.randn(frames, views, 3, generator=g)
    features = torch.randn(frames, views, channels, 3, 5, generator=g)
    return Batch(features, 2 + 20 * torch.rand(frames, views, 14, 24, generator=g), K, pose)


def test_neck_makes_four_scales():
    levels = Neck(8, 16)(torch.randn(2, 8, 3, 5))
    assert [tuple(x.shape) for x in levels] == [(2, 16, 12, 20), (2, 16, 6, 10), (2, 16, 3, 5), (2, 16, 2, 3)]


def test_deformable_attention_against_a_loop():
    torch.manual_seed(0)
    layer = DeformableAttention(8, 2, 2, 3, 0.0)
    torch.nn.init.normal_(layer.offsets.weight, std=0.3)
    torch.nn.init.normal_(layer.weights.weight, std=0.3)
    levels = [torch.randn(1, 8, 4, 6), torch.randn(1, 8, 2, 3)]
    query, position, reference = torch.randn(1, 5, 8), torch.randn(1, 5, 8), torch.rand(1, 5, 2)
    out = layer(query, position, levels, reference)

    def sample(level, head, x, y):
        """Bilinear, zeros outside; x, y in 0 .. 1."""
        value = layer.value(level[0].movedim(0, -1))[..., head * 4 : head * 4 + 4]
        h, w = value.shape[:2]
        u, v = x * w - 0.5, y * h - 0.5
        total = torch.zeros(4)
        for i in (math.floor(v), math.floor(v) + 1):
            for j in (math.floor(u), math.floor(u) + 1):
                if 0 <= i < h and 0 <= j < w:
                    total = total + (1 - abs(v - i)) * (1 - abs(u - j)) * value[i, j]
        return total

    asked = query + position
    offsets = layer.offsets(asked).view(5, 2, 2, 3, 2)
    weights = layer.weights(asked).view(5, 2, 6).softmax(-1).view(5, 2, 2, 3)
    with torch.no_grad():
        for q in range(5):
            parts = []
            for head in range(2):
                total = torch.zeros(4)
                for i, level in enumerate(levels):
                    h, w = level.shape[-2:]
                    for p in range(3):
                        x = float(reference[0, q, 0] + offsets[q, head, i, p, 0] / w)
                        y = float(reference[0, q, 1] + offsets[q, head, i, p, 1] / h)
                        total = total + weights[q, head, i, p] * sample(level, head, x, y)
                parts.append(total)
            expected = query[0, q] + layer.out(torch.cat(parts))
            assert torch.allclose(out[0, q], expected, atol=1e-5)


def test_sine_code_has_y_before_x():
    code = sine_code(torch.tensor([[0.25, 0.5]]), 4)
    assert torch.allclose(code[0, :2], torch.tensor([math.sin(math.pi), math.cos(math.pi)]), atol=1e-6)
    assert torch.allclose(code[0, 4:6], torch.tensor([math.sin(math.pi / 2), math.cos(math.pi / 2)]), atol=1e-6)
    assert float(code[0, 2]) == pytest.approx(math.sin(math.pi / 1e2), abs=1e-6)


def test_points_cover_the_square():
    points = spread_points(300)
    counts = torch.histogramdd(points, bins=[5, 5], range=[0.0, 1.0, 0.0, 1.0]).hist
    assert counts.min() >= 9 and counts.max() <= 15
    assert torch.equal(spread_points(300), points)


def test_lift_and_project_are_inverse():
    b = batch()
    K, pose = b.K.flatten(0, 1), b.cam2ego.flatten(0, 1)
    points, z = torch.rand(6, 9, 2), 1 + 30 * torch.rand(6, 9)
    means = lift(points, z, K, pose, 24, 14)
    camera = (means - pose[:, None, :3, 3]) @ pose[:, :3, :3]  # R^T (x - t)
    pixel = camera @ K.mT
    assert torch.allclose(camera[..., 2], z, atol=1e-4)
    assert torch.allclose(pixel[..., :2] / pixel[..., 2:], points * torch.tensor([24.0, 14.0]), atol=1e-3)


def test_sizes_span_the_published_pixels():
    config = NetworkConfig()
    focal, depth = torch.tensor([1266.0]), torch.tensor([[10.0]])
    for raw, pixels in ((-30.0, 7.5), (30.0, 120.0), (0.0, 7.5 * 8.5)):
        found = sizes(torch.full((1, 1, 3), raw), depth, focal, config)
        assert torch.allclose(found, torch.tensor(pixels * 10 / 1266), rtol=1e-5)
    assert PUBLISHED_WIDTH == 1600


def test_depth_at_the_border_is_not_mixed_with_nothing():
    depth = torch.full((1, 4, 6), 9.0)
    corner = torch.tensor([[[0.0, 0.0], [0.5, 0.5]]])
    assert torch.allclose(depth_at(depth, corner, "border"), torch.tensor([[9.0, 9.0]]))
    assert float(depth_at(depth, corner, "zeros")[0, 0]) == pytest.approx(9 / 4)
    assert float(depth_at(depth * 100, corner, "border")[0, 1]) == pytest.approx(FAR)


def test_features_are_carried_from_the_patch_below():
    made = batch()
    net = GaussTR(replace(TINY, carry=True), 8).eval()
    here = net(made)[-1]
    uniform = replace(made, features=made.features[..., :1, :1].expand_as(made.features))
    found = net(uniform)[-1].features.view(2, 3, 7, 8)
    assert torch.allclose(found, uniform.features[..., 0, 0][:, :, None].expand_as(found), atol=1e-5)
    assert here.features.std(1).min() > 0.1, "unlike at unlike places"
    corner = torch.tensor([[[0.5 / 5, 0.5 / 3], [1.0, 1.0]]]).expand(6, 2, 2)
    rows = made.features.flatten(0, 1)
    assert torch.allclose(feature_at(rows, corner), torch.stack((rows[..., 0, 0], rows[..., 2, 4]), 1), atol=1e-5)


@pytest.mark.parametrize("cross", [False, True])
def test_every_layer_predicts_and_every_weight_learns(cross):
    net = GaussTR(replace(TINY, cross_view=cross), 8)
    layers = net(batch())
    assert len(layers) == 3
    last = layers[-1]
    assert last.means.shape == (2, 21, 3) and last.features.shape == (2, 21, 8) and last.opacities.shape == (2, 21)
    total = sum((p.means.square().mean() + p.scales.mean() + p.opacities.mean() + p.features.mean()) for p in layers)
    total.backward()
    without = [n for n, p in net.named_parameters() if p.grad is None]
    assert without == []


def test_predictions_repeat_unless_published():
    b = batch()
    net = GaussTR(TINY, 8).eval()
    assert torch.equal(net(b)[-1].means, net(b)[-1].means)
    random = GaussTR(replace(TINY, reference="random", offset="twice"), 8).eval()
    assert not torch.equal(random(b)[-1].means, random(b)[-1].means)


def test_views_do_not_meet_unless_asked_to():
    b = batch(frames=1)
    changed = Batch(b.features.clone(), b.depth, b.K, b.cam2ego)
    changed.features[0, 2] += 1.0
    for cross in (False, True):
        torch.manual_seed(0)
        net = GaussTR(replace(TINY, cross_view=cross), 8).eval()
        same = torch.allclose(net(b)[-1].features[0, :7], net(changed)[-1].features[0, :7], atol=1e-6)
        assert same != cross


def test_offsets_are_applied_once_or_twice():
    torch.manual_seed(0)
    net = GaussTR(replace(TINY, offset="twice", layers=1), 8).eval()
    with torch.no_grad():
        net.heads[0].regress[-1].bias[:2] = 0.7
        net.heads[0].regress[-1].weight.zero_()
    b = batch(frames=1)

    def shift(offset):
        net.config = replace(net.config, offset=offset)
        last = net(b)[-1]
        pose = b.cam2ego[0].repeat_interleave(7, 0)
        camera = torch.einsum("nij,nj->ni", pose[:, :3, :3].mT, last.means[0] - pose[:, :3, 3])
        x = (camera[:, 0] / camera[:, 2] * 20 + 12) / 24
        return (logit(x) - logit(net.points[:, 0].repeat(3))).mean().detach()

    assert float(shift("once")) == pytest.approx(0.7, abs=1e-3)
    assert float(shift("twice")) == pytest.approx(1.4, abs=1e-3)


def test_presets():
    talk, featup, mended = published("talk2dino"), published("featup"), GaussTRConfig()
    assert talk.image == (896, 504) and featup.image == (768, 432)
    assert talk.occupancy.min_opacity == 0.6 and talk.occupancy.min_extent == 0.015 and featup.loss.segment == 1.0
    assert not talk.ego_motion and mended.ego_motion
    assert (mended.network.reference, mended.network.offset, mended.network.border) == ("fixed", "once", "border")
    assert (talk.network.reference, talk.network.offset, talk.network.border) == ("random", "twice", "zeros")
    assert mended.network.queries == 300 and mended.network.width == 256 and small().network.width == 64


def test_a_mirrored_frame_holds_the_mirrored_world():
    frames = batch(views=2)
    other = mirrored(frames)
    points, z = torch.rand(1, 5, 2), 1 + torch.rand(1, 5)
    height, width = frames.depth.shape[-2:]
    flipped = torch.stack((1 - points[..., 0], points[..., 1]), -1)
    for v in range(2):
        there = lift(points, z, frames.K[:1, v], frames.cam2ego[:1, v], width, height)
        found = lift(flipped, z, other.K[:1, v], other.cam2ego[:1, v], width, height)
        assert torch.allclose(found, there * torch.tensor([1.0, -1, 1]), atol=1e-4)
    assert torch.linalg.det(other.cam2ego[..., :3, :3]) == pytest.approx(1, abs=1e-4)
    assert torch.equal(mirrored(other).features, frames.features)
