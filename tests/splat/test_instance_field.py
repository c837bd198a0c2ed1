from __future__ import annotations

import pytest
import torch
import toy_scene

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.splat.instance_field import InstanceFieldConfig, render_features, train_instance_field


@pytest.fixture(scope="module")
def toy():
    return toy_scene.make(objects=4, views=6, width=64, height=48, spacing=0.06)


def masks_of(toy) -> list[MaskSet]:
    return [m for m, _ in toy_scene.noisy_masks(toy.ids, 0.0, 0)]


def separation(toy, field) -> tuple[float, float]:
    """Median distance of a pixel's feature to its object's mean, and the smallest distance of two objects."""
    picture = render_features(toy.gaussians, field, toy.views[0], CpuRasterizer()).reshape(-1, field.shape[1])
    ids = torch.from_numpy(toy.ids[0]).flatten()
    mean, apart = [], []
    for number in ids[ids > 0].unique():
        inside = picture[ids == number]
        mean.append(inside.mean(0))
        apart.append((inside - mean[-1]).norm(dim=1))
    return float(torch.cat(apart).median()), float(torch.pdist(torch.stack(mean)).min())


def test_objects_come_apart(toy):
    masks = masks_of(toy)
    config = InstanceFieldConfig(steps=60, lr=5e-2)
    done = []
    field = train_instance_field(
        toy.gaussians, toy.views, masks.__getitem__, CpuRasterizer(), config, progress=done.append
    )
    assert field.shape == (len(toy.gaussians), 16) and done[-1] == 60
    torch.testing.assert_close(field.norm(dim=1), torch.ones(len(field)))
    tight, apart = separation(toy, field)
    start = torch.nn.functional.normalize(torch.rand(len(field), 16, generator=torch.Generator().manual_seed(0)) - 0.5)
    loose, together = separation(toy, start)
    assert tight < 0.6 * loose and apart > 2 * together
    assert tight < 0.4 * apart


def test_repeatable_and_on_units(toy):
    masks = masks_of(toy)
    unit = toy.owner.clamp_min(0)
    config = InstanceFieldConfig(steps=5, width=4)
    train = lambda c: train_instance_field(toy.gaussians, toy.views, masks.__getitem__, CpuRasterizer(), c, unit=unit)  # noqa: E731
    a = train(config)
    assert a.shape == (int(unit.max()) + 1, 4)
    assert torch.equal(a, train(config))
    assert not torch.equal(a, train(InstanceFieldConfig(steps=5, width=4, seed=1)))


def test_rendered_features_are_composited_over_nothing(toy):
    field = torch.ones(len(toy.gaussians), 2)
    picture = render_features(toy.gaussians, field, toy.views[0], CpuRasterizer())
    assert picture.shape == (48, 64, 2) and float(picture.max()) <= 1 + 1e-5 and float(picture.min()) >= 0


def test_bad_input(toy):
    small = MaskSet.from_dense(torch.ones(1, 4, 5, dtype=torch.bool))
    with pytest.raises(UserError, match="masks are 5x4 but its image is 64x48"):
        train_instance_field(toy.gaussians, toy.views, lambda i: small, CpuRasterizer(), InstanceFieldConfig(steps=1))
    with pytest.raises(UserError, match="at least one view"):
        train_instance_field(toy.gaussians, [], lambda i: small, CpuRasterizer())
