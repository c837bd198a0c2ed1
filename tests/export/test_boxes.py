import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.export.boxes import hull_of, write_glb
from ag2_ns.ops.bounds import robust_bounds, weighted_quantile
from ag2_ns.ops.boxes import Box, box_of, oriented_box
from ag2_ns.ops.similarity import Similarity

trimesh = pytest.importorskip("trimesh")


def cloud(points, opacity=None):
    n = len(points)
    return Gaussians(
        torch.as_tensor(points, dtype=torch.float32),
        torch.ones(n, 4),
        torch.ones(n, 3),
        torch.ones(n) if opacity is None else opacity,
        torch.zeros(n, 1, 3),
    )


def brick(rotation=None, size=(2.0, 1.0, 0.5), centre=(1.0, -2.0, 3.0), steps=9):
    axis = np.linspace(-0.5, 0.5, steps)
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3) * size
    return points @ (np.eye(3) if rotation is None else rotation).T + centre


def volume(box):
    return float(np.prod(box.size))


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 5)), min_size=1, max_size=20), st.floats(0, 1))
@settings(deadline=None)
def test_weighted_quantile_is_that_of_repeated_values(pairs, q):
    values = torch.tensor([[v] for v, _ in pairs], dtype=torch.double)
    weights = torch.tensor([float(w) for _, w in pairs])
    repeated = sorted(v for v, w in pairs for _ in range(w))
    share = np.arange(1, len(repeated) + 1) / len(repeated)
    expected = repeated[min(int((share < q - 1e-12).sum()), len(repeated) - 1)]
    assert weighted_quantile(values, weights, q).item() == pytest.approx(expected, abs=1e-6)


def test_floaters_do_not_stretch_the_box():
    points = np.concatenate([brick(), [[40.0, 0, 0], [0, -60, 0], [1, -2, 9]]])
    box = box_of(cloud(points))
    np.testing.assert_allclose(box.size, (2, 1, 0.5), atol=1e-5)
    np.testing.assert_allclose(box.centre, (1, -2, 3), atol=1e-5)
    # many faint ones, too
    faint = torch.cat([torch.ones(len(brick())), torch.full((60,), 0.1)])
    far = np.random.default_rng(0).uniform(-8, 8, (60, 3))
    low, high = robust_bounds(torch.tensor(np.concatenate([brick(), far])), faint)
    assert float((high - low - torch.tensor([2.0, 1.0, 0.5])).abs().max()) < 0.5


