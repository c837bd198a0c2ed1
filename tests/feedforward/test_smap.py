import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.feedforward.smap import (
    MaskedAttention,
    Smap,
    SmapConfig,
    SparseConv,
    pillar_masks,
    pool,
    sector_masks,
    voxelise,
)

SMALL = SmapConfig(in_dim=6, dim=8, out_dim=5, heads=2, voxel=0.5)


@pytest.fixture
def cloud(generator):
    return 2 * torch.rand(60, 3, generator=generator), torch.randn(60, 6, generator=generator)


def test_voxels_and_their_neighbours(cloud):
    xyz, _ = cloud
    voxels = voxelise(xyz, 0.5)
    cell = torch.floor((xyz - xyz.amin(0)) / 0.5).long()
    of = {tuple(c.tolist()): int(v) for c, v in zip(cell, voxels.of_point)}
    assert len(of) == len(voxels)
    for c, v in of.items():
        for k, step in enumerate(itertools.product((-1, 0, 1), repeat=3)):
            expected = of.get(tuple(a + b for a, b in zip(c, step)), -1)
            assert int(voxels.neighbour[v, k]) == expected


def test_sparse_convolution_is_the_dense_one(cloud):
    xyz, feature = cloud
    voxels = voxelise(xyz, 0.5)
    x = pool(feature, voxels)
    conv = SparseConv(6, 4)
    cell = torch.floor((xyz - xyz.amin(0)) / 0.5).long()
    grid = torch.zeros(6, *(cell.amax(0) + 1).tolist())
    grid[:, cell[:, 0], cell[:, 1], cell[:, 2]] = x[voxels.of_point].T
    weight = conv.weight.permute(2, 1, 0).reshape(4, 6, 3, 3, 3)
    dense = torch.nn.functional.conv3d(grid[None], weight, conv.bias, padding=1)[0]
    assert torch.allclose(conv(x, voxels)[voxels.of_point], dense[:, cell[:, 0], cell[:, 1], cell[:, 2]].T, atol=1e-5)


def test_attention_is_torchs_with_padding_left_out(generator):
    x = torch.randn(20, 8, generator=generator)
    mask = torch.rand(3, 20, generator=generator) > 0.5
    own = MaskedAttention(8, 8, 2)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        parts = (own.query, own.key, own.value)
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(own.out.state_dict())
    for j in range(3):
        inside = x[mask[j]][None]
        expected = theirs(inside.mean(1, keepdim=True), inside, inside)[0][0, 0]
        assert torch.allclose(own(x, mask)[j], expected, atol=1e-5)


def test_published_padding_adds_one_to_logits_of_zeros(generator):
    x = torch.randn(12, 8, generator=generator)
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, :12], mask[1, :4] = True, True
    module = MaskedAttention(8, 8, 2, published=True)
    padded = torch.zeros(1, 12, 8)
    padded[0, :4] = x[:4]
    q = module.query(x[:4].mean(0)).reshape(2, 4)
    k, v = module.key(padded[0]).reshape(12, 2, 4), module.value(padded[0]).reshape(12, 2, 4)
    logit = torch.einsum("hd,nhd->hn", q, k) / 2 + (torch.arange(12) >= 4)
    expected = module.out(torch.einsum("hn,nhd->hd", logit.softmax(1), v).flatten())
    out = module(x, mask)
    assert torch.allclose(out[1], expected, atol=1e-5)
    mended = MaskedAttention(8, 8, 2)
    mended.load_state_dict(module.state_dict())
    assert torch.allclose(mended(x, mask)[0], out[0], atol=1e-5)
    assert not torch.allclose(mended(x, mask)[1], out[1], atol=1e-3)


@pytest.mark.parametrize("published", [False, True])
def test_masks_without_points_give_zero_and_finite_gradients(cloud, published):
    xyz, feature = cloud
    model = Smap(SmapConfig(6, 8, 5, 2, 0.5, published))
    masks = torch.zeros(3, 60, dtype=torch.bool)
    masks[1] = True
    out = model(feature, xyz, masks)
    assert out.shape == (3, 5) and not out[0].any() and not out[2].any() and out[1].any()
    out.square().sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_no_points_at_all_and_wrong_widths(cloud):
    xyz, feature = cloud
    model = Smap(SMALL)
    assert not model(feature[:0], xyz[:0], torch.zeros(2, 0, dtype=torch.bool)).any()
    with pytest.raises(UserError, match="features have 5 numbers"):
        model(feature[:, :5], xyz, torch.ones(1, 60, dtype=torch.bool))
    with pytest.raises(UserError, match="in metres"):
        voxelise(torch.tensor([[0.0, 0, 0], [1e9, 0, 0]]), 0.05)
    with pytest.raises(UserError, match="cannot be shared"):
        MaskedAttention(10, 4, 3)


def test_gradients(generator):
    xyz = torch.rand(8, 3, generator=generator)
    feature = torch.randn(8, 4, generator=generator, dtype=torch.double, requires_grad=True)
    model = Smap(SmapConfig(4, 4, 3, 2, 0.4)).double()
    masks = torch.tensor([[True] * 5 + [False] * 3, [False] * 4 + [True] * 4])
    attend = lambda f: model.attention(model.conv(model.project(pool(f, v)), v), inside)  # noqa: E731
    v = voxelise(xyz, 0.4)
    inside = torch.zeros(2, len(v)).index_add_(1, v.of_point, masks.float()) > 0
    assert torch.autograd.gradcheck(attend, (feature,))


@given(st.integers(2, 16))
@settings(max_examples=10, deadline=None)
def test_every_point_is_in_one_sector(count):
    angle = torch.linspace(-math.pi, math.pi, 97)
    xyz = torch.stack([torch.cos(angle), torch.sin(angle), angle * 0], 1)
    xyz = torch.cat([xyz, torch.tensor([[-1.0, 0.0, 0.0], [-1.0, -0.0, 0.0], [0.0, 0.0, 1.0]])])
    masks = sector_masks(xyz, count)
    assert masks.shape == (count, 100) and (masks.sum(0) == 1).all()


def test_pillars_hold_enough_points():
    xyz = torch.cat([torch.rand(200, 3) * 0.4, torch.rand(20, 3) * 0.4 + torch.tensor([2.0, 0, 0])])
    masks = pillar_masks(xyz)
    assert masks.shape[0] == 1 and masks[0, :200].all() and not masks[0, 200:].any()
