from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import Halves, Means

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_store import image_print
from ag2_ns.perception.files import FilesSegmenter
from ag2_ns.perception.palette import PaletteEncoder
from ag2_ns.perception.prepare import ImageView, as_rgb, prepare_views, select_shard
from ag2_ns.perception.preview import paint_masks, sheet
from ag2_ns.perception.superpixel import SuperpixelSegmenter
from ag2_ns.perception.table import TableEncoder
from ag2_ns.plugin.prepare import Prepare, parse_shard
from ag2_ns.plugin.undistorted import served_images

pytestmark = pytest.mark.usefixtures("colours_only")


def test_masks_and_features_whose_files_changed_are_read_again(tmp_path, views):
    masks, features, data = tmp_path / "masks", tmp_path / "features", tmp_path / "scene"
    masks.mkdir()
    features.mkdir()
    for view in views:
        ids = np.zeros(view.image.shape[:2], np.uint8)
        ids[:6] = 1
        Image.fromarray(ids).save(masks / f"{view.name}.png")
        torch.save(torch.ones(1, 4).half(), features / f"{view.name}.pt")

    def run():
        summary = prepare_views(views, FilesSegmenter(masks), TableEncoder(features), data)
        return summary.segmented, summary.encoded

    assert run() == (7, 7) and run() == (0, 0)
    ids[:9] = 1
    Image.fromarray(ids).save(masks / "v6.png")
    assert run() == (1, 1) and len(MaskStore.open(data).read("v6").pixel) == 9 * ids.shape[1]
    torch.save(torch.tensor([[1.0, 0, 0, 0]]).half(), features / "v2.pt")
    assert run() == (0, 1) and FeatureStore.open(data).read("v2").tolist() == [[1, 0, 0, 0]]


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    return [ImageView(f"v{k}", rng.integers(1, 256, (12, 16, 3), dtype=np.uint8)) for k in range(7)]


def test_stores_are_filled_and_skipped_next_time(tmp_path, views):
    segmenter, encoder = Halves(), Means()
    summary = prepare_views(views, segmenter, encoder, tmp_path)
    assert (summary.segmented, summary.encoded, summary.skipped, summary.masks) == (7, 7, 0, 14)
    masks, features = MaskStore.open(tmp_path), FeatureStore.open(tmp_path)
    for view in views:
        read = masks.read(view.name, image_print(view.image))
        rows = features.read(view.name, masks.identity(view.name))
        assert torch.equal(rows, encoder.encode_image(view.image, read, "").half())
    again = prepare_views(views, segmenter, encoder, tmp_path)
    assert (again.segmented, again.encoded, again.skipped) == (0, 0, 7)
    assert len(segmenter.seen) == 7
    assert prepare_views(views, segmenter, encoder, tmp_path, overwrite=True).segmented == 7


def test_masks_of_valid_views_are_counted_but_not_decoded(tmp_path, views, monkeypatch):
    views[2] = ImageView("v2", np.zeros((12, 16, 3), np.uint8))
    first = prepare_views(views, Halves(), Means(), tmp_path)
    monkeypatch.setattr(MaskStore, "read", None)
    again = prepare_views(views, Halves(), Means(), tmp_path)
    assert (again.skipped, again.masks, again.empty) == (7, first.masks, ("v2",)) and first.masks == 12


