"""`ag2 prepare --download`, against a stand-in for the publishers' server."""

from __future__ import annotations

import pytest
from file_server import Served, serve
from tiny_run import ag2

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
