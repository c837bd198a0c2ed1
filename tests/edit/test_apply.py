import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import LUMINANCE, apply_edits, centre_of, to_trainable
from ag2_ns.edit.operations import (
    Delete,
    Duplicate,
    Isolate,
    Members,
    Patch,
    Recolour,
    Transform,
    axis_angle,
)
from ag2_ns.ops.sh import C0

FLAT = {"wxyz": (1.0, 0.0, 0.0, 0.0), "scales": (0.5, 0.5, 0.25), "opacity": 0.75}
FIELDS = ("means", "quats", "scales", "opacities", "sh")


def scene_of(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((count, 3), (count, 4), (count, 3), (count,), (count, 16, 3))
    return Gaussians(*(torch.rand(s, generator=g) + 0.1 for s in shapes))


def some(*rows, count=40):
    mask = torch.zeros(count, dtype=torch.bool)
    mask[list(rows)] = True
    return mask


def members(*rows):
    return Members.of(some(*rows))


def equal(a, b):
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


@given(st.lists(st.booleans(), max_size=70))
def test_members_pack_and_unpack(bits):
    mask = torch.tensor(bits, dtype=torch.bool)
    packed = Members.of(mask)
    assert torch.equal(packed.mask(), mask)
    assert packed.size == int(mask.sum())
    assert packed == Members.of(mask.clone())


def test_nothing_to_do_changes_nothing(gaussians, anchor):
    scene = apply_edits(gaussians, anchor, [])
    assert equal(scene.gaussians, gaussians)
    assert torch.equal(scene.source, torch.arange(40)) and torch.equal(scene.anchor, anchor)


def test_delete_removes_members_and_residue_and_spares_the_support(gaussians, anchor):
    edit = Delete(members(1, 2, 3), residue=members(10), spared=members(2))
    scene = apply_edits(gaussians, anchor, [edit])
    kept = [i for i in range(40) if i not in (1, 3, 10)]
    assert scene.source.tolist() == kept
    assert equal(scene.gaussians, gaussians[torch.tensor(kept)])
    assert torch.equal(scene.anchor, anchor[kept])


def test_isolate_keeps_members_only(gaussians, anchor):
    scene = apply_edits(gaussians, anchor, [Isolate(members(5, 6, 7), spared=members(6))])
    assert scene.source.tolist() == [5, 7]


def test_transform_moves_members_only(gaussians, anchor):
    edit = Transform(members(0, 4), pivot=(1, 0, 0), wxyz=axis_angle((0, 0, 1), 90), scale=2, translation=(0, 0, 5))
    scene = apply_edits(gaussians, anchor, [edit]).gaussians
    x, y, z = gaussians.means[4].tolist()
    expected = torch.tensor([1 - 2 * y, 2 * (x - 1), 2 * z + 5])
    torch.testing.assert_close(scene.means[4], expected)
    torch.testing.assert_close(scene.scales[4], 2 * gaussians.scales[4])
    others = ~some(0, 4)
    assert equal(scene[others], gaussians[others])


def test_four_quarter_turns_are_no_turn(gaussians, anchor):
    turn = Transform(members(*range(20)), pivot=(0.3, 0, 1), wxyz=axis_angle((1, 2, 0), 90))
    out = apply_edits(gaussians, anchor, [turn] * 4).gaussians
    torch.testing.assert_close(out.means, gaussians.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.sh, gaussians.sh, atol=1e-5, rtol=0)
    # a full turn of a quaternion is its negative: the same rotation
    torch.testing.assert_close(out.quats[:20], -gaussians.quats[:20], atol=1e-5, rtol=0)


def test_order_matters(gaussians, anchor):
    move = Transform(members(0), translation=(1, 0, 0))
    turn = Transform(members(0), wxyz=axis_angle((0, 0, 1), 90))
    a, b = (apply_edits(gaussians, anchor, order).gaussians.means[0] for order in ([move, turn], [turn, move]))
    x, y, z = gaussians.means[0].tolist()
    torch.testing.assert_close(a, torch.tensor([-y, x + 1, z]))
    torch.testing.assert_close(b, torch.tensor([-y + 1, x, z]))


def test_duplicates_follow_their_source_and_are_instances_of_their_own(gaussians, anchor):
    copy = Duplicate(members(3, 8), translation=(10, 0, 0))
    node = torch.full((40,), -1)
    node[3], node[8], node[9] = 2, 5, 5
    scene = apply_edits(gaussians, anchor, [copy, copy])
    assert scene.source.tolist() == [*range(40), 3, 8, 3, 8, 3, 8]  # the second copies originals and first copies
    one = apply_edits(gaussians, anchor, [copy, Duplicate(members(3, 8), copy=0, translation=(20, 0, 0))])
    assert one.source[40:].tolist() == [3, 8, 3, 8] and one.copy[40:].tolist() == [1, 1, 2, 2]
    torch.testing.assert_close(one.gaussians.means[42], gaussians.means[3] + torch.tensor([20.0, 0, 0]))
    assert torch.equal(one.anchor, anchor[one.source])
    instance, origin = one.instances(node)
    assert instance[:40].tolist() == node.tolist()
    assert instance[40:].tolist() == [8, 11, 14, 17]
    assert [origin[int(i)] for i in instance[40:]] == [2, 5, 2, 5]
    assert torch.equal(one.follow(node), node[one.source])


def test_edits_address_one_copy_or_all(gaussians, anchor):
    copy = Duplicate(members(3), translation=(10, 0, 0))
    assert 3 not in apply_edits(gaussians, anchor, [copy, Delete(members(3))]).source.tolist()
    kept = apply_edits(gaussians, anchor, [copy, Delete(members(3), copy=0)])
    assert kept.source.tolist().count(3) == 1 and kept.copy.max() == 1
    kept = apply_edits(gaussians, anchor, [copy, Delete(members(3), copy=1)])
    assert kept.source.tolist() == list(range(40))


def test_selection_and_masks_map_both_ways(gaussians, anchor):
    scene = apply_edits(gaussians, anchor, [Duplicate(members(3)), Delete(members(0))])
    selection = Selection(torch.zeros(10), torch.zeros(10, dtype=torch.bool), some(0, 3), "x", 1.0)
    chosen = scene.selected(selection)
    assert scene.source[chosen].tolist() == [3, 3]
    assert scene.trained(chosen, 40).nonzero().tolist() == [[3]]


def test_recolour_takes_the_hue_and_keeps_light_and_shadow():
    shade = torch.linspace(0.2, 0.8, 30)
    red = shade[:, None] * torch.tensor([1.0, 0.2, 0.2])
    sh = torch.zeros(30, 4, 3)
    sh[:, 0] = (red - 0.5) / C0
    sh[:, 1, 0] = 0.3
    g = Gaussians(torch.zeros(30, 3), torch.ones(30, 4), torch.ones(30, 3), torch.ones(30), sh)
    anchors = torch.zeros(30, dtype=torch.long)
    all_of = Members.of(torch.ones(30, dtype=torch.bool))
    blue = apply_edits(g, anchors, [Recolour(all_of, rgb=(0.1, 0.2, 0.9))]).gaussians
    colour = C0 * blue.sh[:, 0] + 0.5
    assert (colour[:, 2] > colour[:, 0]).all()
    luminance = colour @ torch.tensor(LUMINANCE)
    assert (luminance[1:] > luminance[:-1]).all()  # darker stays darker
    assert torch.allclose(blue.sh[:, 1, 0], blue.sh[:, 1, 2])  # view dependence lost its hue
    half = apply_edits(g, anchors, [Recolour(all_of, rgb=(0.1, 0.2, 0.9), strength=0.5)]).gaussians
    torch.testing.assert_close(half.sh, (g.sh + blue.sh) / 2)
    same = apply_edits(g, anchors, [Recolour(all_of, rgb=(0, 1, 0), strength=0)]).gaussians
    torch.testing.assert_close(same.sh, g.sh)


def test_patch_adds_copies_that_follow_their_support(gaussians, anchor):
    patch = Patch.of(
        torch.tensor([7, 7, 9]), torch.tensor([[0.0, 0, 1], [0, 0, 2], [0, 0, 3]]), torch.ones(3, 3), 40, **FLAT
    )
    scene = apply_edits(gaussians, anchor, [Delete(members(1)), patch])
    assert scene.source[-3:].tolist() == [7, 7, 9] and scene.copy[-3:].tolist() == [0, 0, 0]
    assert scene.gaussians.means[-3:, 2].tolist() == [1, 2, 3]
    torch.testing.assert_close(C0 * scene.gaussians.sh[-3:, 0] + 0.5, torch.ones(3, 3))
    assert scene.gaussians.scales[-1].tolist() == [0.5, 0.5, 0.25] and float(scene.gaussians.opacities[-1]) == 0.75
    lifted = apply_edits(gaussians, anchor, [patch, Transform(members(7), translation=(0, 0, 10))])
    assert lifted.gaussians.means[-3:, 2].tolist() == [11, 12, 3]
    gone = apply_edits(gaussians, anchor, [patch, Delete(members(7))])
    assert 7 not in gone.source.tolist() and gone.source.tolist()[-1] == 9
    late = apply_edits(gaussians, anchor, [Delete(members(7)), patch])
    assert late.source.tolist()[-1] == 9 and len(late) == 40


def test_patch_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="one centre"):
        Patch.of(torch.tensor([1]), torch.zeros(2, 3), torch.zeros(2, 3), 40, **FLAT)
    patch = Patch.of(torch.tensor([1]), torch.zeros(1, 3), torch.zeros(1, 3), 40, **FLAT)
    with pytest.raises(ValueError, match="does not have"):
        Patch(Members.none(1), patch.source, patch.centre, patch.rgb)


