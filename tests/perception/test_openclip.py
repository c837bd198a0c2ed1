from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception import openclip, text_cache
from ag2_ns.perception.crops import mask_boxes, masked_crops
from ag2_ns.perception.encoder import Encoder, make_encoder
from ag2_ns.perception.prompts import fill, templates

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A small open_clip model of random weights, registered by name and saved as a checkpoint."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    (folder / "ag2-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "ag2-tiny.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ag2-tiny").state_dict(), folder / "tiny.pt")
    return str(folder / "tiny.pt")


@pytest.fixture
def encoder(checkpoint, tmp_path):
    return make_encoder("openclip", model="ag2-tiny", checkpoint=checkpoint, cache=tmp_path / "cache")


def some_masks() -> MaskSet:
    dense = torch.zeros(4, 40, 60, dtype=torch.bool)
    dense[0, 5:25, 10:50] = True
    dense[1] = (torch.arange(40)[:, None] - 20) ** 2 + (torch.arange(60) - 30) ** 2 < 80
    dense[3, 39, 59] = True
    return MaskSet.from_dense(dense)


def test_images_against_a_slow_crop(encoder, checkpoint):
    import open_clip

    assert isinstance(encoder, Encoder)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    masks = some_masks()
    rows = encoder.encode_image(image, masks, "view")
    assert rows.shape == (4, encoder.dim) == (4, 24)
    assert not rows[2].any()  # an empty mask
    model = open_clip.create_model("ag2-tiny", pretrained=checkpoint).eval()
    for k in (0, 1, 3):
        inside = masks.dense()[k].numpy()
        y, x = inside.nonzero()
        box = (image * inside[..., None])[y.min() : y.max() + 1, x.min() : x.max() + 1]
        side = max(box.shape[:2])
        square = np.zeros((side, side, 3), np.float32)
        top, left = (side - box.shape[0]) // 2, (side - box.shape[1]) // 2
        square[top : top + box.shape[0], left : left + box.shape[1]] = box
        crop = torch.from_numpy(square / 255).permute(2, 0, 1)[None]
        crop = torch.nn.functional.interpolate(crop, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (openclip.CLIP_MEAN, openclip.CLIP_STD))
        with torch.no_grad():
            expected = normalize(model.encode_image((crop - mean) / std), dim=1)[0]
        assert torch.allclose(rows[k], expected, atol=1e-4)


def test_boxes_and_batches():
    masks = some_masks()
    assert mask_boxes(masks).tolist() == [[10, 5, 50, 25], [22, 12, 39, 29], [0, 0, 0, 0], [59, 39, 60, 40]]
    image = torch.full((40, 60, 3), 200, dtype=torch.uint8)
    batches = list(masked_crops(image, masks, 16, batch=2))
    assert [index.tolist() for index, _ in batches] == [[0, 1], [3]]
    assert batches[0][1][0, :, 8, 8].tolist() == pytest.approx([200 / 255] * 3, abs=1e-3)
    assert float(batches[0][1][0, :, 0].max()) < 0.02  # black above the box


def test_texts_are_unit_averages_over_templates_and_cached(encoder, checkpoint, monkeypatch):
    import open_clip

    encoder.templates = templates("ensemble")
    rows = encoder.encode_text(["red mug", "an apple"])
    assert torch.allclose(rows.norm(dim=1), torch.ones(2), atol=1e-5)
    model = open_clip.create_model("ag2-tiny", pretrained=checkpoint).eval()
    tokens = open_clip.get_tokenizer("ag2-tiny")([fill(t, "red mug") for t in templates("ensemble")])
    with torch.no_grad():
        expected = normalize(normalize(model.encode_text(tokens), dim=1).mean(0), dim=0)
    assert torch.allclose(rows[0], expected, atol=1e-4)
    monkeypatch.setattr(openclip, "fill", lambda *_: pytest.fail("not taken from the cache"))
    assert torch.equal(encoder.encode_text(["an apple", "red mug"]), rows[[1, 0]])
    assert encoder.encode_text([]).shape == (0, 24)


