"""What a clean removal looks at: the masks of a few views, read when they are looked at."""

from dataclasses import replace

import pytest
import torch
from blob_run import HEIGHT, WIDTH

import ag2_ns
from ag2_ns.core.errors import MissingInstances, StaleStore, UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.edit import steps
from ag2_ns.edit.cleanup import spread_views
from ag2_ns.edit.config import EditConfig
from ag2_ns.session.surroundings import StoredMasks, Watched, surroundings


class Store:
    """Masks of every view, and which were read."""

    def __init__(self, width=WIDTH, height=HEIGHT, error=None):
        self.shape, self.error, self.read_keys = (height, width), error, []

    def read(self, key):
        self.read_keys.append(key)
        if self.error is not None:
            raise self.error
        return MaskSet.from_dense(torch.ones(1, *self.shape, dtype=torch.bool))


@pytest.fixture
def scene(blob_run):
    """A capture of many views: the same few again and again."""
    scene = ag2_ns.open(blob_run, "cpu")
    train = scene.of_split("train")
    views = [replace(train[k % len(train)], name=f"{k:03d}.png", key=f"{k:03d}") for k in range(3 * EditConfig().max_views)]
    return replace(scene, views=tuple(views))


@pytest.fixture
def store(monkeypatch):
    store = Store()
    monkeypatch.setattr("ag2_ns.session.surroundings.MaskStore.exists", lambda *place: True)
    monkeypatch.setattr("ag2_ns.session.surroundings.MaskStore.open", lambda *place: store)
    return store


def test_a_removal_reads_the_masks_of_the_views_that_it_looks_at_only(scene, store):
    around = surroundings(scene)
    assert len(around.masks) == len(around.views) == len(scene.views) and not store.read_keys, "nothing before"
    steps.delete(scene.edited, scene.select(text="red ball").selection, around)
    count = EditConfig().max_views
    chosen = {scene.views[k].key for k in spread_views([v.view for v in scene.views], count)}
    assert set(store.read_keys) <= chosen and 0 < len(set(store.read_keys)) <= EditConfig().max_views < len(scene.views)


def test_after_edits_the_masks_are_out_of_date(scene, store):
    assert surroundings(scene, edited=True).masks is None
    scene = scene.edit("recolour", scene.select(text="red ball"))
    scene.edit("delete", scene.select(text="blue ball"))
    assert not store.read_keys


def test_masks_that_do_not_fit_are_left_out(scene):
    views = scene.of_split("train")
    assert StoredMasks(Store(), views)[0] is not None
    assert StoredMasks(Store(width=WIDTH + 1), views)[0] is None
    assert StoredMasks(Store(error=StaleStore("of another picture")), views)[3] is None


def test_a_capture_without_masks_or_with_a_damaged_store_has_none(scene, monkeypatch):
    assert surroundings(scene).masks is None

    def damaged(*place):
        raise UserError("damaged")

    monkeypatch.setattr("ag2_ns.session.surroundings.MaskStore.exists", lambda *place: True)
    monkeypatch.setattr("ag2_ns.session.surroundings.MaskStore.open", damaged)
    assert surroundings(scene).masks is None
    assert surroundings(replace(scene, source=None)).masks is None


def test_what_a_removal_needs(scene):
    with pytest.raises(MissingInstances):
        surroundings(replace(scene, index=None))
    with pytest.raises(UserError, match="no training cameras"):
        surroundings(replace(scene, views=tuple(replace(v, split="eval") for v in scene.views)))


def test_looks_are_counted_and_never_reach_the_end():
    told = []
    items = Watched(list("abcdef"), 4, told.append)
    assert len(items) == 6 and [items[k] for k in range(6)] == list("abcdef")
    assert told == [0.25, 0.5, 0.75, 0.99, 0.99, 0.99]