def test_a_changed_image_is_done_again(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    views[3] = ImageView("v3", 255 - views[3].image)
    segmenter, encoder = Halves(), Means()
    summary = prepare_views(views, segmenter, encoder, tmp_path)
    assert segmenter.seen == ["v3"]
    assert summary.skipped == 6
    # The masks came out the same; the features must follow the pixels all the same.
    rows = FeatureStore.open(tmp_path).read("v3")
    assert torch.equal(rows, Means().encode_image(views[3].image, MaskStore.open(tmp_path).read("v3"), "").half())


def test_another_encoder_keeps_the_masks(tmp_path, views):
    prepare_views(views, Halves(), None, tmp_path)
    segmenter = Halves()
    summary = prepare_views(views, segmenter, Means(), tmp_path)
    assert (summary.segmented, summary.encoded) == (0, 7)
    assert segmenter.seen == []
    with pytest.raises(UserError, match="--overwrite"):
        prepare_views(views, Halves(), Means(version=2), tmp_path)
    with pytest.raises(UserError, match="--overwrite"):
        prepare_views(views, Halves(version=2), Means(), tmp_path)
    assert prepare_views(views, Halves(version=2), Means(version=2), tmp_path, overwrite=True).encoded == 7
    assert prepare_views(views, Halves(version=2), Means(version=2), tmp_path).skipped == 7


def test_shards_partition_the_views(tmp_path, views):
    done = []
    for i in (1, 2, 3):
        segmenter = Halves()
        prepare_views(views, segmenter, Means(), tmp_path, shard=(i, 3))
        done += segmenter.seen
    assert sorted(done) == [v.name for v in views]
    assert prepare_views(views, Halves(), Means(), tmp_path).skipped == 7
    assert parse_shard("2/3") == (2, 3)
    for bad in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UserError, match="--shard"):
            parse_shard(bad)
    assert select_shard(range(7), (2, 3)) == [1, 4]


@pytest.mark.slow
def test_several_processes_write_what_one_does(tmp_path):
    rng = np.random.default_rng(0)
    views = [ImageView(f"v{k}", rng.integers(1, 256, (24, 32, 3), dtype=np.uint8)) for k in range(7)]
    makers = SuperpixelSegmenter(), PaletteEncoder()
    one = prepare_views(views, *makers, tmp_path / "one", preview_every=3)
    seen = []
    many = prepare_views(
        views, *makers, tmp_path / "many", preview_every=3, workers=2, progress=lambda *a: seen.append(a)
    )
    assert (many.segmented, many.encoded, many.masks) == (7, 7, one.masks) and seen[-1] == (7, 7, "")
    assert [p.name for p in many.sheets] == [p.name for p in one.sheets] == ["v0.png", "v3.png", "v6.png"]
    for a, b in zip(*(sorted((tmp_path / x / "ag2").rglob("*.*")) for x in ("one", "many")), strict=True):
        assert a.read_bytes() == b.read_bytes(), a
    assert prepare_views(views, *makers, tmp_path / "many", workers=2).skipped == 7


def test_an_error_midway_loses_nothing(tmp_path, views):
    class Breaks(Halves):
        def segment(self, image, image_name):
            if image_name == "v4":
                raise UserError("v4: broken; mend it")
            return super().segment(image, image_name)

    with pytest.raises(UserError, match="v4: broken"):
        prepare_views(views, Breaks(), Means(), tmp_path)
    assert MaskStore.open(tmp_path).stems() == ["v0", "v1", "v2", "v3"]
    summary = prepare_views(views, Halves(), Means(), tmp_path)
    assert (summary.segmented, summary.skipped) == (3, 4)


def test_views_without_masks_are_reported(tmp_path):
    views = [ImageView("black", np.zeros((8, 8, 3), np.uint8)), ImageView("grey", np.full((8, 8, 3), 9, np.uint8))]
    summary = prepare_views(views, Halves(), Means(), tmp_path)
    assert summary.empty == ("black",)
    assert FeatureStore.open(tmp_path).read("black").shape == (0, 3)


def test_wrong_makers_are_refused(tmp_path, views):
    class WrongSize(Halves):
        def segment(self, image, image_name):
            return MaskSet.from_dense(torch.ones(1, 5, 5, dtype=torch.bool))

    class NotFinite(Means):
        def encode_image(self, image, masks, image_name):
            return torch.full((len(masks), 3), float("nan"))

    class TooFew(Means):
        def encode_image(self, image, masks, image_name):
            return torch.zeros(1, 3)

    with pytest.raises(UserError, match="masks of 5x5 for an image of 16x12"):
        prepare_views(views, WrongSize(), None, tmp_path)
    with pytest.raises(UserError, match="not finite"):
        prepare_views(views, Halves(), NotFinite(), tmp_path / "a")
    with pytest.raises(UserError, match=r"returned \(1, 3\) for 2 masks"):
        prepare_views(views, Halves(), TooFew(), tmp_path / "b")


