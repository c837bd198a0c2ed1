"""Occupancy of a scene: what is full, free and unseen, and files that other programs read."""

import io
import json

import numpy as np
import pytest
import torch

from ag2_ns.cli.export import Export
from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.export.free_space import DepthViews, free_space
from ag2_ns.export.occupancy import FullVoxels, full_voxels, grid_around
from ag2_ns.export.voxels import cube_faces, write_cubes, write_octree, write_pcd
from ag2_ns.ops.voxels import VoxelGrid


def balls(centres, scale=0.05):
    n = len(centres)
    return Gaussians(
        torch.tensor(centres), torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4), torch.full((n, 3), scale),
        torch.full((n,), 0.95), torch.zeros(n, 1, 3),
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(blob_template, tmp_path_factory):
    out = tmp_path_factory.mktemp("map")
    Export(load_config=blob_template, output_dir=out, all=True, format=("occupancy",), voxel=0.04, device="cpu").main()
    return out


def test_instances_stand_where_they_are(exported):
    with np.load(exported / "occupancy.npz", allow_pickle=False) as file:
        found = {k: file[k] for k in file.files}
    centres = found["low"] + (found["index"] + 0.5) * found["voxel"]
    near = np.linalg.norm(centres - [0.35, 0.0, 0.12], axis=1) < 0.12
    assert near.sum() > 20
    top = found["instance"][near & (centres[:, 2] > 0.1)]
    assert len(np.unique(top)) == 1, "the red ball is one instance"
    assert top[0] not in found["instance"][np.linalg.norm(centres - [-0.18, 0.3, 0.16], axis=1) < 0.08]
    assert isinstance(json.loads(found["names"].tobytes()), dict)


def test_full_free_and_unseen_are_told_apart(exported):
    with np.load(exported / "occupancy.npz", allow_pickle=False) as file:
        state, low, voxel = file["state"], file["low"], float(file["voxel"])

    def at(*point):
        return int(state[tuple(np.floor((np.array(point) - low) / voxel).astype(int))])

    assert at(0.35, 0.0, 0.2) == 2
    assert at(0.1, 0.0, 0.2) == 1, "the cameras look through the middle"
    assert {0, 1, 2} == set(np.unique(state).tolist())
    assert at(0.35, 0.0, 0.1) != 1, "nobody looks into the ball"


def test_files_are_read_by_other_programs(exported):
    import trimesh

    mesh = trimesh.load(exported / "occupancy.glb", force="mesh")
    assert len(mesh.faces) > 100
    squares = trimesh.load(exported / "occupancy.ply", process=False)
    assert len(squares.faces) == len(mesh.faces)  # trimesh splits squares
    head = (exported / "occupancy.pcd").read_bytes().split(b"DATA binary\n")[0].decode()
    with np.load(exported / "occupancy.npz", allow_pickle=False) as file:
        assert f"POINTS {len(file['index'])}" in head
    assert (exported / "occupancy.bt").read_bytes().startswith(b"# Octomap OcTree binary file\n")
    assert (exported / "occupancy.png").is_file()


def test_bad_options_are_one_line(blob_run, tmp_path):
    for option in ({"voxel": 0.0}, {"voxel": float("nan")}, {"density": -1.0}, {"voxel": 1e-7}):
        with pytest.raises(UserError, match="--"):
            Export(
                load_config=blob_run, output_dir=tmp_path, all=True, format=("occupancy",), device="cpu", **option
            ).main()


def test_gaussians_smaller_than_a_voxel_do_not_fall_between_centres():
    grid = VoxelGrid((0.0, 0.0, 0.0), 0.1, (8, 8, 8))
    small = balls([[0.31, 0.31, 0.31], [0.349, 0.349, 0.349]], 1e-3)
    full = full_voxels(small, torch.tensor([3, 3]), grid, 0.3)
    assert [3, 3, 3] in full.index.tolist()
    assert set(full.instance.tolist()) == {3}


def test_cubes_do_not_change_the_result(monkeypatch):
    from ag2_ns.export import occupancy

    g = torch.Generator().manual_seed(0)
    cloud = balls(torch.rand(60, 3, generator=g).tolist(), 0.06)
    owner = torch.randint(-1, 40, (60,), generator=g)
    grid = grid_around(cloud, 0.05)

    def table(full: FullVoxels):
        return {tuple(i): (round(float(d), 4), int(o)) for i, d, o in zip(full.index, full.density, full.instance)}

    whole = table(full_voxels(cloud, owner, grid, 0.3))
    monkeypatch.setattr(occupancy, "BRICK", 7)
    monkeypatch.setattr(VoxelGrid, "bricks", lambda self, edge=7, _own=VoxelGrid.bricks: _own(self, 7))
    assert table(full_voxels(cloud, owner, grid, 0.3)) == whole and len(whole) > 100


