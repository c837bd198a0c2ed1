import itertools

import numpy as np
import pytest
import torch
from toy_scene import rays

from ag2_ns.core.errors import UserError
from ag2_ns.query.click import answer_click, answer_ray
from ag2_ns.query.pixel_weights import PATCH, pixel_view, ray_view
from ag2_ns.rendering.cpu import CpuRasterizer

RASTERIZER = CpuRasterizer()


def click(*place, **options):
    return answer_click(*place, **options).selection


def ray(*line):
    return answer_ray(*line).selection


def inner_pixels(ids, name, count, rng):
    """Pixels of `name` that are not at its outline."""
    from scipy.ndimage import binary_erosion

    y, x = np.nonzero(binary_erosion(ids == name, iterations=2))
    chosen = rng.choice(len(x), min(count, len(x)), replace=False) if len(x) else []
    return [(int(x[i]), int(y[i])) for i in chosen]


def test_clicks_select_what_they_show(scene):
    rng = np.random.default_rng(0)
    right = []
    for view, ids in list(zip(scene.toy.views, scene.toy.ids))[::3]:
        for name in range(1, 8):
            for x, y in inner_pixels(ids, name, 2, rng):
                chosen = click(scene.index, scene.toy.gaussians, RASTERIZER, view, x, y)
                right.append(chosen.nodes == (scene.nodes[name],))
                assert chosen.level == 0.5 and 0 < chosen.score <= 1 + 1e-6
    assert len(right) > 25 and np.mean(right) > 0.95


def test_rays_do_as_pixels_do(scene):
    view, ids = scene.toy.views[0], scene.toy.ids[0]
    origin, direction = rays(view)
    for name in (1, 2, 4):
        for x, y in inner_pixels(ids, name, 2, np.random.default_rng(1)):
            o, d = torch.tensor(origin).float(), torch.tensor(direction[y, x]).float()
            by_ray = ray(scene.index, scene.toy.gaussians, RASTERIZER, o, 3 * d)
            assert by_ray.nodes == click(scene.index, scene.toy.gaussians, RASTERIZER, view, x, y).nodes


@pytest.mark.parametrize(("small_share", "small_wins"), [(0.46, True), (0.52, True), (0.4, False)])
def test_of_two_that_share_a_pixel_about_evenly_the_smaller_is_meant(scene, monkeypatch, small_share, small_wins):
    index = scene.index
    roots = index.tree.instances(0.5)
    order = index.tree.support[roots].argsort()
    small, large = (int(roots[k]) for k in (order[0], order[-1]))
    weight = torch.zeros(index.num_anchors, 1)
    for node, share in ((small, small_share), (large, 1 - small_share)):
        weight[int((index.tree.cut(0.5) == node).nonzero()[0])] = share * PATCH**2
    monkeypatch.setattr("ag2_ns.query.click.anchor_weights", lambda *_: weight)
    found = click(index, scene.toy.gaussians, RASTERIZER, scene.toy.views[0], 5, 5)
    assert found.nodes == ((small if small_wins else large),)
    assert found.score == pytest.approx(small_share if small_wins else 1 - small_share)


def test_levels_nest(scene):
    view, ids = scene.toy.views[3], scene.toy.ids[3]
    ((x, y),) = inner_pixels(ids, 4, 1, np.random.default_rng(2))
    clicks = [click(scene.index, scene.toy.gaussians, RASTERIZER, view, x, y, level) for level in (0.1, 0.5, 1)]
    for small, large in itertools.pairwise(clicks):
        assert not bool((small.anchor_mask & ~large.anchor_mask).any())


def test_further_clicks_add_and_remove(scene):
    view, ids = scene.toy.views[0], scene.toy.ids[0]
    rng = np.random.default_rng(3)
    first, second = (
        click(scene.index, scene.toy.gaussians, RASTERIZER, view, *inner_pixels(ids, k, 1, rng)[0]) for k in (2, 4)
    )
    both = first.union(second)
    assert both.gaussian_mask.sum() == first.gaussian_mask.sum() + second.gaussian_mask.sum()
    assert torch.equal(both.without(second).anchor_mask, first.anchor_mask)


def test_background_is_empty_and_says_so(scene):
    view, ids = scene.toy.views[0], scene.toy.ids[0]
    x, y = inner_pixels(ids, 0, 1, np.random.default_rng(4))[0]
    nothing = click(scene.index, scene.toy.gaussians, RASTERIZER, view, x, y)
    assert nothing.empty and nothing.score == 0 and "background" in nothing.reason


def test_bad_clicks(scene):
    view = scene.toy.views[0]
    with pytest.raises(UserError, match=r"click \(500, 2\): outside"):
        click(scene.index, scene.toy.gaussians, RASTERIZER, view, 500, 2)
    with pytest.raises(UserError, match="level 3"):
        click(scene.index, scene.toy.gaussians, RASTERIZER, view, 5, 2, level=3)
    with pytest.raises(UserError, match="not zero"):
        ray(scene.index, scene.toy.gaussians, RASTERIZER, torch.zeros(3), torch.zeros(3))
    with pytest.raises(UserError, match="finite"):
        ray(scene.index, scene.toy.gaussians, RASTERIZER, torch.zeros(3), torch.tensor([0, 0, float("nan")]))


def test_patch_shows_the_pixel(scene):
    view = scene.toy.views[2]
    g = scene.toy.gaussians
    values = g.means.clone()
    full = RASTERIZER.rasterize(g.means, g.quats, g.scales, g.opacities, values, view).values
    patch = RASTERIZER.rasterize(g.means, g.quats, g.scales, g.opacities, values, pixel_view(view, 60, 50)).values
    half = PATCH // 2
    assert torch.allclose(patch, full[50 - half : 51 + half, 60 - half : 61 + half], atol=2e-3)


def test_ray_view_looks_along_the_ray():
    for direction in ([0, 0, 1.0], [0, 0, -2.0], [1, 2, 3.0], [-1, 0, 0.0]):
        d = torch.tensor(direction)
        view = ray_view(torch.tensor([1.0, 2, 3]), d)
        ahead = view.viewmat @ torch.cat([torch.tensor([1.0, 2, 3]) + d, torch.ones(1)])
        assert torch.allclose(ahead[:3], torch.tensor([0, 0, float(d.norm())]), atol=1e-5)
        rotation = view.viewmat[:3, :3]
        assert torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-6) and torch.det(rotation) > 0.99
