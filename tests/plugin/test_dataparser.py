import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from bad_scenes import (
    COLOURS,
    FOCAL,
    HEIGHT,
    POINTS,
    VIEWS,
    WIDTH,
    colmap_scene,
    edit_transforms,
    picture,
    ring_pose,
    transforms_scene,
    write_ply,
)

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.dataparser import AG2DataParserConfig, scene_layout

AS_CAPTURED = dict(orientation_method="none", center_method="none", auto_scale_poses=False)


def parse(data, split="train", **options):
    return AG2DataParserConfig(data=data, **options).setup().get_dataparser_outputs(split=split)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# What is read.


def test_transforms_poses_intrinsics_points_and_split(tmp_path):
    outputs = parse(transforms_scene(tmp_path / "s"), **AS_CAPTURED)
    held_out = parse(tmp_path / "s", split="val", **AS_CAPTURED)
    assert [p.name for p in held_out.image_filenames] == ["view_00.png", "view_08.png"]
    assert len(outputs.image_filenames) + len(held_out.image_filenames) == VIEWS
    expected = torch.tensor(ring_pose(1)[:3], dtype=torch.float32)
    assert torch.allclose(outputs.cameras.camera_to_worlds[0], expected, atol=1e-6)
    assert float(outputs.cameras.fx[0]) == FOCAL and int(outputs.cameras.width[0]) == WIDTH
    assert torch.allclose(outputs.metadata["points3D_xyz"], torch.from_numpy(POINTS), atol=1e-6)
    assert torch.equal(outputs.metadata["points3D_rgb"], torch.from_numpy(COLOURS))


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
def test_points_stay_where_the_cameras_saw_them(make, tmp_path):
    """Whatever the frame is turned and scaled to, a point projects to the same pixel."""
    make(tmp_path / "s")

    def pixels(**options):
        outputs = parse(tmp_path / "s", **options)
        c2w = torch.eye(4).repeat(len(outputs.cameras), 1, 1)
        c2w[:, :3] = outputs.cameras.camera_to_worlds
        points = torch.cat((outputs.metadata["points3D_xyz"], torch.ones(len(POINTS), 1)), dim=1)
        p = (torch.linalg.inv(c2w) @ points.T).transpose(1, 2)[..., :3]
        return FOCAL * p[..., :2] / -p[..., 2:]

    plain, turned = pixels(**AS_CAPTURED), pixels(orientation_method="up", center_method="poses")
    assert torch.allclose(plain, turned, atol=1e-3)
    assert plain.norm(dim=-1).max() < WIDTH, "the points are in the pictures"


def test_colmap_and_transforms_agree(tmp_path):
    a = parse(transforms_scene(tmp_path / "t"), **AS_CAPTURED)
    b = parse(colmap_scene(tmp_path / "c"), **AS_CAPTURED)
    world = b.dataparser_transform[:3, :3]  # nerfstudio's reader turns COLMAP's y down into z up

    def spots(outputs):
        return outputs.cameras.camera_to_worlds[:, :, 3]

    assert torch.allclose(spots(b), spots(a) @ world.T, atol=1e-5)
    assert torch.allclose(b.metadata["points3D_xyz"], a.metadata["points3D_xyz"] @ world.T, atol=1e-5)


@pytest.mark.parametrize("model", ["sparse/0", "colmap/sparse/0", "sparse"])
def test_where_colmap_models_are_found(model, tmp_path):
    colmap_scene(tmp_path / "s", model)
    assert scene_layout(tmp_path / "s") == ("colmap", tmp_path / "s" / model)
    assert len(parse(tmp_path / "s").image_filenames) == 7


def test_a_transforms_file_may_be_named_directly(tmp_path):
    transforms_scene(tmp_path / "s")
    assert len(parse(tmp_path / "s" / "transforms.json").image_filenames) == 7


