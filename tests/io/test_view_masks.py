import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_masks import MAX_COMING, ViewMasks
from ag2_ns.io.view_store import Manifest, image_print
from ag2_ns.splat.mask_losses import plan_of

HEIGHT, WIDTH, VIEWS = 24, 32, 8


def image(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def masks(k: int) -> MaskSet:
    dense = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(k)) < 0.4
    return MaskSet.from_dense(dense)


@pytest.fixture
def stores(tmp_path):
    kept = MaskStore.create(tmp_path, Manifest("halves", {}))
    features = FeatureStore.create(tmp_path, Manifest("means", {}))
    for k in range(VIEWS):
        identity = kept.write(f"v{k}", masks(k), image_print(image(k)))
        features.write(f"v{k}", torch.full((3, 5), float(k)).half(), identity)
    return kept, features


def counting(store):
    """Make a store count its reads by view."""
    reads, read = {}, store.read

    def counted(name, *args):
        reads[name] = reads.get(name, 0) + 1
        return read(name, *args)

    store.read = counted
    return reads


def test_masks_and_features_of_a_view(stores):
    found = ViewMasks(*stores).get("v2", lambda: image(2))
    assert torch.equal(found.masks.dense(), masks(2).dense())
    assert found.features.dtype == torch.float16 and (found.features == 2).all()
    assert found.nbytes == sum(
        t.numel() * t.element_size() for t in (found.masks.pixel, found.masks.mask, found.masks.score, found.features)
    )


def test_without_features(stores):
    assert ViewMasks(stores[0], None).get("v0").features is None


def test_not_prepared(tmp_path):
    assert ViewMasks.open(tmp_path / "scene") is None


def test_the_cache_stays_within_its_budget(stores):
    one = ViewMasks(*stores).get("v0").nbytes
    views = ViewMasks(*stores, budget=int(3.5 * one))
    reads = counting(views.mask_store)
    for k in [*range(VIEWS), *range(VIEWS)]:
        views.get(f"v{k}")
        assert views.kept_bytes <= 3.5 * one
        assert views.kept_bytes == sum(p.nbytes for p in views.kept.values())
    assert set(reads.values()) == {2}, "going round and round a small cache never hits"
    views.get(f"v{VIEWS - 1}")
    assert reads[f"v{VIEWS - 1}"] == 2, "the latest is kept"


def test_what_a_loss_keeps_with_the_masks_counts(stores):
    size = ViewMasks(*stores).get("v0").nbytes
    views = ViewMasks(*stores, budget=int(3.5 * size))
    for k in range(3):
        plan_of(views.get(f"v{k}").masks, torch.float32)
        views.get(f"v{k}").masks.derived["more"] = SimpleNamespace(slot=torch.zeros(size, dtype=torch.uint8))
    views.get("v2")
    assert views.kept_bytes == sum(p.nbytes for p in views.kept.values()) <= views.budget
    assert list(views.kept) == ["v2"]


def test_the_least_recently_used_leaves(stores):
    size = [ViewMasks(*stores).get(f"v{k}").nbytes for k in range(3)]
    views = ViewMasks(*stores, budget=sum(size) - 1)
    reads = counting(views.mask_store)
    views.get("v0"), views.get("v1"), views.get("v0"), views.get("v2")
    views.get("v0")
    assert reads == {"v0": 1, "v1": 1, "v2": 1}
    views.get("v1")
    assert reads["v1"] == 2


def test_one_view_larger_than_the_budget_is_served_and_replaced(stores):
    views = ViewMasks(*stores, budget=1)
    for k in range(3):
        assert len(views.get(f"v{k}").masks) == 3
        assert len(views.kept) == 1


def test_prefetching_reads_once_and_gives_the_same(stores):
    views = ViewMasks(*stores)
    reads = counting(views.mask_store)
    views.prefetch("v3", lambda: image(3))
    views.prefetch("v3", lambda: image(3))
    found = views.get("v3", lambda: image(3))
    assert torch.equal(found.masks.dense(), masks(3).dense()) and reads == {"v3": 1}
    views.prefetch("v3")
    assert views.get("v3") is found and reads == {"v3": 1}


def test_prefetching_without_fetching_does_not_pile_up(stores, monkeypatch):
    views = ViewMasks(*stores, budget=1)
    release, read = threading.Event(), views.mask_store.read
    monkeypatch.setattr(views.mask_store, "read", lambda *a: release.wait(30) and read(*a))  # nothing loads yet
    for k in range(VIEWS):
        views.prefetch(f"v{k}")
    assert len(views.coming) <= MAX_COMING
    release.set()
    assert len(views.get("v0").masks) == 3, "a forgotten view is simply loaded"
    assert len(views.get(f"v{VIEWS - 1}").masks) == 3


def test_errors_of_prefetching_reach_whoever_asks(stores):
    views = ViewMasks(*stores)
    views.prefetch("missing")
    with pytest.raises(UserError, match="missing"):
        views.get("missing")


def test_masks_of_another_image_are_refused_once_and_for_all(stores):
    views = ViewMasks(*stores)
    for _ in range(2):
        with pytest.raises(UserError, match=r"v1\.npz: made from another image"):
            views.get("v1", lambda: image(5))
    assert len(views.get("v1", lambda: image(1)).masks) == 3


def test_an_image_is_checked_only_the_first_time(stores):
    views = ViewMasks(*stores, budget=1)
    asked = []
    for k in (1, 2, 1, 2):
        views.get(f"v{k}", lambda k=k: asked.append(k) or image(k))
    assert asked == [1, 2]


def test_features_of_other_masks_or_of_another_number(stores):
    kept, features = stores
    features.write("v1", torch.zeros(3, 5).half(), "0" * 32)
    with pytest.raises(UserError, match="belongs to other masks"):
        ViewMasks(*stores).get("v1")
    features.write("v1", torch.zeros(2, 5).half(), kept.identity("v1"))
    with pytest.raises(UserError, match="2 rows for 3 masks"):
        ViewMasks(*stores).get("v1")


def test_threads_agree_on_the_bytes_kept(stores):
    views = ViewMasks(*stores, budget=3 * ViewMasks(*stores).get("v0").nbytes)

    def work(seed):
        for k in np.random.default_rng(seed).integers(0, VIEWS, 40):
            views.prefetch(f"v{k}")
            views.get(f"v{k}")

    threads = [threading.Thread(target=work, args=(s,)) for s in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    views.close()
    assert views.kept_bytes == sum(p.nbytes for p in views.kept.values()) <= views.budget
