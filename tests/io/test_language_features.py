from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.language_features import (
    LEVELS,
    language_feature_paths,
    language_features_of,
    read_language_features,
    write_language_features,
)


def write(folder, segments, feature, stem="frame_00001"):
    np.save(folder / f"{stem}_s.npy", segments)
    np.save(folder / f"{stem}_f.npy", feature)
    return folder / f"{stem}_s.npy"


def published(folder, seed=0, h=6, w=8, d=5):
    """As LangSplat's preprocess.py writes: rows of all levels one after another."""
    rng = np.random.default_rng(seed)
    planes, rows = [], 0
    for _ in LEVELS:
        count = rng.integers(1, 4)
        planes.append(rng.integers(-1, count, (h, w)) + np.where(True, rows, 0))
        planes[-1] = np.where(planes[-1] < rows, -1, planes[-1])
        rows += count
    feature = rng.standard_normal((rows, d))
    feature /= np.linalg.norm(feature, axis=1, keepdims=True)
    return write(folder, np.stack(planes).astype(np.float32), feature.astype(np.float16)), np.stack(planes), feature


def test_reads_what_langsplat_writes(tmp_path):
    path, planes, feature = published(tmp_path)
    content = read_language_features(path)
    assert (content.segments.numpy() == planes).all()
    np.testing.assert_allclose(content.feature.numpy(), feature, atol=1e-3)
    masks, rows = content.masks("all")
    assert len(masks) == len(feature) and rows.tolist() == list(range(len(feature)))
    for row, mask in enumerate(masks.dense().numpy()):
        assert (mask == (planes == row).any(0)).all()
    for level, plane in zip(LEVELS, planes):
        masks, rows = content.masks(level)
        assert rows.tolist() == [r for r in np.unique(plane) if r >= 0]
        for row, mask in zip(rows.tolist(), masks.dense().numpy()):
            assert (mask == (plane == row)).all()


def test_round_trip(tmp_path):
    path, *_ = published(tmp_path)
    content = read_language_features(path)
    write_language_features(tmp_path / "out", "images/frame_00001.jpg", content)
    again = read_language_features(tmp_path / "out" / "frame_00001_s.npy")
    assert torch.equal(again.segments, content.segments)
    torch.testing.assert_close(again.feature, content.feature, atol=1e-3, rtol=0)
    assert np.load(tmp_path / "out" / "frame_00001_s.npy").dtype == np.float32


@given(st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_levels_of_own_masks(m, seed):
    g = torch.Generator().manual_seed(seed)
    dense = torch.rand(m, 5, 7, generator=g) < 0.4
    masks = MaskSet.from_dense(dense, torch.rand(m, generator=g))
    content = language_features_of(masks, torch.randn(m, 3, generator=g))
    area = dense.flatten(1).sum(1)
    for y in range(5):
        for x in range(7):
            here = sorted(dense[:, y, x].nonzero().squeeze(1).tolist(), key=lambda k: (int(area[k]), k))
            best = sorted(here, key=lambda k: (-float(masks.score[k]), here.index(k)))
            expected = [best[0], here[0], here[(len(here) - 1) // 2], here[-1]] if here else [-1] * 4
            assert content.segments[:, y, x].tolist() == expected


def test_files_are_found_by_image(tmp_path):
    path, *_ = published(tmp_path)
    for name in ("frame_00001", "frame_00001.jpg", "left/frame_00001"):
        assert language_feature_paths(tmp_path, name)[0] == path
    np.save(tmp_path / "v1.5_s.npy", np.zeros(1))
    assert language_feature_paths(tmp_path, "v1.5")[0].name == "v1.5_s.npy"


@pytest.mark.parametrize(
    "segments, feature, says",
    [
        (np.zeros((3, 4, 5), np.float32), np.ones((1, 3), np.float32), "expected 4 levels"),
        (np.zeros((4, 5), np.float32), np.ones((1, 3), np.float32), "expected 4 levels"),
        (np.full((4, 2, 2), 7.0), np.ones((3, 3), np.float32), "has 3 rows"),
        (np.full((4, 2, 2), -2.0), np.ones((3, 3), np.float32), "has 3 rows"),
        (np.full((4, 2, 2), 0.5), np.ones((3, 3), np.float32), "has 3 rows"),
        (np.zeros((4, 2, 2), np.float32), np.ones(3, np.float32), "expected features M x D"),
        (np.zeros((4, 2, 2), np.float32), np.ones((2, 3), np.int32), "expected features M x D"),
    ],
)
def test_bad_files(tmp_path, segments, feature, says):
    with pytest.raises(UserError, match=says) as error:
        read_language_features(write(tmp_path, segments, feature))
    assert "\n" not in str(error.value)


def test_missing_damaged_and_executable_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_language_features(tmp_path / "a_s.npy")
    (tmp_path / "a_s.npy").write_bytes(b"nonsense")
    (tmp_path / "a_f.npy").write_bytes(b"")
    with pytest.raises(UserError, match="damaged or not"):
        read_language_features(tmp_path / "a_s.npy")
    np.save(tmp_path / "a_s.npy", np.array([{"a": 1}], object))
    with pytest.raises(UserError, match="damaged or not"):
        read_language_features(tmp_path / "a_s.npy")