@pytest.mark.parametrize("size", [(16, 12), (17, 13)])
def test_ag2aussian_layout_with_smaller_images(size, tmp_path):
    """Datasets round odd sizes up or down; the cameras follow the files."""
    full = (33, 25)
    scene = colmap_scene(tmp_path / "s")
    (scene / "sparse/0/cameras.txt").write_text(f"1 PINHOLE {full[0]} {full[1]} {FOCAL} {FOCAL} 16.5 12.5\n")
    (scene / "images_2").mkdir()
    for k in range(VIEWS):
        picture(k, *full).save(scene / "images" / f"view_{k:02d}.png")
        picture(k, *size).save(scene / "images_2" / f"view_{k:02d}.png")
    outputs = parse(scene, downscale_factor=2)
    assert outputs.image_filenames[0].parent.name == "images_2"
    assert (int(outputs.cameras.width[0]), int(outputs.cameras.height[0])) == size
    assert float(outputs.cameras.fx[0]) == pytest.approx(FOCAL / 2)


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
def test_a_factor_without_its_folder_is_refused(make, tmp_path):
    scene = make(tmp_path / "s")
    with pytest.raises(UserError) as error:
        parse(scene, downscale_factor=4)
    assert "images_4: no such folder" in one_line(error) and "--downscale-factor" in one_line(error)
    for factor in (0, -2):
        with pytest.raises(UserError, match=f"--downscale-factor {factor}: give a whole number"):
            parse(scene, downscale_factor=factor)


def test_lens_distortion_is_kept_for_the_datamanager(tmp_path):
    outputs = parse(transforms_scene(tmp_path / "s", distortion={"k1": 0.1, "k2": -0.02, "p1": 0.001, "p2": 0.002}))
    assert outputs.cameras.distortion_params[0].tolist() == pytest.approx([0.1, -0.02, 0, 0, 0.001, 0.002])


def test_points_that_are_not_finite_are_dropped(tmp_path):
    scene = transforms_scene(tmp_path / "s")
    points = POINTS.copy()
    points[1, 2] = np.nan
    write_ply(scene / "points.ply", points)
    metadata = parse(scene).metadata
    assert len(metadata["points3D_xyz"]) == len(metadata["points3D_rgb"]) == 2
    lines = (colmap_scene(tmp_path / "c") / "sparse/0/points3D.txt").read_text().replace("0.5 0.2 -0.1", "nan 0 0", 1)
    (tmp_path / "c/sparse/0/points3D.txt").write_text(lines.replace("0.20000000298023224", "nan"))
    metadata = parse(tmp_path / "c").metadata
    assert {len(v) for k, v in metadata.items() if k.startswith("points3D_")} == {len(metadata["points3D_xyz"])}
    assert torch.isfinite(metadata["points3D_xyz"]).all() and 0 < len(metadata["points3D_xyz"]) < 3


# Point clouds that are not there.


@pytest.mark.parametrize("what", ["absent", "empty", "broken", "truncated"])
def test_a_useless_ply_means_random_points_and_a_line(what, tmp_path, capsys):
    scene = transforms_scene(tmp_path / "s")
    ply = scene / "points.ply"
    if what == "absent":
        ply.unlink()
    elif what == "empty":
        write_ply(ply, POINTS[:0], COLOURS[:0])
    elif what == "broken":
        ply.write_bytes(b"nothing like a point cloud")
    else:
        ply.write_bytes(ply.read_bytes()[:-10])
    metadata = parse(scene).metadata
    assert "points3D_xyz" not in metadata
    out = said(capsys)
    assert "points.ply" in out.replace(" ", "") and out.count("random points") == 1


@pytest.mark.parametrize("content", [None, "", "# only a comment\n", "1 2 three\n"])
def test_useless_colmap_points_mean_random_points_and_a_line(content, tmp_path, capsys):
    path = colmap_scene(tmp_path / "s") / "sparse/0/points3D.txt"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert "points3D_xyz" not in parse(tmp_path / "s").metadata
    assert said(capsys).count("random points") == 1


# Bad input.


def drop_pose(meta):
    del meta["frames"][3]["transform_matrix"]


def nan_pose(meta):
    meta["frames"][3]["transform_matrix"][0][3] = float("nan")


def panorama(meta):
    meta["camera_model"] = "EQUIRECTANGULAR"


def short_pose(meta):
    meta["frames"][3]["transform_matrix"] = [[1, 0], [0, 1]]


def one_view(meta):
    meta["frames"] = meta["frames"][:1]


def no_frames(meta):
    meta["frames"] = []


def no_focal(meta):
    del meta["fl_x"]


def zero_focal(meta):
    meta["fl_x"] = 0.0


def no_name(meta):
    del meta["frames"][3]["file_path"]


def odd_model(meta):
    meta["camera_model"] = "MADE_UP"