@pytest.mark.parametrize("degrees", [0, 17, 45, 80])
def test_upright_box_follows_a_turn_about_the_vertical(degrees):
    R = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    box = box_of(cloud(brick(R)), "upright")
    assert volume(box) == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_allclose(np.sort(box.size[:2]), (1, 2), rtol=1e-3)
    assert box.size[2] == pytest.approx(0.5, rel=1e-3)
    np.testing.assert_allclose(box.axes[2], (0, 0, 1), atol=1e-9)
    np.testing.assert_allclose(box.axes @ box.axes.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(box.centre, (1, -2, 3), atol=1e-4)


def test_oriented_box_follows_any_turn():
    R = Rotation.random(random_state=3).as_matrix()
    box = box_of(cloud(brick(R)), "oriented")
    # Rotated grids stick out of the axis-aligned quantiles nowhere: nothing is cut off.
    assert volume(box) == pytest.approx(1.0, rel=0.02)
    assert np.linalg.det(box.axes) == pytest.approx(1)
    np.testing.assert_allclose(box.centre, (1, -2, 3), atol=1e-2)
    corners = {tuple(c) for c in box.corners().round(2).tolist()}
    assert len(corners) == 8


@pytest.mark.parametrize("seed", range(6))
def test_oriented_box_is_no_larger_than_by_another_search(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(200, 3)) * (1, 2, 0.3) if seed % 2 else rng.random((60, 3)) * (1, 1, 0.2)
    points = points @ Rotation.random(random_state=seed).as_matrix()
    box, expected = oriented_box(points), np.prod(trimesh.bounds.oriented_bounds(points)[1])
    assert np.prod(box.size) <= expected * (1 + 1e-4)
    assert (np.abs((points - box.centre) @ box.axes.T) <= box.size / 2 + 1e-9).all()
    assert np.linalg.det(box.axes) == pytest.approx(1) and (np.diff(box.size) >= 0).all()


@pytest.mark.parametrize("shape", ["box", "upright", "oriented"])
@pytest.mark.parametrize(
    "points", [[[1, 2, 3]], [[0, 0, 0], [1, 1, 1]], [[x, y, 0] for x in range(4) for y in range(3)]]
)
def test_flat_and_tiny_sets_have_boxes(shape, points):
    box = box_of(cloud(np.array(points, float)), shape)
    assert np.isfinite(box.size).all() and (box.size >= -1e-9).all()
    local = (np.array(points) - box.centre) @ box.axes.T
    assert (np.abs(local) <= box.size / 2 + 1e-5).all()


def test_box_in_another_frame():
    R = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    for rotation in (R, -R):
        frame = Similarity(rotation, 3.0, torch.tensor([1.0, 2, 3], dtype=torch.double))
        box = box_of(cloud(brick()))
        moved = box.moved(frame)
        assert np.linalg.det(moved.axes) == pytest.approx(1)
        ours = {tuple(c) for c in moved.corners().round(4).tolist()}
        theirs = {tuple(c) for c in frame.points(torch.from_numpy(box.corners())).numpy().round(4).tolist()}
        assert ours == theirs


def test_hull_of_a_brick():
    hull = hull_of(cloud(brick()))
    mesh = trimesh.Trimesh(hull.vertices, hull.faces)
    assert mesh.is_watertight and mesh.volume == pytest.approx(1.0, rel=1e-4)  # positive: faces look outwards
    flat = hull_of(cloud([[x, y, 0.0] for x in range(3) for y in range(3)]))
    assert trimesh.Trimesh(flat.vertices, flat.faces).is_watertight
    assert len(hull_of(cloud([[0.0, 0, 0]])).faces) == 12


def test_glb_is_read_back(tmp_path):
    path = tmp_path / "deep" / "boxes.glb"
    shapes = {
        "3 red mug": box_of(cloud(brick(Rotation.from_euler("z", 30, degrees=True).as_matrix())), "upright"),
        "5 plate": hull_of(cloud(brick(centre=(9, 9, 9)))),
    }
    write_glb(path, shapes, {"3 red mug": {"instance": 3, "label": "red mug"}}, {"3 red mug": (255, 0, 0)})
    scene = trimesh.load(path)
    assert set(scene.graph.nodes_geometry) == set(shapes)
    assert path.read_bytes()[:4] == b"glTF"
    pose, name = scene.graph["3 red mug"]
    mesh = scene.geometry[name].copy().apply_transform(pose)
    assert mesh.volume == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_allclose(mesh.bounds.mean(0), (1, -2, 3), atol=1e-3)
    assert scene.graph.transforms.edge_data[("world", "3 red mug")]["metadata"]["label"] == "red mug"
    assert [p.name for p in path.parent.iterdir()] == ["boxes.glb"]


def test_nothing_to_write(tmp_path):
    with pytest.raises(UserError, match="no instance"):
        write_glb(tmp_path / "b.glb", {})
    with pytest.raises(ValueError):
        box_of(cloud(np.zeros((0, 3))))


def test_corners_of_a_unit_box():
    corners = Box(np.zeros(3), np.eye(3), np.ones(3)).corners()
    assert corners[0].tolist() == [-0.5, -0.5, -0.5] and corners[1].tolist() == [0.5, -0.5, -0.5]
    assert corners[6].tolist() == [-0.5, 0.5, 0.5]
