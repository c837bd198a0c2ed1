import json

import numpy as np
import pytest
import torch
from PIL import Image
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.io.calibration import read_rig

EYE = np.eye(4).tolist()
CAMERA = {"file": "a.png", "width": 8, "height": 6, "cam2img": np.diag([5.0, 5, 1]).tolist(), "lidar2cam": EYE}


def write(folder, content, name="calibration.json"):
    (folder / name).write_text(json.dumps(content))
    Image.new("RGB", (8, 6)).save(folder / "a.png")
    return folder


def test_surround_calibration(tmp_path):
    content = {
        "cameras": {"FRONT": CAMERA},
        "lidar": {"file": "l.bin"},
        "sweeps": [{"file": "s.bin", "sweep2lidar": EYE}],
    }
    rig = read_rig(write(tmp_path, content))
    assert rig.names == ("FRONT",) and rig.cloud == tmp_path / "l.bin" and len(rig.sweeps) == 1
    assert rig.image(0).shape == (6, 8, 3)
    half = rig.scaled(4)
    assert (half.views[0].width, half.views[0].height) == (4, 3) and half.views[0].K[0, 0] == 2.5
    assert half.image(0).shape == (3, 4, 3)


def test_transforms_turn_from_opengl(tmp_path):
    frame = {"file_path": "a.png", "transform_matrix": EYE}
    rig = read_rig(write(tmp_path, {"fl_x": 5, "w": 8, "h": 6, "frames": [frame]}, "transforms.json"))
    ahead = rig.views[0].viewmat @ torch.tensor([0, 0, -2.0, 1])  # OpenGL looks along -z
    assert ahead[2] == 2
    bent = {"k1": 0.3, "fl_x": 5, "w": 8, "h": 6, "frames": [frame]}
    rig = read_rig(write(tmp_path, bent, "transforms.json"))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    assert rig.image(0).shape == (6, 8, 3) and (rig.image(0) != np.asarray(Image.open(tmp_path / "a.png"))).any()
    with pytest.raises(UserError, match="fisheye"):
        read_rig(write(tmp_path, bent | {"camera_model": "OPENCV_FISHEYE"}, "transforms.json"))


def test_openscene_folders(tmp_path):
    for name in ("color", "pose", "K"):
        (tmp_path / name).mkdir()
    for stem, pose in (("0", np.eye(4)), ("1", np.full((4, 4), np.inf))):
        Image.new("RGB", (8, 6)).save(tmp_path / "color" / f"{stem}.jpg")
        np.save(tmp_path / "pose" / f"{stem}.npy", pose)
        np.save(tmp_path / "K" / f"{stem}.npy", np.diag([5.0, 5, 1]))
    assert read_rig(tmp_path).names == ("0",)  # the other frame's tracking was lost
    (tmp_path / "pose" / "0.npy").unlink()
    with pytest.raises(UserError, match="no such pose"):
        read_rig(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"cameras": {}}, "names no camera"),
        ({"cameras": {"A": {k: v for k, v in CAMERA.items() if k != "lidar2cam"}}}, "lacks 'lidar2cam'"),
        ({"cameras": {"A": CAMERA | {"cam2img": [[1, 2], [3, 4]]}}}, "cam2img of A is not 3 x 3"),
        ({"cameras": 3}, "not a calibration"),
        ({"frames": 3}, "not a calibration"),
        ({}, "lacks 'frames'"),
    ],
)
def test_bad_calibrations(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        read_rig(write(tmp_path, content))


def test_no_calibration(tmp_path):
    with pytest.raises(UserError, match="no calibration in it"):
        read_rig(tmp_path)
    with pytest.raises(UserError, match="no such calibration"):
        read_rig(tmp_path / "none.json")


def test_picture_of_another_shape(tmp_path):
    rig = read_rig(write(tmp_path, {"cameras": {"A": CAMERA}}))
    Image.new("RGB", (8, 12)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="of another picture"):
        rig.image(0)


def test_real_surround_cameras():
    rig = read_rig(shared("nuscenes_sample"))
    assert len(rig) == 6 and rig.views[0].width == 1600 and rig.cloud.is_file()
