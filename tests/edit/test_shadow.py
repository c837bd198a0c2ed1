"""Shadows painted on a plane by hand: lifted where they are shadows, left where they are a pattern."""

import pytest
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.edit.apply import apply_edits, brightened
from ag2_ns.edit.operations import Brighten
from ag2_ns.edit.patch import Plane
from ag2_ns.edit.shadow import brighten, contact_shadow
from ag2_ns.ops.sh import rgb_to_sh, sh_to_rgb

RADIUS = 0.2


def table_with_ball(shade, seed=0):
    """A square of the plane z = 0 whose colour `shade` gives, and a ball of radius 0.2 that stands in its middle."""
    g = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 81)] * 2)
    floor = torch.cat([grid, torch.zeros(len(grid), 1)], 1)
    ball = torch.nn.functional.normalize(torch.randn(800, 3, generator=g), dim=1) * RADIUS
    ball[:, 2] += RADIUS
    means = torch.cat([floor, ball])
    rgb = torch.cat([shade(grid), torch.tensor([0.8, 0.2, 0.2]).expand(800, 3)])
    n = len(means)
    gaussians = Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(n, 4),
        torch.full((n, 3), 0.01),
        torch.full((n,), 0.9),
        rgb_to_sh(rgb)[:, None],
    )
    on_ball = torch.arange(n) >= len(grid)
    return gaussians, on_ball, Plane(torch.tensor([0.0, 0, 1]), 0.0, ~on_ball)


def cast(grid, depth=0.5, color=(0.6, 0.5, 0.4)):
    """Darkest under the ball, gone at 0.2 from it."""
    away = (grid.norm(dim=1) - RADIUS).clamp_min(0)
    return torch.tensor(color) * (1 - depth * torch.exp(-((away / 0.08) ** 2)))[:, None]


def test_a_shadow_is_lifted():
    gaussians, ball, plane = table_with_ball(cast)
    factor = contact_shadow(gaussians, ball, plane, ball)
    lit = sh_to_rgb(brightened(gaussians, factor).sh[:, 0])[~ball]
    beside = gaussians.means[~ball, :2].norm(dim=1) > 1.15 * RADIUS
    before = (sh_to_rgb(gaussians.sh[:, 0])[~ball] - torch.tensor([0.6, 0.5, 0.4])).abs().amax(1)[beside]
    after = (lit - torch.tensor([0.6, 0.5, 0.4])).abs().amax(1)[beside]
    assert float(before.max()) > 0.2 and float(after.max()) < 0.06
    assert bool((factor[ball] == 1).all())


@pytest.mark.parametrize(
    "shade",
    [
        lambda grid: torch.full((len(grid), 3), 0.5),
        lambda grid: torch.where(((grid * 10).floor().sum(1) % 2 == 0)[:, None], 0.3, 0.7).expand(len(grid), 3),
        lambda grid: torch.where((grid[:, :1] > 0), 0.3, 0.7).expand(len(grid), 3),
    ],
    ids=["plain", "checkered", "two halves"],
)
def test_a_pattern_is_no_shadow(shade):
    gaussians, ball, plane = table_with_ball(shade)
    factor = contact_shadow(gaussians, ball, plane, ball)
    assert factor is None or float(factor.max()) < 1.3


def test_what_is_another_colour_is_no_shadow():
    def mat(grid):
        return torch.where(
            (grid.norm(dim=1) < 0.26)[:, None], torch.tensor([0.1, 0.1, 0.7]), torch.tensor([0.7, 0.6, 0.5])
        )

    gaussians, ball, plane = table_with_ball(mat)
    assert contact_shadow(gaussians, ball, plane, ball) is None


def test_the_edit_brightens_its_members_only():
    gaussians, ball, plane = table_with_ball(cast)
    factor = contact_shadow(gaussians, ball, plane, ball)
    n = len(gaussians)
    edit = brighten(factor, torch.arange(n), torch.zeros(n, dtype=torch.long), n, "ball")
    assert edit.describe() == f"lift shadow of ball: {int((factor > 1).sum())} Gaussians"
    scene = apply_edits(gaussians, torch.zeros(n, dtype=torch.long), [edit])
    wanted = sh_to_rgb(gaussians.sh[:, 0]) * factor[:, None]
    torch.testing.assert_close(sh_to_rgb(scene.gaussians.sh[:, 0]), wanted, atol=2e-3, rtol=0)
    assert brighten(torch.ones(n), torch.arange(n), torch.zeros(n, dtype=torch.long), n) is None
    with pytest.raises(ValueError, match="one factor per member"):
        Brighten(edit.members, b"12")
