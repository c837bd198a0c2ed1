import shutil
import time

import numpy as np
import pytest
import torch
from bad_scenes import HEIGHT, VIEWS, WIDTH, colmap_scene, edit_transforms, transforms_scene
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.datamanager import AG2DataManagerConfig, check_scene
from ag2_ns.plugin.dataparser import AG2DataParserConfig
from ag2_ns.plugin.prepare import Prepare
from ag2_ns.plugin.views import PINHOLE, pinholes, view_of

pytestmark = pytest.mark.usefixtures("colours_only")

LENS = {"k1": 0.15, "k2": 0.02, "p1": 0.002, "p2": -0.001}


def manager(data, downscale=None, **options):
    options.setdefault("cache_images_type", "uint8")
    parser = AG2DataParserConfig(downscale_factor=downscale)
    return AG2DataManagerConfig(data=data, dataparser=parser, **options).setup(device="cpu", test_mode="val")


def prepare(data, **options):
    Prepare(data, encoder="palette", preview_every=0, **options).main()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A distorted scene with masks and features."""
    scene = transforms_scene(tmp_path_factory.mktemp("prepared") / "s", distortion=LENS)
    prepare(scene)
    return scene


# Serving.


def test_every_view_once_per_round_with_its_masks(prepared):
    served = manager(prepared)
    train = len(served.train_dataset)
    for _ in range(2):
        seen = []
        for step in range(train):
            camera, batch = served.next_train(step)
            seen.append(int(camera.metadata["cam_idx"]))
            height, width = batch["image"].shape[:2]
            assert (int(camera.height), int(camera.width)) == (height, width)
            assert (batch["masks"].height, batch["masks"].width) == (height, width)
            assert batch["mask_features"].shape[0] == len(batch["masks"]) > 0
        assert sorted(seen) == list(range(train))


def checked(served):
    return [served.view_masks().checked(served.view_name("train", k)) for k in range(len(served.train_dataset))]


def test_masks_that_no_step_needs_are_loaded_beside_training_to_check_them(prepared):
    served = manager(prepared)
    train = len(served.train_dataset)
    served.wants_masks = lambda step: step == 1
    assert ["masks" in served.next_train(step)[1] for step in range(3)] == [False, True, False]
    for step in range(3, 100 * train):
        assert "masks" not in served.next_train(step)[1]
        time.sleep(1e-3)
        if all(checked(served)):
            break
    assert all(checked(served))
    served.view_masks().close()
    served.next_train(100 * train)
    assert not served.view_masks().coming, "what was fetched to be checked is not held"


def test_masks_that_are_wrong_halt_steps_that_need_none(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "s")
    served = manager(tmp_path / "s")
    served.wants_masks = lambda step: False
    for file in (tmp_path / "s" / "ag2").rglob("masks/*.npz"):
        file.write_bytes(b"torn")
    with pytest.raises(UserError, match="prepare"):
        for step in range(1000):
            served.next_train(step)
            time.sleep(1e-3)


def test_lens_distortion_is_undone_before_masks_and_cameras_meet(prepared):
    served = manager(prepared)
    before = served.train_dataset.cameras.fx.clone()
    assert not torch.allclose(before, served.train_dataparser_outputs.cameras.fx), "straight before a picture is read"
    camera, batch = served.next_train(0)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(served.train_dataset.cameras.fx, before)
    index = int(camera.metadata["cam_idx"])
    original = np.asarray(Image.open(served.train_dataset.image_filenames[index]))
    image = batch["image"].numpy()
    assert image.shape != original.shape or np.abs(image.astype(int) - original).max() > 5
    # What training reads in place of the camera on the device is of the undistorted one, too.
    assert camera.metadata[PINHOLE] == pinholes(camera)[0] and camera.metadata[PINHOLE][4:] == [*image.shape[1::-1]]
    expected = view_of(camera, camera.camera_to_worlds).viewmat
    for same in (camera, camera.to("cpu"), camera[0:1], camera.flatten()):
        assert same.shape == (1,) and torch.equal(view_of(same).viewmat, expected)


def test_a_camera_that_a_model_changes_is_whole_again_the_next_time(prepared):
    served = manager(prepared)
    seen = {}
    for step in range(2 * len(served.train_dataset)):
        camera, _ = served.next_train(step)
        now = (int(camera.width), float(camera.fx), len(camera.metadata))
        assert seen.setdefault(camera.metadata["cam_idx"], now) == now
        camera.rescale_output_resolution(0.5)
        camera.metadata["mine"] = 1


def test_eval_views_have_masks_too(prepared):
    served = manager(prepared)
    for step in range(2):
        _, batch = served.next_eval_image(step)
        assert len(batch["masks"]) == len(batch["mask_features"])


def test_nothing_is_read_at_construction(prepared, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", refuse)
    served = AG2DataManagerConfig(data=prepared, dataparser=AG2DataParserConfig(downscale_factor=1)).setup(
        device="cpu", test_mode="inference"
    )
    assert served._view_masks is None and "cached_train" not in served.__dict__
    assert served.train_dataset.metadata["camera_centres"].shape == (7, 3)


def test_masks_of_smaller_images(tmp_path):
    scene = colmap_scene(tmp_path / "s")
    (scene / "images_2").mkdir()
    for path in (scene / "images").iterdir():
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(scene / "images_2" / path.name)
    prepare(scene, downscale_factor=2)
    _, batch = manager(scene, downscale=2).next_train(0)
    assert (batch["masks"].height, batch["masks"].width) == batch["image"].shape[:2] == (HEIGHT // 2, WIDTH // 2)
    assert "masks" not in manager(scene, downscale=1).next_train(0)[1]


def test_another_dataparser_serves_as_well(prepared):
    config = AG2DataManagerConfig(data=prepared, dataparser=NerfstudioDataParserConfig(load_3D_points=False))
    config.cache_images_type = "uint8"
    served = config.setup(device="cpu", test_mode="val")
    assert len(served.next_train(0)[1]["masks"]) > 0
    check_scene(config)


def test_float_images_find_their_masks(prepared):
    _, batch = manager(prepared, cache_images_type="float32").next_train(0)
    assert batch["image"].dtype == torch.float32 and len(batch["masks"]) > 0


# Masks that are not there, or not wanted.


def test_unprepared_scenes_serve_colours_and_say_so_once(tmp_path, capsys):
    served = manager(transforms_scene(tmp_path / "s"))
    for step in range(3):
        assert "masks" not in served.next_train(step)[1]
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("ag2 prepare") == 1 and "--pipeline.datamanager.prepare True" in said


def test_what_is_said_of_odd_paths_can_be_pasted(tmp_path, capsys):
    scene = transforms_scene(tmp_path / "my [red]scene[/b] :key:")
    (scene / "points.ply").unlink()
    manager(scene, downscale=1).next_train(0)
    said = " ".join(capsys.readouterr().out.split())
    assert f"{scene}/points.ply: no such point cloud" in said and f"{scene} has no masks" in said
    assert f"run ag2 prepare '{scene}' first" in said


def test_masks_can_be_left_out(prepared, capsys):
    served = manager(prepared, use_masks=False)
    assert "masks" not in served.next_train(0)[1] and "ag2 prepare" not in capsys.readouterr().out


def test_preparing_on_the_way(tmp_path):
    scene = transforms_scene(tmp_path / "s")
    _, batch = manager(scene, prepare=True).next_train(0)
    assert len(batch["masks"]) > 0 and len(batch["mask_features"]) == len(batch["masks"])
    assert len(list((scene / "ag2").rglob("masks/*.npz"))) == VIEWS


def test_masks_made_before_the_image_changed(prepared, tmp_path):
    scene = tmp_path / "s"
    shutil.copytree(prepared, scene)
    served = manager(scene)
    path = served.train_dataset.image_filenames[served.train_unseen_cameras[0]]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    with pytest.raises(UserError) as error:
        served.next_train(0)
    assert path.stem in str(error.value) and "ag2 prepare" in str(error.value)


def test_masks_made_for_another_lens(prepared, tmp_path):
    scene = tmp_path / "s"
    shutil.copytree(prepared, scene)
    edit_transforms(scene, lambda meta: meta.update(k1=0.3))
    with pytest.raises(UserError, match="made from another image"):
        manager(scene).next_train(0)


def test_a_damaged_mask_file(prepared, tmp_path):
    scene = tmp_path / "s"
    shutil.copytree(prepared, scene)
    served = manager(scene)
    name = served.view_name("train", served.train_unseen_cameras[0])
    path = served.view_masks().mask_store.path(name)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="damaged"):
        served.next_train(0)


# Images that cannot be served.


def unreadable(path):
    path.write_bytes(b"not a picture")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:100])


def other_size(path):
    Image.open(path).resize((WIDTH + 1, HEIGHT)).save(path)


@pytest.mark.parametrize("lens", [None, LENS])
@pytest.mark.parametrize("damage", [unreadable, cut_short, other_size, lambda path: path.unlink()])
def test_a_bad_image_is_named(damage, lens, tmp_path):
    scene = transforms_scene(tmp_path / "s", distortion=lens)
    served = manager(scene)
    damage(scene / "images" / "view_05.png")
    with pytest.raises(UserError) as error:
        served.next_train(0)
    assert "view_05.png" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [unreadable, cut_short, other_size])
@pytest.mark.parametrize("name", ["view_05.png", "view_08.png"])
def test_check_scene_looks_at_both_splits(damage, name, tmp_path):
    scene = transforms_scene(tmp_path / "s")
    config = AG2DataManagerConfig(data=scene, dataparser=AG2DataParserConfig())
    check_scene(config)
    damage(scene / "images" / name)
    with pytest.raises(UserError, match=name):
        check_scene(config)
    assert config == AG2DataManagerConfig(data=scene, dataparser=AG2DataParserConfig())


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_check_scene_finds_cut_jpegs(kept, tmp_path):
    scene = transforms_scene(tmp_path / "s")
    for path in sorted((scene / "images").iterdir()):
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    poses = scene / "transforms.json"
    poses.write_text(poses.read_text().replace(".png", ".jpg"))
    config = AG2DataManagerConfig(data=scene, dataparser=AG2DataParserConfig())
    check_scene(config)
    path = scene / "images" / "view_05.jpg"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"(?i)view_05\.jpg: not a readable image .*truncated") as error:
        check_scene(config)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda(tmp_path):
    config = AG2DataManagerConfig(data=transforms_scene(tmp_path / "s"), dataparser=AG2DataParserConfig())
    with pytest.raises(UserError, match=r"--machine\.device-type cpu"):
        config.setup(device="cuda:0", test_mode="val")


def test_masks_of_another_scale_are_pointed_at(tmp_path, capsys):
    scene = transforms_scene(tmp_path / "s")
    shutil.copytree(scene / "images", scene / "images_2")
    for path in (scene / "images_2").iterdir():
        with Image.open(path) as image:
            image.resize((WIDTH // 2, HEIGHT // 2)).save(path)
    Prepare(scene, downscale_factor=2).main()
    capsys.readouterr()
    assert manager(scene, downscale=1).view_masks() is None
    said = " ".join(capsys.readouterr().out.split())
    assert "no masks for these images (there are some for ag2-data --downscale-factor 2)" in said
    assert f"run ag2 prepare {scene} first" in said


def test_two_views_are_enough(tmp_path):
    served = manager(transforms_scene(tmp_path / "s", views=2))
    assert len(served.train_dataset) == len(served.eval_dataset) == 1
    for step in range(3):
        served.next_train(step)
