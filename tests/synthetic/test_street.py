"""The street: what is there, what is seen, and whether all sensors tell of the same world."""

import json

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.io.occ3d import CLASSES, FREE
from ag2_ns.io.surround import load_images, read_depth, read_drives, read_lidar
from ag2_ns.io.text_table import PROMPTS, read_text_table
from ag2_ns.ops.ray_march import march
from ag2_ns.ops.voxels import VoxelGrid
from ag2_ns.synthetic.street import features, generate, occupy
from ag2_ns.synthetic.street.layout import Street, Thing, kinds_made, lay
from ag2_ns.synthetic.tabletop.kinds import COLOURS
from ag2_ns.synthetic.tabletop.shapes import Body, Material

PLAIN = Material(COLOURS["red"])


def world(*things):
    return Street(list(things), 5.0, 0.0, 0.0)


@pytest.mark.slow
def test_the_same_options_give_the_same_street(street_template, tmp_path):
    again = generate(
        tmp_path / "again", seed=3, frames=2, eval_frames=1, width=48, height=28, reach=8.0, workers=2, progress=False
    )  # fmt: skip
    files = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(street_template) for p in street_template.rglob("*") if p.is_file())
    for file in files:
        if file.suffix in (".json", ".npy", ".jpg", ".bin"):
            assert (again / file).read_bytes() == (street_template / file).read_bytes(), file


def test_voxels_of_a_ball_are_those_inside():
    ball = Thing(Body().sphere((0, 0, 0), 1.5, PLAIN), 4, (1.0, 2.0, 1.5))
    grid = VoxelGrid((-4.0, -4.0, -1.0), 0.4, (20, 20, 16))
    ego = np.eye(4)
    scene = world(ball).pack(0.0)
    found, owner = occupy.occupied(scene, np.array([4]), ego, grid)
    away = (grid.centres() - torch.tensor([1.0, 2.0, 1.5])).norm(dim=-1).numpy()
    assert (found[away < 1.3] == 4).all() and (found[away > 1.9] == FREE).all()
    assert (owner[found == 4] == 0).all()
    ego[:3, 3] = 0.8, 0.0, 0.0  # two voxels on: all is two voxels back
    moved, _ = occupy.occupied(scene, np.array([4]), ego, grid)
    assert np.array_equal(moved[:-2], found[2:])


def test_rays_mark_what_they_pass_and_end_in():
    grid = VoxelGrid((0.0, 0.0, 0.0), 1.0, (5, 5, 5))
    marks = march(np.array([[-2.0, 2.5, 2.5]]), np.array([[1.0, 0, 0]]), np.array([5.2]), grid)
    assert marks.nonzero()[0].tolist() == [0, 1, 2, 3] and set(marks.nonzero()[1]) == {2}
    slant = march(np.array([[0.1, 0.3, 2.5]]), np.array([[1.0, 1.0, 0.0]]), np.array([100.0]), grid)[..., 2]
    assert slant.sum() == 9 and slant.diagonal().all() and slant[0, 1] and slant[3, 4], "through every cell it meets"
    assert not march(np.array([[-1.0, -1.0, 0.5]]), np.array([[-1.0, 0, 0]]), np.array([9.0]), grid).any()
    assert not march(np.array([[-1.0, 9.0, 0.5]]), np.array([[1.0, 0, 0]]), np.array([9.0]), grid).any()


def test_things_move_and_the_car_follows_its_lane():
    car = Thing(Body().box((0, 0, 0), (1, 1, 1), PLAIN), 4, (3.0, 0.0, 1.0), 90.0, 2.0)
    assert car.at(2.0, 1).position == pytest.approx((3.0, 4.0, 1.0))
    street = lay(5, 4.0)
    a, b = street.ego(0.0), street.ego(0.05)
    way = (b - a)[:3, 3] / np.linalg.norm((b - a)[:3, 3])
    assert np.dot(way, a[:3, 0]) > 0.999, "it drives where it looks"


