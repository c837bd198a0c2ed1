import numpy as np
import pytest
import torch
import toy_scene
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.io.calibration import Rig, read_rig
from ag2_ns.io.points import PointCloud, read_cloud
from ag2_ns.perception.encoder import make_encoder
from ag2_ns.perception.segmenter import make_segmenter
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.points import anchors_of_points, as_scene, check_rig, gaussians_of_points, scene_of_points
from ag2_ns.scene.scene_file import open_scene, save_scene


@pytest.fixture(scope="module")
def toy():
    return toy_scene.make(objects=3, views=6, width=192, height=144, spacing=0.03, floaters=0, seed=2)


def rig_of(toy, folder):
    names = tuple(f"v{k}" for k in range(len(toy.views)))
    return Rig(folder / "calibration.json", names, tuple(toy.views), tuple(folder / f"{n}.png" for n in names))


def test_a_cloud_is_grouped_into_its_objects(toy, tmp_path):
    cloud = PointCloud(toy.gaussians.means.numpy(), np.full((len(toy.owner), 3), 128, np.uint8))
    pairs = toy_scene.noisy_masks(toy.ids, 0.0, 0)
    features, _ = toy_scene.features([n for _, n in pairs], dim=16, noise=0.1)
    rig = rig_of(toy, tmp_path)
    prepared = [(m, f) for (m, _), f in zip(pairs, features)]
    lifted = scene_of_points(cloud, rig, None, None, CpuRasterizer(), prepared=prepared)
    node = lifted.index.gaussian_node(0.5)
    for oid in range(2, 5):
        own = node[toy.owner == oid]
        best = int(torch.bincount(own[own >= 0]).argmax())
        inside = node == best
        iou = float((inside & (toy.owner == oid)).sum() / (inside | (toy.owner == oid)).sum())
        assert iou > 0.75
    encoder = make_encoder("palette")
    scene = as_scene(lifted, encoder, {"method": "points"})
    save_scene(tmp_path / "scene.safetensors", scene)
    again = open_scene(tmp_path, "cpu")
    assert len(again.gaussians) == len(cloud) and len(again.views) == 6
    assert again.texts.manifest().maker == "palette"


def test_gaussians_are_points_in_their_colours():
    rgb = np.random.default_rng(0).integers(0, 255, (50, 3)).astype(np.uint8)
    g = gaussians_of_points(PointCloud(np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32), rgb))
    assert len(g) == 50 and (g.scales == g.scales[:, :1]).all() and (g.scales > 0).all()
    assert torch.allclose(g.sh[:, 0] * 0.28209479 + 0.5, torch.from_numpy(rgb) / 255, atol=1e-4)


def test_one_point_and_duplicates():
    assert len(gaussians_of_points(PointCloud(np.zeros((1, 3), np.float32)))) == 1
    g = gaussians_of_points(PointCloud(np.zeros((20, 3), np.float32)))
    assert (g.scales > 0).all()
    group, centre, _ = anchors_of_points(g.means, g.scales[:, 0])
    assert group.max() == 0 and len(centre) == 1


def test_a_rig_that_does_not_see_the_cloud(toy, tmp_path):
    rig = rig_of(toy, tmp_path)
    xyz = toy.gaussians.means.numpy()
    check_rig(PointCloud(xyz), rig)
    with pytest.raises(UserError, match="--unit mm"):
        check_rig(PointCloud(xyz * 1000), rig)
    with pytest.raises(UserError, match="the calibration of this cloud"):
        check_rig(PointCloud(xyz + 1e5), rig)


@pytest.mark.slow
def test_a_frame_of_nuscenes():
    rig = read_rig(shared("nuscenes_sample")).scaled(320)
    cloud = read_cloud(rig.cloud)
    lifted = scene_of_points(cloud, rig, make_segmenter("superpixel"), make_encoder("palette"), CpuRasterizer())
    assert len(lifted.index.tree.instances(0.5)) > 8 and lifted.index.has_language
    with pytest.raises(UserError, match="--unit mm"):
        check_rig(PointCloud(cloud.xyz * 1000), rig)
