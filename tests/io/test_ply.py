from __future__ import annotations

import logging
import os

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io import ply
from ag2_ns.io.ply import read_gaussians, read_points, write_anchors, write_gaussians
from ag2_ns.ops.sh import rgb_to_sh


def some_gaussians(n: int, degree: int) -> Gaussians:
    g = torch.Generator().manual_seed(degree)
    return Gaussians(
        torch.randn(n, 3, generator=g),
        torch.randn(n, 4, generator=g),
        torch.rand(n, 3, generator=g) + 0.01,
        torch.rand(n, generator=g) * 0.98 + 0.01,
        torch.randn(n, (degree + 1) ** 2, 3, generator=g),
    )


def write_table(path, columns: dict[str, np.ndarray], text: bool = False, order: str = "<", name: str = "vertex"):
    count = len(next(iter(columns.values())))
    table = np.empty(count, [(k, v.dtype.str) for k, v in columns.items()])
    for k, v in columns.items():
        table[k] = v
    PlyData([PlyElement.describe(table, name)], text=text, byte_order=order).write(str(path))
    return path


def points(n=5, dtype="f4") -> dict[str, np.ndarray]:
    xyz = np.random.default_rng(0).normal(size=(n, 3)).astype(dtype)
    return {k: xyz[:, i] for i, k in enumerate("xyz")}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gaussians_round_trip(tmp_path, degree):
    g = some_gaussians(37, degree)
    write_gaussians(tmp_path / "new" / "splat.ply", g)
    back = read_gaussians(tmp_path / "new" / "splat.ply")
    for name in ("means", "quats", "sh"):
        assert torch.equal(getattr(back, name), getattr(g, name))
    torch.testing.assert_close(back.scales, g.scales, rtol=1e-6, atol=0)
    torch.testing.assert_close(back.opacities, g.opacities, rtol=1e-5, atol=1e-7)
    assert os.listdir(tmp_path / "new") == ["splat.ply"]  # nothing half-written stays


def test_layout_is_the_one_that_other_tools_read(tmp_path):
    g = some_gaussians(4, 2)
    write_gaussians(tmp_path / "a.ply", g)
    file = PlyData.read(str(tmp_path / "a.ply"))
    v = file["vertex"]
    assert (file.text, file.byte_order) == (False, "<")
    names = [p.name for p in v.properties]
    rest = [f"f_rest_{i}" for i in range(24)]
    assert names == (
        ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest]
        + ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    )
    assert {p.val_dtype for p in v.properties} == {"f4"}
    # Channel-major: the second coefficient of green follows all eight of red.
    np.testing.assert_array_equal(v["f_rest_9"], g.sh[:, 2, 1].numpy())
    np.testing.assert_allclose(v["scale_1"], np.log(g.scales[:, 1].numpy()), rtol=1e-5)
    p = g.opacities.double().numpy()
    np.testing.assert_allclose(v["opacity"], np.log(p / (1 - p)), rtol=1e-4, atol=1e-5)


def test_extreme_values_stay_finite(tmp_path):
    g = some_gaussians(2, 0)
    g = Gaussians(g.means, g.quats, torch.zeros(2, 3), torch.tensor([0.0, 1.0]), g.sh)
    write_gaussians(tmp_path / "a.ply", g)
    back = read_gaussians(tmp_path / "a.ply")
    assert len(back) == 2
    torch.testing.assert_close(back.opacities, torch.tensor([0.0, 1.0]), atol=2e-6, rtol=0)
    assert back.scales.max() < 1e-30


def test_extra_properties(tmp_path):
    g = some_gaussians(3, 1)
    extra = {"instance": torch.tensor([4, -1, 2]), "score": np.array([0.5, 0.25, 1.0]), "on": torch.eye(3)[0] > 0}
    write_gaussians(tmp_path / "a.ply", g, extra)
    v = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    assert v["instance"].tolist() == [4, -1, 2] and v["instance"].dtype == np.int32
    assert v["score"].tolist() == [0.5, 0.25, 1.0] and v["score"].dtype == np.float32
    assert v["on"].tolist() == [1, 0, 0] and v["on"].dtype == np.uint8
    assert torch.equal(read_gaussians(tmp_path / "a.ply").means, g.means)


