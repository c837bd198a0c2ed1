"""Removal on a table-top splat with known owners: what must go goes, what must stay stays."""

import pytest
import surrogate
import torch
from scipy.spatial import Delaunay

from ag2_ns.core.errors import UserError
from ag2_ns.edit import steps
from ag2_ns.edit.apply import apply_edits
from ag2_ns.edit.cleanup import find_residue, object_votes, revealed, spread_views
from ag2_ns.edit.operations import Delete, Isolate, Patch, Recolour, Transform
from ag2_ns.edit.patch import find_hole, support_plane
from ag2_ns.ops.sh import sh_to_rgb
from ag2_ns.rendering import render


@pytest.fixture(scope="module")
def scene():
    return surrogate.make(objects=3, views=8, width=144, height=108, spacing=0.025)


@pytest.fixture(scope="module")
def selection(scene):
    return scene.index.selection([scene.node(2)], "ball", 1.0)


@pytest.fixture(scope="module")
def around(scene):
    node = scene.index.gaussian_node(0.5)
    return steps.Surroundings(scene.graph, node, scene.toy.views, scene.rasterizer)


def residue(scene, selected, instance=None):
    node = scene.index.gaussian_node(0.5) if instance is None else instance
    return find_residue(
        scene.gaussians, scene.index.gaussian_anchor, scene.graph, node, selected, scene.toy.views, scene.rasterizer
    )


def picked(mask, share, seed=0):
    """A random part of a mask."""
    return mask & (torch.rand(len(mask), generator=torch.Generator().manual_seed(seed)) < share)


def test_what_a_selection_missed_goes_along(scene):
    own = scene.owner == 2
    missed = picked(own, 0.1)
    instance = torch.where(own, 7, -1)
    instance[missed] = -1
    out = residue(scene, own & ~missed, instance)
    votes = object_votes(scene.gaussians, own, scene.toy.views, scene.rasterizer)
    drawn = missed & (votes.total > 1) & (votes.share > 0.75)  # not the ones that only blur its border
    assert int(drawn.sum()) > 20
    assert float(out.residue[drawn].float().mean()) > 0.9
    wrong = out.residue & ~own
    assert int(wrong.sum()) <= 0.02 * int(own.sum())
    assert not bool((out.residue & own & ~missed).any())


def test_unseen_insides_go_along(scene):
    own = scene.owner == 2
    votes = object_votes(scene.gaussians, own, scene.toy.views, scene.rasterizer)
    inside = own & scene.extra & (votes.total < 0.5)
    points = scene.gaussians.means[own & ~inside].numpy()
    core = Delaunay(points.mean(0) + 0.6 * (points - points.mean(0)))
    deep = inside & torch.from_numpy(core.find_simplex(scene.gaussians.means.numpy()) >= 0)
    instance = torch.where(own & ~inside, 7, -1)
    out = residue(scene, own & ~inside, instance)
    assert int(deep.sum()) >= 3 and bool(out.residue[deep].all())


def test_the_support_is_spared(scene):
    own, table = scene.owner == 2, scene.owner == surrogate.toy_scene.TABLE
    middle = scene.gaussians.means[own].mean(0)
    near = (scene.gaussians.means - middle).norm(dim=1) < 0.6
    eaten = picked(table & near, 0.1)
    out = residue(scene, own | eaten)
    votes = object_votes(scene.gaussians, own, scene.toy.views, scene.rasterizer)
    seen = eaten & (votes.total > 1) & (votes.share < 0.1)
    assert int(seen.sum()) > 20
    assert float(out.spared[seen].float().mean()) > 0.6
    assert float((out.spared & own).float().sum()) < 0.02 * int(own.sum())


def test_other_objects_are_left_alone(scene, selection):
    out = residue(scene, selection.gaussian_mask)
    for other in (3, 4):
        assert int((out.residue & (scene.owner == other)).sum()) <= 2


