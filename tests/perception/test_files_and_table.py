from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ag2_ns.core.errors import UnknownWords, UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.published_files import write_clip_features, write_masks_sparse
from ag2_ns.perception.encoder import ENCODERS, encoder_of, make_encoder, register_encoder
from ag2_ns.perception.files import resize_nearest
from ag2_ns.perception.segmenter import SEGMENTERS, make_segmenter, register_segmenter

IMAGE = np.zeros((20, 30, 3), np.uint8)


@pytest.fixture
def dense() -> torch.Tensor:
    out = torch.zeros(3, 20, 30, dtype=torch.bool)
    out[0, 2:9, 3:12] = True
    out[1, 5:15, 8:25] = True  # overlaps the first
    out[2, 16:, :4] = True
    return out


def test_sparse_tensors_keep_order_and_empty_masks(tmp_path, dense):
    dense = torch.cat([dense[:1], torch.zeros(1, 20, 30, dtype=torch.bool), dense[1:]])
    write_masks_sparse(tmp_path / "sub" / "a.pt", MaskSet.from_dense(dense))
    masks = make_segmenter("files", folder=tmp_path).segment(IMAGE, "sub/a")
    assert torch.equal(masks.dense(), dense)


def test_folder_of_binary_images(tmp_path, dense):
    (tmp_path / "a").mkdir()
    for k, mask in enumerate(dense.numpy()):
        mode = np.stack([mask * 255] * 3, -1) if k == 1 else mask * (255 if k else 1)
        Image.fromarray(mode.astype(np.uint8)).save(tmp_path / "a" / f"{k}.png")
    masks = make_segmenter("files", folder=tmp_path).segment(IMAGE, "a")
    assert torch.equal(masks.dense(), dense)