@given(st.lists(st.sampled_from(["delete", "isolate", "move", "copy", "colour"]), max_size=5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_every_gaussian_belongs_to_its_source(kinds, seed):
    gaussians, anchor = scene_of(40), torch.arange(40) // 4
    g = torch.Generator().manual_seed(seed)
    make = {
        "delete": Delete,
        "isolate": Isolate,
        "move": lambda m: Transform(m, translation=(1, 2, 3)),
        "copy": lambda m: Duplicate(m, scale=0.5),
        "colour": lambda m: Recolour(m, rgb=(0, 1, 0)),
    }
    edits = [make[k](Members.of(torch.rand(40, generator=g) < 0.6)) for k in kinds]
    scene = apply_edits(gaussians, anchor, edits)
    assert len({len(scene), len(scene.gaussians), len(scene.copy), len(scene.anchor)}) == 1
    assert torch.equal(scene.anchor, anchor[scene.source])
    torch.testing.assert_close(scene.gaussians.opacities, gaussians.opacities[scene.source])
    assert bool((scene.copy <= kinds.count("copy")).all())


def test_gradients_flow_to_the_trained_tensors(gaussians, anchor):
    leaf = Gaussians(*(getattr(gaussians, f).clone().requires_grad_() for f in FIELDS))
    edits = [Delete(members(0)), Transform(members(1, 2), wxyz=axis_angle((0, 1, 1), 30)), Duplicate(members(1))]
    out = apply_edits(leaf, anchor, edits).gaussians
    sum(getattr(out, f).sum() for f in FIELDS).backward()
    assert float(leaf.means.grad[0].abs().sum()) == 0
    assert (leaf.means.grad[1].abs() > 0).any()
    assert leaf.opacities.grad[1] == 2  # counted in the copy, too


def test_to_trainable_inverts_the_activations(gaussians):
    t = to_trainable(gaussians)
    torch.testing.assert_close(t["scales"].exp(), gaussians.scales)
    torch.testing.assert_close(t["opacities"].sigmoid()[:, 0], gaussians.opacities)
    assert t["features_dc"].shape == (40, 3) and t["features_rest"].shape == (40, 15, 3)
    assert t["opacities"].shape == (40, 1)
    full = Gaussians(gaussians.means, gaussians.quats, 0 * gaussians.scales, torch.ones(40), gaussians.sh)
    assert all(torch.isfinite(v).all() for v in to_trainable(full).values())


def test_an_edit_for_another_number_of_gaussians_is_refused(gaussians, anchor):
    with pytest.raises(UserError, match="made for 39 Gaussians but the scene has 40"):
        apply_edits(gaussians, anchor, [Delete(Members.none(39))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Transform(members(0), scale=0),
        lambda: Transform(members(0), scale=-1.0),
        lambda: Transform(members(0), wxyz=(0, 0, 0, 0)),
        lambda: Transform(members(0), translation=(math.nan, 0, 0)),
        lambda: Duplicate(members(0), pivot=(math.inf, 0, 0)),
        lambda: Recolour(members(0), rgb=(255, 0, 0)),
        lambda: Recolour(members(0), strength=1.5),
        lambda: axis_angle((0, 0, 0), 90),
        lambda: axis_angle((0, 0, 1), math.inf),
    ],
)
def test_impossible_numbers_are_refused_in_one_line(make):
    with pytest.raises(UserError) as error:
        make()
    assert "\n" not in str(error.value)


def test_descriptions_say_what_is_done():
    turn = Transform(members(0, 1), wxyz=axis_angle((0, 0, 2), 30), scale=2, translation=(1, 0, 0), label="red mug")
    assert turn.describe() == (
        "transform red mug: 2 Gaussians, rotated 30 degrees about (0, 0, 1), scaled by 2, moved by (1, 0, 0)"
    )
    assert Recolour(members(0), rgb=(1, 0, 0.5), strength=0.5).describe().endswith("#ff0080 at 50%")
    assert "2 left over" in Delete(members(0), residue=members(1, 2)).describe()


def test_centre_ignores_floaters():
    grid = torch.linspace(0, 1, 11)
    means = torch.cat([torch.cartesian_prod(grid, grid, grid), torch.tensor([[50.0, 0, 0]])])
    n = len(means)
    g = Gaussians(means, torch.ones(n, 4), torch.ones(n, 3), torch.ones(n), torch.zeros(n, 1, 3))
    assert centre_of(g, torch.ones(n, dtype=torch.bool)) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(UserError, match="nothing is selected"):
        centre_of(g, torch.zeros(n, dtype=torch.bool))