def test_other_settings_do_not_share_the_cache(checkpoint, tmp_path):
    rows = [
        make_encoder("openclip", model="ag2-tiny", checkpoint=checkpoint, prompts=p, cache=tmp_path).encode_text(
            ["cup"]
        )
        for p in ("plain", "a drawing of {a}")
    ]
    assert not torch.allclose(*rows)


def test_damaged_cache_files_are_made_again(tmp_path):
    calls = []

    def encode(texts):
        calls.append(list(texts))
        return torch.ones(len(texts), 3)

    for _ in range(2):
        text_cache.cached_texts(["a", "b", "a"], {"m": 1}, encode, tmp_path)
    assert calls == [["a", "b"]]
    for file in tmp_path.iterdir():
        file.write_bytes(b"x")
    assert text_cache.cached_texts(["a"], {"m": 1}, encode, tmp_path).shape == (1, 3)
    assert calls[-1] == ["a"]


@pytest.mark.parametrize(
    "text, photo, plain",
    [("mug", "a photo of a mug.", "mug"), ("apple", "a photo of an apple.", "apple"),
     ("the red  mug", "a photo of the red mug.", "the red mug"),
     ("some books", "a photo of some books.", "some books"), ("things", "a photo of things.", "things"),
     ("an apple", "a photo of an apple.", "an apple")],
)  # fmt: skip
def test_prompts(text, photo, plain):
    assert fill("a photo of {a}.", text) == photo
    assert fill("{}", text) == plain
    assert fill("a photo of a {}.", text) == photo, "as people write templates of their own"
    assert fill("a photo of the {}.", "a mug") == "a photo of the mug."


def test_embeddings_of_other_prompt_rules_are_not_taken_from_the_cache(checkpoint, tmp_path, monkeypatch):
    def rows(text):
        return make_encoder("openclip", model="ag2-tiny", checkpoint=checkpoint, cache=tmp_path).encode_text([text])

    monkeypatch.setattr(openclip, "RULES", openclip.RULES - 1)
    monkeypatch.setattr(openclip, "fill", lambda template, text: f"a photo of a {text}.")
    before = rows("things")
    monkeypatch.undo()
    assert not torch.allclose(rows("things"), before)


def test_bad_input(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"no model 'ViT-B16'; nearest: .*ViT-B-16"):
        make_encoder("openclip", model="ViT-B16", checkpoint=checkpoint)
    with pytest.raises(UserError, match="--clip-checkpoint"):
        make_encoder("openclip", model="ViT-B-16")
    with pytest.raises(UserError, match="no such file"):
        make_encoder("openclip", model="ViT-B-16", checkpoint=str(tmp_path / "gone.pt"))
    with pytest.raises(UserError, match="no prompt templates"):
        make_encoder("openclip", model="ag2-tiny", checkpoint=checkpoint, prompts="fancy")
    with pytest.raises(UserError, match=r"tiny\.pt: cannot be loaded as RN50"):
        make_encoder("openclip", model="RN50", checkpoint=checkpoint).encode_crops(torch.zeros(1, 3, 224, 224))
    broken = tmp_path / "broken.pt"
    broken.write_bytes(Path(checkpoint).read_bytes()[:999])
    with pytest.raises(UserError, match=r"broken\.pt: cannot be loaded"):
        make_encoder("openclip", model="ag2-tiny", checkpoint=broken).encode_crops(torch.zeros(1, 3, 32, 32))


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", lambda *a, **k: pytest.fail("went to the network"))
    with pytest.raises(UserError, match="not on this machine; add --download"):
        make_encoder("openclip", model="ViT-B-16", checkpoint="laion2b_s34b_b88k")


def test_siglip_takes_its_own_colour_statistics():
    assert openclip.colour_statistics("ViT-B-16-SigLIP", "file.pt")[0] == (0.5, 0.5, 0.5)
    assert openclip.colour_statistics("ViT-B-16", "file.pt")[0] == openclip.CLIP_MEAN