@pytest.mark.parametrize("mode", ["L", "I;16", "P", "RGB"])
def test_image_of_ids(tmp_path, mode):
    ids = np.zeros((20, 30), np.uint16)
    ids[2:9, 3:12], ids[5:15, 12:25], ids[16:, :4] = 3, 7, 200
    if mode == "RGB":
        image = Image.fromarray(np.stack([ids % 5, ids, ids // 2], -1).astype(np.uint8))
    elif mode == "P":
        image = Image.fromarray(ids.astype(np.uint8))
        image.putpalette(list(range(256)) * 3)
    else:
        image = Image.fromarray(ids.astype(np.uint8) if mode == "L" else ids * 50)
    image.save(tmp_path / "a.png")
    masks = make_segmenter("files", folder=tmp_path).segment(IMAGE, "a")
    expected = torch.stack([torch.from_numpy(ids == k) for k in (3, 7, 200)])
    got = masks.dense()
    assert sorted(m.sum().item() for m in got) == sorted(m.sum().item() for m in expected)
    assert all(any(torch.equal(m, e) for e in expected) for m in got)
    if mode != "RGB":
        assert torch.equal(got, expected)


def test_no_background(tmp_path):
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(tmp_path / "a.png")
    assert make_segmenter("files", folder=tmp_path).segment(IMAGE, "a").areas.tolist() == [600]


def test_other_sizes(tmp_path, dense):
    write_masks_sparse(tmp_path / "a.pt", MaskSet.from_dense(dense))
    image = np.zeros((40, 60, 3), np.uint8)
    with pytest.raises(UserError, match=r"a\.pt: masks are 30x20 but the image is 60x40; pass --resize-masks"):
        make_segmenter("files", folder=tmp_path).segment(image, "a")
    resized = make_segmenter("files", folder=tmp_path, resize=True).segment(image, "a")
    assert torch.equal(resized.dense(), dense.repeat_interleave(2, 1).repeat_interleave(2, 2))
    with pytest.raises(UserError, match="undistorted image"):
        make_segmenter("files", folder=tmp_path, resize=True).segment(np.zeros((40, 40, 3), np.uint8), "a")
    back = resize_nearest(resized, 20, 30)
    assert torch.equal(back.dense(), dense)


def test_missing_and_broken_files(tmp_path, dense):
    with pytest.raises(UserError, match="no such folder"):
        make_segmenter("files", folder=tmp_path / "gone")
    with pytest.raises(UserError, match="no masks for this image"):
        make_segmenter("files", folder=tmp_path).segment(IMAGE, "a")
    assert len(make_segmenter("files", folder=tmp_path, allow_missing=True).segment(IMAGE, "a")) == 0
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        make_segmenter("files", folder=tmp_path).segment(IMAGE, "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"no \.png masks"):
        make_segmenter("files", folder=tmp_path).segment(IMAGE, "b")


@pytest.fixture
def table(tmp_path, dense):
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    write_clip_features(tmp_path / "clip_features" / "a.pt", rows)
    texts = {"red mug": rows[0].tolist(), "Green Apple": rows[1].tolist(), "spoon": rows[2].tolist()}
    (tmp_path / "text_features.json").write_text(json.dumps(texts))
    return tmp_path, rows, MaskSet.from_dense(dense)


def test_table_rows_and_texts(table):
    folder, rows, masks = table
    encoder = make_encoder("table", features=folder / "clip_features", texts=folder / "text_features.json")
    features = encoder.encode_image(IMAGE, masks, "a")
    assert torch.allclose(features, torch.nn.functional.normalize(rows.half().float(), dim=1), atol=1e-6)
    similarity = encoder.encode_text(["Red  mug", "green apple!"]) @ features.T
    assert similarity.argmax(1).tolist() == [0, 1]
    assert encoder.known_texts() == ["red mug", "green apple", "spoon"]
    again = encoder_of(type("M", (), {"maker": "table", "options": encoder.options}))
    assert torch.equal(again.encode_text(["spoon"]), encoder.encode_text(["spoon"]))


@pytest.fixture
def words(tmp_path):
    """A table of things, with the canonical negatives as `ag2 example` writes them."""
    texts = ["green book", "white book", "pink rubber duck", "glass", "glasses", "object", "things", "stuff", "texture"]
    vectors = np.eye(len(texts)).tolist()
    (tmp_path / "text_features.json").write_text(json.dumps(dict(zip(texts, vectors))))
    return make_encoder("table", texts=tmp_path / "text_features.json"), texts


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("the green book", "green book"), ("green books", "green book"), ("a green  book", "green book"),
        ("Green Book", "green book"), ("all the white books", "white book"), ("duck", "pink rubber duck"),
        ("the Ducks", "pink rubber duck"), ("rubber duck", "pink rubber duck"), ("green", "green book"),
        ("(green) book", "green book"),
        ("glasses", "glasses"), ("glass", "glass"), ("the glass", "glass"), ("things", "things"), ("object", "object"),
    ],
)  # fmt: skip
def test_a_text_is_known_whatever_its_article_number_and_case(words, text, meant):
    encoder, texts = words
    assert int(encoder.encode_text([text])[0].argmax()) == texts.index(meant)


@pytest.mark.parametrize("text", ["book", "the books", "green duck", "mug", "the object", "thing", "the", "rubber mat"])
def test_a_text_that_means_several_or_nothing_is_not_guessed(words, text):
    with pytest.raises(UnknownWords) as error:
        words[0].encode_text([text])
    assert error.value.text == text


@pytest.mark.parametrize("text", ["objects here", "xyzzy", "textures"])
def test_negatives_are_not_offered_as_texts(words, text):
    with pytest.raises(UserError) as error:
        words[0].encode_text([text])
    offered = str(error.value).partition(";")[2]
    assert offered and not any(negative in offered for negative in ("object", "things", "stuff", "texture"))
    assert "known: green book, white book, pink rubber duck, glass, glasses" in str(error.value) or "nearest" in offered


def test_a_table_is_found_where_its_scene_has_moved_to(table, tmp_path):
    folder, *_ = table
    encoder = make_encoder("table", features=folder / "clip_features", texts=folder / "text_features.json")
    made = type("M", (), {"maker": "table", "options": encoder.options})
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("clip_features", "text_features.json"):
        (folder / name).rename(moved / name)
    with pytest.raises(UserError, match="no such folder of features"):
        encoder_of(made)
    assert encoder_of(made, data=moved).known_texts() == ["red mug", "green apple", "spoon"]


def test_table_complains(table):
    folder, _, masks = table
    encoder = make_encoder("table", features=folder / "clip_features", texts=folder / "text_features.json")
    with pytest.raises(UserError, match="'red cup': nothing here is called that; nearest: red mug"):
        encoder.encode_text(["spoon", "red cup"])
    with pytest.raises(UserError, match="3 rows of features for 2 masks"):
        encoder.encode_image(IMAGE, MaskSet.from_dense(masks.dense()[:2]), "a")
    with pytest.raises(UserError, match=r"b\.pt: no such file"):
        encoder.encode_image(IMAGE, masks, "b")
    with pytest.raises(UserError, match="without texts"):
        make_encoder("table", features=folder / "clip_features").encode_text(["spoon"])
    (folder / "text_features.json").write_text("[1, 2")
    with pytest.raises(UserError, match="not a JSON of text to vector"):
        make_encoder("table", texts=folder / "text_features.json")


def test_registering_one_is_one_class():
    @register_segmenter("nothing")
    class Nothing:
        settings = options = {}

        def segment(self, image, image_name):
            return MaskSet.from_dense(torch.zeros(0, *image.shape[:2], dtype=torch.bool))

    @register_encoder("silent")
    class Silent:
        dim, settings, options = 1, {}, {}

    try:
        assert make_segmenter("nothing").name == "nothing"
        assert make_encoder("silent").name == "silent"
        with pytest.raises(
            UserError, match=r"no segmenter called 'magic'; choose one of: superpixel, sam, files, .*nothing"
        ):
            make_segmenter("magic")
        with pytest.raises(UserError, match="no encoder called 'magic'"):
            make_encoder("magic")
    finally:
        del SEGMENTERS["nothing"], ENCODERS["silent"]
