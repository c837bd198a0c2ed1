import json

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.palette import BASIC, PaletteEncoder
from ag2_ns.perception.table import TableEncoder
from ag2_ns.perception.tagger import TAGGERS, RetrievalTagger, Tagger, embed_words, make_tagger, words_for

IMAGE = np.zeros((1, 1, 3), np.uint8)
NONE = MaskSet.from_dense(torch.zeros(0, 1, 1, dtype=torch.bool))


def tags(tagger, name, features=torch.zeros(0, 0)):  # noqa: B008
    return tagger.tag(IMAGE, name, NONE, features)


def files(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    return make_tagger("files", paths=path)


@pytest.mark.parametrize("entry", ["a red mug", ["a mug", "mugs"], {"crop_0": "a mug", "crop_1": ["the mug"]}])
def test_captions_of_any_form(tmp_path, entry):
    assert [w for w, _ in tags(files(tmp_path, {"images/frame_1.png": entry}), "frame_1.png")] == ["mug"]


@pytest.mark.parametrize("entry", [{"mug": 2, "plate": 0.5}, [["Mug", 2], ["plate", 0.5]]])
def test_weighted_tags(tmp_path, entry):
    assert tags(files(tmp_path, {"frame_1": entry}), "frame_1.png") == [("mug", 2.0), ("plate", 0.5)]


def test_views_are_found_by_their_path(tmp_path):
    tagger = files(tmp_path, {"left/a.png": "a mug", "right/a.png": "a plate"})
    assert tags(tagger, "right/a.jpg") == [("plate", 1.0)]
    assert tags(tagger, "a.jpg") == []  # either may be meant
    assert tags(tagger, "b.jpg") == []


def test_captions_of_other_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="names other pictures"):
        files(tmp_path, {"other": "a mug"}).require_views(["frame_1.png"])


@pytest.mark.parametrize(("text", "said"), [("{", "not a JSON"), ("[]", "names no view"), ("{}", "names no view")])
def test_bad_files_of_captions(tmp_path, text, said):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        make_tagger("files", paths=path)
    with pytest.raises(UserError, match="no such file"):
        make_tagger("files", paths=tmp_path / "none.json")


def test_bad_entries_name_the_view(tmp_path):
    with pytest.raises(UserError, match="view frame_1"):
        tags(files(tmp_path, {"frame_1": [1, 2]}), "frame_1")
    with pytest.raises(UserError, match="is no tag"):
        tags(files(tmp_path, {"frame_1": [["mug", "much"]]}), "frame_1")


def test_retrieval_votes_for_the_nearest_words():
    encoder = PaletteEncoder()
    red, blue = encoder.encode_text(["red", "blue"])
    tagger = RetrievalTagger(encoder, top=1)
    assert tags(tagger, "v", torch.stack([red, blue, blue])) == [("blue", 2.0), ("red", 1.0)]
    assert tags(tagger, "v") == []
    assert tags(tagger, "v", torch.full((2, encoder.dim), torch.nan)) == []


def test_words_for_an_encoder(tmp_path):
    assert words_for(PaletteEncoder()) == BASIC
    path = tmp_path / "texts.json"
    path.write_text(json.dumps({"mug": [1.0, 0], "object": [0.0, 1]}))
    table = TableEncoder(texts=path)
    assert words_for(table) == ("mug",)
    known, vectors = embed_words(table, ["mug", "sofa", "mug ", ""])
    assert known == ["mug"] and vectors.tolist() == [[1.0, 0.0]]
    assert embed_words(table, [])[0] == []
    with pytest.raises(UserError, match="knows none of the 1 words"):
        RetrievalTagger(table, ["sofa"])


def test_the_registry_makes_every_tagger(tmp_path):
    assert set(TAGGERS) >= {"files", "captioner", "retrieval", "simulated"}
    assert isinstance(files(tmp_path, {"a": "b"}), Tagger)
    with pytest.raises(UserError, match="tagger"):
        make_tagger("none")


def test_captions_of_pictures_and_of_points_are_joined(tmp_path):
    pictures, points = tmp_path / "a.json", tmp_path / "b.json"
    pictures.write_text(json.dumps({"front.png": {"car": 2.0, "tree": 1.0}, "back.png": "a road"}))
    points.write_text(json.dumps({"cloud": {"sector_0": {"car": 0.8, "pole": 0.2}, "sector_1": {"pole": 0.4}}}))
    tagger = make_tagger("files", paths=[pictures, points])
    tagger.require_views(["front.png", "back.png"])
    assert dict(tagger.tag(None, "front.png", None, None)) == {"car": 2.0, "tree": 0.5, "pole": 0.5}
    assert dict(tagger.tag(None, "back.png", None, None)) == {"road": 1.0, "car": 1.0, "pole": 0.5}
    assert dict(make_tagger("files", paths=points).tag(None, "x", None, None)) == {"car": 0.8, "pole": 0.4}
