from __future__ import annotations

import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.language.pairs import instance_pairs, mask_means


def view(seed: int, m: int = 3, h: int = 6, w: int = 8, d: int = 5):
    g = torch.Generator().manual_seed(seed)
    picture = torch.nn.functional.normalize(torch.randn(h, w, 4, generator=g), dim=-1)
    masks = MaskSet.from_dense(torch.rand(m, h, w, generator=g) < 0.4)
    return picture, masks, torch.randn(m, d, generator=g)


def test_means_and_median_as_defined():
    views = [view(0), view(1, m=4), view(2, h=3)]
    pairs = instance_pairs(views)
    means, distances = [], []
    for picture, masks, _ in views:
        for mask in masks.dense():
            inside = picture[mask]
            means.append(inside.mean(0))
            distances.append((inside - inside.mean(0)).norm(dim=1))
    torch.testing.assert_close(pairs.instance, torch.stack(means))
    assert pairs.spread == pytest.approx(float(torch.cat(distances).median()), abs=1e-4)
    language = torch.nn.functional.normalize(torch.cat([f for _, _, f in views]), dim=1)
    torch.testing.assert_close(pairs.language, language)


def test_masks_without_pixels_or_feature_are_left_out():
    picture, masks, feature = view(3)
    dense = masks.dense()
    dense[0] = False
    feature[1] = float("nan")
    pairs = instance_pairs([(picture, MaskSet.from_dense(dense), feature)])
    assert len(pairs.instance) == 1
    torch.testing.assert_close(pairs.instance[0], picture[dense[2]].mean(0))


def test_views_without_masks_do_not_matter():
    empty = (torch.zeros(6, 8, 4), MaskSet.from_dense(torch.zeros(0, 6, 8, dtype=torch.bool)), torch.zeros(0, 5))
    a, b = instance_pairs([view(0), empty]), instance_pairs([view(0)])
    assert torch.equal(a.instance, b.instance) and a.spread == b.spread


def test_mask_means_of_an_empty_mask_are_zero():
    masks = MaskSet.from_dense(torch.zeros(2, 3, 3, dtype=torch.bool))
    mean, distance = mask_means(torch.ones(9, 4), masks)
    assert (mean == 0).all() and len(distance) == 0


def test_bad_input():
    picture, masks, feature = view(0)
    with pytest.raises(UserError, match="2 features for 3 masks"):
        instance_pairs([(picture, masks, feature[:2])])
    with pytest.raises(UserError, match="differ in width"):
        instance_pairs([view(0), view(1, d=6)])
    with pytest.raises(UserError, match="no mask has a language feature"):
        instance_pairs([(picture, masks, feature * 0)])