def test_kinds_of_a_street():
    assert set(lay(1, 4.0).kinds) <= set(kinds_made(False))
    assert {CLASSES.index(n) for n in ("car", "pedestrian", "manmade", "vegetation", "driveable surface")} <= set(
        lay(1, 4.0).kinds
    )
    seen = set().union(*(lay(s, 8.0, mixed=True).kinds for s in range(6)))
    assert CLASSES.index("truck") in seen and seen <= set(kinds_made(True))


def test_depth_lidar_and_voxels_tell_of_one_world(street):
    record = read_drives(street)[0].frames[0]
    truth = record.labels()
    grid = truth.grid
    points = read_lidar(record.lidar)
    ids = np.load(record.lidar.with_name(record.lidar.stem + "_ids.npy"))
    assert len(ids) == len(points) and points[:, 4].max() <= 31
    pose = record.lidar2ego.numpy()
    ego = torch.from_numpy(points[:, :3] @ pose[:3, :3].T + pose[:3, 3])
    index, inside = grid.index(ego)
    hit = truth.semantics[tuple(index[inside].T.numpy())]
    assert (hit != FREE).mean() > 0.6, "points lie on surfaces, so in full voxels or just beside"
    full = hit != FREE
    assert (hit[full] == ids[inside.numpy()][full, 0]).mean() > 0.8
    assert (truth.mask_camera <= truth.mask_lidar).all() and truth.mask_camera.any()
    for camera in record.cameras:  # a pixel's depth along its ray ends near something full
        depth = read_depth(record, camera)
        assert depth.shape == (28, 48) and float(depth.min()) > 0.1
    assert all(i.shape == (28, 48, 3) and i.std() > 10 for i in load_images(record))


def test_features_are_nearest_to_their_class():
    texts = features.class_texts()
    body = np.full((16, 24), 0)
    body[:, 8:16], body[:, 16:] = 1, -1
    kinds = np.array([4, 11])
    made = features.patch_features(body, kinds, 8, 0, np.random.default_rng(0))
    assert made.shape == (32, 2, 3)
    unit = made / np.linalg.norm(made, axis=0)
    likeness = np.einsum("kc,chw->khw", texts, unit)
    known = [k for k in range(18) if np.linalg.norm(texts[k]) > 0]
    best = np.array(known)[likeness[known].argmax(0)]
    assert best.tolist() == [[4, 11, 17]] * 2
    quiet = features.patch_features(body, kinds, 8, 0, np.random.default_rng(1), noise=0.0)
    assert np.array_equal(quiet, features.patch_features(body, kinds, 8, 0, np.random.default_rng(2), noise=0.0))


def test_texts_are_those_of_the_streets_classes(street):
    names, table = read_text_table(street / "text_features.json")
    assert {PROMPTS[n] for n in names} == set(kinds_made(False)) and table.shape[1] == features.WIDTH
    assert torch.allclose(table.norm(dim=1), torch.ones(len(table)), atol=1e-4)
    between = table @ table.T - torch.eye(len(table))
    assert float(between[names.index("road")].max()) < 0.9


@pytest.mark.parametrize(
    "option, said",
    [
        ({"frames": 0}, "--frames"), ({"width": 4}, "--width"), ({"noise": 9.0}, "--noise"), ({"seed": -1}, "--seed"),
        ({"reach": 1.0}, "--reach"), ({"patch": 0}, "--patch"),
    ],
)  # fmt: skip
def test_options_out_of_range(tmp_path, option, said):
    with pytest.raises(UserError, match=said):
        generate(tmp_path / "out", progress=False, **option)
    assert not (tmp_path / "out").exists()


def test_only_an_example_is_replaced(street, tmp_path):
    with pytest.raises(UserError, match="not empty"):
        generate(street, progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="only replaces"):
        generate(tmp_path / "mine", overwrite=True, progress=False)
    options = json.loads((street / "street.json").read_text())
    assert options["seed"] == 3 and options["reach"] == 8.0


def test_the_command_makes_a_street(tmp_path, capsys):
    from ag2_ns.cli.main import main

    main(["example", str(tmp_path / "out"), "--scene", "street", "--frames", "1", "--eval-frames", "0", "--width", "32",
          "--height", "18", "--reach", "6", "--mixed"])  # fmt: skip
    assert "1 frames to train on" in capsys.readouterr().out
    assert len(read_drives(tmp_path / "out")) == 1
