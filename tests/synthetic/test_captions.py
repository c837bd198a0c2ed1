import json

import numpy as np
import pytest
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.perception.tagger import FilesTagger, Tagger, make_tagger
from ag2_ns.synthetic import point_streets
from ag2_ns.synthetic.captions import (
    SimulatedTagger,
    kind_of,
    same_thing,
    simulated_words,
    word_vectors,
    write_captions,
)
from ag2_ns.synthetic.tabletop.scan import scan

LABELS = {1: "red mug", 2: "blue book", 3: "table"}


@pytest.fixture
def truth(tmp_path):
    ids = np.zeros((60, 80), np.uint8)
    ids[10:30, 10:30], ids[10:30, 40:60], ids[40:] = 1, 2, 3
    (tmp_path / "ids").mkdir()
    Image.fromarray(ids).save(tmp_path / "ids" / "frame_1.png")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    return tmp_path


def test_without_noise_everything_is_named(truth):
    tagger = make_tagger("simulated", ground_truth=truth, noise=0)
    assert isinstance(tagger, Tagger)
    assert [w for w, _ in tagger.tag(None, "frame_1.png")] == ["mug", "book", "table"]
    coloured = SimulatedTagger(truth, noise=0, colours=True)
    assert [w for w, _ in coloured.tag(None, "frame_1.png")] == ["red mug", "blue book", "table"]


def test_errors_come_at_their_rates():
    ids = np.zeros((60, 80), int)
    ids[:, :40], ids[:, 40:] = 1, 2
    rng = np.random.default_rng(0)
    said = [simulated_words(ids, LABELS, 1.0, rng) for _ in range(800)]
    right = np.mean([w == "mug" for s in said for w in ["mug" if "mug" in s else ""]])
    renamed = np.mean([bool({"cup", "coffee cup"} & set(s)) for s in said])
    wrong = np.mean([sum(not any(same_thing(w, t) for t in LABELS.values()) for w in s) for s in said])
    assert right == pytest.approx(0.7 * 0.8, abs=0.05)
    assert renamed == pytest.approx(0.7 * 0.2, abs=0.04)
    assert wrong == pytest.approx(0.6, abs=0.1)


def test_the_same_view_is_said_the_same(truth):
    a, b = (SimulatedTagger(truth, seed=4).tag(None, "frame_1.png") for _ in range(2))
    assert a == b
    with pytest.raises(UserError, match="example scenes"):
        SimulatedTagger(truth).tag(None, "other.png")
    with pytest.raises(UserError, match="no ground truth"):
        SimulatedTagger(truth / "none")


def test_written_captions_are_read_back(truth):
    write_captions(truth / "c.json", ["frame_1"], SimulatedTagger(truth, noise=0))
    assert {w for w, _ in FilesTagger(truth / "c.json").tag(None, "frame_1", None, None)} == {"mug", "book", "table"}


def test_synonyms_lie_near_their_word():
    words = word_vectors(["mug", "cup", "red mug", "plate", "sofa"])
    cosine = lambda a, b: float(words[a] @ words[b])  # noqa: E731
    assert cosine("mug", "cup") == pytest.approx(0.92, abs=0.01)
    assert cosine("mug", "red mug") > 0.9 > 0.85 > cosine("mug", "plate")
    assert kind_of("red mug") == "mug" and kind_of("table") == "table" and kind_of("toy car") == "toy car"
    assert same_thing("cup", "red mug") and same_thing("red cup", "mug") and not same_thing("plate", "mug")


def test_a_scan_lies_on_the_objects(tabletop_tiny):
    found = scan(tabletop_tiny, voxel=0.05, views=4, width=64, height=48)
    labels = json.loads((tabletop_tiny / "ground_truth" / "labels.json").read_text())
    assert len(found.xyz) > 300 and set(np.unique(found.label)) <= {int(k) for k in labels}
    assert found.rgb.dtype == np.uint8 and np.isfinite(found.xyz).all()
    with pytest.raises(UserError, match="not a table-top scene"):
        scan(tabletop_tiny / "images")


def test_point_streets():
    a, b = point_streets.make(3, points=800), point_streets.make(3, points=800)
    assert np.array_equal(a.xyz, b.xyz) and np.array_equal(a.vectors, b.vectors)
    assert a.cameras.shape == (6, len(a.xyz)) and a.cameras.any(0).all()
    assert np.allclose(np.linalg.norm(a.vectors, axis=1), 1, atol=1e-5)
    texts = point_streets.class_vectors()
    cosine = (a.feature * texts[a.label]).sum(1)
    assert 0.6 < cosine.mean() < 0.8
    assert len(np.unique(a.label)) > 5
