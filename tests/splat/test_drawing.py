"""What a training step draws and how much room it makes; pictures on a GPU are compared in plugin/test_model.py."""

import pytest
import torch
from torch.nn import Parameter

from ag2_ns.core.view import View
from ag2_ns.rendering.base import Raster
from ag2_ns.splat.anchors import Anchors, Children, decode
from ag2_ns.splat.drawing import CHECK_ROOM, Drawing

COUNT, WIDTH, HEIGHT = 6, 5, 4


class Backend:
    """One pixel after the other shows a Gaussian; there are so many pairs of Gaussian and tile as it is told."""

    def __init__(self, pairs):
        self.wanted, self.rooms = pairs, []

    def project(self, means, quats, scales, opacities, view):
        return means[:, :2] * scales[:, :2]

    def tiles(self, projection, view, capacity):
        self.rooms.append(capacity)
        return None, torch.tensor(self.wanted, dtype=torch.int32)

    def composite(self, projection, opacities, values, view, absgrad, tiles):
        shown = torch.arange(view.height * view.width).view(view.height, view.width) % len(values)
        alpha = opacities[shown][..., None]
        return Raster(values[shown] * alpha, alpha, projection, torch.ones(len(values), dtype=torch.int32))


def parts():
    g = torch.Generator().manual_seed(0)
    draw = lambda *size: Parameter(torch.rand(*size, generator=g) - 0.5)  # noqa: E731
    anchors = Anchors(torch.rand(2, 3, generator=g), torch.ones(2, 1), draw(2, 3))
    anchor = torch.tensor([0, 1, 0, 1, 1, 0])
    child = dict(offset=draw(COUNT, 3), sh_dc=draw(COUNT, 3), sh_rest=draw(COUNT, 3, 3), log_scale=draw(COUNT, 3))
    return anchors, Children(anchor, **child, quat=draw(COUNT, 4), opacity_logit=draw(COUNT, 1))


def view():
    return torch.zeros(3), View(torch.eye(4), torch.eye(3), WIDTH, HEIGHT)


@pytest.mark.parametrize("feature", [False, True])
@pytest.mark.parametrize("shrinks", [False, True])
def test_what_is_drawn(feature, shrinks):
    anchors, children = parts()
    shrink = {"shrink": lambda opacities, scales: opacities.mean() + scales.mean()} if shrinks else {}
    drawing = Drawing(Backend(9), **shrink)
    out, loss = drawing(anchors, children, *view(), sh_degree=1, feature=feature, absgrad=True)
    gaussians = decode(anchors, children)
    assert out.rgb.shape == (HEIGHT, WIDTH, 3) and out.alpha.shape == (HEIGHT, WIDTH, 1)
    torch.testing.assert_close(out.alpha.flatten()[:COUNT], gaussians.opacities)
    assert (out.feature is not None) == feature and (loss is not None) == shrinks
    if feature:
        shown = out.feature[0, 0] / out.alpha[0, 0]
        torch.testing.assert_close(shown, torch.nn.functional.normalize(anchors.feature[0], dim=0))
    if shrinks:
        torch.testing.assert_close(loss, gaussians.opacities.mean() + gaussians.scales.mean())
    (out.rgb.sum() + (loss if shrinks else 0)).backward()
    assert children.offset.grad is not None or children.log_scale.grad is not None


def test_room_is_made_for_twice_of_what_is_wanted_and_given_up_where_little_is():
    anchors, children = parts()
    backend = Backend(9)
    drawing = Drawing(backend)

    def rooms(pairs):
        backend.wanted, backend.rooms = pairs, []
        drawing(anchors, children, *view(), sh_degree=1, feature=False, absgrad=False)
        return backend.rooms

    unit = 2**17
    assert rooms(9) == [unit]
    assert rooms(5 * unit) == [unit, 10 * unit], "what did not fit is drawn again"
    assert rooms(8 * unit) == [10 * unit]
    assert rooms(8 * unit) == [16 * unit], "before it is short"
    assert rooms(2 * unit) == [16 * unit] and rooms(unit) == [16 * unit]
    assert rooms(unit) == [2 * unit]


def test_a_view_that_wanted_more_between_two_looks_is_remembered():
    anchors, children = parts()
    backend, unit = Backend(9), 2**17
    drawing = Drawing(backend)

    class Recorded:
        recorded = True

        def __call__(self, leaves, constants, *options, fixed):
            return drawing._draw(*leaves, *constants, *options)

    drawing.replayed = Recorded()
    for call in range(1, 2 * CHECK_ROOM + 1):
        backend.wanted = 3 * unit if call == 10 else 9
        drawing(anchors, children, *view(), sh_degree=1, feature=False, absgrad=False)
    assert set(backend.rooms[: CHECK_ROOM - 1]) == {unit} and backend.rooms[CHECK_ROOM] == 6 * unit
