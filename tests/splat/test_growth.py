import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.splat.anchors import Anchors, decode, initialise
from ag2_ns.splat.growth import (
    GrowthRule,
    PruneRule,
    grow,
    growth_signal,
    occupied_cells,
    prunable_anchors,
    sample_in_gaussians,
)


def gaussians_at(means, scale=0.01, opacity=0.5):
    n = len(means)
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1)
    return Gaussians(means, quats, torch.full((n, 3), scale), torch.full((n,), opacity), torch.rand(n, 4, 3))


def test_signal_adds_gradient_strain_and_oversize():
    rule = GrowthRule()
    gradient = torch.tensor([11.0, 11.0, 5.0])
    seen = torch.tensor([11, 10, 11])
    offset = torch.tensor([[2.0, 0, 0], [2, 0, 0], [0, 0, 0]])
    scale = torch.tensor([[0.3, 0.1, 0.1], [0.3, 0.1, 0.1], [0.1, 0.1, 0.1]])
    radius = torch.full((3, 1), 0.2)
    signal = growth_signal(gradient, seen, offset, scale, radius, rule)
    assert torch.allclose(signal, torch.tensor([1 + 2e-4 + 5e-6, 0.0, 5 / 11]))


def test_signal_of_nan_is_zero():
    nan = torch.tensor([float("nan")])
    out = growth_signal(nan, torch.tensor([20]), torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1, 1), GrowthRule())
    assert out.item() == 0


def test_samples_follow_rotation_and_scale():
    half = 0.5**0.5
    g = Gaussians(
        torch.tensor([[1.0, 2, 3]]),
        torch.tensor([[half, 0, 0, half]]),  # 90 degrees about z: x becomes y
        torch.tensor([[0.5, 0.1, 0.1]]),
        torch.ones(1),
        torch.zeros(1, 1, 3),
    )
    point = sample_in_gaussians(g, torch.tensor([[2.0, 0, 0]]))
    assert torch.allclose(point, torch.tensor([[1.0, 3, 3]]), atol=1e-6)


def test_occupied_cells_groups_and_skips_taken_ones():
    candidates = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9], [1.5, 0, 0], [-0.5, 0, 0]])
    taken = torch.tensor([[1.1, 0.9, 0.9]])
    group, count = occupied_cells(candidates, taken, 1.0)
    assert count == 2 and group[0] == group[1] != group[3] and group[2] == -1
    group, count = occupied_cells(candidates, taken[:0], 1.0)
    assert count == 3 and (group >= 0).all()


def test_grow_adds_only_where_the_signal_is_high_and_space_is_free():
    anchors, children = initialise(torch.rand(30, 3), torch.rand(30, 3), 1.6, sh_degree=1)
    gaussians = decode(anchors, children)
    voxel = 0.001
    rule = GrowthRule()
    nothing, none = grow(gaussians, anchors, torch.zeros(len(children)), voxel, rule)
    assert len(nothing) == 0 and len(none) == 0
    new, kids = grow(
        gaussians, anchors, torch.ones(len(children)), voxel, rule, generator=torch.Generator().manual_seed(1)
    )
    assert len(new) > 0 and len(kids) == 5 * len(new)
    assert kids.anchor.min() == 30 and kids.anchor.max() == 29 + len(new)
    sizes = new.radius / voxel
    assert torch.isclose(sizes, torch.tensor([[16.0, 4.0, 1.0]]), rtol=1e-4).any(-1).all()
    for radius in new.radius.unique():
        mine = new.xyz[new.radius.squeeze(-1) == radius]
        cells = torch.floor(mine / radius).long()
        assert len(cells.unique(dim=0)) >= 0.99 * len(cells)
    assert torch.allclose(new.feature, torch.ones_like(new.feature))


def test_growth_respects_the_budget():
    anchors, children = initialise(torch.rand(30, 3), torch.rand(30, 3), 1.6)
    new, kids = grow(decode(anchors, children), anchors, torch.ones(150), 0.001, GrowthRule(), budget=7)
    assert len(new) == 7 and len(kids) == 35


def test_a_budget_favours_no_side_of_the_scene():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2000, 3, generator=generator)
    anchors, children = initialise(points, points, 16.0, children_per_anchor=1)
    signal = torch.ones(len(children))
    new, _ = grow(decode(anchors, children), anchors, signal, 0.001, GrowthRule(), budget=200, generator=generator)
    assert len(new) == 200
    assert (new.xyz.mean(0) - 0.5).abs().max() < 0.1 and new.xyz.std(0).min() > 0.2


def test_candidates_land_within_their_gaussians_spread():
    anchors, children = initialise(torch.zeros(1, 3), torch.rand(1, 3), 1.6, children_per_anchor=400)
    reach = []
    for spread in (0.0, 1.0, 3.0):
        new, _ = grow(decode(anchors, children), anchors, torch.ones(400), 1e-4, GrowthRule(spread=spread))
        reach.append(float(new.xyz.norm(dim=-1).median()))
    assert reach[0] < reach[1] and 2 < reach[2] / reach[1] < 4


def test_new_anchors_take_the_feature_of_the_nearest():
    xyz = torch.tensor([[0.0, 0, 0], [10.0, 0, 0]])
    anchors = Anchors(xyz, torch.full((2, 1), 0.1), torch.tensor([[1.0, 0], [0, 1.0]]))
    means = torch.tensor([[0.5, 0, 0], [9.5, 0, 0]]).repeat(20, 1)
    new, _ = grow(gaussians_at(means), anchors, torch.ones(40), 0.01, GrowthRule())
    expected = torch.where(new.xyz[:, :1] < 5, torch.tensor([1.0, 0]), torch.tensor([0, 1.0]))
    assert len(new) >= 2 and torch.equal(new.feature, expected)


def test_prunable_anchors():
    rule = PruneRule()
    means = torch.zeros(12, 3)
    g = gaussians_at(means)
    opacity, scales = g.opacities.clone(), g.scales.clone()
    opacity[0:2] = 0.001  # anchor 0 faded
    scales[2] = 0.5  # anchor 1: one of two children is too large
    means = means.clone()
    means[4, 0] = float("nan")  # anchor 2 broken
    screen = torch.zeros(12)
    screen[6:8] = 100  # anchor 3 too large on screen
    g = Gaussians(means, g.quats, scales, opacity, g.sh)
    child_anchor = torch.arange(6).repeat_interleave(2)
    drop = prunable_anchors(g, child_anchor, 7, 1.0, rule)
    assert drop.tolist() == [True, True, True, False, False, False, True]  # anchor 6 has no children
    drop = prunable_anchors(g, child_anchor, 7, 1.0, rule, screen)
    assert drop.tolist() == [True, True, True, True, False, False, True]
