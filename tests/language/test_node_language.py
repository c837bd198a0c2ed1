import pytest
import torch
import toy_scene

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.tree import build_tree
from ag2_ns.language.node_language import group_median, match_masks, node_language
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.scene_index import SceneIndex, build_index, language_of


@pytest.fixture(scope="module")
def tree(noisy):
    return build_tree(noisy.by_anchor, noisy.edges)


def test_matches_equal_dense_reference(noisy, tree):
    lifted = noisy.by_anchor
    weight = torch.zeros(lifted.num_units, lifted.num_masks)
    weight[lifted.unit, lifted.mask] = lifted.weight
    total = torch.zeros(lifted.num_units, lifted.num_views)
    total[lifted.view_unit, lifted.view] = lifted.total
    matches, support, quality = match_masks(tree, lifted)
    assert (quality <= 1).all() and (support <= lifted.num_views + 1e-3).all()
    for n in range(tree.num_nodes):
        inside = weight[tree.anchors_of(n)].sum(0)
        seen = total[tree.anchors_of(n)].sum(0)
        iou = inside / (seen[lifted.mask_view] + weight.sum(0) - inside)
        mine = matches.node == n
        views = lifted.mask_view[matches.mask[mine]]
        assert len(views.unique()) == len(views)
        for v, value in zip(views.tolist(), matches.iou[mine].tolist()):
            assert value == pytest.approx(float(iou[lifted.mask_view == v].max()), rel=1e-3)


def test_language_names_every_object(noisy, tree):
    images, text = toy_scene.features(noisy.names, noise=1.0)
    language = node_language(tree, noisy.by_anchor, torch.cat(images))
    assert language.feature.dtype == torch.half
    assert torch.allclose(language.feature.float().norm(dim=1), torch.ones(tree.num_nodes), atol=2e-3)
    label, owner = tree.cut()[noisy.anchor], noisy.toy.owner
    for k in range(1, 8):
        node = int(label[(owner == k) & (label >= 0)].mode().values)
        assert int((language.feature[node].float() @ text.T).argmax()) == k


def test_outlier_views_are_left_out(clean):
    tree = build_tree(clean.by_anchor, clean.edges)
    images, text = toy_scene.features(clean.names, noise=0.1)
    spoiled = [i.clone() for i in images]
    for v in (2, 7):
        spoiled[v] = -spoiled[v]
    good, bad = (node_language(tree, clean.by_anchor, torch.cat(f)).feature.float() for f in (images, spoiled))
    objects = tree.instances()
    assert ((good * bad).sum(1)[objects] > 0.99).all() and text.shape[1] == 64


def test_fragments_and_groups_are_trusted_less(noisy, tree):
    images, _ = toy_scene.features(noisy.names)
    language = node_language(tree, noisy.by_anchor, torch.cat(images))
    label, owner = tree.cut()[noisy.anchor], noisy.toy.owner
    objects = [int(label[(owner == k) & (label >= 0)].mode().values) for k in range(1, 8)]
    others = [n for n in range(tree.num_nodes) if n not in objects and tree.level[n] >= 0.5]
    assert others
    for n in others:
        related = [o for o in objects if n <= o <= int(tree.last[n]) or o <= n <= int(tree.last[o])]
        assert language.trust[n] < max(language.trust[o] for o in related)


def test_missing_features(noisy, tree):
    images, _ = toy_scene.features(noisy.names)
    holes = torch.cat(images)
    holes[::3] = 0
    holes[1::3] = float("nan")
    language = node_language(tree, noisy.by_anchor, holes)
    assert torch.isfinite(language.feature).all() and (language.feature != 0).any(1).all()
    nothing = node_language(tree, noisy.by_anchor, torch.zeros_like(holes))
    assert (nothing.trust == 0).all() and (nothing.feature == 0).all() and (nothing.quality > 0).any()
    assert language_of(tree, noisy.by_anchor, None).feature.shape == (tree.num_nodes, 0)


def test_wrong_number_of_features(noisy, tree):
    with pytest.raises(UserError, match=r"features for .* masks"):
        node_language(tree, noisy.by_anchor, torch.ones(3, 8))
    with pytest.raises(UserError, match="differ in width"):
        language_of(tree, noisy.by_anchor, [torch.ones(2, 8), torch.ones(2, 9)])


def test_median():
    value, group = torch.tensor([3.0, 1, 2, 9, 7]), torch.tensor([0, 0, 0, 2, 2])
    assert group_median(value, group, 4).tolist() == [2, 0, 7, 0]


def test_index_travels_as_tensors(noisy):
    images, _ = toy_scene.features(noisy.names)
    index = build_index(
        CpuRasterizer(), noisy.toy.gaussians, noisy.anchor, noisy.xyz, noisy.edges, noisy.toy.views, noisy.masks, images
    )
    tensors = index.to_dict()
    assert all(isinstance(t, torch.Tensor) and t.is_contiguous() for t in tensors.values())
    again = SceneIndex.from_dict(tensors | {"other": torch.zeros(1)})
    assert all(torch.equal(a, again.to_dict()[k]) for k, a in tensors.items())
    assert again.has_language and torch.equal(again.gaussian_node(), index.tree.cut()[index.gaussian_anchor])
    with pytest.raises(UserError, match=r"lacks 'tree.parent'; make it again"):
        SceneIndex.from_dict({k: v for k, v in tensors.items() if k != "tree.parent"})


def test_index_without_refining_keeps_anchors(noisy):
    scene = noisy
    index = build_index(
        CpuRasterizer(), scene.toy.gaussians, scene.anchor, scene.xyz, scene.edges, scene.toy.views, scene.masks,
        refine=False,
    )  # fmt: skip
    assert torch.equal(index.gaussian_anchor, scene.anchor) and not index.has_language
    objects = lambda tree: torch.unique(tree.cut(0.5), return_inverse=True)[1]  # noqa: E731
    assert torch.equal(objects(index.tree), objects(build_tree(scene.by_anchor, scene.edges)))