@pytest.mark.parametrize(
    "extra",
    [{"a": np.zeros(2)}, {"opacity": np.zeros(3)}, {"a b": np.zeros(3)}, {"a": np.array([2**40, 0, 0])}]
    + [{"a": np.zeros((3, 1))}, {"a": np.array(["x", "y", "z"])}],
)
def test_bad_extra_writes_nothing(tmp_path, extra):
    with pytest.raises(ValueError):
        write_gaussians(tmp_path / "a.ply", some_gaussians(3, 0), extra)
    assert not os.listdir(tmp_path)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.ply"
    write_gaussians(path, some_gaussians(3, 0))
    before = path.read_bytes()

    def fail(self, stream):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(ply.PlyData, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_gaussians(path, some_gaussians(5, 0))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.ply"]


def test_not_a_splat_names_what_is_missing(tmp_path):
    path = write_table(tmp_path / "cloud.ply", points())
    with pytest.raises(UserError, match=r"cloud\.ply: not a Gaussian splat, it lacks f_dc_0, .*rot_3"):
        read_gaussians(path)
    write_gaussians(tmp_path / "a.ply", some_gaussians(3, 1))
    table = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    write_table(path, {k: table[k] for k in table.dtype.names if k != "scale_1"})
    with pytest.raises(UserError, match="lacks scale_1;"):
        read_gaussians(path)
    write_table(path, {k: table[k] for k in table.dtype.names if k != "f_rest_8"})
    with pytest.raises(UserError, match=r"8 f_rest_\* properties"):
        read_gaussians(path)


def test_gaussians_that_are_not_finite_are_dropped(tmp_path, caplog):
    g = some_gaussians(4, 1)
    g.sh[1, 2, 0] = float("nan")
    write_gaussians(tmp_path / "a.ply", g)
    with caplog.at_level(logging.WARNING):
        back = read_gaussians(tmp_path / "a.ply")
    assert torch.equal(back.means, g.means[[0, 2, 3]])
    assert "dropped 1 of 4" in caplog.text


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_points_with_colours(tmp_path, text, order):
    rgb = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)
    table = points(2) | {name: rgb[:, k] for k, name in enumerate(("red", "green", "blue"))}
    xyz, colour = read_points(write_table(tmp_path / "p.ply", table, text, order))
    assert xyz.dtype == np.float32 and colour.dtype == np.uint8
    np.testing.assert_allclose(xyz, np.stack([table[k] for k in "xyz"], 1), rtol=1e-6)
    np.testing.assert_array_equal(colour, rgb)


def test_other_colours(tmp_path):
    def read(names, values):
        return read_points(write_table(tmp_path / "p.ply", points(1, "f8") | dict(zip(names, values))))[1].tolist()

    rgb = ("red", "green", "blue")
    assert read(rgb, np.array([[0.0], [0.5], [2.0]], np.float32)) == [[0, 128, 255]]
    assert read(rgb, np.array([[0], [32896], [65535]], np.uint16)) == [[0, 128, 255]]
    assert read(("r", "g", "b"), np.array([[1], [2], [3]], np.uint8)) == [[1, 2, 3]]
    assert read(("red",), np.array([[7]], np.uint8)) == [[128, 128, 128]]
    dc = rgb_to_sh(np.array([[0.0], [0.25], [1.0]], np.float32))
    assert read(("f_dc_0", "f_dc_1", "f_dc_2"), dc) == [[0, 64, 255]]


def test_points_that_are_not_finite_are_dropped(tmp_path, caplog):
    table = points(4)
    table["y"][2] = np.inf
    with caplog.at_level(logging.WARNING):
        xyz, colour = read_points(write_table(tmp_path / "p.ply", table))
    assert len(xyz) == len(colour) == 3 and np.isfinite(xyz).all()
    assert "p.ply: dropped 1 of 4" in caplog.text
    table["x"][:] = np.nan
    with pytest.raises(UserError, match="not finite"):
        read_points(write_table(tmp_path / "p.ply", table))


@pytest.mark.parametrize("text", [True, False])
def test_truncated_anywhere(tmp_path, text):
    whole = write_table(tmp_path / "whole.ply", points(30), text).read_bytes()
    path = tmp_path / "part.ply"
    for stop in (0, 3, 40, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:stop])
        with pytest.raises(UserError, match=r"part\.ply: not a readable PLY"):
            read_points(path)


@pytest.mark.parametrize("content", [b"hello\n" * 9, bytes(range(256)) * 4, b"ply\nformat ascii 1.0\nend_header\n"])
def test_other_files(tmp_path, content):
    path = tmp_path / "x.ply"
    path.write_bytes(content)
    for read in (read_points, read_gaussians):
        with pytest.raises(UserError, match=r"x\.ply: ") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_no_points(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_points(tmp_path / "none.ply")
    with pytest.raises(UserError, match="no such file"):
        read_points(tmp_path)
    with pytest.raises(UserError, match="holds no points"):
        read_points(write_table(tmp_path / "e.ply", points(0)))
    with pytest.raises(UserError, match="lacks z"):
        read_points(write_table(tmp_path / "e.ply", {k: v for k, v in points().items() if k != "z"}))
    with pytest.raises(UserError, match="holds no points"):
        read_points(write_table(tmp_path / "e.ply", points(), name="face"))


def test_anchors(tmp_path):
    g = torch.Generator().manual_seed(0)
    xyz, radius, feature = (torch.rand(6, w, generator=g) for w in (3, 1, 5))
    label = torch.tensor([0, 0, 1, 1, -1, 2])
    rgb = torch.randint(0, 256, (6, 3), generator=g, dtype=torch.uint8)
    edges = torch.tensor([[0, 1, 2], [1, 2, 5]])
    write_anchors(tmp_path / "anchors.ply", xyz, radius, feature.requires_grad_(), label, rgb=rgb, edges=edges)
    points, colour = read_points(tmp_path / "anchors.ply")
    np.testing.assert_array_equal(points, xyz.numpy())
    np.testing.assert_array_equal(colour, rgb.numpy())
    file = PlyData.read(str(tmp_path / "anchors.ply"))
    v = file["vertex"]
    np.testing.assert_array_equal(v["radius"], radius[:, 0].numpy())
    np.testing.assert_array_equal(v["feature_4"], feature.detach()[:, 4].numpy())
    assert v["label"].tolist() == label.tolist()
    assert [file["edge"]["vertex1"].tolist(), file["edge"]["vertex2"].tolist()] == edges.tolist()
    write_anchors(tmp_path / "bare.ply", xyz, radius[:, 0], feature[:, :0], label)
    assert read_points(tmp_path / "bare.ply")[1].max() == 128
