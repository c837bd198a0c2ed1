"""Captures as other programs and people write them: frames, folders, names, side files."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from bad_scenes import POINTS, ring_pose
from lens_scene import H, W, check_points, check_served, colmap_frames, number, save, straight_scene, true_picture
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image
from plyfile import PlyData, PlyElement

from ag2_ns.core.errors import UserError
from ag2_ns.export.frame import world_frame
from ag2_ns.plugin.datamanager import AG2DataManagerConfig, check_scene
from ag2_ns.plugin.dataparser import FILE_FRAME, OFFSET, AG2DataParserConfig
from ag2_ns.plugin.undistorted import served_images

FAR = np.array([441547.502, 5121946.513, 2345.087])


def parse(data, split="train", **options):
    options.setdefault("undoes_lenses", True)
    return AG2DataParserConfig(data=data, **options).setup().get_dataparser_outputs(split=split)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def check(data) -> None:
    """What training looks at before it writes anything."""
    check_scene(AG2DataManagerConfig(data=data, dataparser=AG2DataParserConfig()))


# To the bit as nerfstudio reads it.


@pytest.mark.parametrize("orientation", ["up", "vertical", "pca", "none"])
@pytest.mark.parametrize("center", ["poses", "focus", "none"])
def test_what_nerfstudio_reads_is_placed_the_same_to_the_bit(orientation, center, tmp_path):
    options = dict(orientation_method=orientation, center_method=center)
    scene, meta = straight_scene(tmp_path / "t")
    save(scene, meta | {"k1": 0.1, "p1": 0.01, "applied_transform": [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]})
    theirs = NerfstudioDataParserConfig(data=scene, eval_mode="interval", **options).setup()
    colmap = colmap_frames(tmp_path / "c", ["OPENCV"] * 6)
    theirs_colmap = ColmapDataParserConfig(data=colmap, colmap_path="sparse/0", downscale_factor=1, **options).setup()
    for data, parser in ((scene, theirs), (colmap, theirs_colmap)):
        for split in ("train", "val"):
            ours, other = parse(data, split, **options), parser.get_dataparser_outputs(split=split)
            assert ours.image_filenames == other.image_filenames
            assert torch.equal(ours.dataparser_transform, other.dataparser_transform)
            assert ours.dataparser_scale == other.dataparser_scale
            for key in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "distortion_params"):
                assert torch.equal(getattr(ours.cameras, key), getattr(other.cameras, key)), key
    # nerfstudio multiplies by COLMAP's turned axes in another order
    points = theirs_colmap.get_dataparser_outputs(split="train").metadata["points3D_xyz"]
    assert torch.allclose(parse(colmap, **options).metadata["points3D_xyz"], points, atol=1e-6)


# Recipe 2: coordinates of surveys.


def far_transforms(folder):
    scene, meta = straight_scene(folder)
    for frame in meta["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, 3] += FAR
        frame["transform_matrix"] = pose.tolist()
    vertex = np.zeros(len(POINTS), [("x", "f8"), ("y", "f8"), ("z", "f8")])
    for k, name in enumerate("xyz"):
        vertex[name] = POINTS[:, k].astype(float) + FAR[k]
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(scene / "points.ply"))
    return save(scene, meta)


@pytest.mark.parametrize("center", ["poses", "none"])
@pytest.mark.parametrize("kind", ["transforms", "colmap"])
def test_surveys_are_centred_before_they_lose_precision(kind, center, tmp_path, capsys):
    scene = (
        far_transforms(tmp_path / "s")
        if kind == "transforms"
        else colmap_frames(tmp_path / "s", ["PINHOLE"] * 6, offset=FAR)
    )
    outputs = parse(scene, center_method=center)
    check_points(outputs)
    assert "coordinates are centred at" in said(capsys)
    assert outputs.metadata[OFFSET].dtype == torch.float64
    np.testing.assert_allclose(outputs.metadata[OFFSET].numpy(), FAR, atol=3)
    back = world_frame(outputs.dataparser_transform, outputs.dataparser_scale)
    world = back.points(outputs.metadata["points3D_xyz"].double()).numpy()
    np.testing.assert_allclose(world, POINTS + FAR, atol=1e-5)


def test_what_nerfstudio_writes_of_a_survey_gives_the_world_back(tmp_path):
    outputs = parse(far_transforms(tmp_path / "s"))
    outputs.save_dataparser_transform(tmp_path / "dataparser_transforms.json")
    content = json.loads((tmp_path / "dataparser_transforms.json").read_text())
    back = world_frame(torch.tensor(content["transform"], dtype=torch.double), content["scale"])
    eyes = back.points(outputs.cameras.camera_to_worlds[:, :, 3].double()).numpy()
    truth = [ring_pose(int(f.stem[-2:]))[:3, 3] + FAR for f in outputs.image_filenames]
    np.testing.assert_allclose(eyes, truth, atol=1e-5)


def test_the_frame_of_the_file_is_known_beside_the_world(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    assert parse(scene).metadata[FILE_FRAME] is None
    outputs = parse(save(scene, meta | {"applied_transform": [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]}))
    transform, scale = outputs.metadata[FILE_FRAME]
    placed = world_frame(transform, scale).inverse().points(torch.from_numpy(POINTS).double())
    assert torch.allclose(placed, outputs.metadata["points3D_xyz"].double(), atol=1e-6)
    assert not outputs.metadata[OFFSET].any()


# Recipe 3: several COLMAP models.


def test_the_largest_sub_model_is_taken_and_said(tmp_path, capsys):
    scene = colmap_frames(tmp_path / "s", ["PINHOLE"] * 6)
    small = colmap_frames(tmp_path / "small", ["PINHOLE"] * 3)
    (scene / "sparse/0").rename(scene / "sparse/1")
    shutil.copytree(small / "sparse/0", scene / "sparse/0")
    assert len(served_images(scene)) == 6
    assert "taking sparse/1 (6 views), not sparse/0 (3); choose with ag2-data --colmap-path" in said(capsys)
    assert len(served_images(scene, colmap_path="sparse/0")) == 3
    with pytest.raises(UserError, match=r"no COLMAP model there; --colmap-path takes one of: sparse/0, sparse/1"):
        served_images(scene, colmap_path="sparse/7")
    shutil.rmtree(scene / "sparse/0")
    assert len(served_images(scene)) == 6 and "COLMAP models" not in said(capsys)


# Recipe 6: names as other systems write them.


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: ".\\" + name.replace("/", "\\"),
        lambda name: "..\\s\\" + name.replace("/", "\\"),
        lambda name: "C:\\captures\\s\\" + name.replace("/", "\\"),
        lambda name: "/home/somebody/s/" + name,
        lambda name: name.upper(),
        lambda name: "./" + name,
    ],
)
def test_names_of_other_systems(spell, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    (scene / "masks").mkdir()
    plain = copy.deepcopy(meta)
    for frame in meta["frames"]:
        Image.new("L", (W, H), 255).save(scene / "masks" / f"{frame['file_path'][7:]}")
        frame["mask_path"] = spell(frame["file_path"].replace("images", "masks"))
        frame["file_path"] = spell(frame["file_path"])
    meta["ply_file_path"] = spell(meta["ply_file_path"])
    meta["test_filenames"] = [meta["frames"][2]["file_path"]]
    save(scene, meta)
    outputs = parse(scene)
    assert [f.name for f in parse(scene, "val").image_filenames] == [plain["frames"][2]["file_path"][7:]]
    assert all(f.is_file() for f in outputs.image_filenames + outputs.mask_filenames)
    check_points(outputs)
    check(scene)


def test_colmap_names_of_other_systems(tmp_path):
    scene = colmap_frames(tmp_path / "s", ["PINHOLE"] * 3)
    (scene / "images/left").mkdir()
    for path in list((scene / "images").glob("*.png")):
        path.rename(scene / "images/left" / path.name)
    file = scene / "sparse/0/images.txt"
    file.write_text(file.read_text().replace("view_", "left\\view_"))
    (scene / "test_list.txt").write_text("left\\view_01.png\n")
    assert [f.name for f in parse(scene, "val").image_filenames] == ["view_01.png"]
    check_served(served_images(scene))


def test_accents_in_either_form(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    (scene / "images/view_00.png").rename(scene / "images/caf\u00e9_00.png")  # one letter
    meta["frames"][0]["file_path"] = "images/cafe\u0301_00.png"  # a letter and an accent, as macOS writes
    save(scene, meta)
    assert len(served_images(scene)) == 6


# Recipe 7: NeRF-synthetic.


def synthetic(folder, splits=("train", "test")):
    frames = {split: [] for split in splits}
    for k in range(6):
        split = splits[k % len(splits)]
        (folder / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(true_picture(k)).convert("RGBA").save(folder / split / f"r_{k:02d}.png")
        frames[split].append({"file_path": f"./{split}/r_{k:02d}", "transform_matrix": ring_pose(k).tolist()})
    for split, listed in frames.items():
        angle = 2 * float(np.arctan(W / 2 / 110.0))
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": listed}))
    return folder


def test_nerf_synthetic_folders_keep_their_split(tmp_path):
    scene = synthetic(tmp_path / "s")
    names = {split: [number_of(f) for f in parse(scene, split).image_filenames] for split in ("train", "val", "test")}
    assert names == {"train": [0, 2, 4], "val": [1, 3, 5], "test": [1, 3, 5]}
    views = served_images(scene)
    check_served(views)
    assert views.views[0].load().shape == (H, W, 4)
    three = synthetic(tmp_path / "three", ("train", "val", "test"))
    assert [number_of(f) for f in parse(three, "val").image_filenames] == [1, 4]


def number_of(file) -> int:
    return int(file.stem[-2:])


@pytest.mark.slow
def test_what_a_training_recommends_works_with_its_dataparser(tmp_path, capsys):
    """With a dataparser whose pictures `ag2 prepare` does not see, only what works is recommended; it is followed."""
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    # It fills transparency with white, so its pictures are others; and the folder holds another scene as well.
    for other in (synthetic(tmp_path / "s", ("train", "val", "test")), two_scenes(tmp_path)):
        config = AG2DataManagerConfig(data=other, dataparser=BlenderDataParserConfig(data=other))
        config.cache_images_type = "uint8"
        capsys.readouterr()
        config.setup(device="cpu", test_mode="val").view_masks()
        text = said(capsys)
        assert "add --pipeline.datamanager.prepare True" in text and "ag2 prepare" not in text
        config.prepare = True
        manager = config.setup(device="cpu", test_mode="val")
        assert len(manager.next_train(0)[1]["masks"]) > 0


def two_scenes(folder):
    """A NeRF-synthetic scene with a transforms.json of other pictures beside it, which ag2-data prefers."""
    other = synthetic(folder / "other", ("train", "val", "test"))
    straight_scene(folder / "t")
    for name in ("transforms.json", "images"):
        shutil.move(folder / "t" / name, other / name)
    return other


# Recipe 8: masks.


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_any_pixel_format(mode, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    (scene / "masks").mkdir()
    inside = np.full((H, W), 255, np.uint8)
    inside[-20:, :30] = 0
    for frame in meta["frames"][::2]:  # the others have none
        frame["mask_path"] = frame["file_path"].replace("images", "masks")
        if mode == "RGBA":  # by its transparency
            image = Image.fromarray(np.dstack([np.full((H, W, 3), 255, np.uint8), inside]))
        elif mode == "I;16":
            image = Image.fromarray(inside.astype(np.uint16) * 257)
        else:
            image = Image.fromarray(inside).convert(mode)
        image.save(scene / frame["mask_path"])
    save(scene, meta)
    check(scene)
    manager = AG2DataManagerConfig(data=scene, dataparser=AG2DataParserConfig()).setup(device="cpu", test_mode="val")
    for file, item in zip(manager.train_dataset.image_filenames, manager.cached_train):
        if number_of(file) % 2:
            assert "mask" not in item
        else:
            assert np.array_equal(item["mask"][..., 0].numpy(), inside > 0)
    with pytest.raises(UserError, match=r"3 of 6 pictures have a mask|of \d pictures have a mask.*ag2 undistort"):
        parse(scene, eval_mode="all", undoes_lenses=False)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda p: p.unlink(), "no such mask; restore it or remove mask_path"),
        (lambda p: p.write_bytes(b"x"), "not a readable image"),
        (lambda p: Image.new("L", (9, 9)).save(p), "the image has 9x9 pixels"),
    ],
)
def test_bad_masks_are_named_before_anything_is_written(damage, words, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    (scene / "masks").mkdir()
    for frame in meta["frames"]:
        frame["mask_path"] = frame["file_path"].replace("images", "masks")
        Image.new("L", (W, H), 255).save(scene / frame["mask_path"])
    damage(scene / "masks/view_03.png")
    save(scene, meta)
    with pytest.raises(UserError, match=rf"masks/view_03\.png: {words}") as error:
        check(scene)
    assert "\n" not in str(error.value)


def test_depths_of_some_frames_hinder_nothing(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    meta["frames"][1]["depth_file_path"] = "depths/view_01.png"
    assert parse(save(scene, meta)).metadata["depth_filenames"] is None


# Recipe 12: pictures on their side.


def lying(folder, tag):
    scene, meta = straight_scene(folder)
    exif = Image.Exif()
    exif[0x0112] = tag
    quarter = np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]])
    for frame in meta["frames"]:
        with Image.open(scene / frame["file_path"]) as image:
            image.convert("RGB").save(scene / frame["file_path"], exif=exif)
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3] = pose[:3, :3] @ quarter
        frame["transform_matrix"] = pose.tolist()
    meta.update(w=H, h=W, cx=meta["cy"], cy=meta["cx"])
    return save(scene, meta)


def test_pictures_on_their_side_are_turned_where_their_cameras_are(tmp_path, capsys):
    scene = lying(tmp_path / "s", 6)
    check(scene)
    view = served_images(scene).views[0]
    assert np.array_equal(view.load(), np.rot90(true_picture(number(view)), -1))
    assert "turned as their EXIF data say" in said(capsys)
    check_points_turned = parse(scene)
    assert int(check_points_turned.cameras.width[0]) == H


def test_without_exif_the_line_says_what_it_is(tmp_path):
    scene = lying(tmp_path / "s", 1)
    with pytest.raises(UserError, match=r"view_01\.png: .* 120x90 pixels, its camera 90x120; it is turned by"):
        check(scene)


def test_pictures_of_another_scale_are_told_all_that_must_change(tmp_path):
    """The advice is followed, and gives the true scene."""
    scene, meta = straight_scene(tmp_path / "s")
    for frame in meta["frames"]:
        with Image.open(scene / frame["file_path"]) as image:
            image.resize((W // 2, H // 2), Image.Resampling.BOX).save(scene / frame["file_path"])
    with pytest.raises(UserError, match=r"multiply all of w, h, fl_x, fl_y, cx and cy by 0\.5"):
        check(scene)
    for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
        meta[key] *= 0.5
    save(scene, meta)
    check(scene)
    check_served(served_images(scene))


# Recipe 14: frames listed twice, phones' formats.


def test_a_frame_listed_twice_is_taken_once(tmp_path, capsys):
    scene, meta = straight_scene(tmp_path / "s")
    meta["frames"] += meta["frames"][:2]
    save(scene, meta)
    files = [f for split in ("train", "val") for f in parse(scene, split).image_filenames]
    assert len(files) == len(set(files)) == 6
    assert "2 frames are listed twice and taken once" in said(capsys)
    meta["frames"][-1] = meta["frames"][-1] | {"transform_matrix": ring_pose(5).tolist()}
    with pytest.raises(UserError, match="is listed twice with different poses"):
        parse(save(scene, meta))


@pytest.mark.parametrize(
    "suffix, words", [(".heic", "convert it to JPEG or PNG"), (".dng", "develop it to JPEG or PNG")]
)
def test_formats_of_phones_and_cameras_are_named(suffix, words, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    for frame in meta["frames"]:
        name = frame["file_path"].replace(".png", suffix)
        (scene / frame["file_path"]).unlink()
        (scene / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
        frame["file_path"] = name
    with pytest.raises(UserError, match=words):
        check(save(scene, meta))
    colmap = colmap_frames(tmp_path / "c", ["PINHOLE"] * 3)
    for path in (colmap / "images").iterdir():
        path.rename(path.with_suffix(".heic"))
    if suffix == ".heic":
        with pytest.raises(UserError, match="HEIC files are not read"):
            check(colmap)
