from __future__ import annotations

import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.view_store import Manifest

HOW = Manifest("palette", {"dim": 8})


def test_round_trip_in_half(tmp_path):
    rows = torch.randn(5, 8)
    store = FeatureStore.create(tmp_path, HOW)
    store.write("a", rows, "masks-1")
    got = FeatureStore.open(tmp_path).read("a", "masks-1")
    assert got.dtype == torch.float16
    assert torch.equal(got, rows.half())
    store.write("none", torch.zeros(0, 8), "masks-2")
    assert store.read("none").shape == (0, 8)


def test_features_of_other_masks_are_refused(tmp_path):
    store = FeatureStore.create(tmp_path, HOW)
    store.write("a", torch.randn(5, 8), "masks-1")
    assert store.has("a")
    assert store.has("a", "masks-1")
    assert not store.has("a", "masks-2")
    with pytest.raises(UserError, match=r"belongs to other masks; renew it with: ag2 prepare"):
        store.read("a", "masks-2")
    with pytest.raises(UserError, match="this view has no features"):
        store.read("b")
    with pytest.raises(UserError, match=r"made by palette \(dim=8\), not openclip"):
        FeatureStore.create(tmp_path, Manifest("openclip", {}))


def test_only_rows_are_stored(tmp_path):
    with pytest.raises(ValueError, match="M x D"):
        FeatureStore.create(tmp_path, HOW).write("a", torch.zeros(8), "m")
