import json

import numpy as np
import pytest
import torch
from PIL import Image

from ag2_ns.cli.main import main

COLOURS = np.array([[200, 40, 40], [40, 160, 60], [50, 70, 200]], np.uint8)


def run(*words):
    main([str(w) for w in words])


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Three coloured walls around a car with three cameras, as a calibrated cloud."""
    folder = tmp_path_factory.mktemp("rig")
    rng = np.random.default_rng(0)
    cameras, points = {}, []
    for k in range(3):
        turn = 2 * np.pi * k / 3
        forward, right = np.array([np.cos(turn), np.sin(turn), 0]), np.array([np.sin(turn), -np.cos(turn), 0])
        pose = np.eye(4)
        pose[:3, :3] = [right, [0, 0, -1], forward]
        cameras[f"C{k}"] = {"file": f"c{k}.png", "width": 64, "height": 48, "lidar2cam": pose.tolist()}
        cameras[f"C{k}"]["cam2img"] = [[50, 0, 32], [0, 50, 24], [0, 0, 1]]
        Image.fromarray(np.broadcast_to(COLOURS[k], (48, 64, 3)).copy()).save(folder / f"c{k}.png")
        across, up = rng.uniform(-2, 2, (2, 900))
        points.append(4 * forward + across[:, None] * right + up[:, None] * [0, 0, 1])
    xyz = np.concatenate(points).astype("<f4")
    np.c_[xyz, np.zeros(len(xyz)), np.arange(len(xyz)) % 32].astype("<f4").tofile(folder / "lidar.bin")
    content = {"cameras": cameras, "lidar": {"file": "lidar.bin"}}
    (folder / "calibration.json").write_text(json.dumps(content))
    np.repeat([0, 1, 2], 900).astype("<u4").tofile(folder / "lidar.label")
    return folder


@pytest.fixture(scope="module")
def lifted(capture, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run("lift", "--points", capture, "--data", capture, "--encoder", "palette", "--output-dir", out, "--device", "cpu")
    return next(out.rglob("scene.safetensors"))


def test_a_cloud_is_lifted_named_and_measured(capture, lifted, tmp_path, capsys):
    run("name", "--load-config", lifted, "--output-dir", tmp_path / "n", "--sheet-views", 1, "--device", "cpu")
    content = json.loads((tmp_path / "n" / "names.json").read_text())
    assert {"red", "green", "blue"} <= set(content["words"])
    (tmp_path / "labels.json").write_text(json.dumps({"0": "red", "1": "green", "2": "blue"}))
    options = ("--ground-truth", tmp_path, "--point-labels", capture / "lidar.label", "--output-dir", tmp_path / "e")
    run("eval", "--load-config", lifted, *options, "--vocabulary", "--device", "cpu")
    measured = json.loads((tmp_path / "e" / "vocabulary.json").read_text())
    assert measured["miou"] > 0.9 and measured["words"]["recall"] == 1
    assert "TPSS" in capsys.readouterr().out


def test_points_are_described_drawn_and_converted(capture, lifted, tmp_path, capsys):
    cloud = capture / "lidar.bin"
    options = ("--data", capture, "--labels", capture / "lidar.label", "--scene", lifted)
    run("points", cloud, *options, "--output-dir", tmp_path, "--write", tmp_path / "c.ply")
    said = capsys.readouterr().out
    assert "2,700 points" in said and "0 (900)" in said and "C0" in said
    assert (tmp_path / "above.png").is_file() and (tmp_path / "cameras.png").is_file()
    run("points", tmp_path / "c.ply")
    assert "labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--points", "CLOUD"), "calibration of its cameras"),
        (("--points", "CLOUD", "--data", "EMPTY"), "no calibration in it"),
        (("--points", "none.ply", "--data", "RIG"), "no such point cloud"),
        (("--points", "CLOUD", "--data", "RIG", "--ply", "x.ply"), "leave --load-config and --ply out"),
        (("--points", "CLOUD", "--data", "RIG", "--longest", 3), "32 pixels or more"),
    ],
)
def test_bad_input(capture, tmp_path, capsys, words, said):
    places = {"CLOUD": capture / "lidar.bin", "RIG": capture, "EMPTY": tmp_path}
    with pytest.raises(SystemExit):
        run("lift", *(places.get(w, w) for w in words), "--output-dir", tmp_path / "o")
    error = capsys.readouterr().err.strip()
    assert said in error and error.startswith("error: ") and "\n" not in error


def test_no_mask_in_any_picture(capture):
    from ag2_ns.core.errors import UserError
    from ag2_ns.core.masks import MaskSet
    from ag2_ns.io.calibration import read_rig
    from ag2_ns.io.points import read_cloud
    from ag2_ns.rendering.choose import choose_rasterizer
    from ag2_ns.scene.points import scene_of_points

    none = MaskSet.from_dense(torch.zeros(0, 48, 64, dtype=torch.bool))
    rig, cloud = read_rig(capture), read_cloud(capture / "lidar.bin")
    with pytest.raises(UserError, match="no mask was found in any picture"):
        scene_of_points(cloud, rig, None, None, choose_rasterizer("cpu", "cpu"), prepared=[(none, None)] * 3)


def test_a_cloud_in_millimetres(capture, tmp_path, capsys):
    rows = np.fromfile(capture / "lidar.bin", "<f4").reshape(-1, 5)
    np.save(tmp_path / "mm.npy", rows[:, :3] * 1000)
    options = ("--data", capture, "--encoder", "none", "--output-dir", tmp_path / "o", "--device", "cpu")
    with pytest.raises(SystemExit):
        run("lift", "--points", tmp_path / "mm.npy", *options)
    assert "--unit mm" in capsys.readouterr().err
    run("lift", "--points", tmp_path / "mm.npy", "--unit", "mm", *options)


def test_smap_simulates_trains_resumes_and_names(tmp_path, capsys):
    run("smap", "simulate", tmp_path / "s", "--count", 2)
    sizes = ("--dim", 16, "--heads", 4, "--voxel", 1.0, "--batch", 1, "--output-dir", tmp_path / "m", "--device", "cpu")
    run("smap", "train", tmp_path / "s", "--steps", 2, *sizes)
    run("smap", "train", tmp_path / "s", "--steps", 3, "--resume", *sizes)
    sample = tmp_path / "s" / "street_00000.npz"
    run("smap", "name", sample, "--model", tmp_path / "m", "--output-dir", tmp_path / "m")
    assert "sector 11" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "m" / "captions.json").read_text())["street_00000"]) == 12
    for words, said in (
        (("train", tmp_path / "none"), "no samples"),
        (("name", sample, "--model", tmp_path / "none"), "no such model"),
        (("train", tmp_path / "s", "--resume", "--output-dir", tmp_path / "x"), "no checkpoint"),
    ):
        with pytest.raises(SystemExit):
            run("smap", *words)
        assert said in capsys.readouterr().err
