"""Drives, labels and text tables: what is read, and what is said where they are wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.io import occ3d, surround
from ag2_ns.io.occ3d import FREE, Labels, read_labels, write_labels
from ag2_ns.io.text_table import PROMPTS, read_text_table
from ag2_ns.ops.voxels import VoxelGrid

SMALL = VoxelGrid((-4.0, -4.0, -1.0), 0.4, (20, 20, 16))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_street_is_read(street):
    drives = surround.read_drives(street)
    train, val = surround.split_drives(street, drives)
    assert [d.name for d in train] == ["drive_000"] and [d.name for d in val] == ["drive_001"]
    record = train[0].frames[0]
    frame = surround.load_frame(record, 48, 28)
    assert frame.depth.shape == (6, 28, 48) and frame.features.shape[0] == 6
    assert frame.views[0].width == 48 and record.labels().grid.shape == (40, 40, 16)
    assert surround.find_frame(train[0].frames, record.token) is record
    assert surround.find_frame(train[0].frames, "0") is record
    assert surround.read_lidar(record.lidar).shape[1] == 5
    lone = surround.read_drives(street / "drive_000")
    assert len(lone) == 1 and surround.split_drives(street / "drive_000", lone) == (lone, lone)


def test_ego_motion_moves_cameras_by_the_way_driven(street):
    record = surround.read_drives(street)[0].frames[1]
    for camera in record.cameras:
        way = float((camera.cam2ego[:3, 3] - camera.mount[:3, 3]).norm())
        assert way < 0.5
        assert torch.equal(camera.view(ego_motion=False).viewmat, torch.linalg.inv(camera.mount).float())
    assert max(float((c.cam2ego - c.mount).abs().max()) for c in record.cameras) > 0.05


def test_the_real_frame():
    root = shared("nuscenes_sample")
    (drive,) = surround.read_drives(root)
    (record,) = drive.frames
    assert record.cameras[0].name == "CAM_FRONT" and len(record.cameras) == 6
    assert max(float((c.cam2ego - c.mount)[:3, 3].norm()) for c in record.cameras) == pytest.approx(0.40, abs=0.05)
    points = torch.from_numpy(surround.read_lidar(record.lidar)[:, :3]).double()
    content = json.loads((root / "calibration.json").read_text())
    ego = points @ record.lidar2ego[:3, :3].T + record.lidar2ego[:3, 3]
    for camera in record.cameras:  # through the ego frame, as the file's own lidar2cam says
        ours = ego @ camera.view().viewmat.double()[:3, :3].T + camera.view().viewmat.double()[:3, 3]
        given = torch.tensor(content["cameras"][camera.name]["lidar2cam"]).double()
        assert float((ours - (points @ given[:3, :3].T + given[:3, 3])).abs().max()) < 1e-3
    assert all(i.shape == (90, 160, 3) for i in surround.load_images(record, 160, 90))


def test_a_missing_camera(street):
    def drop(content):
        del content["frames"][1]["cameras"]["CAM_BACK"]

    edit(street / "drive_000" / "drive.json", drop)
    with pytest.raises(UserError, match="lacks the camera CAM_BACK"):
        surround.read_drives(street)


def test_depth_of_another_size(street):
    record = surround.read_drives(street)[0].frames[0]
    path = record.file("depth", record.cameras[2])
    np.save(path, np.ones((10, 12), np.float32))
    with pytest.raises(UserError, match=r"0000\.npy: depth of 10x12"):
        surround.load_frame(record, 48, 28)
    path.write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable"):
        surround.load_frame(record, 48, 28)
    path.unlink()
    with pytest.raises(UserError, match=r"no depth of CAM_FRONT_LEFT .* ag2 prepare"):
        surround.load_frame(record, 48, 28)


def test_features_of_two_encoders(street):
    record = surround.read_drives(street)[0].frames[0]
    np.save(record.file("features", record.cameras[1]), np.ones((8, 3, 6), np.float16))
    with pytest.raises(UserError, match="one encoder"):
        surround.load_frame(record, 48, 28)
    np.save(record.file("features", record.cameras[1]), np.full((32, 3, 6), np.nan, np.float16))
    with pytest.raises(UserError, match="not finite"):
        surround.load_frame(record, 48, 28)


def test_drives_that_cannot_be_read(street, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        surround.read_drives(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no drives"):
        surround.read_drives(tmp_path / "empty")
    (street / "split.json").write_text('{"train": ["drive_000"], "val": ["drive_999"]}')
    with pytest.raises(UserError, match="drive_999"):
        surround.split_drives(street, surround.read_drives(street))
    with pytest.raises(UserError, match="no such frame"):
        surround.find_frame(surround.read_drives(street)[0].frames, "nowhere")
    edit(street / "drive_000" / "drive.json", lambda c: c["frames"][0]["cameras"]["CAM_BACK"].update(cam2img=[[1]]))
    with pytest.raises(UserError, match="3x3"):
        surround.read_drives(street)
    (street / "drive_000" / "drive.json").write_text("{")
    with pytest.raises(UserError, match="not a drive"):
        surround.read_drives(street)


def test_labels_come_back(tmp_path):
    semantics = np.random.default_rng(0).integers(0, 18, SMALL.shape).astype(np.uint8)
    mask = semantics > 8
    write_labels(tmp_path / "labels.npz", Labels(semantics, mask, ~mask, SMALL))
    found = read_labels(tmp_path / "labels.npz")
    assert np.array_equal(found.semantics, semantics) and np.array_equal(found.mask_camera, mask)
    assert found.grid == SMALL


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda a: a.update(semantics=np.zeros((4, 4, 4), np.uint8)), "another|4x4x4"),
        (lambda a: a.pop("mask_camera"), "no 'mask_camera'"),
        (lambda a: a["semantics"].__setitem__((0, 0, 0), 99), "0 to 17"),
    ],
)
def test_labels_that_are_wrong(tmp_path, change, said):
    arrays = {k: np.zeros(occ3d.GRID.shape, np.uint8) for k in ("semantics", "mask_camera", "mask_lidar")}
    change(arrays)
    np.savez(tmp_path / "labels.npz", **arrays)
    with pytest.raises(UserError, match=said):
        read_labels(tmp_path / "labels.npz")


def test_a_label_of_another_grid(tmp_path):
    write_labels(tmp_path / "labels.npz", Labels(*[np.full(SMALL.shape, FREE)] * 3, SMALL))
    other = VoxelGrid((-4.0, -4.0, -1.0), 0.2, (40, 40, 32))
    with pytest.raises(UserError, match=r"grid is 20x20x16 voxels of 0\.4"):
        read_labels(tmp_path / "labels.npz", other)
    (tmp_path / "labels.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="not a readable label"):
        read_labels(tmp_path / "labels.npz")


def test_text_tables_of_every_kind(tmp_path):
    table = torch.randn(21, 8, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "t.npy", table.numpy())
    torch.save(table.T.contiguous(), tmp_path / "t.pt")  # GaussTR's: one column per prompt
    (tmp_path / "t.json").write_text(json.dumps(dict(zip(PROMPTS, table.tolist()))))
    for name in ("t.npy", "t.pt", "t.json"):
        names, found = read_text_table(tmp_path / name)
        assert names == list(PROMPTS) and torch.allclose(found, table)


def test_text_tables_that_are_wrong(tmp_path):
    torch.save({"features": Path}, tmp_path / "code.pt")
    np.save(tmp_path / "rows.npy", np.zeros((5, 8)))
    np.save(tmp_path / "nan.npy", np.full((21, 8), np.nan))
    (tmp_path / "list.json").write_text("[1, 2]")
    for name in ("none.npy", "code.pt", "rows.npy", "nan.npy", "list.json"):
        with pytest.raises(UserError, match=name):
            read_text_table(tmp_path / name)