def test_free_space_ends_at_the_surface():
    viewmat = np.eye(4)[None]  # at the origin, along z
    K = np.array([[50.0, 50.0, 20.0, 15.0]])
    depth = np.full((1, 30, 40), 2.0, np.float32)
    views = DepthViews(viewmat, K, depth, np.array([[30, 40]]))
    grid = VoxelGrid((-2.0, -2.0, -1.0), 0.1, (40, 40, 50))
    found = free_space(views, grid, 0.1)
    marks = np.zeros(grid.shape, bool)
    marks[tuple(found.index().T)] = True
    for point, free in (((0, 0, 1.0), True), ((0, 0, 1.85), True), ((0, 0, 2.05), False), ((0, 0, -0.5), False),
                        ((1.5, 0, 1.0), False)):  # fmt: skip
        place = tuple(np.floor((np.array(point) + 1e-6 - grid.low) / grid.voxel).astype(int))
        assert marks[place] == free, point
    assert found.count() == marks.sum()


def test_a_grid_of_two_thousand_cubed_needs_little_memory():
    import tracemalloc

    cloud = balls([[0.0, 0.0, 0.0], [9.9, 9.9, 9.9]], 0.01)
    grid = VoxelGrid((-0.05, -0.05, -0.05), 0.005, (2000, 2000, 2000))
    tracemalloc.start()
    full = full_voxels(cloud, torch.tensor([0, 1]), grid, 0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(full.index) > 0 and set(full.instance.tolist()) == {0, 1}
    assert peak < 2**28


def read_octree(path):
    """States of leaves by key, as OctoMap's own reader goes through the file."""
    head, _, body = path.read_bytes().partition(b"data\n")
    data, out, nodes = io.BytesIO(body), {}, 0

    def node(prefix, level):
        nonlocal nodes
        nodes += 1
        bits = int.from_bytes(data.read(2), "little")
        inner = []
        for child in range(8):
            low, high = bits >> (2 * child) & 1, bits >> (2 * child + 1) & 1
            key = prefix << 3 | child
            if low and high:
                inner.append(key)
            elif low or high:
                nodes += 1
                for leaf in range(8 ** (level - 1)):
                    out[key * 8 ** (level - 1) + leaf] = "full" if high else "free"
        for key in inner:
            node(key, level - 1)

    node(0, 16)
    assert data.read() == b"" and f"size {nodes}" in head.decode()
    return out


def test_octree_is_what_octomap_reads(tmp_path):
    full = np.array([[0, 0, 0], [1, 0, 0], [-3, 2, 5]])
    free = np.argwhere(np.ones((2, 2, 2))) + 4
    write_octree(tmp_path / "t.bt", 0.1, full, free)
    found = read_octree(tmp_path / "t.bt")

    def key(index):
        return sum((int(v) + 2**15 >> b & 1) << (3 * b + a) for a, v in enumerate(index) for b in range(16))

    assert found == {key(i): "full" for i in full} | {key(i): "free" for i in free}
    write_octree(tmp_path / "none.bt", 0.1, full[:0])
    assert read_octree(tmp_path / "none.bt") == {}
    with pytest.raises(ValueError):
        write_octree(tmp_path / "far.bt", 0.1, np.array([[40000, 0, 0]]))


def test_faces_between_full_voxels_are_left_out(tmp_path):
    grid = VoxelGrid((1.0, 0.0, 0.0), 0.5, (4, 4, 4))
    corners, faces, tones = cube_faces(grid, np.array([[0, 0, 0], [1, 0, 0]]), np.full((2, 3), 9, np.uint8))
    assert len(faces) == len(tones) == 10 and len(corners) == 12
    assert corners.min(0).tolist() == [1.0, 0.0, 0.0] and corners.max(0).tolist() == [2.0, 0.5, 0.5]
    middle = np.array([1.5, 0.25, 0.25])
    a, b, c, _ = (corners[faces[:, k]] for k in range(4))
    assert (np.einsum("fi,fi->f", np.cross(b - a, c - a), a - middle) > 0).all(), "faces look outwards"
    write_cubes(tmp_path / "none.ply", grid, np.zeros((0, 3), int), np.zeros((0, 3), np.uint8))
    assert b"element face 0" in (tmp_path / "none.ply").read_bytes()


def test_points_with_fields(tmp_path):
    open3d = pytest.importorskip("open3d")
    points = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    write_pcd(tmp_path / "p.pcd", points, {"instance": np.array([1, 2], np.int32)})
    assert np.allclose(np.asarray(open3d.io.read_point_cloud(str(tmp_path / "p.pcd")).points), points)


def test_views_of_no_scene():
    grid = VoxelGrid((0.0, 0.0, 0.0), 0.1, (4, 4, 4))
    empty = DepthViews(np.zeros((0, 4, 4)), np.zeros((0, 4)), np.zeros((0, 1, 1), np.float32), np.zeros((0, 2), int))
    assert free_space(empty, grid, 0.1).count() == 0
    with pytest.raises(UserError, match="no Gaussians"):
        grid_around(balls([[0.0, 0, 0]])[:0], 0.1)