def unknown_split(meta):
    meta["train_filenames"] = ["images/view_01.png", "images/nothing.png", "view_02.png"]


def flat_angle(meta):
    del meta["fl_x"]
    meta["camera_angle_x"] = 3.2


def no_height(meta):
    del meta["h"]


@pytest.mark.parametrize(
    "change, words",
    [
        (drop_pose, ["view_03.png", "transform_matrix"]),
        (nan_pose, ["view_03.png", "finite"]),
        (panorama, ["perspective", "ns-process-data"]),
        (short_pose, ["view_03.png", "4x4"]),
        (one_view, ["transforms.json", "one view"]),
        (no_frames, ["transforms.json", "no frames"]),
        (no_focal, ["transforms.json", "no fl_x", "view_00.png"]),
        (zero_focal, ["transforms.json", "focal length"]),
        (no_name, ["transforms.json", "frame 3 (from 0)", "file_path"]),
        (odd_model, ["transforms.json", "'MADE_UP'", "OPENCV_FISHEYE"]),
        (unknown_split, ["transforms.json", "train_filenames", "images/nothing.png (and 1 more)"]),
        (flat_angle, ["transforms.json", "camera_angle_x is 3.2", "radians"]),
        (no_height, ["transforms.json", "no h,"]),
    ],
)
def test_bad_transforms_are_refused_by_name(change, words, tmp_path):
    scene = edit_transforms(transforms_scene(tmp_path / "s"), change)
    before = sorted(p.relative_to(scene) for p in scene.rglob("*"))
    with pytest.raises(UserError) as error:
        parse(scene)
    assert all(word in one_line(error) for word in words), one_line(error)
    assert sorted(p.relative_to(scene) for p in scene.rglob("*")) == before


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = transforms_scene(tmp_path / "s") / "transforms.json"
    expected = parse(tmp_path / "s")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert torch.equal(parse(tmp_path / "s").cameras.camera_to_worlds, expected.cameras.camera_to_worlds)


def test_a_field_of_view_of_a_fisheye(tmp_path):
    def fisheye(meta):
        for key in ("fl_x", "fl_y"):
            del meta[key]
        meta.update(camera_model="OPENCV_FISHEYE", camera_angle_x=2.6)

    scene = edit_transforms(transforms_scene(tmp_path / "s"), fisheye)
    assert float(parse(scene).cameras.fx[0]) == pytest.approx(WIDTH / 2.6)


def test_names_that_hold_nothing_out(tmp_path):
    scene = transforms_scene(tmp_path / "s")

    def rename(meta):
        for frame in meta["frames"]:
            name = frame["file_path"].replace("view", "train")
            (scene / frame["file_path"]).rename(scene / name)
            frame["file_path"] = name

    parser = AG2DataParserConfig(data=edit_transforms(scene, rename), eval_mode="filename").setup()
    assert len(parser.get_dataparser_outputs(split="train").image_filenames) == VIEWS


