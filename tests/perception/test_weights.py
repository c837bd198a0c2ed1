from __future__ import annotations

import pytest
from file_server import Served, serve

from ag2_ns.core.errors import UserError
from ag2_ns.perception import download
from ag2_ns.perception.download import RemoteFile
from ag2_ns.perception.weights import (
    CATALOGUE,
    Weights,
    downloaded,
    downloaded_tag,
    fetch_weights,
    lookup,
    weights_folder,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "WAIT", 0.001)
    monkeypatch.setenv("AG2_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def test_catalogue_is_consistent():
    import open_clip

    for name, weights in CATALOGUE.items():
        assert weights.name == name and weights.about and weights.options
        assert all(f.url.startswith(("https://", "hub:")) for f in weights.files)
        assert all(f.sha256 is None or len(f.sha256) == 64 for f in weights.files)
        assert any(not f.optional for f in weights.files)
        if weights.tag is not None:
            model, tag = weights.tag
            assert tag in open_clip.list_pretrained_tags_by_model(model)
    with pytest.raises(UserError, match="choose of: sam-vit_h, "):
        lookup("sam9")


def test_hub_files_by_its_address(monkeypatch, tmp_path):
    """The whole way of `--download sam2.1-tiny`, with a stand-in for the hub."""
    root = "/facebook/sam2.1-hiera-tiny/resolve/main"
    files = {f"{root}/config.json": Served(b"{}"), f"{root}/model.safetensors": Served(b"x" * 5000)}
    seen = set()
    assert downloaded("sam2.1-tiny") is None
    with serve(files) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        folder = fetch_weights(CATALOGUE["sam2.1-tiny"], progress=lambda name, *_: seen.add(name))
        assert folder == weights_folder() / "sam2.1-tiny" == downloaded("sam2.1-tiny")
        count = len(files[f"{root}/config.json"].requests)
        fetch_weights(CATALOGUE["sam2.1-tiny"])
        assert len(files[f"{root}/config.json"].requests) == count  # what is there is left alone
    assert seen == {"config.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == b"x" * 5000


def test_one_file_is_the_weights_themselves(monkeypatch):
    path = "/laion/CLIP-ViT-B-16-laion2B-s34B-b88K/resolve/main/open_clip_model.safetensors"
    with serve({path: Served(b"abc")}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        found = fetch_weights(CATALOGUE["openclip-b16"])
    assert found.name == "open_clip_model.safetensors" and found == downloaded_tag("ViT-B-16", "laion2b_s34b_b88k")
    assert downloaded_tag("ViT-B-16", "openai") is None


def test_gated_missing_and_refused(monkeypatch, tmp_path):
    with serve({"/facebook/sam3/resolve/main/config.json": Served(b"", status=401)}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(UserError, match="accepted on the page of facebook/sam3; do so, then set HF_TOKEN"):
            fetch_weights(CATALOGUE["sam3"])
        file = RemoteFile("a", f"{address}/gone")
        with pytest.raises(UserError, match="does not have it any more"):
            fetch_weights(Weights("w", "", (), (file,)))
    with serve({"/a": Served(b"", status=403)}) as address, pytest.raises(UserError, match="refuses it"):
        fetch_weights(Weights("w", "", (), (RemoteFile("a", f"{address}/a"),)))
