from dataclasses import replace

import pytest
import torch
import toy_scene

from ag2_ns.core.selection import Selection
from ag2_ns.grouping.config import DEFAULTS
from ag2_ns.ops.neighbours import radius_edges
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene import scene_index
from ag2_ns.scene.scene_index import SceneIndex, build_index


@pytest.fixture(scope="module")
def parts():
    """A coarse grouping, so that anchors straddle borders."""
    toy = toy_scene.make(objects=6, views=8, width=96, height=72, spacing=0.03, seed=0)
    masks = [m for m, _ in toy_scene.noisy_masks(toy.ids, 0.5, 0)]
    _, anchor = torch.unique(torch.floor(toy.gaussians.means / 0.08).long(), dim=0, return_inverse=True)
    count = torch.bincount(anchor)
    xyz = torch.zeros(len(count), 3).index_add_(0, anchor, toy.gaussians.means) / count[:, None]
    return toy.gaussians, anchor, xyz, radius_edges(xyz, 0.16, 32), toy.views, masks


WHOLE = replace(DEFAULTS, part_most=0.0)
"""Without parts: those are found by Gaussian only where all their weights fit."""


def same(a: SceneIndex, b: SceneIndex) -> bool:
    one, other = a.to_dict(), b.to_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_gaussians_beyond_memory_are_refined_alike_at_borders(parts, monkeypatch):
    whole = build_index(CpuRasterizer(), *parts, config=WHOLE)
    all_of_them = len(parts[0]) * len(parts[4]) * scene_index.PAIR_BYTES
    monkeypatch.setattr(scene_index, "fits", lambda needed, device: 0 < needed < all_of_them)
    at_borders = build_index(CpuRasterizer(), *parts, config=WHOLE)
    assert not torch.equal(whole.gaussian_anchor, parts[1]) and same(whole, at_borders)


@pytest.mark.parametrize("passes", [2, 5])
def test_gaussians_at_borders_that_do_not_fit_at_once_are_refined_alike_in_passes(parts, monkeypatch, passes):
    whole = build_index(CpuRasterizer(), *parts, config=WHOLE)
    asked, lifted = [], []

    def fits(needed, device):
        asked.append(needed)
        return len(asked) > 1 and needed * (passes - 0.5) < asked[1]

    lift = scene_index.lift_masks
    monkeypatch.setattr(scene_index, "fits", fits)
    monkeypatch.setattr(scene_index, "lift_masks", lambda *a, **k: lifted.append(1) or lift(*a, **k))
    assert same(whole, build_index(CpuRasterizer(), *parts, config=WHOLE))
    assert len(lifted) == passes + 2


def test_where_not_even_borders_fit_it_is_said(parts, monkeypatch):
    monkeypatch.setattr(scene_index, "fits", lambda needed, device: False)
    with pytest.warns(UserWarning, match="anchors are not refined: the weights of .* Gaussians at borders need .* MiB"):
        index = build_index(CpuRasterizer(), *parts)
    assert torch.equal(index.gaussian_anchor, parts[1])


def test_what_is_left_of_a_selection_claims_only_whole_nodes(parts):
    index = build_index(CpuRasterizer(), *parts)
    tree = index.tree
    objects = tree.instances(0.5).tolist()[:2]
    both = index.selection(objects, "both", 1.0)
    one = index.selection(objects[:1], "one", 1.0)
    assert index.without(both, one).nodes == (objects[1],)
    few = torch.zeros_like(one.anchor_mask)
    few[one.anchor_mask.nonzero()[0]] = True
    part = Selection(few.float(), few, few[index.gaussian_anchor], "part", 1.0)
    assert index.without(one, part).nodes == ()
    assert index.without(both, part).nodes == (objects[1],)
    nothing = index.nothing("no", "none")
    assert index.without(both, nothing).nodes == both.nodes
