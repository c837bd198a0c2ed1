"""Everything in a file that says what the camera is, is used or refused: by an independent projection."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from bad_scenes import POINTS, ring_pose
from lens_scene import (
    CX,
    CY,
    KF,
    LENSES,
    F,
    H,
    K,
    W,
    check_points,
    check_served,
    colmap_frames,
    retake,
    save,
    straight_scene,
)  # fmt: skip

from ag2_ns.core.errors import UnsupportedLens, UserError
from ag2_ns.plugin.dataparser import AG2DataParserConfig
from ag2_ns.plugin.undistorted import served_images, undistorted_cameras


def parse(data, split="train", **options):
    options.setdefault("undoes_lenses", True)
    return AG2DataParserConfig(data=data, **options).setup().get_dataparser_outputs(split=split)


def terms(model: str, *names: str) -> dict:
    _, (fx, fy, cx, cy), c = LENSES[model]
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": W, "h": H} | dict(zip(names, c))


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# Recipe 1: the frame's own camera beside the file's.


def test_a_frames_own_camera_wins_over_the_files(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    for k in (1, 3, 5):
        retake(scene, k, "OPENCV")
        meta["frames"][k] |= terms("OPENCV", "k1", "k2", "p1", "p2")
    save(scene, meta)
    check_served(served_images(scene))
    check_points(parse(scene))


def test_a_lens_that_only_the_frames_state(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"):
        del meta[key]
    for k in range(6):
        retake(scene, k, "OPENCV_FISHEYE")
        meta["frames"][k] |= terms("OPENCV_FISHEYE", "k1", "k2", "k3", "k4") | {"camera_model": "OPENCV_FISHEYE"}
    check_served(served_images(save(scene, meta)))


def test_values_win_one_by_one(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    meta |= {"k1": 0.1, "k2": 0.05}
    meta["frames"][0] |= {"k1": -0.2, "cx": 50.0}
    meta["frames"][2] |= {"fl_x": 130.0}
    meta["frames"][3] |= {"camera_model": "OPENCV_FISHEYE"}
    outputs = parse(save(scene, meta), eval_mode="all")
    rows = outputs.cameras.distortion_params
    assert rows[0].tolist() == pytest.approx([-0.2, 0.05, 0, 0, 0, 0])
    assert rows[1].tolist() == pytest.approx([0.1, 0.05, 0, 0, 0, 0])
    assert float(outputs.cameras.cx[0]) == 50 and float(outputs.cameras.cx[1]) == CX
    assert float(outputs.cameras.fx[2]) == float(outputs.cameras.fy[2]) == 130, "square pixels stay square"
    assert rows[3].tolist() == [0] * 6, "the coefficients of the file are of another model"
    assert outputs.cameras.camera_type.flatten().tolist() == [1, 1, 1, 2, 1, 1]


# Recipe 4: camera models.


@pytest.mark.parametrize("model", LENSES)
def test_every_colmap_model_is_served(model, tmp_path):
    scene = colmap_frames(tmp_path / "s", [model] * 3)
    check_served(served_images(scene))
    check_points(parse(scene))


def test_a_mixture_of_models_is_served(tmp_path):
    scene = colmap_frames(tmp_path / "s", ["PINHOLE", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV", "THIN_PRISM_FISHEYE"])
    views = served_images(scene)
    check_served(views)
    for split in ("train", "val"):
        outputs = parse(scene, split)
        cameras = undistorted_cameras(outputs)
        for view, row in zip(outputs.image_filenames, range(len(cameras))):
            (served,) = [v for v in views if v.file == view]
            assert served.load().shape[:2] == (int(cameras.height[row]), int(cameras.width[row]))
            assert float(cameras.fx[row]) == pytest.approx(served.undistortion.camera.fx)
        assert not cameras.distortion_params.any() and (cameras.camera_type == 1).all()


def test_a_fourth_radial_coefficient(tmp_path):
    """RealityCapture and Metashape."""
    from lens_scene import polynomial

    LENSES["_poly"] = (polynomial, K, (-0.1, 0.02, -0.01, 0.02))
    try:
        scene, meta = straight_scene(tmp_path / "s")
        for k in range(6):
            retake(scene, k, "_poly")
    finally:
        del LENSES["_poly"]
    meta |= dict(zip(("fl_x", "fl_y", "cx", "cy"), K)) | {"k1": -0.1, "k2": 0.02, "k3": -0.01, "k4": 0.02}
    check_served(served_images(save(scene, meta)))


def test_what_nerfstudio_cannot_undo_is_refused_where_it_would_have_to(tmp_path):
    """`ns-train splatfacto ag2-data` reads the pictures by itself; the advice is followed and helps."""
    from ag2_ns.cli.undistort import Undistort

    scene = colmap_frames(tmp_path / "s", ["THIN_PRISM_FISHEYE"] * 3)
    with pytest.raises(UnsupportedLens, match=r"`ag2 undistort DATA OUT`") as error:
        parse(scene, undoes_lenses=False)
    one_line(error)
    Undistort(scene, tmp_path / "out").main()
    outputs = parse(tmp_path / "out", undoes_lenses=False)
    assert not outputs.cameras.distortion_params.any()
    check_points(outputs)


# Keys of other programs.


def test_instant_ngp_fisheye(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    del meta["camera_model"]
    for k in range(6):
        retake(scene, k, "OPENCV_FISHEYE")
    meta |= terms("OPENCV_FISHEYE", "k1", "k2", "k3", "k4") | {"is_fisheye": True}
    check_served(served_images(save(scene, meta)))


def test_camera_matrices_degrees_and_other_names(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    expected = parse(scene)
    numbers = [meta.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")]
    bare = copy.deepcopy(meta)
    forms = [
        {"fx": F, "fy": F, "cx": CX, "cy": CY, "width": W, "height": H},
        {"intrinsic_matrix": [[F, 0, CX], [0, F, CY], [0, 0, 1]], "w": W, "h": H},
        {"x_fov": math.degrees(2 * math.atan(W / 2 / F)), "y_fov": math.degrees(2 * math.atan(H / 2 / F))},
    ]
    assert numbers[0] == F
    for form in forms:
        for level in ("file", "frames"):
            meta = copy.deepcopy(bare)
            for where in [meta] if level == "file" else meta["frames"]:
                where |= form
            got = parse(save(scene, meta)).cameras
            for key in ("fx", "fy", "cx", "cy", "width", "height"):
                assert torch.allclose(getattr(got, key), getattr(expected.cameras, key), atol=1e-3), (form, key)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"k5": 0.1}, "k5 = 0.1 of images/view_00.png is no coefficient of camera_model OPENCV"),
        ({"p3": 0.1}, "p3 = 0.1"),
        ({"b1": 2.0}, "b1 = 2"),
        ({"camera_model": "OPENCV_FISHEYE", "p1": 0.1}, "p1 = 0.1"),
        ({"ftheta_p0": 1.0}, "ftheta_p0 = 1"),
        ({"rolling_shutter": [0, 0, 0.1]}, "rolling_shutter"),
        ({"intrinsics": [[F, 9, CX], [0, F, CY], [0, 0, 1]]}, "skew"),
        ({"latlong": True}, "only perspective and fisheye"),
        ({"camera_model": "EQUIRECTANGULAR"}, "only perspective and fisheye"),
    ],
)
def test_what_cannot_be_undone_is_refused_with_what_helps(change, words, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    with pytest.raises(UnsupportedLens) as error:
        parse(save(scene, meta | change))
    text = one_line(error)
    assert words in text and ("undistort" in text or "remove that key" in text or "ns-process-data" in text)


@pytest.mark.parametrize("change", [{"k5": 0.0}, {"p3": 0}, {"rolling_shutter": [0, 0, 0]}, {"b1": 0.0}])
def test_what_says_nothing_hinders_nothing(change, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    check_served(served_images(save(scene, meta | change)))


@pytest.mark.parametrize(
    "change, signs",
    [
        ({"from_na": True}, (1, -1, -1)),
        ({"normal_mts_args": []}, (-1, 1, -1)),
        ({"camera_convention": "opencv"}, (1, -1, -1)),
    ],
)
def test_conventions_of_axes(change, signs, tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    for frame in meta["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3] *= signs
        frame["transform_matrix"] = pose.tolist()
    check_points(parse(save(scene, meta | change)))
    if "camera_convention" in change:
        with pytest.raises(UserError, match="unknown camera_convention 'left'"):
            parse(save(scene, meta | {"camera_convention": "left"}))


def test_scaled_axes_are_those_of_an_objects_size(tmp_path):
    """Blender's matrix_world holds the camera's scale."""
    scene, meta = straight_scene(tmp_path / "s")
    skewed = copy.deepcopy(meta)
    for frame in meta["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3] *= 0.3
        frame["transform_matrix"] = pose.tolist()
    check_points(parse(save(scene, meta)))
    skewed["frames"][2]["transform_matrix"][0][0] *= 3
    with pytest.raises(UserError, match=r"view_02\.png are skewed"):
        parse(save(scene, skewed))
    mirrored = copy.deepcopy(skewed)
    mirrored["frames"][2] = meta["frames"][2] | {"transform_matrix": (ring_pose(2) * [-1, 1, 1, 1]).tolist()}
    with pytest.raises(UserError, match=r"view_02\.png are mirrored"):
        parse(save(scene, mirrored))


def test_applied_scale_moves_points_and_cameras_alike(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    outputs = parse(save(scene, meta | {"applied_scale": 2.0, "applied_transform": np.eye(4)[:3].tolist()}))
    check_points(outputs)
    world = torch.from_numpy(POINTS).double() / 2
    run = world @ outputs.dataparser_transform[:, :3].T.double() + outputs.dataparser_transform[:, 3].double()
    assert torch.allclose(run * outputs.dataparser_scale, outputs.metadata["points3D_xyz"].double(), atol=1e-5)


def test_fisheye_crop_radius_masks_what_is_no_picture(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    for k in range(6):
        retake(scene, k, "OPENCV_FISHEYE")
    meta |= terms("OPENCV_FISHEYE", "k1", "k2", "k3", "k4")
    meta |= {"camera_model": "OPENCV_FISHEYE", "fisheye_crop_radius": 30.0}
    view = served_images(save(scene, meta)).views[0]
    mask = view.dataset.get_mask(view.index)[..., 0].numpy()
    assert mask[H // 2, W // 2] and not mask[2, 2] and 0.2 < mask.mean() < 0.35
    assert KF[0] == pytest.approx(float(view.dataset.distorted.fx[0]))


def test_a_scene_without_pictures_still_has_straight_cameras(tmp_path, monkeypatch):
    """Cameras are known without opening a picture."""
    from PIL import Image

    scene = colmap_frames(tmp_path / "s", ["OPENCV_FISHEYE"] * 3)
    opened = []
    outputs = parse(scene, downscale_factor=1)
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a))
    cameras = undistorted_cameras(outputs)
    assert len(cameras) == len(outputs.image_filenames) and not opened


def test_json_numbers_as_text_are_numbers(tmp_path):
    scene, meta = straight_scene(tmp_path / "s")
    check_points(parse(save(scene, meta | {"fl_x": str(F)})))
    with pytest.raises(UserError, match="fl_x of all frames is 'wide'"):
        parse(save(scene, meta | {"fl_x": "wide"}))
    assert json.loads((scene / "transforms.json").read_text())["fl_x"] == "wide"
