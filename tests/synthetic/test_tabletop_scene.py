import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from ag2_ns.cli.example import Example
from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.tabletop.generate import generate
from ag2_ns.synthetic.tabletop.layout import lay
from ag2_ns.synthetic.tabletop.raytrace import cast


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read_ids(scene: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(p)).astype(int) for p in sorted((scene / "ground_truth" / "ids").glob("*.png"))]


def test_layout_is_complete(tabletop_tiny):
    stems = [f"frame_{i:05d}" for i in range(1, 5)]
    expected = {
        f"{d}/{s}{e}"
        for s in stems
        for d, e in (
            ("images", ".png"),
            ("ground_truth/ids", ".png"),
            ("masks_sparse", ".pt"),
            ("clip_features", ".pt"),
            ("sentences/amodal", ".npz"),
        )
    }
    expected |= {f"sparse/0/{n}.txt" for n in ("cameras", "images", "points3D")}
    expected |= {"transforms.json", "sparse_pc.ply", "text_features.json"}
    expected |= {"ground_truth/labels.json", "ground_truth/scene.json", "sentences/sentences.json"}
    assert set(files(tabletop_tiny)) == expected
    for p in (tabletop_tiny / "images").glob("*.png"):
        image = Image.open(p)
        assert image.size == (64, 48) and image.mode == "RGB"
        assert np.asarray(image).std() > 15
    assert not list(tabletop_tiny.parent.glob(".*"))


def test_ids_and_labels_agree(tabletop_tiny):
    labels = json.loads((tabletop_tiny / "ground_truth" / "labels.json").read_text())
    assert list(labels) == ["1", "2", "3", "4", "5"] and labels["5"] == "table"
    assert len(set(labels.values())) == 5
    shown = np.unique(np.stack(read_ids(tabletop_tiny)))
    assert shown.tolist() == [0, 1, 2, 3, 4, 5]


def test_same_options_same_bytes_whatever_the_threads(tabletop_tiny, tmp_path):
    import numba

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        again = generate(tmp_path / "b", seed=3, objects=4, views=4, width=64, height=48, noise=0.0, progress=False)
    finally:
        numba.set_num_threads(before)
    assert files(again) == files(tabletop_tiny)
    other = generate(tmp_path / "c", seed=4, objects=4, views=2, width=64, height=48, progress=False)
    assert files(other)["images/frame_00001.png"] != files(tabletop_tiny)["images/frame_00001.png"]


def test_poses_lenses_and_ids_describe_the_same_scene(tabletop_tiny):
    meta = json.loads((tabletop_tiny / "transforms.json").read_text())
    layout = lay(4, 3)
    body_ids = np.array([p.id for p in layout.placed] + [0])
    for frame, ids in zip(meta["frames"], read_ids(tabletop_tiny)):
        pose = np.array(frame["transform_matrix"])
        v, u = np.mgrid[:48, :64]
        x, y = (u + 0.5 - meta["cx"]) / meta["fl_x"], (v + 0.5 - meta["cy"]) / meta["fl_y"]
        rays = np.stack([x, -y, -np.ones_like(x)], -1).reshape(-1, 3) @ pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        _, body = cast(layout.pack(), np.broadcast_to(pose[:3, 3], rays.shape), rays)
        assert (body_ids[body] == ids.ravel()).mean() > 0.999


def test_known_points_project_to_their_ids(tabletop_noisy):
    """The corners of a lying book show the book in most views (in the rest something stands before them)."""
    scene = tabletop_noisy[1]
    meta = json.loads((scene / "transforms.json").read_text())
    things = json.loads((scene / "ground_truth" / "scene.json").read_text())["things"]
    book = next(t for t in things if t["label"].endswith("book") and abs(t["turn"][2][2] - 1) < 1e-9)
    shown = []
    for frame, ids in zip(meta["frames"], read_ids(scene)):
        pose = np.array(frame["transform_matrix"])
        for corner in ([0.13, 0.18, 0.06], [-0.13, 0.18, 0.06], [0.13, -0.18, 0.06], [-0.13, -0.18, 0.06]):
            point = np.array(book["turn"]) @ np.array(corner) * book["scale"] + book["position"]
            x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
            u, v = meta["fl_x"] * x / -z + meta["cx"], meta["cy"] - meta["fl_y"] * y / -z
            shown.append(ids[int(v), int(u)])
    shown = np.array(shown)
    assert (shown == book["id"]).mean() > 0.6
    assert not np.isin(shown, [0, 9]).any()


def test_colmap_text_matches_the_transforms(tabletop_tiny):
    utils = pytest.importorskip("nerfstudio.data.utils.colmap_parsing_utils")
    model = tabletop_tiny / "sparse" / "0"
    cameras = utils.read_cameras_text(model / "cameras.txt")
    images, points = utils.read_images_text(model / "images.txt"), utils.read_points3D_text(model / "points3D.txt")
    meta = json.loads((tabletop_tiny / "transforms.json").read_text())
    assert cameras[1].model == "PINHOLE" and (cameras[1].width, cameras[1].height) == (64, 48)
    np.testing.assert_allclose(cameras[1].params, [meta["fl_x"], meta["fl_y"], meta["cx"], meta["cy"]])
    ply = PlyData.read(str(tabletop_tiny / "sparse_pc.ply"))["vertex"]
    xyz = np.stack([p.xyz for p in points.values()])
    np.testing.assert_allclose(np.stack([ply[c] for c in "xyz"], 1), xyz, atol=1e-5)
    assert len(points) > 100
    for frame, image in zip(meta["frames"], images.values()):
        assert frame["file_path"] == f"images/{image.name}"
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3], world_to_camera[:3, 3] = image.qvec2rotmat(), image.tvec
        expected = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])
        np.testing.assert_allclose(np.linalg.inv(world_to_camera), expected, atol=1e-8)
    for key, point in points.items():
        assert len(point.image_ids) >= 2
        for view, slot in zip(point.image_ids, point.point2D_idxs):
            assert images[view].point3D_ids[slot] == key


