from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData
from scipy.spatial.transform import Rotation

import ag2_ns
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.export.formats import ExportOptions
from ag2_ns.export.grasp import Placement, describe, footprint, solid_points, surface_of
from ag2_ns.ops.similarity import Similarity


def brick(turn=30.0, centre=(0.5, -0.2, 0.1), half=(0.3, 0.1, 0.1), count=4000) -> Gaussians:
    """Gaussians on the surface of a brick turned about the vertical."""
    g = torch.Generator().manual_seed(0)
    p = 2 * torch.rand(count, 3, generator=g) - 1
    axis = torch.randint(3, (count,), generator=g)
    p[torch.arange(count), axis] = p[torch.arange(count), axis].sign()
    p = p * torch.tensor(half)
    p = p @ torch.from_numpy(Rotation.from_euler("z", turn, degrees=True).as_matrix()).float().T + torch.tensor(centre)
    return Gaussians(
        p, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.full((count, 3), 0.01), torch.ones(count),
        torch.zeros(count, 1, 3),
    )  # fmt: skip


OWN = Placement(Similarity.identity(), np.zeros(3), "run", "scene units")


def test_a_brick():
    gaussians = brick()
    thing = describe(gaussians, surface_of(gaussians, []), OWN)
    assert thing["size"] == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    assert thing["pose"]["position"] == pytest.approx([0.5, -0.2, 0.1], abs=0.01)
    x, _, z = Rotation.from_quat(thing["pose"]["orientation"]).as_matrix().T
    along = np.array([np.cos(np.pi / 6), 0.5, 0])
    assert abs(x @ along) > 0.999 and z == pytest.approx([0, 0, 1], abs=1e-6)
    assert abs(np.array(thing["principal_axes"][0]["direction"]) @ along) > 0.99
    assert [a["deviation"] for a in thing["principal_axes"]] == sorted(
        (a["deviation"] for a in thing["principal_axes"]), reverse=True
    )
    assert thing["centroid"] == pytest.approx([0.5, -0.2, 0.1], abs=0.02)
    assert thing["height"] == pytest.approx(0.2, abs=0.01)
    ring = np.array(thing["footprint"])
    assert ring[:, 2] == pytest.approx(0.0, abs=0.01)
    (a, b), (c, d) = ring[:, :2].T, np.roll(ring[:, :2], -1, 0).T
    assert ((a * d - c * b).sum() / 2) == pytest.approx(0.6 * 0.2, abs=0.01)  # counter-clockwise, and as large
    hull = np.array(thing["hull"]["vertices"])
    assert np.ptp(hull[:, 2]) == pytest.approx(0.2, abs=0.01) and max(map(max, thing["hull"]["faces"])) < len(hull)


def test_normals_point_into_free_space():
    gaussians = brick(turn=0.0)
    surface = surface_of(gaussians, [])
    away = surface.points - np.array([0.5, -0.2, 0.1])
    assert np.linalg.norm(surface.normals, axis=1) == pytest.approx(1.0)
    assert ((surface.normals * away).sum(1) > 0).mean() > 0.98
    top = np.abs(surface.points[:, 2] - 0.2) < 1e-6
    inner = top & (np.abs(away[:, 0]) < 0.2) & (np.abs(away[:, 1]) < 0.05)
    assert surface.normals[inner, 2].min() > 0.9


def test_a_bowl_points_inwards_where_cameras_look_into_it():
    from ag2_ns.core.view import View
    from ag2_ns.export.grasp import depths_of
    from ag2_ns.rendering.cpu import CpuRasterizer
    from ag2_ns.rendering.orbit import look_at

    g = torch.Generator().manual_seed(1)
    p = torch.nn.functional.normalize(torch.randn(3000, 3, generator=g), dim=1)
    p = p[p[:, 2] < -0.2]
    count = len(p)
    bowl = Gaussians(
        p, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.full((count, 3), 0.04), torch.full((count,), 0.95),
        torch.zeros(count, 1, 3),
    )  # fmt: skip
    K = torch.tensor([[80.0, 0, 40], [0, 80, 40], [0, 0, 1]])
    view: View = look_at(torch.tensor([0.01, 0.0, 3.0]), torch.zeros(3), torch.tensor([0.0, 1, 0]), K, (80, 80))
    surface = surface_of(bowl, depths_of(bowl, [view], CpuRasterizer()))
    deep = surface.points[:, 2] < -0.8
    assert (surface.normals[deep, 2] > 0).mean() > 0.95


