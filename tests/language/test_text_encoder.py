import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.view_store import Manifest
from ag2_ns.language import text_encoder
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.perception import encoder
from ag2_ns.scene.scene_index import SceneIndex


def test_texts_need_features(tmp_path):
    with pytest.raises(UserError, match="ag2 prepare"):
        TextEncoder(tmp_path).embed("mug")
    with pytest.raises(UserError, match=r"ag2 prepare '.*/my scene'"):
        TextEncoder(tmp_path / "my scene").embed("mug")
    with pytest.raises(UserError, match="empty"):
        TextEncoder(tmp_path).embed("  ")


def table(path, **vectors):
    path.write_text(json.dumps(vectors))
    features = path.with_suffix("")
    features.mkdir(exist_ok=True)
    return Manifest("table", {"features": path.stem, "dim": 2}, {"features": str(features), "texts": str(path)})


def index_by(manifest):
    one = torch.zeros(1, dtype=torch.int64)
    tree = InstanceTree(one - 1, one, one.float(), one + 1, one.float(), one, one.bool())
    language = NodeLanguage(torch.ones(1, 2), *(torch.ones(1) for _ in range(3)))
    return SceneIndex(one, torch.zeros(1, 3), torch.zeros(2, 0, dtype=torch.int64), tree, language, manifest.to_bytes())


def test_a_run_remembers_its_encoder_when_the_scene_is_prepared_with_another(tmp_path):
    first, second = table(tmp_path / "a.json", mug=[1, 0]), table(tmp_path / "b.json", mug=[0, 1])
    index = SceneIndex.from_dict(index_by(first).to_dict())  # as a checkpoint holds it
    FeatureStore.create(tmp_path, second)
    assert TextEncoder(tmp_path, made_by=lambda: index.encoder).embed("mug").tolist() == [1, 0]
    older = replace(index, encoder=torch.zeros(0, dtype=torch.uint8))  # runs of before know nothing
    assert "encoder" not in older.to_dict()
    assert TextEncoder(tmp_path, made_by=lambda: older.encoder).embed("mug").tolist() == [0, 1]


def test_a_new_index_brings_its_own_encoder(tmp_path):
    first, second = table(tmp_path / "a.json", mug=[1, 0]), table(tmp_path / "b.json", mug=[0, 1])
    index = index_by(first)
    texts = TextEncoder(tmp_path, made_by=lambda: index.encoder)
    assert texts.embed("mug").tolist() == [1, 0]
    index = index_by(second)
    assert texts.embed("mug").tolist() == [0, 1]


def test_the_same_encoder_is_found_where_the_scene_has_it_now(tmp_path):
    made = table(tmp_path / "a.json", mug=[1, 0])
    index = index_by(made)
    (tmp_path / "a.json").rename(tmp_path / "moved.json")
    moved = Manifest("table", made.settings, made.options | {"texts": str(tmp_path / "moved.json")})
    FeatureStore.create(tmp_path, moved)
    assert TextEncoder(tmp_path, made_by=lambda: index.encoder).embed("mug").tolist() == [1, 0]


def test_an_encoder_whose_weights_were_exchanged_is_refused(tmp_path):
    made = Manifest("palette", {"version": 0, "dim": 7})
    with pytest.raises(UserError, match=r"another palette encoder.*dim, version.*ag2 lift"):
        TextEncoder(tmp_path, made_by=lambda: index_by(made).encoder).embed("red")


def test_two_threads_build_the_encoder_once(tmp_path, monkeypatch):
    """The panel's lanes ask at the same time: an encoder takes seconds and gigabytes."""
    made, built, both = table(tmp_path / "a.json", mug=[1, 0]), [], threading.Barrier(2)

    def encoder_of(manifest, *place):
        built.append(manifest.maker)
        time.sleep(0.2)  # long enough for the other thread to come
        return encoder.encoder_of(manifest, *place)

    monkeypatch.setattr(text_encoder, "encoder_of", encoder_of)
    texts = TextEncoder(tmp_path, made_by=lambda: index_by(made).encoder)

    def ask():
        both.wait(10)
        return texts.embed("mug").tolist()

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ask) for _ in range(2)]
        assert [a.result(20) for a in answers] == [[1, 0]] * 2
    assert built == ["table"]
