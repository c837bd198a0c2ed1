from __future__ import annotations

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.perception.encoder import make_encoder
from ag2_ns.perception.langsplat import find_folder
from ag2_ns.perception.segmenter import make_segmenter


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "language_features"
    folder.mkdir()
    planes = np.full((4, 6, 8), -1, np.float32)
    planes[0, :3], planes[1, :3, :4], planes[2, 3:], planes[3] = 0, 1, 2, 3
    np.save(folder / "a_s.npy", planes)
    np.save(folder / "a_f.npy", np.eye(4, 5).astype(np.float16))
    return folder


def image(height=6, width=8):
    return np.zeros((height, width, 3), np.uint8)


def test_masks_and_features_go_together(folder):
    segmenter, encoder = make_segmenter("langsplat", folder=folder), make_encoder("langsplat", folder=folder)
    masks = segmenter.segment(image(), "a")
    assert masks.areas.tolist() == [24, 12, 24, 48]
    torch.testing.assert_close(encoder.encode_image(image(), masks, "a"), torch.eye(4, 5))
    assert segmenter.source("a") == encoder.source("a") != ""
    large = make_segmenter("langsplat", folder=folder, level="l").segment(image(), "a")
    assert large.areas.tolist() == [48]
    rows = make_encoder("langsplat", folder=folder, level="l").encode_image(image(), large, "a")
    torch.testing.assert_close(rows, torch.eye(4, 5)[3:])


def test_another_size(folder):
    with pytest.raises(UserError, match="is 8x6 but the image is 16x12; pass --resize-masks"):
        make_segmenter("langsplat", folder=folder).segment(image(12, 16), "a")
    with pytest.raises(UserError, match="belongs to other images"):
        make_segmenter("langsplat", folder=folder, resize=True).segment(image(12, 12), "a")
    masks = make_segmenter("langsplat", folder=folder, resize=True).segment(image(12, 16), "a")
    assert masks.areas.tolist() == [96, 48, 96, 192]


def test_bad_input(folder, tmp_path):
    with pytest.raises(UserError, match="no such folder of language features"):
        make_segmenter("langsplat", folder=tmp_path / "none")
    with pytest.raises(UserError, match="no such file"):
        make_segmenter("langsplat", folder=folder).segment(image(), "b")
    encoder = make_encoder("langsplat", folder=folder)
    masks = make_segmenter("langsplat", folder=folder, level="l").segment(image(), "a")
    with pytest.raises(UserError, match="4 masks where the scene has 1"):
        encoder.encode_image(image(), masks, "a")
    with pytest.raises(UserError, match="without a model for texts"):
        encoder.encode_text(["red mug"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no X_s"):
        make_encoder("langsplat", folder=tmp_path / "empty")


def test_find_folder(folder, tmp_path):
    assert find_folder(tmp_path) == folder
    assert find_folder(folder) is None