def test_sparse_points_reproject_onto_their_colours(tabletop_noisy):
    utils = pytest.importorskip("nerfstudio.data.utils.colmap_parsing_utils")
    scene = tabletop_noisy[1]
    model = scene / "sparse" / "0"
    focal, _, cx, cy = utils.read_cameras_text(model / "cameras.txt")[1].params
    points = utils.read_points3D_text(model / "points3D.txt")
    assert 1000 < len(points) < 4000
    far, colour = [], []
    for image in utils.read_images_text(model / "images.txt").values():
        picture = np.asarray(Image.open(scene / "images" / image.name)).astype(float)
        assert len(image.xys) > 50
        mine = [points[i] for i in image.point3D_ids]
        local = np.stack([p.xyz for p in mine]) @ image.qvec2rotmat().T + image.tvec
        assert (local[:, 2] > 0).all()
        xy = local[:, :2] / local[:, 2:] * focal + [cx, cy]
        far.append(np.linalg.norm(xy - image.xys, axis=1))
        at = image.xys.astype(int)
        colour.append(np.abs(picture[at[:, 1], at[:, 0]] - np.stack([p.rgb for p in mine])).mean(1))
    far, colour = np.concatenate(far), np.concatenate(colour)
    assert np.median(far) < 1.0 and (far < 3).mean() > 0.95
    assert np.median(colour) < 16
    ply = PlyData.read(str(scene / "sparse_pc.ply"))["vertex"]
    rgb = np.stack([ply[c] for c in ("red", "green", "blue")], 1)
    np.testing.assert_array_equal(rgb, np.stack([p.rgb for p in points.values()]))


def test_nerfstudio_reads_it(tabletop_tiny):
    parsers = pytest.importorskip("nerfstudio.data.dataparsers.nerfstudio_dataparser")
    colmap = pytest.importorskip("nerfstudio.data.dataparsers.colmap_dataparser")
    config = parsers.NerfstudioDataParserConfig(data=tabletop_tiny, load_3D_points=False, eval_mode="interval")
    outputs = config.setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 3 and all(p.is_file() for p in outputs.image_filenames)
    assert outputs.cameras.width[0].item() == 64 and abs(outputs.cameras.fx[0].item() - 0.95 * 64) < 1e-4
    config = colmap.ColmapDataParserConfig(data=tabletop_tiny, colmap_path=Path("sparse/0"), downscale_factor=1)
    outputs = config.setup().get_dataparser_outputs("train")
    assert outputs.metadata["points3D_xyz"].shape[0] > 100


@pytest.mark.parametrize(
    "change",
    [
        {"objects": 0},
        {"objects": 121},
        {"views": 1},
        {"width": 31},
        {"height": 16},
        {"noise": -0.1},
        {"noise": 3.5},
        {"seed": -1},
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(UserError, match="--"):
        generate(tmp_path / "x", progress=False, **change)
    assert not list(tmp_path.iterdir())


def test_folders_in_the_way(tmp_path):
    small = dict(objects=1, views=2, width=32, height=32, progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        generate(tmp_path / "mine", **small)
    with pytest.raises(UserError, match="holds none"):
        generate(tmp_path / "mine", overwrite=True, **small)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    with pytest.raises(UserError, match="a file"):
        generate(tmp_path / "mine" / "thesis.txt", **small)
    with pytest.raises(UserError, match="cannot make"):
        generate(tmp_path / "mine" / "thesis.txt" / "deeper", **small)
    (tmp_path / "empty").mkdir()
    generate(tmp_path / "empty", **small)
    first = files(tmp_path / "empty")
    generate(tmp_path / "empty", overwrite=True, seed=5, **small)
    assert files(tmp_path / "empty").keys() == first.keys() and files(tmp_path / "empty") != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "mine"]


def test_nothing_is_left_when_it_fails_midway(tmp_path, monkeypatch):
    from ag2_ns.synthetic.tabletop import write

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_colmap", full)
    with pytest.raises(UserError, match="No space left"):
        generate(tmp_path / "x", objects=1, views=2, width=32, height=32, progress=False)
    assert not list(tmp_path.iterdir())


def test_command(tmp_path, capsys):
    import tyro

    args = [str(tmp_path / "s"), "--objects", "1", "--views", "2", "--width", "32", "--height", "32", "--noise", "0"]
    tyro.cli(Example, args=args).main()
    assert (tmp_path / "s" / "transforms.json").is_file()
    assert "1 objects, 2 views" in capsys.readouterr().out