def test_preview_sheets(tmp_path, views):
    summary = prepare_views(views, Halves(), None, tmp_path, preview_every=5)
    assert [p.name for p in summary.sheets] == ["v0.png", "v5.png"]
    first = np.asarray(Image.open(summary.sheets[0]))
    assert first.shape == (4 * (315 + 18), 4 * 420 + 18, 3)
    masks = Halves().segment(views[0].image, "")
    painted = paint_masks(np.full((12, 16, 3), 100, np.uint8), masks)
    assert (painted[:, 8] == 255).all()  # the outline between the halves
    assert not (painted[:, 2] == painted[:, 12]).all()
    assert (painted[:, 2] == painted[5, 3]).all()
    none = MaskSet.from_dense(torch.zeros(0, 12, 16, dtype=torch.bool))
    assert sheet([("empty", views[0].image, none)]).shape[1] == first.shape[1]


def test_transparent_images_are_seen_over_grey():
    image = np.zeros((2, 2, 4), np.uint8)
    image[0] = (200, 100, 50, 255)
    rgb = as_rgb(image)
    assert rgb[0, 0].tolist() == [200, 100, 50]
    assert rgb[1, 0].tolist() == [127, 127, 127]


# ------------------------------------------------------------------------------------------- real scenes


def write_scene(folder, frames=4, k1=0.08, size=(64, 48)):
    """A nerfstudio scene of coloured pictures taken with a distorting lens."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    meta = {"fl_x": 60.0, "fl_y": 60.0, "cx": 31.0, "cy": 24.5, "w": size[0], "h": size[1], "k1": k1, "frames": []}
    for k in range(frames):
        image = np.full((size[1], size[0], 3), (60, 130, 60), np.uint8)
        cv2.circle(image, (20 + 5 * k, 24), 12, (190, 40, 40), -1)
        cv2.rectangle(image, (44, 6), (60, 40), (40, 60, 190), -1)
        image = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"f{k}.png")
        pose = np.eye(4)
        pose[:3, 3] = (k, 0.2 * k, 3)
        meta["frames"].append({"file_path": f"images/f{k}.png", "transform_matrix": pose.tolist()})
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene")


def test_served_images_are_those_of_the_datamanager(scene):
    from ag2_ns.plugin.methods import ag2aussian

    config = ag2aussian.config.pipeline.datamanager
    config.data = scene
    manager = config.setup(device="cpu")
    served = {view.name: view for view in served_images(scene)}
    assert len(served) == 4
    checked = 0
    for dataset, cached in ((manager.train_dataset, manager.cached_train), (manager.eval_dataset, manager.cached_eval)):
        for index, item in enumerate(cached):
            view = served[dataset.image_filenames[index].stem]
            assert np.array_equal(view.load(), item["image"].numpy())
            assert view.load().shape != (48, 64, 3) or not np.array_equal(
                view.load(), np.asarray(Image.open(view.file))
            )
            checked += 1
    assert checked == 4


def test_prepare_end_to_end_without_weights(scene, capsys):
    Prepare(scene, preview_every=2).main()
    assert "4 segmented, 4 encoded, 0 valid already" in capsys.readouterr().out
    masks, features = MaskStore.open(scene), FeatureStore.open(scene)
    from ag2_ns.perception.encoder import encoder_of

    encoder = encoder_of(features.manifest)
    for view in served_images(scene):
        image = view.load()
        read = masks.read(view.name, image_print(image))
        scores = features.read(view.name).float() @ encoder.encode_text(["the red disc"])[0]
        best = read.dense()[scores.argmax()].numpy()
        red = (image[..., 0] > 140) & (image[..., 2] < 100)
        assert (best & red).sum() / (best | red).sum() > 0.8
    assert len(list((scene / "ag2" / "preview" / "x1").glob("*.png"))) == 2
    Prepare(scene).main()
    assert "0 segmented, 0 encoded, 4 valid already" in capsys.readouterr().out
    with pytest.raises(UserError, match="--overwrite"):
        Prepare(scene, preset="detail").main()


def test_odd_names_are_printed_as_they_are(tmp_path, capsys):
    """Names that rich would take for styles and pictures, some of which end none."""
    scene, masks = write_scene(tmp_path / "a [red]scene[/b]", k1=0.0), tmp_path / "masks"
    meta = json.loads((scene / "transforms.json").read_text())
    for k, frame in enumerate(meta["frames"]):
        name = f"images/[{k}][i]:key:.png"
        (scene / frame["file_path"]).rename(scene / name)
        frame["file_path"] = name
    (scene / "transforms.json").write_text(json.dumps(meta))
    masks.mkdir()
    Prepare(scene, masks_dir=masks, allow_missing_masks=True, export_pair=tmp_path / "[b]pair").main()
    said = capsys.readouterr().out
    for part in (
        f"{scene}: 4 views",
        "4 views: [1][i]:key:, [2][i]:key:",
        f"masks: {scene}/ag2",
        f"to {tmp_path}/[b]pair",
    ):
        assert part in said, part


@pytest.mark.slow
def test_prepare_imports_the_published_pair(tabletop_noisy, tmp_path, capsys):
    from ag2_ns.io.published_files import read_clip_features, read_masks_sparse
    from ag2_ns.perception.encoder import encoder_of

    scene = tmp_path / "table"
    shutil.copytree(tabletop_noisy[1], scene)
    Prepare(scene).main()
    assert "files masks, table features" in capsys.readouterr().out
    masks, features = MaskStore.open(scene), FeatureStore.open(scene)
    stems = [p.stem for p in (scene / "masks_sparse").iterdir()]
    assert masks.stems() == sorted(stems)
    for stem in stems[:3]:
        assert torch.equal(masks.read(stem).dense(), read_masks_sparse(scene / "masks_sparse" / f"{stem}.pt").dense())
        rows = torch.nn.functional.normalize(read_clip_features(scene / "clip_features" / f"{stem}.pt").float(), dim=1)
        assert torch.allclose(features.read(stem).float(), rows, atol=1e-3)
    Prepare(scene, export_pair=tmp_path / "back", preview_every=0).main()
    for stem in stems[:3]:
        ours, theirs = (folder / "masks_sparse" / f"{stem}.pt" for folder in (tmp_path / "back", scene))
        assert torch.equal(read_masks_sparse(ours).dense(), read_masks_sparse(theirs).dense())
        assert torch.equal(read_clip_features(tmp_path / "back" / "clip_features" / f"{stem}.pt"), features.read(stem))
    Prepare(scene, export_language_features=tmp_path / "theirs", preview_every=0).main()
    copy = tmp_path / "copy"
    shutil.copytree(scene, copy, ignore=shutil.ignore_patterns("ag2", "masks_sparse", "clip_features"))
    shutil.move(tmp_path / "theirs", copy / "language_features")
    Prepare(copy, preview_every=0).main()
    assert "langsplat masks, langsplat features" in capsys.readouterr().out
    for stem in stems[:3]:
        assert torch.equal(MaskStore.open(copy).read(stem).dense(), masks.read(stem).dense())
        assert torch.allclose(FeatureStore.open(copy).read(stem), features.read(stem), atol=1e-3)
    with pytest.raises(UserError, match="prepare with one"):
        Prepare(scene, encoder="none", overwrite=True, export_language_features=tmp_path / "x", preview_every=0).main()
    text = next(iter(json.loads((scene / "text_features.json").read_text())))
    assert encoder_of(features.manifest).encode_text([text]).shape == (1, features.manifest.settings["dim"])


def test_there_is_one_place_for_stores(tmp_path, capsys):
    """Every command looks beside the scene, so `ag2 prepare` writes nowhere else."""
    from ag2_ns.cli.main import main

    with pytest.raises(SystemExit) as stop:
        main(["prepare", str(tmp_path), "--output-dir", str(tmp_path / "store")])
    assert stop.value.code == 2 and "--output-dir" in "".join(capsys.readouterr())


def test_downscaled_images_have_their_own_stores(scene):
    (scene / "images_2").mkdir()
    for path in (scene / "images").iterdir():
        Image.open(path).resize((32, 24)).save(scene / "images_2" / path.name)
    Prepare(scene, downscale_factor=2, preview_every=0, encoder="none").main()
    assert not MaskStore.exists(scene)
    height, width = MaskStore.open(scene, 2).size("f0")
    assert 20 <= height <= 24
    assert 28 <= width <= 32


def test_bad_scenes(scene, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Prepare(tmp_path / "gone").main()
    Image.new("RGB", (10, 10)).save(scene / "images" / "f1.png")
    with pytest.raises(UserError, match=r"f1\.png: the image has 10x10 pixels, its camera 64x48"):
        Prepare(scene).main()
    (scene / "images" / "f1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"f1\.png: not a readable image"):
        Prepare(scene).main()
    with pytest.raises(UserError, match="no segmenter called 'sam9'"):
        Prepare(scene, segmenter="sam9").main()
    with pytest.raises(UserError, match="--preview-every"):
        Prepare(scene, preview_every=-1).main()


@pytest.mark.slow
def test_killed_and_started_again(tmp_path):
    """SIGKILL in the middle: what is there is whole, and the next run completes it."""
    scene = write_scene(tmp_path / "scene", frames=14, size=(96, 72))
    command = [sys.executable, "-c",
               "import sys; from pathlib import Path; from ag2_ns.plugin.prepare import Prepare; "
               "Prepare(Path(sys.argv[1]), encoder='palette', preview_every=0).main()", str(scene)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = scene / "ag2" / "x1" / "masks"
    deadline = time.time() + 60
    while time.time() < deadline and len(list(folder.glob("f*.npz"))) < 3:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = MaskStore.open(scene)
    done = store.stems()
    assert 3 <= len(done) < 14
    assert all(len(store.read(stem)) for stem in done)
    Prepare(scene, preview_every=0).main()
    assert len(store.stems()) == len(FeatureStore.open(scene).stems()) == 14


FRAMES = 80
"""So many that two fast cores have not done all of them before they are interrupted."""


@pytest.mark.slow
def test_interrupted_with_workers_and_started_again(tmp_path):
    """Ctrl-C reaches all processes of a terminal: they end, files are whole, and the next run completes them."""
    scene = write_scene(tmp_path / "scene", frames=FRAMES, size=(320, 240))
    command = [sys.executable, "-m", "ag2_ns.cli.main", "prepare", str(scene), "--encoder", "palette", "--workers", "2"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    folder = scene / "ag2" / "x1" / "features"
    deadline = time.time() + 120
    while time.time() < deadline and len(list(folder.glob("f*.npz"))) < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and said == "stopped\n"
    with pytest.raises(ProcessLookupError):  # nobody is left
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    masks, features = MaskStore.open(scene), FeatureStore.open(scene)
    assert 3 <= len(features.stems()) < FRAMES and not list((scene / "ag2").rglob(".tmp-*"))
    for stem in features.stems():
        assert len(features.read(stem, masks.identity(stem))) == len(masks.read(stem))
    Prepare(scene, encoder="palette", workers=2, preview_every=0).main()
    assert len(masks.stems()) == len(features.stems()) == FRAMES
