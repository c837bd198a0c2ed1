import json
import sys

import pytest
import torch

import ag2_ns
from ag2_ns.cli.main import main
from ag2_ns.core.errors import MissingFile, UserError
from ag2_ns.query.sentence.query import Sentence, looks_like_sentence
from ag2_ns.query.sentence.solve import NeedsView


@pytest.fixture
def scene(blob_run):
    return ag2_ns.open(blob_run)


def test_attributes_and_names(scene):
    answer = scene.select(sentence="the ball that is blue")
    assert answer.selection.nodes == (5,) and not answer.selection.empty
    assert "blue ball" in answer.reason and answer.selection.score > 0.5
    assert answer.selection.label == "the ball that is blue"


def test_relations_order_and_runner_up(scene):
    answer = scene.select(sentence="the ball closest to the blue ball")
    assert answer.selection.nodes == (4,)
    assert answer.runner_up is not None
    assert scene.select(sentence="the thing under the red ball").selection.nodes == (6,)
    assert len(scene.select(sentence="all balls").selection.nodes) == 3


def test_the_viewer_decides_what_is_left(scene):
    names = [v.name for v in scene.views]
    found = {scene.select(sentence="the leftmost ball", seen_from=n).selection.nodes for n in names}
    assert len(found) == 3
    with pytest.raises(NeedsView, match="--seen-from"):
        scene.select(sentence="the leftmost ball")
    with pytest.raises(UserError, match="no such image"):
        scene.select(sentence="the leftmost ball", seen_from="nowhere")


def test_a_camera_of_ones_own(scene):
    view = scene.views[0].view
    assert Sentence("the ball on the left", view).reply(scene, None).selection.nodes


def test_what_is_not_there(scene):
    answer = scene.select(sentence="the red mug")
    assert answer.selection.empty and "mug" in answer.reason


@pytest.mark.parametrize("text", ["", " ", "the ball on " * 70])
def test_bad_sentences_are_refused_in_one_line(scene, text):
    with pytest.raises(UserError) as error:
        scene.select(sentence=text)
    assert "\n" not in str(error.value)


def test_the_vertical_can_be_given(scene):
    assert scene.select(sentence="the thing under the red ball", up=(0.0, 0.0, 1.0)).selection.nodes == (6,)
    upside_down = scene.select(sentence="the thing under the red ball", up=(0.0, 0.0, -1.0))
    assert upside_down.selection.nodes != (6,)


def test_a_reasoner_answers_instead(scene):
    seen = {}

    def reasoner(content, sentence):
        seen.update(content)
        return {"ids": [0], "reason": "because"}

    answer = scene.select(sentence="whatever you like", reasoner=reasoner)
    assert answer.reason == "because" and len(answer.selection.nodes) == 1
    assert {"id", "colours", "centre", "size", "near"} <= set(seen["things"][0])
    json.dumps(seen)
    with pytest.raises(UserError, match="list of ids"):
        scene.select(sentence="x", reasoner=lambda c, s: ["red"])


def test_a_reasoner_may_be_a_command(scene, tmp_path):
    script = tmp_path / "reason.py"
    script.write_text("import json,sys; d=json.load(sys.stdin); print(json.dumps([d['scene']['things'][-1]['id']]))")
    command = f"{sys.executable} {script}"
    assert len(scene.select(sentence="anything", reasoner=command).selection.nodes) == 1
    for bad, match in ((f"{sys.executable} -c 'print(3,'", "failed"), ("no-such-command-here", "no such command")):
        with pytest.raises(UserError, match=match):
            scene.select(sentence="anything", reasoner=bad)


def test_the_field_is_missing_before_it_is_trained(scene):
    with pytest.raises(MissingFile, match="refer-train"):
        scene.select(sentence="the red ball", by="field")


def test_a_scene_without_language_still_knows_colours_and_places(scene):
    from dataclasses import replace

    index = scene.index
    language = replace(index.language, feature=index.language.feature[:, :0])
    mute = replace(scene, index=replace(index, language=language), texts=None)
    assert mute.select(sentence="the blue thing").selection.nodes == (5,)
    assert mute.select(sentence="the ball").selection.empty


def test_the_command_writes_and_explains(blob_run, tmp_path, capsys):
    out = tmp_path / "found"
    main(["query", "--load-config", str(blob_run), "--sentence", "the ball nearest to the green ball", "--output-dir",
          str(out), "--max-views", "1"])  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    assert answer["found"] and "nearest" in answer["reason"]
    assert (out / "selection.npz").is_file() and len(list((out / "overlays").glob("*.png"))) == 1


def test_the_command_asks_for_a_picture(blob_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["query", "--load-config", str(blob_run), "--sentence", "the ball left of the red ball", "--output-dir",
              str(tmp_path / "x")])  # fmt: skip
    assert "--seen-from" in capsys.readouterr().err


def test_which_texts_are_sentences():
    for text in ("mug", "red mug", "the mug", "all mugs", "block tower"):
        assert not looks_like_sentence(text)
    for text in ("the mug on the book", "the tallest mug", "the mug that is not red", "two mugs", "leftmost mug"):
        assert looks_like_sentence(text)
    assert not looks_like_sentence("")


def test_scores_cover_all_anchors(scene):
    found = scene.select(sentence="the red ball").selection
    assert found.anchor_score.shape == found.anchor_mask.shape
    assert bool(torch.isfinite(found.anchor_score).all()) and float(found.anchor_score.max()) <= 1


def test_facts_that_a_scene_holds_are_not_found_again(scene, monkeypatch):
    import ag2_ns.query.sentence.query as module

    monkeypatch.setattr(module, "gather_facts", lambda *a, **k: pytest.fail("found again"))
    assert module.facts_of(scene) is scene.facts
    monkeypatch.undo()
    up = module.facts_of(scene, up=(0.0, 1.0, 0.0))
    assert up is not scene.facts and up.up.tolist() == [0, 1, 0]
    assert len(module.facts_of(scene, level=0.0)) >= len(scene.facts)


@pytest.mark.parametrize(
    "text",
    [
        "die rote Kugel neben dem Tisch",
        "la pelota roja al lado de la mesa",
        "テーブルの上の赤いボール",
        "الكرة الحمراء",
    ],
)
def test_a_sentence_in_another_language(scene, text):
    """Nothing is selected for words that nobody here knows, and the answer says which."""
    answer = scene.select(sentence=text)
    assert answer.selection.empty and answer.reason


def test_a_contradiction_through_the_scene(scene):
    answer = scene.select(sentence="the red ball that is not red")
    assert answer.selection.empty and "red" in answer.reason
