import numpy as np
import pytest
import torch
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception import kinds
from ag2_ns.perception.encoder import make_encoder

needs = pytest.mark.skipif(not kinds.available(), reason="ag2-ns[words] is not installed")


def boxes(height, width, *corners):
    dense = torch.zeros(len(corners), height, width, dtype=torch.bool)
    for k, (x0, y0, x1, y1) in enumerate(corners):
        dense[k, y0:y1, x0:x1] = True
    return MaskSet.from_dense(dense)


def test_without_the_packages_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(kinds, "available", lambda: False)
    with pytest.raises(UserError, match="ag2-ns\\[words\\]"):
        make_encoder("kinds")


def test_crops_hold_the_mask_and_dim_what_surrounds_it():
    image = np.full((60, 80, 3), 255, np.uint8)
    masks = boxes(60, 80, (20, 10, 50, 40))
    ((index, crops),) = kinds.context_crops(image, masks, 32, 4)
    assert index.tolist() == [0] and crops.shape == (1, 3, 32, 32)
    assert float(crops[0, :, 16, 16].min()) > 0.95
    assert float(crops[0, :, 0, 0].max()) < 0.9
    assert list(kinds.context_crops(image, boxes(60, 80), 32, 4)) == []


@needs
def test_the_fox_is_a_fox():
    from PIL import Image

    image = np.asarray(Image.open(shared("fox") / "images" / "0001.jpg").convert("RGB"))
    h, w = image.shape[:2]
    masks = boxes(h, w, (w // 4, h // 4, 3 * w // 4, 3 * h // 4), (0, 0, 0, 0))
    encoder = make_encoder("kinds")
    feature = encoder.encode_image(image, masks, "0001")
    assert feature.shape == (2, encoder.dim)
    assert feature[0].norm() == pytest.approx(1.0, abs=1e-4)
    words = ["fox", "chair", "car", "plate", "tree", "keyboard"]
    cosine = encoder.encode_text(words) @ feature[0]
    assert words[int(cosine.argmax())] == "fox"


@needs
def test_texts_fill_the_blocks_that_they_have_words_for():
    encoder = make_encoder("kinds")
    rows = encoder.encode_text(["brown pot", "pot", "brown", "pot of tea"])
    kind, colour = rows.split([384, encoder.dim - 384], 1)
    assert (colour[[0, 2]] != 0).any(1).all() and not (colour[1] != 0).any()
    assert (kind[[0, 1]] != 0).any(1).all() and not (kind[2] != 0).any()
    assert torch.allclose(
        torch.nn.functional.normalize(kind[0], dim=0), torch.nn.functional.normalize(kind[1], dim=0), atol=1e-5
    )
    assert torch.allclose(rows.norm(dim=1), torch.ones(4), atol=1e-4)
    assert encoder.encode_text([]).shape == (0, encoder.dim)