def test_a_field_of_view_stands_for_the_focal_length(tmp_path):
    """Blender's way: an angle, no size, no centre, names without suffix."""
    scene = transforms_scene(tmp_path / "s")
    expected = parse(scene)

    def blender(meta):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"):
            del meta[key]
        meta["camera_angle_x"] = 2 * math.atan(WIDTH / 2 / FOCAL)
        for frame in meta["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    got = parse(edit_transforms(scene, blender))
    assert got.image_filenames == expected.image_filenames
    for key in ("fx", "fy", "cx", "cy", "width", "height"):
        assert torch.allclose(getattr(got.cameras, key), getattr(expected.cameras, key)), key
    edit_transforms(scene, lambda meta: meta.update(camera_angle_y=1.0, cx=11.0))
    got = parse(scene)
    assert float(got.cameras.fy[0]) == pytest.approx(HEIGHT / 2 / math.tan(0.5)) and float(got.cameras.cx[0]) == 11
    shutil.rmtree(scene / "images")
    parser = AG2DataParserConfig(data=scene).setup()
    parser.downscale_factor = 1
    with pytest.raises(UserError, match="add w and h"):
        parser.get_dataparser_outputs(split="train")


@pytest.mark.parametrize("given", [["train"], ["train", "val"], ["train", "test"], ["test"]])
def test_splits_that_are_not_listed_are_completed(given, tmp_path):
    lists = {"train": [0, 1, 2, 3, 4, 5, 6], "val": [7, 8], "test": [7, 8]}
    names = [f"view_{k:02d}.png" for k in range(VIEWS)]
    scene = transforms_scene(tmp_path / "t")
    listed = {f"{split}_filenames": [f"images/{names[k]}" for k in lists[split]] for split in given}
    edit_transforms(scene, lambda meta: meta.update(listed))
    colmap = colmap_scene(tmp_path / "c")
    for split in given:
        (colmap / f"{split}_list.txt").write_text("".join(f"{names[k]}\n" for k in lists[split]))
    for data in (scene, colmap):
        for split, expected in lists.items():
            assert [f.name for f in parse(data, split).image_filenames] == [names[k] for k in expected]
    (colmap / f"{given[0]}_list.txt").write_text("nothing.png\n")
    with pytest.raises(UserError, match=rf"{given[0]}_list\.txt lists nothing\.png, which no frame has") as error:
        parse(colmap)
    one_line(error)


# Frames without pictures.


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
@pytest.mark.parametrize("gone", [[0], [3, 5], [0, 8]])
def test_frames_without_pictures_are_left_out(make, gone, tmp_path, capsys):
    scene = make(tmp_path / "s")
    before = {split: dict(by_file(parse(scene, split))) for split in ("train", "val")}
    whole = before["train"] | before["val"]
    for k in gone:
        (scene / "images" / f"view_{k:02d}.png").unlink()
    capsys.readouterr()
    splits = {split: dict(by_file(parse(scene, split))) for split in ("train", "val", "test")}
    text = said(capsys)
    assert text.count("left out") == 1
    assert (
        f"{len(gone)} of {VIEWS} images are missing" in text and f"first {scene}/images/view_{gone[0]:02d}.png" in text
    )
    assert splits["train"].keys().isdisjoint(splits["val"]) and splits["val"].keys() == splits["test"].keys()
    found = splits["train"] | splits["val"]
    assert len(splits["val"]) > 0 and len(found) == VIEWS - len(gone)
    if before["val"].keys() & found.keys():
        assert splits["val"].keys() <= before["val"].keys(), "no picture changes sides"
    # The scene is turned and scaled as if all were there: what was trained before stays where it is.
    assert all(torch.equal(pose, whole[file]) for file, pose in found.items())


def by_file(outputs):
    return [(f, c) for f, c in zip(outputs.image_filenames, outputs.cameras.camera_to_worlds)]


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
def test_smaller_pictures_that_are_missing(make, tmp_path):
    scene = make(tmp_path / "s")
    (scene / "images_2").mkdir()
    for k in range(VIEWS - 2):
        picture(k, WIDTH // 2, HEIGHT // 2).save(scene / "images_2" / f"view_{k:02d}.png")
    files = [f for s in ("train", "val") for f in parse(scene, s, downscale_factor=2).image_filenames]
    assert sorted(f.name for f in files) == [f"view_{k:02d}.png" for k in range(VIEWS - 2)]
    assert {f.parent.name for f in files} == {"images_2"}


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
def test_one_picture_is_too_few(make, tmp_path):
    scene = make(tmp_path / "s")
    for k in range(1, VIEWS):
        (scene / "images" / f"view_{k:02d}.png").unlink()
    with pytest.raises(
        UserError, match=rf"view_01\.png: no such image; {VIEWS - 1} of {VIEWS} .* at least two"
    ) as error:
        parse(scene)
    one_line(error)


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
def test_listed_splits_do_without_missing_pictures(make, tmp_path):
    scene = make(tmp_path / "s")
    train, val = [f"view_{k:02d}.png" for k in range(6)], [f"view_{k:02d}.png" for k in range(6, VIEWS)]
    if make is transforms_scene:
        lists = {"train_filenames": train, "val_filenames": val}
        lists = {key: [f"images/{name}" for name in names] for key, names in lists.items()}
        edit_transforms(scene, lambda meta: meta.update(lists))
    else:
        (scene / "train_list.txt").write_text("\n".join(train))
        (scene / "test_list.txt").write_text("\n".join(val))
    for name in (train[0], val[0]):
        (scene / "images" / name).unlink()
    assert [f.name for f in parse(scene).image_filenames] == train[1:]
    assert [f.name for f in parse(scene, "val").image_filenames] == val[1:]


def test_transforms_that_are_no_json(tmp_path):
    scene = transforms_scene(tmp_path / "s")
    (scene / "transforms.json").write_text('{"frames": [')
    with pytest.raises(UserError, match=r"transforms\.json: not readable as JSON"):
        parse(scene)
    (scene / "transforms.json").write_text(json.dumps([1, 2]))
    with pytest.raises(UserError, match="no frames"):
        parse(scene)


def test_no_scene_at_all(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        parse(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"neither transforms\.json nor transforms_train\.json nor a COLMAP model"):
        parse(tmp_path / "empty")
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"photo\.png: not a folder"):
        parse(tmp_path / "photo.png")


def test_all_images_gone(tmp_path):
    scene = transforms_scene(tmp_path / "s")
    for path in (scene / "images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="restore the images folder"):
        parse(scene)
    scene = colmap_scene(tmp_path / "c")
    for path in (scene / "images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no images there"):
        parse(scene)


@pytest.mark.parametrize("make", [transforms_scene, colmap_scene])
def test_cameras_without_images_where_none_are_needed(make, tmp_path):
    scene = make(tmp_path / "s")
    with_images = parse(scene)
    shutil.rmtree(scene / "images")
    parser = AG2DataParserConfig(data=scene).setup()
    parser.downscale_factor = 1  # what nerfstudio does for commands that look at no picture
    outputs = parser.get_dataparser_outputs(split="train")
    assert torch.equal(outputs.cameras.camera_to_worlds, with_images.cameras.camera_to_worlds)
    assert torch.equal(outputs.metadata["points3D_xyz"], with_images.metadata["points3D_xyz"])


def test_what_systems_leave_in_folders_is_no_picture(tmp_path):
    scene = colmap_scene(tmp_path)
    expected = parse(scene)
    (scene / "images" / ".DS_Store").write_bytes(b"Bud1")
    (scene / "images" / "Thumbs.db").write_bytes(b"x")
    found = parse(scene)
    assert found.image_filenames == expected.image_filenames
    for path in (scene / "images").iterdir():
        path.unlink()
    (scene / "images" / "empty").mkdir()
    with pytest.raises(UserError, match="no images there"):
        parse(scene)


def test_colmap_names_with_blanks_in_folders(tmp_path):
    scene = colmap_scene(tmp_path / "s")
    path = scene / "sparse/0/images.txt"
    text = path.read_text().replace("view_02.png", "left/день 2/shot 1.png").replace("view_03.png", "right/shot 1.png")
    path.write_text(f"# names may hold blanks\n{text}", encoding="utf-8")
    for old, new in (("view_02.png", "left/день 2/shot 1.png"), ("view_03.png", "right/shot 1.png")):
        (scene / "images" / new).parent.mkdir(parents=True)
        (scene / "images" / old).rename(scene / "images" / new)
    files = {f.relative_to(scene / "images").as_posix() for f in parse(scene).image_filenames}
    assert {"left/день 2/shot 1.png", "right/shot 1.png"} < files and len(files) == len(parse(scene).image_filenames)


def test_damaged_colmap_models(tmp_path):
    scene = colmap_scene(tmp_path / "one", views=1)
    with pytest.raises(UserError, match="only one view"):
        parse(scene)
    scene = colmap_scene(tmp_path / "nan")
    path = scene / "sparse/0/images.txt"
    lines = path.read_text().splitlines()
    lines[4] = " ".join([*lines[4].split()[:5], "nan", *lines[4].split()[6:]])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"view_02\.png is not finite"):
        parse(scene)
    scene = colmap_scene(tmp_path / "cut")
    (scene / "sparse/0/images.txt").write_text("1 0.5 0.5\n\n")
    with pytest.raises(UserError, match="not a readable COLMAP model"):
        parse(scene)
    scene = colmap_scene(tmp_path / "binary")
    for name in ("cameras", "images"):
        (scene / f"sparse/0/{name}.txt").unlink()
        (scene / f"sparse/0/{name}.bin").write_bytes(b"\x05\x00\x00")
    with pytest.raises(UserError, match="not a readable COLMAP model") as error:
        parse(scene)
    one_line(error)


def test_the_config_is_left_as_it_was(tmp_path):
    config = AG2DataParserConfig(data=transforms_scene(tmp_path / "s"))
    before = replace(config)
    config.setup().get_dataparser_outputs(split="train")
    assert config == before
