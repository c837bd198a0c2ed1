import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.io.points import PointCloud, read_cloud, read_labels, read_sweeps, write_cloud

XYZ = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


def save(tmp_path, suffix):
    """The 40 points in one of the formats."""
    path = tmp_path / f"cloud{suffix}"
    if suffix == ".ply":
        write_cloud(path, PointCloud(XYZ, np.full((40, 3), 7, np.uint8)), np.arange(40))
    elif suffix == ".npy":
        np.save(path, XYZ)
    elif suffix == ".npz":
        np.savez(path, xyz=XYZ, labels=np.arange(40))
    elif suffix == ".csv":
        np.savetxt(path, XYZ, delimiter=",", header="x,y,z", comments="")
    elif suffix in (".txt", ".xyz"):
        np.savetxt(path, np.c_[XYZ, np.full((40, 3), 200)])
    elif suffix == ".pcd":
        import open3d as o3d

        o3d.io.write_point_cloud(str(path), o3d.geometry.PointCloud(o3d.utility.Vector3dVector(XYZ)))
    elif suffix == ".pth":
        torch.save((XYZ, 0, np.full(40, 255, np.uint8)), path)
    elif suffix == ".pt":
        torch.save((torch.from_numpy(XYZ), torch.zeros(40, 3) - 1, torch.arange(40)), path)
    return path


@pytest.mark.parametrize("suffix", [".ply", ".npy", ".npz", ".csv", ".txt", ".xyz", ".pcd", ".pth", ".pt"])
def test_every_format_gives_the_same_points(tmp_path, suffix):
    cloud = read_cloud(save(tmp_path, suffix))
    assert np.abs(cloud.xyz - XYZ).max() < 1e-4 and cloud.xyz.dtype == np.float32
    if suffix in (".ply", ".npz", ".pt"):
        assert cloud.label.tolist() == list(range(40))
    if suffix in (".txt", ".xyz"):
        assert cloud.rgb.tolist() == [[200] * 3] * 40
    if suffix == ".pt":
        assert cloud.rgb.max() == 0


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_las_near_its_own_origin(tmp_path, suffix):
    laspy = pytest.importorskip("laspy")
    las = laspy.create(point_format=3)
    las.xyz = XYZ.astype(float) + [600_000, 5_000_000, 100]
    las.write(tmp_path / f"a{suffix}")
    xyz = read_cloud(tmp_path / f"a{suffix}").xyz
    assert np.abs((xyz - xyz[0]) - (XYZ - XYZ[0])).max() < 0.02


@pytest.mark.parametrize(("columns", "last"), [(4, "reflectance"), (5, "ring"), (6, "colour")])
def test_headerless_files_are_told_apart(tmp_path, columns, last):
    rng = np.random.default_rng(1)
    rows = np.zeros((60, columns), np.float32)
    rows[:, :3] = 10 * rng.normal(size=(60, 3))
    rows[:, 3] = rng.random(60) if columns == 4 else rng.integers(0, 255, 60)
    if columns == 5:
        rows[:, 4] = np.arange(60) % 32
    if columns == 6:
        rows[:, 3:] = rng.integers(0, 255, (60, 3)) + 0.5
    rows.tofile(tmp_path / "a.bin")
    cloud = read_cloud(tmp_path / "a.bin")
    assert np.array_equal(cloud.xyz, rows[:, :3])
    assert (cloud.rgb is not None) == (columns == 6)


@given(st.lists(st.integers(0, 39), max_size=10), st.sampled_from([np.nan, np.inf, -np.inf]))
@settings(max_examples=20, deadline=None)
def test_points_that_are_no_numbers_are_left_out_with_their_labels(tmp_path_factory, bad, value):
    folder = tmp_path_factory.mktemp("nan")
    xyz = XYZ.copy()
    xyz[bad, 1] = value
    np.save(folder / "a.npy", xyz)
    cloud = read_cloud(folder / "a.npy")
    assert cloud.dropped == len(set(bad)) and np.isfinite(cloud.xyz).all()
    (np.arange(40, dtype="<u4") + (7 << 16)).tofile(folder / "a.label")
    assert read_labels(folder / "a.label", cloud).tolist() == [k for k in range(40) if k not in bad]


def test_units_and_sweeps(tmp_path):
    path = save(tmp_path, ".npy")
    assert np.allclose(read_cloud(path, "mm").xyz, XYZ / 1000)
    move = np.eye(4)
    move[:3, 3] = 1, 2, 3
    both = read_sweeps([path, path], [np.eye(4), move])
    assert np.allclose(both.xyz[40:], XYZ + [1, 2, 3], atol=1e-5)
    with pytest.raises(UserError, match="one pose per sweep"):
        read_sweeps([path], [])


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_are_not_executed(tmp_path, capsys):
    torch.save((XYZ, Evil(), 0), tmp_path / "a.pth")
    with pytest.raises(UserError, match="more than tensors and arrays"):
        read_cloud(tmp_path / "a.pth")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".bin", ".npy", ".npz", ".pth", ".csv", ".las"])
def test_damaged_files_are_one_line(tmp_path, suffix):
    if suffix == ".las":
        pytest.importorskip("laspy")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"no cloud\n")
    with pytest.raises(UserError, match=f"a{suffix}") as error:
        read_cloud(path)
    assert "\n" not in str(error.value)


def test_unknown_missing_and_empty_files(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(UserError, match="convert it"):
        read_cloud(tmp_path / "a.obj")
    with pytest.raises(UserError, match="no such point cloud"):
        read_cloud(tmp_path / "b.ply")
    np.save(tmp_path / "n.npy", np.full((3, 3), np.nan))
    with pytest.raises(UserError, match="not one of its 3 points"):
        read_cloud(tmp_path / "n.npy")
    with pytest.raises(UserError, match="labels for 40 points"):
        np.zeros(3, np.uint8).tofile(tmp_path / "l.bin")
        read_labels(tmp_path / "l.bin", PointCloud(XYZ))


def test_real_clouds():
    assert len(read_cloud(shared("nuscenes_sample") / "lidar" / "LIDAR_TOP.bin")) == 34_688
    kitti = shared("semantickitti_sample")
    cloud = read_cloud(kitti / "000000.bin")
    labels = read_labels(kitti / "000000.label", cloud)
    assert len(cloud) == len(labels) == 123_389 and int((labels == 10).sum()) == 544
    room = read_cloud(shared("scannet_sample") / "scene0000_00.ply")
    assert len(room) == 40_684 and room.rgb is not None
    some = read_cloud(shared("scannet_sample") / "labels_format_100_points.npz")
    assert len(some) == 100 and some.label.max() <= 40
