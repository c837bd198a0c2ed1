import pytest
import torch
import toy_scene

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.grouping.lifting import QUANTUM, lift_masks, scatter_sum, summed_by_sorting
from ag2_ns.rendering.cpu import CpuRasterizer


@pytest.fixture(scope="module")
def small():
    toy = toy_scene.make(objects=2, views=3, width=32, height=24, spacing=0.12, floaters=3)
    masks = [m for m, _ in toy_scene.noisy_masks(toy.ids, 1.0, 3)]
    return toy, masks


def dense(lifted):
    """[U, M] weights, [U, V] totals, [U, V] covered."""
    weight = torch.zeros(lifted.num_units, lifted.num_masks)
    weight[lifted.unit, lifted.mask] = lifted.weight
    total = torch.zeros(lifted.num_units, lifted.num_views)
    covered = total.clone()
    total[lifted.view_unit, lifted.view] = lifted.total
    covered[lifted.view_unit, lifted.view] = lifted.covered
    return weight, total, covered


def slow_weights(g, view):
    """[N, pixels] rendering weights: every Gaussian's colour alone, composited with all others black."""
    values = torch.eye(len(g))
    out = CpuRasterizer().rasterize(g.means, g.quats, g.scales, g.opacities, values, view).values
    return out.reshape(-1, len(g)).T


def test_equals_explicit_weights(small):
    toy, masks = small
    weight, total, covered = dense(lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks, channels=3))
    first = 0
    for v, (view, m) in enumerate(zip(toy.views, masks)):
        reference = slow_weights(toy.gaussians, view)
        maps = m.dense().reshape(len(m), -1).float()
        for mine, theirs in (
            (weight[:, first : first + len(m)], reference @ maps.T),
            (total[:, v], reference.sum(1)),
            (covered[:, v], reference @ maps.amax(0)),
        ):
            assert torch.allclose(mine, theirs, atol=QUANTUM, rtol=1e-3)
        first += len(m)


def test_channels_do_not_matter(small):
    toy, masks = small
    one, many = (lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks, channels=c) for c in (1, 64))
    assert torch.equal(one.weight, many.weight) and torch.equal(one.mask, many.mask)
    assert torch.equal(one.total, many.total) and torch.equal(one.covered, many.covered)


def test_units_equal_grouping_afterwards(small):
    toy, masks = small
    unit = torch.arange(len(toy.gaussians)) % 7
    direct = lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks, unit=unit, num_units=9)
    grouped = lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks).group(unit, 9)
    for a, b in zip(dense(direct), dense(grouped)):
        assert torch.equal(a, b)
    assert direct.num_units == 9 and float(direct.visible[7:].sum()) == 0


def test_rows_are_sorted_and_complete(small):
    toy, masks = small
    lifted = lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks)
    key = lifted.unit * lifted.num_masks + lifted.mask
    assert (key[1:] > key[:-1]).all()
    assert lifted.num_masks == sum(len(m) for m in masks)
    assert torch.equal(lifted.mask_area, torch.cat([m.areas for m in masks]).float())
    assert torch.equal(
        lifted.mask_view, torch.repeat_interleave(torch.arange(3), torch.tensor([len(m) for m in masks]))
    )


def test_group_leaves_out_and_repeats(small):
    toy, masks = small
    lifted = lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks)
    weight, _, _ = dense(lifted)
    half = torch.where(torch.arange(len(toy.gaussians)) % 2 == 0, 0, -1)
    assert torch.allclose(dense(lifted.group(half, 1))[0][0], weight[::2].sum(0))
    both = torch.stack([torch.zeros_like(half), half.clamp_min(-1) + 1], 1)
    twice = dense(lifted.group(both, 2))[0]
    assert torch.allclose(twice[1], weight[::2].sum(0)) and torch.allclose(
        twice[0], weight.sum(0) + weight[1::2].sum(0)
    )


@pytest.mark.parametrize("block", [1, 50, 700])
def test_grouping_by_loops_and_by_sorting_a_block_at_a_time_give_the_same(small, monkeypatch, block):
    lifted = lift_masks(CpuRasterizer(), small[0].gaussians, small[0].views, small[1])
    two = torch.stack((torch.arange(lifted.num_units) % 7 - 1, torch.arange(lifted.num_units) // 9), 1)
    groups = int(two.max()) + 1
    loops = lifted.group(two, groups)
    monkeypatch.setattr("ag2_ns.grouping.lifting.BLOCK", block)
    masks = summed_by_sorting(lifted.row, lifted.mask, (lifted.weight,), two.unbind(1), groups, lifted.num_masks)
    seen = (lifted.total, lifted.covered)
    views = summed_by_sorting(lifted.view_row, lifted.view, seen, two.unbind(1), groups, lifted.num_views)
    assert loops.mask.numel() > 100
    for name, sorted_ in zip(("row", "mask", "weight", "view_row", "view", "total", "covered"), (*masks, *views)):
        assert torch.equal(getattr(loops, name), sorted_), name


def test_view_without_masks(small):
    toy, masks = small
    none = MaskSet.from_dense(torch.zeros(0, 24, 32, dtype=torch.bool))
    lifted = lift_masks(CpuRasterizer(), toy.gaussians, toy.views, [none, *masks[1:]])
    assert (lifted.mask_view > 0).all()
    assert float(dense(lifted)[2][:, 0].sum()) == 0 and float(dense(lifted)[1][:, 0].sum()) > 100


def test_bad_input(small):
    toy, masks = small
    with pytest.raises(UserError, match="view 1: its masks are 16x24"):
        wrong = MaskSet.from_dense(torch.ones(1, 24, 16, dtype=torch.bool))
        lift_masks(CpuRasterizer(), toy.gaussians, toy.views, [masks[0], wrong])
    with pytest.raises(UserError, match="view 2: it has no masks"):
        lift_masks(CpuRasterizer(), toy.gaussians, toy.views, masks[:2])
    with pytest.raises(UserError, match="no view"):
        lift_masks(CpuRasterizer(), toy.gaussians, [], [])


def test_sums_do_not_depend_on_the_order_however_large_they_are():
    weight = torch.round(torch.rand(400_000, generator=torch.Generator().manual_seed(0)) * 256) / 256
    index = torch.zeros(len(weight), dtype=torch.long)
    exact = weight.double().sum().float()
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(1))
    assert scatter_sum(weight, index, 1)[0] == exact == scatter_sum(weight[order], index, 1)[0]
