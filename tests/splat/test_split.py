import pytest
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.splat.anchors import decode
from ag2_ns.splat.density import least_shown
from ag2_ns.splat.regroup import group_by_voxel
from ag2_ns.splat.split import SplitRule, asking, split


def scene(count: int = 40):
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        torch.rand(count, 3, generator=g),
        torch.randn(count, 4, generator=g),
        0.002 + 0.02 * torch.rand(count, 3, generator=g),
        0.1 + 0.8 * torch.rand(count, generator=g),
        torch.randn(count, 4, 3, generator=g),
    )
    return gaussians, *group_by_voxel(gaussians, 1.0, 0.3)


def test_who_asks_is_seen_with_a_large_mean_gradient():
    gradient, seen = torch.tensor([8.0, 8.0, 0.0, 3.0]), torch.tensor([2, 8, 0, 1])
    rule = SplitRule(threshold=2.0, few=0, most=1.0)
    assert asking(gradient, seen, rule, 10).tolist() == [True, False, False, True]
    assert asking(gradient, seen, rule, 1).tolist() == [True, False, False, False]
    assert not asking(gradient, seen, rule, 0).any()


@pytest.mark.parametrize(("few", "expected"), [(4, [True, False, False, True]), (5, [True, True, False, True])])
def test_few_ask_by_a_lower_threshold(few, expected):
    gradient, seen = torch.tensor([8.0, 8.0, 0.0, 3.0]), torch.tensor([2, 8, 0, 1])
    rule = SplitRule(threshold=2.0, first_threshold=0.5, few=few, most=1.0)
    assert asking(gradient, seen, rule, 10).tolist() == expected


def test_small_ones_are_doubled_and_large_ones_split():
    gaussians, anchors, children = scene()
    chosen = torch.arange(40) % 2 == 0
    rule = SplitRule()
    large = gaussians.scales.amax(-1) > 0.015
    replaced, new = split(gaussians, children, anchors, chosen, large, rule, torch.Generator().manual_seed(1))
    assert torch.equal(replaced, chosen & large) and replaced.any() and (chosen & ~large).any()
    pieces = 2 * int(replaced.sum())
    assert len(new) == pieces + int((chosen & ~large).sum())
    made = decode(anchors, new)
    halves, doubles = made[torch.arange(len(new)) < pieces], made[torch.arange(len(new)) >= pieces]
    same = gaussians[chosen & ~large]
    for a, b in zip((doubles.means, doubles.scales, doubles.sh), (same.means, same.scales, same.sh)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    wholes = gaussians[replaced.nonzero().squeeze(1).repeat(2)]
    torch.testing.assert_close(halves.scales * rule.shrink, wholes.scales)
    torch.testing.assert_close(halves.opacities, wholes.opacities)
    reach = (halves.means - wholes.means).norm(dim=-1) / wholes.scales.amax(-1)
    assert 0 < reach.max() < 5
    assert torch.equal(new.anchor[:pieces], children.anchor[replaced].repeat(2))


def test_nobody_asks():
    gaussians, anchors, children = scene()
    replaced, new = split(gaussians, children, anchors, *torch.zeros(2, 40, dtype=torch.bool), SplitRule())
    assert not replaced.any() and len(new) == 0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.05, 3), (0.2, 4), (1.0, 5)])
def test_the_least_shown(share, expected):
    seen = torch.tensor([0.0, 10.0, 1.0, 85.0, 4.0])
    least = least_shown(seen, share)
    assert int(least.sum()) == expected
    assert not least.any() or seen[least].sum() <= share * seen.sum() + 1e-6
