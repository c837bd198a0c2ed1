import math

import pytest
import torch
from blob_run import PLATE, ball_anchors
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.query.text import Text
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.rendering.orbit import look_at, orbit
from ag2_ns.session.outputs import NO_INSTANCE, Looks, feature_looks, hues, scene_outputs
from ag2_ns.session.state import Question, State, Timeline

BLACK = torch.zeros(3)


def scene():
    xyz, leaf, rgb = ball_anchors(torch.Generator().manual_seed(1))
    flat = torch.where((leaf == PLATE)[:, None], torch.tensor([0.055, 0.055, 0.01]), torch.full((3,), 0.028))
    sh = ((rgb - 0.5) / 0.28209479177387814)[:, None]
    return Gaussians(
        xyz, torch.tensor([1.0, 0, 0, 0]).expand(len(xyz), 4), flat, torch.full((len(xyz),), 0.98), sh
    ), leaf


def ring(count=8, radius=1.2, height=0.7, arc=2 * math.pi):
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    up = torch.tensor([0.0, 0, 1])
    turns = [arc * k / count for k in range(count)]
    eyes = [torch.tensor([radius * math.cos(a), radius * math.sin(a), height]) for a in turns]
    return [look_at(e, torch.zeros(3), up, K, (64, 48)) for e in eyes]


def test_a_hidden_selection_does_not_shine_through():
    g, leaf = scene()
    looks = Looks(torch.zeros(len(g), 3), selected=leaf == PLATE)
    above = look_at(
        torch.tensor([0.35, 0.01, 2.0]),
        torch.tensor([0.35, 0.0, 0.0]),
        torch.tensor([0.0, 0, 1]),
        ring()[0].K,
        (64, 48),
    )
    out = scene_outputs(g, looks, above, CpuRasterizer(), BLACK)
    assert out["selection"][24, 32, 0] < 0.05  # the red ball is in front
    assert out["selection"][24, 45, 0] > 0.8


def test_instances_have_their_own_flat_colours():
    g, leaf = scene()
    colors = hues(leaf)
    out = scene_outputs(g, Looks(torch.zeros(len(g), 3), instance=colors), ring()[0], CpuRasterizer(), BLACK)
    solid = out["accumulation"][..., 0] > 0.99
    distance = torch.cdist(out["instance"][solid], hues(torch.unique(leaf)))
    assert (distance.amin(1) < 0.1).float().mean() > 0.6


def test_one_pass_gives_everything():
    g, leaf = scene()
    calls = []

    class Counting(CpuRasterizer):
        def rasterize(self, *args, **kwargs):
            calls.append(args[4].shape[1])
            return super().rasterize(*args, **kwargs)

    looks = Looks(torch.zeros(len(g), 3), hues(leaf), torch.ones(len(g)), leaf == 5)
    scene_outputs(g, looks, ring()[0], Counting(), BLACK)
    assert calls == [3 + 3 + 3 + 1 + 1 + 1]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 5))
def test_features_of_any_width_become_colours(width, seed):
    anchors = torch.randn(20, width, generator=torch.Generator().manual_seed(seed))
    anchors[3] = float("inf")
    colors = feature_looks(anchors, torch.arange(20))
    assert colors.shape == (20, 3) and torch.isfinite(colors).all()
    assert torch.equal(colors, feature_looks(anchors, torch.arange(20)))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_neighbouring_instances_differ_and_none_is_grey(n):
    a, b, none = hues(torch.tensor([n, n + 1, -1]))
    assert (a - b).abs().max() > 0.2
    assert torch.equal(none, torch.full((3,), NO_INSTANCE))
    assert ((a >= 0) & (a <= 1)).all()
    assert torch.equal(a, hues(torch.tensor([n]))[0])


def test_an_orbit_sees_the_object_in_the_middle_from_all_sides():
    g, leaf = scene()
    views = orbit(g, leaf == 5, ring(), CpuRasterizer(), 12, (100, 75))
    assert len(views) == 12 and all(v.width == 100 and v.height == 74 for v in views)
    centre = g.means[leaf == 5].mean(0)
    azimuths = []
    for v in views:
        seen = v.viewmat[:3, :3] @ centre + v.viewmat[:3, 3]
        pixel = (v.K @ seen)[:2] / seen[2]
        assert pixel.tolist() == pytest.approx([50, 37], abs=3)
        eye = -v.viewmat[:3, :3].T @ v.viewmat[:3, 3] - centre
        azimuths.append(math.atan2(eye[1], eye[0]) % (2 * math.pi))
        share = scene_outputs(g, Looks(torch.zeros(len(g), 3), selected=leaf == 5), v, CpuRasterizer(), BLACK)[
            "selection"
        ]
        rows = (share[..., 0] > 0.5).any(1).nonzero()
        assert 0.35 < (rows.max() - rows.min()) / v.height < 0.9
    steps = torch.tensor(azimuths).sort().values.diff()
    assert steps.max() < 2 * math.pi / 12 * 1.5


def test_a_capture_of_one_side_gives_an_arc():
    g, leaf = scene()
    capture = ring(arc=math.pi / 2)
    views = orbit(g, leaf == 5, capture, CpuRasterizer(), 16)
    centre = g.means[leaf == 5].mean(0)

    def azimuth(v):
        eye = -v.viewmat[:3, :3].T @ v.viewmat[:3, 3] - centre
        return math.atan2(eye[1], eye[0])

    seen, flown = [azimuth(v) for v in capture], [azimuth(v) for v in views]
    assert min(flown) > min(seen) - 0.3 and max(flown) < max(seen) + 0.3
    assert max(flown) - min(flown) > 0.5


def test_around_a_background_the_orbit_stays_where_the_capture_was():
    g = scene()[0]
    far = Gaussians(**{f: getattr(g, f).clone() for f in g.__dataclass_fields__})
    chosen = torch.arange(len(g)) % 2 == 0
    far.means[chosen] = torch.nn.functional.normalize(torch.randn(int(chosen.sum()), 3), dim=1) * 50
    capture = ring()
    eyes = [
        torch.stack([-v.viewmat[:3, :3].T @ v.viewmat[:3, 3] for v in views])
        for views in (capture, orbit(far, chosen, capture, CpuRasterizer(), 6))
    ]
    assert eyes[1].norm(dim=1).max() < 2 * eyes[0].norm(dim=1).max()


def test_nothing_to_orbit_is_refused():
    g, leaf = scene()
    with pytest.raises(UserError, match="nothing to circle"):
        orbit(g, leaf == 99, ring(), CpuRasterizer(), 4)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["to", "join", "undo", "redo"]), max_size=30))
def test_undo_takes_back_what_was_done_and_redo_brings_it_again(moves):
    timeline, number = Timeline(), 0
    for move in moves:
        before = timeline
        if move in ("to", "join"):
            number += 1
            state = State(questions=(Question("select", Text(str(number))),))
            timeline = timeline.to(state, join=move == "join")
            assert timeline.present is state and not timeline.future
            assert len(timeline.past) == len(before.past) + (move == "to" or not before.past)
        elif move == "undo" and before.past:
            timeline = timeline.undo()
            assert timeline.present == before.past[-1] and timeline.redo().present == before.present
        elif move == "redo" and before.future:
            timeline = timeline.redo()
            assert timeline.undo().present == before.present
