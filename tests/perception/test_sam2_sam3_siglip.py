"""Models of transformers, of random weights but through the real files and the real code."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.encoder import make_encoder
from ag2_ns.perception.pretrained import load_pretrained
from ag2_ns.perception.segmenter import make_segmenter

pytest.importorskip("transformers", minversion="5.0", reason="needs the extra transformers")


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    monkeypatch.setenv("AG2_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    import tiny_models

    root = tmp_path_factory.mktemp("models")
    return {
        "sam2": tiny_models.write_tiny_sam2(root / "sam2"),
        "sam3": tiny_models.write_tiny_sam3(root / "sam3"),
        "siglip": tiny_models.write_tiny_siglip(root / "siglip"),
    }


def eager(segmenter):
    """Random weights are unsure of everything."""
    segmenter.preset = replace(segmenter.preset, pred_iou=-1e9, stability=-1.0, box_iou=1.0)
    return segmenter


@pytest.mark.parametrize("name", ["sam2", "sam3"])
def test_masks_by_a_grid_of_points(models, scene, name):
    segmenter = eager(make_segmenter(name, checkpoint=models[name], points_per_side=3))
    masks = segmenter.segment(scene, "view")
    assert len(masks) >= 1 and (masks.height, masks.width) == scene.shape[:2]
    assert (masks.score.diff() <= 0).all() and (masks.areas > 25).all()
    again = eager(make_segmenter(name, **segmenter.options)).segment(scene, "view")
    assert torch.equal(masks.pixel, again.pixel)
    assert set(segmenter.settings) >= {"weights", "side", "points_per_side"}


def test_a_picture_in_which_nothing_passes_the_filters(models, scene):
    segmenter = make_segmenter("sam2", checkpoint=models["sam2"], points_per_side=2)
    segmenter.preset = replace(segmenter.preset, pred_iou=1e9)
    masks = segmenter.segment(scene, "view")
    assert len(masks) == 0 and (masks.height, masks.width) == scene.shape[:2]


def test_points_are_where_they_should_be(models, scene):
    """Against the processor's own arithmetic: a point of the image in the square that the model sees."""
    from transformers import Sam2Processor
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    segmenter = make_segmenter("sam2", checkpoint=models["sam2"])
    processor = Sam2Processor(Sam2ImageProcessor(size={"height": 64, "width": 64}), target_size=64)
    inputs = processor(images=scene, input_points=[[[[35.0, 40.0]]]], input_labels=[[[1]]], return_tensors="pt")
    with torch.no_grad():
        theirs = segmenter.model(
            **{k: v for k, v in inputs.items() if k in ("pixel_values", "input_points", "input_labels")}
        )
        embedding, (height, width) = segmenter.embed(scene)
        point = torch.tensor([[35.0 * width / scene.shape[1], 40.0 * height / scene.shape[0]]])
        logits, quality = segmenter.decode(embedding, point)
    torch.testing.assert_close(logits[0], theirs.pred_masks[0, 0], atol=0.02, rtol=0.02)
    torch.testing.assert_close(quality[0], theirs.iou_scores[0, 0], atol=0.01, rtol=0.02)
    full = segmenter.enlarge(logits[0], (height, width), scene.shape[:2])
    expected = processor.post_process_masks(theirs.pred_masks, inputs["original_sizes"], binarize=False)[0][0]
    torch.testing.assert_close(full, expected, atol=0.02, rtol=0.02)


def test_sam3_finds_what_words_name(models, scene):
    segmenter = make_segmenter("sam3", checkpoint=models["sam3"], words=("red disc", "blue mug", "red disc", " "))
    assert segmenter.words == ("red disc", "blue mug")
    found = segmenter.find(scene, "red disc", least=0.0)
    assert len(found) == 6 and (found.score.diff() <= 0).all()
    other = segmenter.find(scene, "blue mug", least=0.0)
    assert not torch.equal(found.score, other.score)  # the words make a difference
    assert len(segmenter.find(scene, "red disc", least=0.999)) == 0
    assert len(segmenter.segment(scene, "view")) == 0  # random weights are less sure than `WORD_SCORE`
    assert segmenter.options["words"] == ["red disc", "blue mug"]
    with pytest.raises(UserError, match="the text is empty"):
        segmenter.find(scene, " ")


