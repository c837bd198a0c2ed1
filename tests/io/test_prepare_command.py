"""The command in an error message is the one that the scene was prepared with."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch
from bad_scenes import transforms_scene
from PIL import Image

from ag2_ns.cli.main import COMMANDS, job_of, main
from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_store import Manifest
from ag2_ns.perception.files import FilesSegmenter
from ag2_ns.perception.table import TableEncoder
from ag2_ns.plugin.prepare import Prepare

pytestmark = pytest.mark.usefixtures("colours_only")


def store(data, masks=("superpixel", {}), features=("palette", {}), downscale=1):
    if masks:
        MaskStore.create(data, Manifest(masks[0], {}, masks[1]), downscale)
    if features:
        FeatureStore.create(data, Manifest(features[0], {}, features[1]), downscale)
    return MaskStore.open(data, downscale).command if masks else FeatureStore.command_for(data, downscale)


def options(command: str):
    """What `ag2` understands of the line, options that were not given left out."""
    words = shlex.split(command)
    assert words[:2] == ["ag2", "prepare"] and "prepare" in COMMANDS
    job, plain = job_of(words[1:]), job_of(["prepare", "x"])
    return {k: v for k, v in vars(job).items() if v != getattr(plain, k)}


def test_defaults_are_left_out(tmp_path):
    scene = tmp_path / "s"
    assert FeatureStore.command_for(scene) == f"ag2 prepare {scene}"
    assert store(scene, features=("openclip", {"model": "ViT-B-16", "prompts": "photo"})).startswith("ag2 prepare")
    # Without --encoder the better one is taken where it is installed: what was made by the palette says so.
    assert store(scene, ("superpixel", {"preset": "default"})) == f"ag2 prepare {scene} --encoder palette"
    assert store(scene, downscale=4) == f"ag2 prepare {scene} --downscale-factor 4 --encoder palette"


@pytest.mark.parametrize(
    "masks, features, expected",
    [
        (("superpixel", {"preset": "detail"}), ("palette", {}), {"preset": "detail", "encoder": "palette"}),
        (("superpixel", {"cues": "network"}), None, {"cues": "network", "encoder": "none"}),
        (("sam", {"checkpoint": "/my weights/sam.pth", "preset": "coarse"}), ("palette", {}),
         {"sam_checkpoint": Path("/my weights/sam.pth"), "preset": "coarse", "encoder": "palette"}),
        (("superpixel", {}), ("openclip", {"model": "ViT-B-16", "checkpoint": "openai", "prompts": "a {} here"}),
         {"clip_model": "ViT-B-16", "clip_checkpoint": "openai", "prompts": "a {} here"}),
        (("files", {"folder": "/my masks", "resize": True, "allow_missing": True}), ("palette", {}),
         {"masks_dir": Path("/my masks"), "resize_masks": True, "allow_missing_masks": True,
          "encoder": "palette"}),
        (("files", {"folder": "/m"}), ("table", {"features": "/f", "texts": "/t.json"}),
         {"masks_dir": Path("/m"), "clip_features_dir": Path("/f"), "text_features": Path("/t.json")}),
        (("superpixel", {}), ("table", {"features": "/f", "texts": None}),
         {"encoder": "table", "clip_features_dir": Path("/f")}),
        (("halves", {"share": 2}), ("means", {}), {"segmenter": "halves", "encoder": "means"}),
    ],
)  # fmt: skip
def test_options_that_made_the_stores_come_back(masks, features, expected, tmp_path):
    scene = tmp_path / "my scene"
    command = store(scene, masks, features, downscale=2)
    assert options(command) == {"data": scene, "downscale_factor": 2} | expected


def test_files_that_prepare_finds_by_itself_are_left_out_also_after_a_move(tmp_path):
    scene = tmp_path / "s"
    for name in ("masks_sparse", "clip_features"):
        (scene / name).mkdir(parents=True)
    torch.save(torch.ones(1, 4).half(), scene / "clip_features" / "a.pt")
    made = (
        ("files", FilesSegmenter(scene / "masks_sparse").options),
        ("table", TableEncoder(scene / "clip_features").options),
    )
    assert store(scene, *made) == f"ag2 prepare {scene}"
    moved = scene.rename(tmp_path / "t")
    assert MaskStore.open(moved).command == f"ag2 prepare {moved}"
    shutil.rmtree(moved / "ag2")
    # Where such folders are found, what was made otherwise has to be named.
    assert options(store(moved)) == {"data": moved, "segmenter": "superpixel", "encoder": "palette"}
    shutil.rmtree(moved / "ag2")
    assert options(store(moved, made[0])) == {"data": moved, "encoder": "palette"}


def test_features_that_are_missing_are_asked_for(tmp_path):
    store(tmp_path, features=None)
    with pytest.raises(UserError) as error:
        FeatureStore.open(tmp_path)
    assert str(error.value).endswith(f"make them with: ag2 prepare {tmp_path}")


def test_the_printed_command_mends_the_store(tmp_path, capsys):
    """End to end: own masks in another folder, a view lost, the line from the error pasted."""
    scene = transforms_scene(tmp_path / "my scene", views=3)
    masks = tmp_path / "own masks"
    masks.mkdir()
    from ag2_ns.io.published_files import write_masks_sparse

    for k in range(3):
        write_masks_sparse(masks / f"view_{k:02d}.pt", MaskSet.from_dense(torch.ones(1, 24, 32, dtype=torch.bool)))
    main(["prepare", str(scene), "--masks-dir", str(masks), "--encoder", "none"])
    lost = MaskStore.open(scene)
    lost.path("view_01").unlink()
    with pytest.raises(UserError) as error:
        lost.read("view_01")
    capsys.readouterr()
    main(shlex.split(str(error.value).split("complete them with: ")[1])[1:])
    assert "1 segmented, 0 encoded, 2 valid already" in " ".join(capsys.readouterr().out.split())


def test_what_comes_next_is_printed(tmp_path, capsys, monkeypatch):
    scene = transforms_scene(tmp_path / "my scene", views=3)
    (scene / "images_2").mkdir()
    for path in (scene / "images").iterdir():
        with Image.open(path) as image:
            image.resize((16, 12)).save(scene / "images_2" / path.name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main(["prepare", str(scene), "--downscale-factor", "2"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("train:"))
    small = ["ns-train", "ag2aussian-small", "--data", str(scene), "ag2-data", "--downscale-factor", "2"]
    assert shlex.split(line)[1:] == small
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Prepare(scene).training() == f"ns-train ag2aussian --data '{scene}'"
