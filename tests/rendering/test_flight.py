"""Flights along captures: where the cameras were, smoothly, calmly."""

import math

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import NamedView, View
from ag2_ns.rendering.flight import CALM, flight, in_order
from ag2_ns.rendering.orbit import look_at

K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])


def ring(count: int, laps: float = 1.0, radius: float = 2.0, shake: float = 0.0) -> list[View]:
    """Cameras around the origin that look at it."""
    generator = torch.Generator().manual_seed(0)
    views = []
    for k in range(count):
        a = 2 * math.pi * laps * k / count
        eye = torch.tensor([radius * math.cos(a), radius * math.sin(a), 1.0])
        eye = eye + shake * torch.randn(3, generator=generator)
        views.append(look_at(eye, torch.zeros(3), torch.tensor([0.0, 0, 1]), K, (64, 48)))
    return views


def eyes(views: list[View]) -> np.ndarray:
    return torch.stack([-v.viewmat[:3, :3].T @ v.viewmat[:3, 3] for v in views]).numpy()


def ahead(views: list[View]) -> np.ndarray:
    return torch.stack([v.viewmat[2, :3] for v in views]).numpy()


@pytest.mark.parametrize(("count", "shake"), [(60, 0.0), (60, 0.02), (12, 0.0), (7, 0.0)])
def test_a_flight_stays_where_the_cameras_were(count, shake):
    flown, _ = flight(ring(count, shake=shake), 200)
    assert len(flown) == 200 and all((v.width, v.height) == (64, 48) and torch.equal(v.K, K) for v in flown)
    place, direction = eyes(flown), ahead(flown)
    radius = np.linalg.norm(place[:, :2], axis=1)
    assert radius.min() > 1.85 and radius.max() < 2.15, "straight lines between cameras would cut through the middle"
    assert (np.abs(place[:, 2] - 1) < 0.1).all()
    inwards = -place / np.linalg.norm(place, axis=1, keepdims=True)
    assert ((direction * inwards).sum(1) > 0.98).all()


def test_a_flight_is_even_and_ends_where_the_capture_ends():
    flown, share = flight(ring(60, shake=0.02), 200)
    step = np.linalg.norm(np.diff(eyes(flown), axis=0), axis=1)
    assert step.max() < 1.3 * step.min() and share == pytest.approx(1.0)
    last = eyes(ring(60))[-1]
    assert np.linalg.norm(eyes(flown)[-1] - last) < 0.2


def test_few_frames_go_less_far_but_turn_no_faster():
    views = ring(100, laps=2)
    shares = []
    for frames in (24, 60, 400):
        flown, share = flight(views, frames)
        direction = ahead(flown)
        turn = np.arccos((direction[1:] * direction[:-1]).sum(1).clip(-1, 1))
        assert turn.mean() < 1.1 * CALM and turn.max() < 1.5 * CALM
        shares.append(share)
    assert shares[0] < shares[1] < shares[2] == pytest.approx(1.0)


def test_cameras_in_no_order_are_passed_one_after_the_other():
    views = ring(40)
    mixed = [views[k] for k in torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()]
    place = eyes(flight(mixed, 300)[0])
    assert np.linalg.norm(place[:, :2], axis=1).min() > 1.5


def test_a_pause_in_the_capture_is_no_pause_in_the_flight():
    views = ring(40)
    flown, _ = flight([*[views[0]] * 30, *views], 200)
    step = np.linalg.norm(np.diff(eyes(flown), axis=0), axis=1)
    assert step.max() < 1.5 * step.min()


def test_cameras_that_all_look_ahead():
    row = [
        look_at(torch.tensor([x, 0.0, 0]), torch.tensor([x, 5.0, 0]), torch.tensor([0.0, 0, 1]), K, (64, 48))
        for x in torch.linspace(0, 3, 9).tolist()
    ]
    flown, share = flight(row, 10)
    np.testing.assert_allclose(eyes(flown), np.stack([np.linspace(0, 3, 10), *np.zeros((2, 10))], 1), atol=0.1)
    assert share == pytest.approx(1.0)


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_flights(frames):
    assert len(flight(ring(9), frames)[0]) == frames
    assert len(flight(ring(9)[:2], frames)[0]) == frames


def test_a_flight_needs_two_places():
    for views in (ring(9)[:1], [ring(9)[0]] * 3):
        with pytest.raises(UserError, match="two"):
            flight(views, 10)


def test_names_sort_by_their_numbers():
    keys = ["images/shot_10", "images/shot_2", "images/a", "images/shot_2b"]
    views = ring(4)
    named = [NamedView(f"{key}.png", key, "train", view) for key, view in zip(keys, views)]
    assert list(map(id, in_order(named))) == [id(views[k]) for k in (2, 1, 3, 0)]
