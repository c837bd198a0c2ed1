from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import toy_scene

from ag2_ns.core.errors import UserError
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.build_field import LanguageFieldConfig, build_language_field, field_config
from ag2_ns.splat.instance_field import InstanceFieldConfig


@pytest.fixture(scope="module")
def toy():
    toy = toy_scene.make(objects=4, views=6, width=64, height=48, spacing=0.07)
    pairs = toy_scene.noisy_masks(toy.ids, 0.0, 0)
    images, text = toy_scene.features([n for _, n in pairs], noise=0.5)
    described = [SimpleNamespace(masks=m, features=f) for (m, _), f in zip(pairs, images)]
    return toy, described, text


QUICK = InstanceFieldConfig(steps=80, lr=5e-2, width=8)


@pytest.mark.parametrize(
    "config",
    [
        LanguageFieldConfig(units="anchor", instance=QUICK),
        LanguageFieldConfig(units="gaussian", instance=QUICK, smoothing="nearest"),
        LanguageFieldConfig(units="gaussian", instance=QUICK, smoothing="none", regression="mlp"),
    ],
)
def test_objects_get_the_language_of_their_masks(toy, config):
    toy, described, text = toy
    anchor = torch.arange(len(toy.gaussians)) // 2  # neighbours in the splat's order
    xyz = toy.gaussians.means[::2]
    edges = torch.stack((torch.arange(len(xyz) - 1), torch.arange(1, len(xyz))))
    done = []
    field = build_language_field(
        toy.gaussians, toy.views, described.__getitem__, CpuRasterizer(), config,
        anchor=anchor, anchor_xyz=xyz, edges=edges, progress=done.append,
    )  # fmt: skip
    assert field.per_gaussian == (config.units == "gaussian") and done[-1] == 80
    assert len(field) == (len(toy.gaussians) if field.per_gaussian else len(xyz))
    assert field.language.dtype == torch.half and field.language.isfinite().all() and 0 < field.spread < 1
    owner = toy.owner if field.per_gaussian else toy.owner[::2]
    named = owner > 0
    # Each unit answers the name of what it was sampled from better than the others'.
    score = field.cosines(text)[:, 1:]
    right = score.argmax(1)[named] == owner[named] - 1
    assert float(right.float().mean()) > 0.7


def test_views_without_features(toy):
    toy, described, _ = toy
    mute = [SimpleNamespace(masks=d.masks, features=None) for d in described]
    config = LanguageFieldConfig(units="gaussian", instance=replace(QUICK, steps=1))
    with pytest.raises(UserError, match="no language features; run `ag2 prepare`"):
        build_language_field(toy.gaussians, toy.views, mute.__getitem__, CpuRasterizer(), config)
    with pytest.raises(ValueError, match="needs the anchor"):
        build_language_field(toy.gaussians, toy.views, mute.__getitem__, CpuRasterizer())


def test_fewer_steps_are_larger_ones():
    assert field_config(30_000).instance.lr == pytest.approx(2.5e-3)
    assert 2.5e-3 < field_config(3000).instance.lr < field_config(300).instance.lr <= 5e-2
