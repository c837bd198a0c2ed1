import json

import blob_run
import blob_scene
import pytest
import torch

from ag2_ns.core.errors import MissingLanguage, UserError
from ag2_ns.export.formats import ExportOptions, export_scene
from ag2_ns.perception.tagger import make_tagger
from ag2_ns.query.answer import answer
from ag2_ns.query.click import Click
from ag2_ns.query.naming import name_of
from ag2_ns.query.text import Text
from ag2_ns.scene.naming import named, picture_of, vocabulary_of
from ag2_ns.scene.scene_file import open_scene, save_scene


@pytest.fixture
def scene(tmp_path):
    return blob_scene.make(tmp_path)


@pytest.fixture
def captioned(scene, tmp_path):
    """The scene named from captions: "plate" in every view, the balls in most; a "zebra" in one."""
    said = {f"view_{k:02d}": {"red ball": 1, "green ball": 1, "plate": 2, "blue ball": 1} for k in range(8)}
    said["view_08"] = {"zebra": 1, "plate": 1}
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(said))
    return named(scene, vocabulary_of(scene, make_tagger("files", paths=path))[0])


def test_captions_name_the_balls(captioned):
    own = {n.node: n.word for n in captioned.vocabulary.names}
    assert own[blob_run.RED] == "red ball" and own[blob_run.GREEN] == "green ball"
    assert own[blob_run.BLUE] == "blue ball" and own[blob_run.PLATE] == "plate"
    assert captioned.vocabulary.name_of(blob_run.TOP) == "red ball"  # inherits
    assert captioned.vocabulary.dropped == {"zebra": "unknown to the encoder"}


def test_names_survive_the_file_and_answer_texts_and_clicks(captioned):
    save_scene(captioned.path, captioned)
    again = open_scene(captioned.path, "cpu")
    assert again.vocabulary.words == captioned.vocabulary.words
    found = answer(again, Text("the red ball"))
    assert found.selection.nodes == (blob_run.RED,) and "vocabulary" in found.reason
    assert name_of(again, blob_run.GREEN) == "green ball"
    K, view = again.views[0].view.K, again.views[0].view
    centre = view.viewmat[:3, :3] @ torch.tensor(blob_run.CENTRES["blue"]) + view.viewmat[:3, 3]
    x, y = (K @ centre)[:2] / centre[2]
    clicked = answer(again, Click("view_00", float(x), float(y)))
    assert clicked.selection.label == "blue ball"


def test_exports_carry_the_names(captioned, tmp_path):
    from ag2_ns.edit.apply import apply_edits

    edited = apply_edits(captioned.gaussians, captioned.gaussian_anchor, [])
    export_scene(captioned, edited, [], tmp_path / "e", [], ["boxes"], ExportOptions())
    content = json.loads((tmp_path / "e" / "labels.json").read_text())
    assert {"blue ball", "plate"} <= set(content["labels"])


def test_retrieval_needs_no_captions(scene):
    found, tags = vocabulary_of(scene, make_tagger("retrieval", encoder=scene.texts.encoder()))
    assert {"blue ball", "plate"} <= set(found.words)
    assert len(tags) == blob_run.VIEWS


def test_captions_of_other_pictures(scene, tmp_path):
    (tmp_path / "c.json").write_text('{"elsewhere": "a mug"}')
    with pytest.raises(UserError, match="names other pictures"):
        vocabulary_of(scene, make_tagger("files", paths=tmp_path / "c.json"))


def test_words_in_another_script_name_nothing(scene, tmp_path):
    (tmp_path / "c.json").write_text('{"view_00": {"кружка": 1}}')
    found, _ = vocabulary_of(scene, make_tagger("files", paths=tmp_path / "c.json"))
    assert found.words == () and "кружка" in found.dropped


def test_a_scene_without_language(scene, tmp_path):
    from dataclasses import replace

    (tmp_path / "c.json").write_text('{"view_00": "a mug"}')
    language = replace(scene.index.language, feature=torch.zeros_like(scene.index.language.feature))
    bare = replace(scene, index=replace(scene.index, language=language))
    with pytest.raises(MissingLanguage):
        vocabulary_of(bare, make_tagger("files", paths=tmp_path / "c.json"))


def test_pictures_come_from_the_capture_or_are_drawn(scene):
    from dataclasses import replace

    assert (picture_of(scene, scene.views[0]) == 90).all()
    drawn = picture_of(replace(scene, source=None), scene.views[0])
    assert drawn.shape == (blob_run.HEIGHT, blob_run.WIDTH, 3) and drawn.max() > 100