def test_metres_and_offsets_of_the_world():
    gaussians = brick()
    frame = Similarity(
        torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double(), 2.0, torch.tensor([1.0, 0, 0]).double()
    )
    place = Placement(frame, np.array([500_000.0, 0.0, 0.0]), "world", "metres")
    thing = describe(gaussians, surface_of(gaussians, []), place)
    assert thing["size"] == pytest.approx([1.2, 0.4, 0.4], abs=0.02)
    assert thing["pose"]["position"] == pytest.approx([500_001.4, 1.0, 0.2], abs=0.02)
    assert thing["height"] == pytest.approx(0.4, abs=0.02)


def test_next_to_nothing():
    one = brick(count=1)
    assert len(solid_points(one)) == 1
    thing = describe(one, surface_of(one, []), OWN)
    assert thing["size"] == pytest.approx([0, 0, 0], abs=1e-6) and len(thing["footprint"]) == 4
    assert footprint(np.array([[0.0, 0, 0], [1, 1, 0]])).shape == (4, 2)


def test_written_with_the_scene(blob_run, tmp_path):
    scene = ag2_ns.open(blob_run, "cpu")
    red = scene.select(text="red ball")
    files = scene.export(tmp_path, red, formats=["grasp"], options=ExportOptions(metres_per_unit=0.5))
    assert [p.name for p, _ in files] == ["grasp.json", "grasp-1.ply", "labels.json"]
    content = json.loads((tmp_path / "grasp.json").read_text())
    assert content["frame"] == "world" and content["units"] == "metres" and content["up"] == [0, 0, 1]
    (thing,) = content["things"]
    assert thing["label"] == "red ball" and thing["size"] == pytest.approx([0.1, 0.1, 0.1], abs=0.02)
    vertex = PlyData.read(str(tmp_path / thing["surface"]))["vertex"].data
    assert vertex.dtype.names == ("x", "y", "z", "nx", "ny", "nz") and len(vertex) == 90
    points = np.stack([vertex[n] for n in "xyz"], 1)
    assert points.mean(0) == pytest.approx([0.175, 0, 0.06], abs=0.01)
    every = scene.export(tmp_path, formats=["grasp"])
    assert len(json.loads((tmp_path / "grasp.json").read_text())["things"]) == 4 and len(every) == 6


EXAMPLE = Path(__file__).parents[2] / "examples" / "8_grasp_ros.py"


def test_the_example_reads_what_was_exported(blob_run, tmp_path, monkeypatch, capsys):
    scene = ag2_ns.open(blob_run, "cpu")
    scene.export(tmp_path, formats=["grasp"], options=ExportOptions(metres_per_unit=0.5))
    monkeypatch.setitem(sys.modules, "rclpy", None)  # as where there is no ROS
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, str(tmp_path), "--frame-id", "table"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    shown = capsys.readouterr()
    assert "frame world, metres" in shown.err
    things = [json.loads(part) for part in shown.out.split("---\n") if part.strip()]
    assert len(things) == 4 and {t["pose"]["header"]["frame_id"] for t in things} == {"table"}
    red = next(t for t in things if abs(t["pose"]["pose"]["position"]["x"] - 0.175) < 0.01)
    assert red["opening"] == pytest.approx(0.1, abs=0.02)
    assert red["cloud"] == {"fields": ["x", "y", "z", "normal_x", "normal_y", "normal_z"], "width": 90, "bytes": 2160}
    assert red["collision_object"]["hull_faces"] > 8


def test_the_example_refuses_other_files(tmp_path, monkeypatch):
    (tmp_path / "grasp.json").write_text('{"format": "something else"}')
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, str(tmp_path)])
    with pytest.raises(SystemExit, match="not written by"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
