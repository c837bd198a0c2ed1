"""`ag2 prepare --download`, against a stand-in for the publishers' server."""

from __future__ import annotations

import shlex
import shutil

import pytest
from file_server import Served, serve
from tiny_run import ag2

from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.perception import download
from ag2_ns.plugin.prepare import Prepare
from ag2_ns.plugin.prepare_weights import needed


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "WAIT", 0.001)
    monkeypatch.setenv("AG2_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def test_by_name(monkeypatch, tmp_path, capsys):
    root = "/facebook/sam2.1-hiera-tiny/resolve/main"
    with serve({f"{root}/config.json": Served(b"{}"), f"{root}/model.safetensors": Served(b"x" * 99)}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        ag2("prepare", "--download", "sam2.1-tiny")
        ag2("prepare", "--download", "sam2.1-tiny")
    out = capsys.readouterr().out
    assert "use it:  ag2 prepare DATA --segmenter sam2 --checkpoint sam2.1-tiny" in out
    assert "is there already" in out
    assert (tmp_path / "weights" / "sam2.1-tiny" / "model.safetensors").read_bytes() == b"x" * 99


def test_list_and_unknown(capsys):
    ag2("prepare", "--download", "list")
    assert "sam3" in capsys.readouterr().out
    for options, says in (
        (("--download", "sam9"), "choose of: sam-vit_h"),
        ((), "name the scene"),
        (("--download",), "name what to fetch"),
    ):
        with pytest.raises(SystemExit):
            ag2("prepare", *options)
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, names",
    [
        ({"segmenter": "sam2"}, ["sam2.1-large"]),
        ({"segmenter": "sam2", "checkpoint": "sam2.1-tiny", "encoder": "siglip"}, ["sam2.1-tiny", "siglip2-base"]),
        ({"segmenter": "sam3", "siglip_checkpoint": "siglip-base"}, ["siglip-base", "sam3"]),
        ({"segmenter": "sam"}, ["sam-vit_h"]),
        ({"clip_checkpoint": "laion2b_s34b_b88k"}, ["openclip-b16"]),
        ({"segmenter": "sam2", "checkpoint": "/somewhere"}, []),
        ({}, []),
    ],
)
def test_what_the_other_options_need(tmp_path, options, names):
    assert needed(Prepare(tmp_path, **options)) == names


@pytest.fixture
def capture(tmp_path):
    from ag2_ns.synthetic.tabletop.generate import generate

    folder = generate(tmp_path / "table top", seed=3, objects=3, views=3, width=128, height=96, noise=0, progress=False)
    for name in ("masks_sparse", "clip_features"):
        shutil.rmtree(folder / name)
    return folder


def stores(folder):
    return MaskStore.open(folder, 1), FeatureStore.open(folder, 1)


def test_sam2_and_siglip_in_one_command(capture, monkeypatch, tmp_path, capsys):
    """Random weights are unsure of everything, so every mask passes."""
    pytest.importorskip("transformers", minversion="5.0", reason="needs the extra transformers")
    import tiny_models

    from ag2_ns.perception import point_grid

    eager = point_grid.SamPreset(4, pred_iou=-1e9, stability=-1.0, min_region=0, box_iou=1.0, contained=None)
    monkeypatch.setattr(point_grid, "PRESETS", {"default": eager})
    sam2, siglip = tiny_models.write_tiny_sam2(tmp_path / "sam2"), tiny_models.write_tiny_siglip(tmp_path / "siglip")
    options = ("--segmenter", "sam2", "--checkpoint", sam2, "--encoder", "siglip", "--siglip-checkpoint", siglip)
    ag2("prepare", capture, *options, "--prompts", "plain", "--preview-every", "0")
    assert "3 segmented, 3 encoded" in capsys.readouterr().out
    masks, features = stores(capture)
    assert masks.manifest.maker == "sam2" and features.manifest.maker == "siglip"
    assert len(masks.stems()) == 3
    for stem in masks.stems():
        assert len(masks.read(stem)) == len(features.read(stem))
    assert sum(map(masks.count, masks.stems())) > 0
    line = FeatureStore.command_for(capture, 1)
    assert shlex.split(line)[3:] == [*map(str, options[:4]), *map(str, options[4:]), "--prompts", "plain"]
    ag2(*shlex.split(line)[1:], "--preview-every", "0")  # what it says can be pasted, and finds everything done
    assert "3 valid already" in capsys.readouterr().out


def test_sam3_with_words_in_one_command(capture, monkeypatch, tmp_path, capsys):
    pytest.importorskip("transformers", minversion="5.0", reason="needs the extra transformers")
    import tiny_models

    from ag2_ns.perception import sam3

    monkeypatch.setattr(sam3, "WORD_SCORE", 0.0)
    weights = tiny_models.write_tiny_sam3(tmp_path / "sam3")
    words = ("red mug", "blue disc")
    options = ("--segmenter", "sam3", "--checkpoint", weights, "--words", *words, "--encoder", "none")
    ag2("prepare", capture, *options, "--preview-every", "0")
    assert "3 segmented, 0 encoded" in capsys.readouterr().out
    line = shlex.split(FeatureStore.command_for(capture, 1))
    assert line[line.index("--words") + 1 :][:2] == list(words)
