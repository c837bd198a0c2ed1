"""The camera of the tab that moved last, as a view of the scene."""

from types import SimpleNamespace

import numpy as np
import torch
from box_facts import camera

from ag2_ns.viewer.layers import Layers


def client(view, when):
    """A tab that looks through a view: its camera as viser keeps it."""
    eye = SimpleNamespace(update_timestamp=when, fov=2 * np.arctan(view.height / 2 / float(view.K[1, 1])),
                          aspect=view.width / view.height, position=None, wxyz=None)  # fmt: skip
    tab = SimpleNamespace(camera=eye)
    Layers.look_through(tab, view)
    return tab


def test_the_present_view_is_that_of_the_tab_that_moved_last():
    layers = Layers()
    assert layers.present_view() is None
    old, new = camera(), camera(eye=(2, 3, 1))
    layers.server = SimpleNamespace(get_clients=lambda: {0: client(new, 2.0), 1: client(old, 1.0)})
    found = layers.present_view()
    assert torch.allclose(found.viewmat, new.viewmat, atol=1e-5)
    assert abs(float(found.K[0, 0] / found.width - new.K[0, 0] / new.width)) < 1e-3


def test_no_tab_no_view():
    layers = Layers()
    layers.server = SimpleNamespace(get_clients=dict)
    assert layers.present_view() is None
