import json

import numpy as np
import pytest

from ag2_ns.core.errors import UserError
from ag2_ns.io.referring import (
    TEST_FRAMES,
    read_amodal,
    read_ref_lerf,
    read_sentences,
    write_amodal,
    write_ref_lerf,
)


def masks(seed=0):
    return np.random.default_rng(seed).random((9, 11)) > 0.5


def test_ref_lerf_survives_its_files(tmp_path):
    train = [("frame_00001", "mug", ["the red mug", "a mug"], masks(1)), ("frame_00001", "egg", ["an egg"], masks(2))]
    test = [("frame_00006", "mug", ["the mug on the left"], masks(3))]
    assert write_ref_lerf(tmp_path, train, "train") == 1 and write_ref_lerf(tmp_path, test) == 1
    found = {(m.frame, m.category): m for m in read_ref_lerf(tmp_path)}
    assert len(found) == 3
    assert found["frame_00001", "mug"].split == "train" and found["frame_00006", "mug"].split == "test"
    assert found["frame_00001", "mug"].sentences == ("the red mug", "a mug")
    for frame, category, _, mask in train + test:
        assert np.array_equal(found[frame, category].read(), mask)


def test_older_layouts_are_read(tmp_path):
    """json/ without splits, masks called frame_category or by the published loader's key."""
    from PIL import Image

    scene = tmp_path / "ramen"
    (scene / "json").mkdir(parents=True)
    (scene / "mask" / "frame_00024").mkdir(parents=True)
    for number in (5, 24):
        content = {"object": [{"category": "egg", "segmentation": "", "sentence": ["an egg"]}]}
        (scene / "json" / f"frame_{number:05d}.json").write_text(json.dumps(content))
    Image.fromarray(masks().astype(np.uint8) * 255).save(scene / "mask" / "frame_00024" / "egg_01.png")
    found = {m.frame: m for m in read_ref_lerf(scene)}
    assert found["frame_00024"].split == "test" and found["frame_00005"].split == "train"
    assert np.array_equal(found["frame_00024"].read(), masks())
    with pytest.raises(UserError, match="no mask"):
        found["frame_00005"].read()


def test_test_frames_are_those_of_the_paper():
    assert TEST_FRAMES["waldo_kitchen"] == (19, 35, 67, 105, 162) and len(TEST_FRAMES["ramen"]) == 7


def test_a_category_occurs_once_per_frame(tmp_path):
    with pytest.raises(UserError, match="twice"):
        write_ref_lerf(tmp_path, [("frame_1", "egg", ["a"], masks()), ("frame_1", "egg", ["b"], masks())])


@pytest.mark.parametrize("content", ["", "[]", '{"object": [{"category": 3}]}'])
def test_damaged_annotations_are_named(tmp_path, content):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "frame_00001.json").write_text(content)
    with pytest.raises(UserError, match=r"frame_00001|no frame"):
        read_ref_lerf(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_ref_lerf(tmp_path / "elsewhere")


def test_amodal_masks_survive_their_file(tmp_path):
    wanted = {3: masks(1), 7: masks(2)}
    write_amodal(tmp_path / "a.npz", wanted)
    found = read_amodal(tmp_path / "a.npz")
    assert set(found) == {3, 7} and all(np.array_equal(found[k], wanted[k]) for k in wanted)
    write_amodal(tmp_path / "b.npz", wanted)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(b"x")
    for name in ("c.npz", "d.npz"):
        with pytest.raises(UserError, match=name):
            read_amodal(tmp_path / name)


@pytest.mark.parametrize("content", ["", "{}", '{"sentences": [{"text": "a"}]}', '{"sentences": 3}'])
def test_damaged_sentences_are_named(tmp_path, content):
    (tmp_path / "sentences.json").write_text(content)
    with pytest.raises(UserError, match=r"sentences\.json"):
        read_sentences(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_sentences(tmp_path / "none.json")