def test_nothing_selected_nothing_found(scene):
    out = residue(scene, torch.zeros(len(scene.gaussians), dtype=torch.bool))
    assert not bool(out.residue.any() | out.spared.any()) and out.votes is None


def test_views_are_spread():
    assert spread_views(range(5), 64) == [0, 1, 2, 3, 4]
    many = spread_views(range(1000), 10)
    assert len(many) == 10 and many[0] == 0 and many[-1] == 999


def test_the_table_is_found_and_the_hole_under_the_object(scene, selection):
    out = residue(scene, selection.gaussian_mask)
    removed = out.removed(selection.gaussian_mask)
    arguments = (scene.gaussians, scene.index.gaussian_anchor, scene.graph, removed, out.votes)
    plane = support_plane(*arguments)
    assert float(plane.normal[2]) > 0.99 and abs(plane.offset) < 0.02
    assert float((scene.owner[plane.support] == surrogate.toy_scene.TABLE).float().mean()) > 0.95
    own = selection.gaussian_mask
    seen = (out.votes, scene.toy.views, scene.rasterizer)
    hole = find_hole(scene.gaussians, plane, removed, own, *seen)
    everything = find_hole(scene.gaussians, plane, removed, own | plane.support, *seen)
    assert not own[hole.support].any() and len(everything.support) == len(hole.support)
    claimed = own | (plane.support & (torch.arange(len(own)) % 2 == 0))
    assert not claimed[find_hole(scene.gaussians, plane, removed, claimed, *seen).support].any()
    middle = scene.gaussians.means[scene.owner == 2].mean(0)
    assert float((hole.centre[:, 2]).abs().max()) < 0.03
    radius = float((scene.gaussians.means[scene.owner == 2] - middle)[:, :2].norm(dim=1).max())
    assert float((hole.centre - middle)[:, :2].norm(dim=1).max()) < 1.5 * radius
    table = torch.tensor([0.75, 0.65, 0.5])
    assert float((hole.rgb - table).abs().mean()) < 0.08


def test_no_plane_no_patch(scene, selection):
    """An object in the air has no support."""
    g = scene.gaussians
    lifted = g.means.clone()
    own = scene.owner == 2
    lifted[own, 2] += 1.0
    raised = type(g)(lifted, g.quats, g.scales, g.opacities, g.sh)
    votes = object_votes(raised, own, scene.toy.views, scene.rasterizer)
    assert support_plane(raised, scene.index.gaussian_anchor, scene.graph, own, votes) is None


def test_removal_changes_the_object_and_nothing_else(scene, selection, around):
    trained = apply_edits(scene.gaussians, scene.index.gaussian_anchor, [])
    step = steps.delete(trained, selection, around)
    assert [type(e) for e in step] == [Delete, Patch]
    after = apply_edits(scene.gaussians, scene.index.gaussian_anchor, step).gaussians
    before = scene.renders(scene.gaussians)
    ideal = scene.iou(before, scene.gaussians[scene.owner != 2], 2, 0.1)
    assert scene.iou(before, after, 2, 0.1) > ideal - 0.03
    # gone from every view: where it was there is table, not object, nor a hole.
    colour = sh_to_rgb(scene.gaussians.sh[(scene.owner == 2) & ~scene.extra, 0].mean(0))
    table = torch.tensor([0.75, 0.65, 0.5])
    for view, ids in zip(scene.toy.views, scene.toy.ids):
        origin, direction = surrogate.toy_scene.rays(view)
        lands = origin + direction * (-origin[2] / direction[..., 2:])
        on_table = (abs(lands[..., :2]) < 1.4).all(-1)  # others show the background beyond its edge
        mask = torch.from_numpy(surrogate.ndimage.binary_erosion(ids == 2, iterations=3) & on_table)
        if int(mask.sum()) < 20:
            continue
        out = render(after, view, scene.rasterizer)
        assert float(out.alpha[mask].mean()) > 0.85
        shown = out.rgb[mask]
        closer = (shown - table).norm(dim=1) < (shown - colour).norm(dim=1)
        assert float(closer.float().mean()) > 0.85


