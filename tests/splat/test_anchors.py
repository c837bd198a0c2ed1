import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.splat.anchors import (
    child_features,
    decode,
    initialise,
    one_point_per_voxel,
    random_points,
    scene_extent,
    voxel_groups,
    voxel_size,
)


def test_features_of_children_are_those_of_their_anchors_at_unit_length():
    g = torch.Generator().manual_seed(0)
    feature = torch.randn(5, 3, generator=g, dtype=torch.float64).requires_grad_()
    anchor = torch.tensor([4, 0, 0, 2, 4, 1, 4])
    plain = torch.nn.functional.normalize(feature, dim=1)[anchor]
    torch.testing.assert_close(child_features(feature, anchor), plain)
    assert torch.autograd.gradcheck(lambda x: child_features(x, anchor), (feature,))


def test_extent_is_a_tenth_more_than_the_farthest_camera():
    centres = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0]])
    assert scene_extent(centres) == pytest.approx(2.2)
    assert voxel_size(1.6) == pytest.approx(0.001)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.floats(0.05, 1.0), st.integers(0, 1000))
def test_one_point_per_voxel_matches_a_dictionary(count, voxel, seed):
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    first = {}
    for i, cell in enumerate(torch.floor(points / voxel).long().tolist()):
        first.setdefault(tuple(cell), i)
    assert one_point_per_voxel(points, voxel).tolist() == sorted(first.values())


def test_voxels_are_numbered_as_rows_sort():
    points = torch.cat((torch.randn(500, 3), torch.tensor([[1e6, -1e6, 1e6], [1e6, -1e6, 1e6]])))
    rows = torch.unique(torch.floor(points / 0.3).long(), dim=0, return_inverse=True)[1]
    assert torch.equal(voxel_groups(points, 0.3), rows)


def test_initialise_shapes_radius_and_colour(generator):
    extent = 1.6  # voxel 0.001
    points = torch.tensor([[0.0, 0, 0], [0.0055, 0, 0], [0.5004, 0.5004, 0.5004], [0.5006, 0.5006, 0.5006]])
    rgb = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    anchors, children = initialise(points, rgb, extent, children_per_anchor=5, feature_width=4, sh_degree=2)
    assert len(anchors) == 3 and anchors.feature.shape == (3, 4)  # the last two points share a voxel
    assert len(children) == 15 and children.sh_rest.shape == (15, 8, 3)
    voxel = voxel_size(extent)
    assert anchors.radius[0].item() == pytest.approx(5 * voxel)  # 5.5 voxels rounded down
    assert anchors.radius[2].item() == pytest.approx(16 * voxel)  # capped
    gaussians = decode(anchors, children)
    assert torch.allclose((gaussians.sh[:5, 0] * 0.28209479 + 0.5), rgb[:1].expand(5, 3), atol=1e-5)
    assert torch.allclose(gaussians.opacities, torch.full((15,), 0.01), atol=1e-6)
    distance = (gaussians.means - anchors.xyz[children.anchor]).norm(dim=-1)
    assert (distance <= anchors.radius[children.anchor].squeeze(-1)).all()
    assert distance.unique().numel() == 15, "children that coincide stay equal for ever"


def test_radius_is_never_zero():
    points = torch.tensor([[0.0, 0, 0], [0.0011, 0, 0]])  # nearer than two voxels, in different ones
    anchors, _ = initialise(points, torch.zeros(2, 3), 1.6)
    assert len(anchors) == 2 and (anchors.radius >= voxel_size(1.6) * 0.999).all()


def test_initialise_is_deterministic_and_thins(generator):
    points, rgb = torch.rand(500, 3, generator=generator), torch.rand(500, 3, generator=generator)
    a = initialise(points, rgb, 1.0, max_anchors=100, generator=torch.Generator().manual_seed(3))
    b = initialise(points, rgb, 1.0, max_anchors=100, generator=torch.Generator().manual_seed(3))
    assert len(a[0]) == 100 and torch.equal(a[1].offset, b[1].offset) and torch.equal(a[0].xyz, b[0].xyz)


def test_decode_is_differentiable_in_every_child_tensor(generator):
    anchors, children = initialise(torch.rand(4, 3, generator=generator), torch.rand(4, 3), 1.0, sh_degree=1)
    names = ("offset", "sh_dc", "sh_rest", "log_scale", "quat", "opacity_logit")
    leaves = {n: getattr(children, n).clone().requires_grad_() for n in names}
    g = decode(anchors, type(children)(children.anchor, **leaves))
    (g.means.sum() + g.quats.sum() + g.scales.sum() + g.opacities.sum() + g.sh.sum()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0, name
    radius = anchors.radius[children.anchor]
    assert torch.allclose(leaves["offset"].grad, radius.expand(-1, 3))


def test_one_point_gives_one_anchor():
    anchors, children = initialise(torch.zeros(1, 3), torch.zeros(1, 3), 1.0)
    assert len(anchors) == 1 and len(children) == 5 and children.offset.isfinite().all()


def test_random_points_surround_the_cameras(generator):
    centres = torch.randn(20, 3, generator=generator)
    xyz, rgb = random_points(centres, 400, generator)
    assert xyz.shape == rgb.shape == (400, 3)
    distance = (xyz - centres.mean(0)).norm(dim=-1)
    reach = (centres - centres.mean(0)).norm(dim=-1).max()
    assert (distance <= 10.001 * reach).all() and (distance < reach).float().mean() > 0.4


def test_random_points_of_a_single_camera_spread(generator):
    xyz, _ = random_points(torch.zeros(1, 3), 100, generator)
    assert xyz.isfinite().all() and xyz.std() > 0.3