def test_sam3_equals_the_publishers_steps(models, scene):
    from transformers import AutoTokenizer
    from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

    segmenter = make_segmenter("sam3", checkpoint=models["sam3"], words=("red disc",))
    processor = Sam3ImageProcessor(size={"height": 56, "width": 56})
    inputs = processor(images=scene, return_tensors="pt")
    tokenizer = AutoTokenizer.from_pretrained(models["sam3"])
    tokens = tokenizer("red disc", padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        out = segmenter.finder(
            pixel_values=inputs["pixel_values"], input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
    expected = processor.post_process_instance_segmentation(out, threshold=0.0, target_sizes=[scene.shape[:2]])[0]
    found = segmenter.find(scene, "red disc", least=0.0)
    torch.testing.assert_close(found.score, expected["scores"].sort(descending=True).values, atol=1e-3, rtol=0)
    agree = (found.dense()[0] == expected["masks"][expected["scores"].argmax()].bool()).float().mean()
    assert agree > 0.98


def test_siglip_encodes_crops_and_texts(models, scene, tmp_path):
    encoder = make_encoder("siglip", checkpoint=models["siglip"], cache=tmp_path / "texts", prompts="plain")
    dense = torch.zeros(3, *scene.shape[:2], dtype=torch.bool)
    dense[0, 16:64, 11:59], dense[1, 25:75, 75:115] = True, True
    rows = encoder.encode_image(scene, MaskSet.from_dense(dense), "view")
    assert rows.shape == (3, 32) and (rows[2] == 0).all()
    torch.testing.assert_close(rows[:2].norm(dim=1), torch.ones(2))
    texts = encoder.encode_text(["red disc", "Red Disc", "blue mug"])
    torch.testing.assert_close(texts[0], texts[1])
    assert not torch.allclose(texts[0], texts[2])
    assert encoder.encode_text([]).shape == (0, 32)
    assert list((tmp_path / "texts").rglob("*"))
    again = make_encoder("siglip", **encoder.options)
    torch.testing.assert_close(again.encode_image(scene, MaskSet.from_dense(dense), "")[0], rows[0])


def test_siglip_equals_the_models_own_steps(models, scene, tmp_path):
    from transformers import AutoTokenizer, SiglipModel

    encoder = make_encoder("siglip", checkpoint=models["siglip"], cache=tmp_path, prompts="plain")
    model = SiglipModel.from_pretrained(models["siglip"]).eval()
    tokens = AutoTokenizer.from_pretrained(models["siglip"])(
        ["red mug"], padding="max_length", max_length=16, return_tensors="pt"
    )
    pixels = torch.from_numpy(scene[:32, :32]).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        text = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        image = model.get_image_features(pixel_values=(pixels - 0.5) / 0.5).pooler_output
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(encoder.encode_text(["red mug"]), unit(text, dim=1), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoder.encode_crops(pixels), unit(image, dim=1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind, name", [("sam2", "sam2.1-large"), ("sam3", "sam3"), ("siglip", "siglip2-base")])
def test_without_weights_the_line_that_fetches_them(kind, name):
    make = make_encoder if kind == "siglip" else make_segmenter
    with pytest.raises(UserError, match=f"`ag2 prepare --download {name}`"):
        make(kind)
    with pytest.raises(UserError, match=f"`ag2 prepare --download {name}`"):
        make(kind, checkpoint="nobody/knows-this")


def test_downloaded_weights_are_found_by_name(models, scene, tmp_path):
    import shutil

    shutil.copytree(models["sam2"], tmp_path / "weights" / "sam2.1-large")
    assert make_segmenter("sam2").options["checkpoint"].endswith("sam2.1-large")
    assert make_segmenter("sam2", checkpoint="sam2.1-large").options["checkpoint"].endswith("sam2.1-large")


def test_wrong_and_damaged_folders(models, tmp_path):
    with pytest.raises(UserError, match="is a siglip, not a sam2"):
        make_segmenter("sam2", checkpoint=models["siglip"])
    with pytest.raises(UserError, match="no config"):
        make_segmenter("sam2", checkpoint=tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((models["sam2"] / "config.json").read_text())
    with pytest.raises(UserError, match="could execute code"):
        make_segmenter("sam2", checkpoint=broken)
    (broken / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be loaded as Sam2Model") as error:
        make_segmenter("sam2", checkpoint=broken)
    assert "\n" not in str(error.value)
    (broken / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        make_segmenter("sam2", checkpoint=broken)


@pytest.mark.slow
def test_missing_weights_and_missing_tokenizer(models, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    part = tmp_path / "part"
    shutil.copytree(models["sam2"], part)
    weights = load_file(part / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "iou_token" not in k}, part / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="1 weights are missing"):
        make_segmenter("sam2", checkpoint=part)
    mute = tmp_path / "mute"
    shutil.copytree(models["siglip"], mute)
    for file in mute.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="its tokenizer cannot be loaded"):
        make_encoder("siglip", checkpoint=mute, cache=tmp_path / "t").encode_text(["red mug"])


def test_without_the_library(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'ag2-ns\[transformers\]'"):
        load_pretrained("Sam2Model", models["sam2"], torch.device("cpu"), torch.float32, ("sam2",))


def test_grey_and_small_images(models):
    segmenter = eager(make_segmenter("sam2", checkpoint=models["sam2"], points_per_side=2))
    masks = segmenter.segment(np.zeros((9, 13, 3), np.uint8), "")
    assert (masks.height, masks.width) == (9, 13)
