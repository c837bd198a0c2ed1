import numpy as np
import pytest
import torch
from plyfile import PlyData

from ag2_ns.edit.apply import apply_edits
from ag2_ns.edit.operations import Delete, Duplicate, Isolate, Members, Patch, Transform, axis_angle
from ag2_ns.export.anchors import AnchorCloud, anchor_instances, edited_anchors, instance_colours, write_anchor_cloud
from ag2_ns.ops.similarity import Similarity


@pytest.fixture
def cloud(index):
    feature = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    return AnchorCloud(index.anchor_xyz, 0.1 + torch.arange(12.0), feature, index.tree.cut(0.5), index.edges)


def gaussian_set(*anchors):
    return Members.of(torch.isin(torch.arange(36) // 3, torch.tensor(anchors)))


def test_without_edits_nothing_changes(cloud, index):
    out = edited_anchors(cloud, index.gaussian_anchor, [])
    for name in ("xyz", "radius", "feature", "instance", "edges"):
        assert torch.equal(getattr(out, name), getattr(cloud, name)), name


def test_removed_anchors_take_their_edges(cloud, index):
    out = edited_anchors(cloud, index.gaussian_anchor, [Delete(gaussian_set(1, 5))])
    assert out.xyz[:, 0].tolist() == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    ends = {tuple(sorted(out.xyz[e, 0].tolist())) for e in out.edges.T}
    assert ends == {(2, 3), (3, 4), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11)}


def test_an_anchor_goes_where_most_of_its_gaussians_go(cloud, index):
    one = torch.zeros(36, dtype=torch.bool)
    one[3] = True
    assert len(edited_anchors(cloud, index.gaussian_anchor, [Delete(Members.of(one))]).xyz) == 12
    one[4] = True
    assert len(edited_anchors(cloud, index.gaussian_anchor, [Delete(Members.of(one))]).xyz) == 11


def test_anchors_move_with_their_gaussians_and_copies_keep_their_graph(cloud, index, gaussians):
    turn = Transform(gaussian_set(7, 8, 9, 10), wxyz=axis_angle((0, 0, 1), 90), scale=2.0, translation=(0, 0, 1))
    copy = Duplicate(gaussian_set(7, 8, 9, 10), copy=0, translation=(0, 0, 5))
    patch = Patch.of(
        torch.tensor([30]), torch.zeros(1, 3), torch.zeros(1, 3), 36, wxyz=(1, 0, 0, 0), scales=(1, 1, 1), opacity=1
    )
    edits = [turn, copy, patch]
    out = edited_anchors(cloud, index.gaussian_anchor, edits)
    torch.testing.assert_close(out.xyz[8], torch.tensor([0.0, 16, 1]), atol=1e-5, rtol=0)
    assert float(out.radius[8]) == pytest.approx(16.2)
    assert len(out.xyz) == 16 and out.instance[12:].tolist() == [7] * 4
    copied = [tuple(sorted(e)) for e in out.edges.T.tolist() if min(e) >= 12]
    assert sorted(copied) == [(12, 13), (13, 14), (14, 15)]
    assert len(out.edges.T) == 11 + 3
    scene = apply_edits(gaussians, index.gaussian_anchor, edits)
    own = scene.instances(index.gaussian_node(0.5))[0]
    assert sorted(set(own.tolist())) == sorted(set(out.instance.tolist()))
    assert len(edited_anchors(cloud, index.gaussian_anchor, [*edits, Isolate(gaussian_set(7))]).xyz) == 2


def test_some_anchors_in_another_frame(cloud):
    some = cloud.chosen(torch.arange(12) >= 9)
    assert some.edges.tolist() == [[0, 1], [1, 2]]
    moved = some.moved(Similarity.about((0, 0, 0), scale=3.0, translation=(1, 0, 0)))
    assert moved.xyz[:, 0].tolist() == [28, 31, 34] and torch.allclose(moved.radius, 3 * some.radius)


def test_file_has_everything(cloud, tmp_path):
    path = tmp_path / "anchors.ply"
    write_anchor_cloud(path, cloud, instance_colours(cloud.instance))
    ply = PlyData.read(str(path))
    vertex, edge = ply["vertex"], ply["edge"]
    np.testing.assert_array_equal(vertex["label"], cloud.instance.numpy())
    np.testing.assert_allclose(vertex["feature_2"], cloud.feature[:, 2].numpy())
    np.testing.assert_array_equal(edge["vertex2"], cloud.edges[1].numpy())
    assert vertex["red"].dtype == np.uint8


def test_instances_have_different_colours():
    colours = instance_colours(torch.tensor([-1, 0, 1, 2, 3, 1]))
    assert colours[0].tolist() == [128, 128, 128] and torch.equal(colours[2], colours[5])
    assert len({tuple(c) for c in colours.tolist()}) == 5


def test_anchors_belong_where_most_of_their_gaussians_do():
    instance = torch.tensor([3, 3, 1, -1, -1, 2, 1, 2])
    anchor = torch.tensor([0, 0, 0, 1, 1, 1, 3, 3])
    assert anchor_instances(instance, anchor, 5).tolist() == [3, -1, -1, 1, -1]


def test_chosen_anchors_keep_their_copies(cloud, index):
    copy = Duplicate(gaussian_set(7, 8), copy=0, translation=(0, 0, 5))
    out = edited_anchors(cloud, index.gaussian_anchor, [copy], 10, torch.arange(12) == 7)
    assert out.xyz.tolist() == [[7, 0, 0], [7, 0, 5]] and out.instance.tolist() == [3, 13]
