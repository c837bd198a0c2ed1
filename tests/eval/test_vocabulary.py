import json

import blob_scene
import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.eval.named import evaluate_pictures, gaussian_classes, report_of
from ag2_ns.eval.tabletop import GroundTruth
from ag2_ns.eval.vocabulary import (
    VOID,
    map_by_answers,
    map_by_encoder,
    map_by_table,
    random_tpss,
    read_mapping,
    segmentation,
    tpss,
    word_score,
)
from ag2_ns.perception.tagger import make_tagger
from ag2_ns.scene.naming import named, vocabulary_of


def test_tpss_is_the_mean_of_the_best_cosine(generator):
    features, words = torch.randn(30, 8, generator=generator), torch.randn(4, 8, generator=generator)
    unit = torch.nn.functional.normalize
    expected = 100 * float((unit(features, dim=1) @ unit(words, dim=1).T).amax(1).mean())
    assert tpss(features, words) == pytest.approx(expected, rel=1e-5)
    assert tpss(torch.cat([features, torch.zeros(5, 8)]), words) == pytest.approx(expected, rel=1e-5)
    assert tpss(features, words[:0]) == 0 and tpss(features[:0], words) == 0
    more = torch.cat([words, torch.randn(6, 8, generator=generator)])
    assert tpss(features, more) >= tpss(features, words)


def test_the_control_draws_as_many_nouns(generator):
    features, nouns = torch.randn(30, 8, generator=generator), torch.randn(50, 8, generator=generator)
    few, many = random_tpss(features, nouns, 2), random_tpss(features, nouns, 40)
    assert few[0] < many[0] and few[1] > 0
    assert random_tpss(features, nouns, 2) == few
    assert random_tpss(features, nouns, 50)[1] == pytest.approx(0, abs=1e-5)


def test_void_points_are_missed_or_left_out():
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 255, -1])
    predicted = torch.tensor([0, 0, VOID, 1, 1, 1, 0, 0])
    score = segmentation(predicted, truth, ["road", "car", "bus"])
    assert score.iou == {"road": 0.5, "car": pytest.approx(2 / 3, abs=1e-6)}
    assert score.miou == pytest.approx((0.5 + 2 / 3) / 2, abs=1e-6)
    assert score.miou_published == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert score.accuracy == pytest.approx((0.5 + 1) / 2) and score.void == pytest.approx(1 / 6)


def test_nothing_labelled_and_nothing_named():
    assert segmentation(torch.zeros(4).long(), torch.full((4,), 255), ["a"]).miou == 0
    score = segmentation(torch.full((4,), VOID), torch.zeros(4).long(), ["a"])
    assert score.miou == 0 and score.void == 1


def test_words_become_classes():
    classes = ["road", "person", "car"]
    assert map_by_table(["street", "cars", "cloud"], classes, {"street": "road"}) == {
        "street": 0,
        "cars": 2,
        "cloud": VOID,
    }
    answers = {"street": "It is 'road'.", "thing": "'road', 'car', 'person' or 'road'", "sky": "'void'", "x": "none"}
    got = map_by_answers(["street", "thing", "sky", "x", "Car", "woman", "y"], classes, answers)
    assert got == {"street": 0, "thing": 0, "sky": VOID, "x": VOID, "Car": 2, "woman": 1, "y": VOID}
    table = {"road": [1.0, 0], "person": [0.0, 1], "car": [-1.0, 0], "street": [0.9, 0.1], "none": [0.0, 0.0]}
    encode = lambda texts: torch.tensor([table[t] for t in texts])  # noqa: E731
    assert map_by_encoder(["street", "car", "none"], classes, encode) == {"street": 0, "car": 2, "none": VOID}
    assert map_by_encoder([], classes, encode) == {}


def test_mapping_files(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"street": "road"}))
    assert read_mapping(tmp_path / "m.json") == {"street": "road"}
    (tmp_path / "n.json").write_text("[]")
    with pytest.raises(UserError, match="word to class"):
        read_mapping(tmp_path / "n.json")


def test_recall_and_precision_of_words():
    score = word_score(["mug", "zebra"], ["mug", "plate"])
    assert (score.recall, score.precision, score.missed, score.wrong) == (0.5, 0.5, ("plate",), ("zebra",))
    assert score.f1 == 0.5
    assert word_score([], ["mug"]).precision == 0 and word_score([], []).f1 == 0
    assert word_score(["cup"], ["mug"], lambda w, t: True).recall == 1


def test_a_named_scene_against_its_own_pictures(tmp_path):
    scene = blob_scene.make(tmp_path)
    found, _ = vocabulary_of(scene, make_tagger("retrieval", encoder=scene.texts.encoder()))
    scene = named(scene, found)
    classes = list(found.words)
    mapping = {w: k for k, w in enumerate(classes)}
    own = gaussian_classes(scene, mapping)
    from ag2_ns.eval.named import picture_classes

    ids = {}
    for view in scene.views:
        ids[view.key] = picture_classes(scene, own, len(classes), view.view) + 1
    truth = GroundTruth(tmp_path, {k + 1: w for k, w in enumerate(classes)}, {k: tmp_path for k in ids})
    truth._read.update({k: v.astype(np.uint8) for k, v in ids.items()})
    score = evaluate_pictures(scene, truth, classes, {k + 1: k for k in range(len(classes))}, mapping)
    assert score.miou == 1.0
    report = report_of(scene, score, classes, lambda a, b: a == b, torch.eye(8)).as_dict()
    assert report["words"]["recall"] == 1 and report["tpss"] > report["tpss_random"]["mean"]
    with pytest.raises(UserError, match="ag2 name"):
        gaussian_classes(blob_scene.make(tmp_path / "b"), {})