def test_hidden_gaussians_are_those_behind_the_object_only(scene):
    own = scene.owner == 2
    votes = object_votes(scene.gaussians, own, scene.toy.views, scene.rasterizer)
    hidden = revealed(scene.gaussians, own, votes, scene.toy.views, scene.rasterizer)
    assert bool(hidden.any()) and not bool((hidden & own).any())
    g = scene.gaussians
    sh = g.sh.clone()
    sh[hidden, 0] = 5.0
    painted = type(g)(g.means, g.quats, g.scales, g.opacities, sh)
    changes = {"with": [], "without": []}
    for view in scene.toy.views:
        for name, keep in (("with", own | ~own), ("without", ~own)):
            a, b = (render(x[keep], view, scene.rasterizer).rgb for x in (g, painted))
            changes[name].append(float((a - b).abs().sum()))
    assert sum(changes["with"]) < 0.25 * sum(changes["without"])


def test_steps_of_every_kind(scene, selection, around):
    trained = apply_edits(scene.gaussians, scene.index.gaussian_anchor, [])
    plain = steps.delete(trained, selection, None)
    assert [type(e) for e in plain] == [Delete] and plain[0].residue is None
    alone = steps.isolate(trained, selection, around)
    assert [type(e) for e in alone] == [Isolate]
    moved = steps.transform(trained, selection, around, translation=(0.0, 0.0, 0.5))
    assert [type(e) for e in moved] == [Transform, Patch] and moved[0].copy == 0
    result = apply_edits(scene.gaussians, scene.index.gaussian_anchor, moved)
    up = result.selected(selection) & (result.copy == 0)
    first = result.source < len(scene.gaussians)
    rise = result.gaussians.means[up & first][:, 2].mean() - scene.gaussians.means[selection.gaussian_mask][:, 2].mean()
    assert float(rise) == pytest.approx(0.5, abs=0.02)
    twin = steps.duplicate(result, selection, translation=(1.0, 0.0, 0.0))
    assert twin[0].describe().startswith("duplicate ball")
    (red,) = steps.recolour(trained, selection, (1.0, 0.0, 0.0), 0.5)
    assert isinstance(red, Recolour) and red.members.size == int(selection.gaussian_mask.sum())


def test_edits_of_nothing_are_refused(scene, selection, around):
    trained = apply_edits(scene.gaussians, scene.index.gaussian_anchor, [])
    nothing = scene.index.nothing("unicorn", "no such thing")
    with pytest.raises(UserError, match=r"unicorn: nothing is selected \(no such thing\)"):
        steps.delete(trained, nothing, None)
    gone = apply_edits(scene.gaussians, scene.index.gaussian_anchor, steps.delete(trained, selection, None))
    with pytest.raises(UserError, match="ball: it is not there"):
        steps.transform(gone, selection, None, copy=None)
    with pytest.raises(UserError, match="copy 3 of it is not there"):
        steps.recolour(trained, selection, (1, 0, 0), copy=3)


def test_votes_that_follow_others_are_those_taken_anew(scene, monkeypatch):
    first, lifts = scene.owner == 2, []
    second = first & ~picked(first, 0.3)
    before, anew = (object_votes(scene.gaussians, s, scene.toy.views, scene.rasterizer) for s in (first, second))
    lift = scene.rasterizer.lift
    monkeypatch.setattr(scene.rasterizer, "lift", lambda *given: lifts.append(1) or lift(*given))
    same, following = (
        object_votes(scene.gaussians, s, scene.toy.views, scene.rasterizer, before=before) for s in (first, second)
    )
    assert torch.equal(same.inside, before.inside) and len(lifts) <= len(scene.toy.views), "none where none changed"
    torch.testing.assert_close(following.inside, anew.inside, atol=1e-2, rtol=1e-4)
    assert torch.equal(following.total, anew.total) and not torch.equal(before.inside, anew.inside)
