"""nuScenes' tables: read as plain JSON, and through the devkit where it is installed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.io.nuscenes import CAMERAS, LIDAR, PlainTables, open_tables, read_nuscenes
from ag2_ns.io.surround import load_images, read_drives


def quaternion(degrees):
    half = np.radians(degrees) / 2
    return [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))]


@pytest.fixture
def root(tmp_path):
    """Two samples of one scene; the car drives 4 m from one to the next, and 0.2 m until its cameras open."""
    tables = {k: [] for k in ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor", "log", "map",
                              "category", "attribute", "visibility", "instance", "sample_annotation")}  # fmt: skip
    tables["scene"].append({
        "token": "scene", "name": "scene-0001", "first_sample_token": "s0", "last_sample_token": "s1",
        "nbr_samples": 2, "log_token": "log", "description": "",
    })  # fmt: skip
    tables["log"].append({"token": "log", "logfile": "", "vehicle": "", "date_captured": "", "location": ""})
    tables["map"].append({"token": "map", "log_tokens": ["log"], "category": "", "filename": "maps/none.png"})
    for k, channel in enumerate((*CAMERAS, LIDAR)):
        tables["sensor"].append({"token": f"sensor{k}", "channel": channel, "modality": "lidar" if channel == LIDAR
                                 else "camera"})  # fmt: skip
        tables["calibrated_sensor"].append({
            "token": f"mount{k}", "sensor_token": f"sensor{k}", "translation": [1.0, 0.1 * k, 1.5],
            "rotation": quaternion(60 * k), "camera_intrinsic": [] if channel == LIDAR else [[9.0, 0, 8], [0, 9, 5],
                                                                                            [0, 0, 1]],
        })  # fmt: skip
    for n in range(2):
        tables["sample"].append({
            "token": f"s{n}", "timestamp": 1_000_000 + 500_000 * n, "scene_token": "scene",
            "next": "s1" if n == 0 else "", "prev": "" if n == 0 else "s0",
        })  # fmt: skip
        for k, channel in enumerate((*CAMERAS, LIDAR)):
            late = 0.0 if channel == LIDAR else 0.2
            tables["ego_pose"].append({
                "token": f"ego{n}-{k}", "timestamp": 0, "rotation": quaternion(0.0),
                "translation": [4.0 * n + late, 0.0, 0.0],
            })  # fmt: skip
            name = f"samples/{channel}/{n}.{'bin' if channel == LIDAR else 'png'}"
            tables["sample_data"].append({
                "token": f"data{n}-{k}", "sample_token": f"s{n}", "ego_pose_token": f"ego{n}-{k}",
                "calibrated_sensor_token": f"mount{k}", "filename": name, "is_key_frame": True, "width": 16,
                "height": 10, "timestamp": 0, "fileformat": "png", "next": "", "prev": "",
            })  # fmt: skip
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if channel == LIDAR:
                np.ones((3, 5), "<f4").tofile(path)
            else:
                Image.new("RGB", (16, 10), (n, k, 0)).save(path)
    folder = tmp_path / "v1.0-mini"
    folder.mkdir()
    (tmp_path / "maps").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "maps" / "none.png")
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def check(drives):
    (drive,) = drives
    assert drive.name == "scene-0001" and [f.token for f in drive.frames] == ["s0", "s1"]
    record = drive.frames[1]
    assert [c.name for c in record.cameras] == list(CAMERAS) and record.timestamp == pytest.approx(1.5)
    for camera in record.cameras:  # the car went on 0.2 m along x until the picture
        assert torch.allclose(camera.cam2ego[:3, 3] - camera.mount[:3, 3], torch.tensor([0.2, 0, 0]).double())
    turned = record.cameras[1].mount[:3, :3]
    assert float(turned[0, 0]) == pytest.approx(0.5) and float(turned[1, 0]) == pytest.approx(np.sqrt(0.75))
    assert record.ego2global[0, 3] == 4.0
    assert load_images(record)[2][0, 0].tolist() == [1, 2, 0]


def test_plain_json(root):
    check(read_nuscenes(root, PlainTables(root / "v1.0-mini")))
    assert read_nuscenes(root, PlainTables(root / "v1.0-mini"), ["scene-0001"])


def test_by_the_folder_alone(root):
    check(read_drives(root))


def test_through_the_devkit(root):
    pytest.importorskip("nuscenes")
    from nuscenes import NuScenes

    check(read_nuscenes(root, NuScenes(version="v1.0-mini", dataroot=str(root), verbose=False)))


def test_what_is_missing_is_named(root):
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([r for r in rows if "CAM_BACK/" not in r["filename"]]))
    with pytest.raises(UserError, match="lacks CAM_BACK"):
        read_nuscenes(root, PlainTables(root / "v1.0-mini"))
    path.write_text("[{}]")
    with pytest.raises(UserError, match="sample_data"):
        PlainTables(root / "v1.0-mini")
    with pytest.raises(UserError, match="no tables"):
        open_tables(root, "v1.0-test")


def test_tables_without_pictures(root):
    for path in root.glob("samples/CAM_*/*.png"):
        path.unlink()
    with pytest.raises(UserError, match="pictures"):
        read_nuscenes(root, PlainTables(root / "v1.0-mini"))
