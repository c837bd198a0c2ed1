import numpy as np
import pytest

from ag2_ns.core.errors import UserError
from ag2_ns.query.box import answer_box
from ag2_ns.rendering.cpu import CpuRasterizer

RASTERIZER = CpuRasterizer()


def framed(*place):
    return answer_box(*place).selection


def box_of(ids, name, margin):
    y, x = np.nonzero(ids == name)
    return x.min() - margin, y.min() - margin, x.max() + 1 + margin, y.max() + 1 + margin


@pytest.mark.parametrize("margin", [0, 2])
def test_box_around_an_object_selects_it(scene, margin):
    right = []
    for view, ids in list(zip(scene.toy.views, scene.toy.ids))[::4]:
        for name in range(2, 8):
            if (ids == name).sum() > 60:
                chosen = framed(scene.index, scene.toy.gaussians, RASTERIZER, view, box_of(ids, name, margin))
                right.append(chosen.nodes == (scene.nodes[name],))
    assert len(right) > 12 and np.mean(right) > 0.9


def test_box_around_everything_holds_the_table(scene):
    view = scene.toy.views[0]
    chosen = framed(scene.index, scene.toy.gaussians, RASTERIZER, view, (-50, -50, 500, 500))
    assert chosen.anchor_mask[scene.index.tree.anchors_of(scene.nodes[1])].all() and chosen.score > 0.8


def test_nothing_inside(scene):
    view, ids = scene.toy.views[0], scene.toy.ids[0]
    y, x = np.nonzero(ids == 1)
    k = len(x) // 2
    inside = (x[k], y[k], x[k] + 2, y[k] + 2)
    nothing = framed(scene.index, scene.toy.gaussians, RASTERIZER, view, inside)
    assert nothing.empty and "mostly inside" in nothing.reason


def test_bad_boxes(scene):
    for box in ((10, 10, 10, 20), (20, 20, 10, 30), (900, 0, 950, 10)):
        with pytest.raises(UserError, match="no area inside the image"):
            framed(scene.index, scene.toy.gaussians, RASTERIZER, scene.toy.views[0], box)
