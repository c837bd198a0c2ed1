import pytest
import torch
import toy_scene
from torch.nn.functional import normalize

from ag2_ns.grouping.anchor_graph import build_graph
from ag2_ns.grouping.config import DEFAULTS
from ag2_ns.grouping.feature_tree import feature_tree, nested_tree
from ag2_ns.query.click import answer_click
from ag2_ns.query.text import select_text
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.scene_index import SceneIndex, build_feature_index


def owners(scene) -> torch.Tensor:
    """The id that most Gaussians of each anchor were sampled from; -1 floaters."""
    votes = torch.zeros(len(scene.xyz), 10).index_put_(
        (scene.anchor, scene.toy.owner + 1), torch.ones(len(scene.anchor)), accumulate=True
    )
    return votes.argmax(1) - 1


def directions(count: int, f: int) -> torch.Tensor:
    """Unit vectors far apart."""
    generator = torch.Generator().manual_seed(0)
    out = [normalize(torch.randn(f, generator=generator), dim=0)]
    while len(out) < count:
        new = normalize(torch.randn(f, generator=generator), dim=0)
        if min(float((new - o).norm()) for o in out) > 0.6:
            out.append(new)
    return torch.stack(out)


def trained(scene, owner: torch.Tensor, f: int = 4) -> torch.Tensor:
    """Features as good training leaves them: one direction per object, the right half of the table beside the left."""
    generator = torch.Generator().manual_seed(1)
    feature = directions(10, f)[owner + 1] + 0.004 * torch.randn(len(owner), f, generator=generator)
    right = (owner == toy_scene.TABLE) & (scene.xyz[:, 0] > 0)
    aside = normalize(torch.linalg.qr(feature[owner == toy_scene.TABLE].mean(0)[:, None], "complete")[0][:, 1], dim=0)
    return feature + 0.07 * right[:, None] * aside


@pytest.fixture(scope="module")
def graph(clean):
    return build_graph(clean.xyz, torch.zeros(len(clean.xyz)), 0.13 / 64, 4.0)


@pytest.fixture(scope="module")
def tree(clean, graph):
    return feature_tree(clean.by_anchor, trained(clean, owners(clean)), clean.xyz, graph)


def test_objects_are_the_features_regions(clean, tree):
    owner, cut = owners(clean), tree.cut(0.5)
    for k in range(1, 8):
        mine = cut[owner == k]
        node = int(mine.mode().values)
        assert node >= 0 and (mine == node).float().mean() > 0.95, k
        assert (owner[cut == node] == k).float().mean() > 0.9, k
    assert torch.equal(tree.instances(0.5), tree.instances(1.0)), "nothing above objects"


def test_parts_are_inside_their_objects(clean, tree):
    owner, cut, fine = owners(clean), tree.cut(0.5), tree.cut(0.0)
    table = int(cut[owner == toy_scene.TABLE].mode().values)
    parts = tree.children(table)
    halves = [clean.xyz[tree.anchors_of(int(p)) & (owner == 1), 0] for p in parts[:2]]
    assert sorted((h > 0).float().mean().item() for h in halves) == pytest.approx([0, 1], abs=0.03)
    # Anchors between the halves that see both may be pieces of their own.
    assert sum(len(h) for h in halves) > 0.9 * (owner == toy_scene.TABLE).sum()
    for part in tree.instances(0.0).tolist():
        assert len(torch.unique(cut[fine == part])) == 1
    assert (tree.parent[tree.parent >= 0] == table).all(), "the other objects have no parts"


def test_nodes_describe_themselves(clean, tree):
    numbers = torch.arange(tree.num_nodes)
    assert (tree.parent < numbers).all()
    inner = tree.parent >= 0
    assert (tree.level[inner] < tree.level[tree.parent[inner]]).all()
    lifted = tree.lift(clean.by_anchor)
    for n in range(tree.num_nodes):
        inside = tree.anchors_of(n)
        assert int(tree.size[n]) == int(inside.sum()) >= DEFAULTS.least
        areas = lifted.total[lifted.view_row[n] : lifted.view_row[n + 1]]
        assert float(tree.support[n]) == pytest.approx(float(areas.max()))
        assert tree.last[n] == max(k for k in range(tree.num_nodes) if n in tree.ancestors(k))
    assert torch.equal(tree.seen, clean.by_anchor.visible >= 1)


def test_what_no_view_sees_has_no_say(clean, graph):
    """Untrained features of hidden anchors change nothing, and hidden anchors inside an object join it."""
    from ag2_ns.grouping.lifting import LiftedMasks

    owner = owners(clean)
    feature = trained(clean, owner)
    box = int((owner == 3).nonzero()[0])
    hidden = torch.zeros(len(owner), dtype=torch.bool)
    inner = [n for n in range(len(owner)) if owner[n] == 3][::9]
    hidden[inner] = True
    who = torch.where(hidden, -1, torch.arange(len(owner)))
    lifted: LiftedMasks = clean.by_anchor.group(who, len(owner))
    spoiled = torch.where(hidden[:, None], feature[0] * -1, feature)
    a, b = (feature_tree(lifted, f, clean.xyz, graph) for f in (feature, spoiled))
    assert torch.equal(a.anchor_node, b.anchor_node) and not a.seen[hidden].any()
    around = a.cut(0.5)[box] if not hidden[box] else a.cut(0.5)[owner == 3].mode().values
    assert (a.cut(0.5)[hidden] == around).float().mean() > 0.8


def test_nesting_by_hand():
    label = torch.tensor([0] * 30 + [1] * 20 + [2] * 3)
    part = torch.tensor([0] * 8 + [1] * 12 + [2] * 10 + [1] * 20 + [3] * 3)
    seen = torch.ones(55, dtype=torch.bool)
    seen[[4, 54]] = False
    tree = nested_tree(label, part, seen)
    # The first object: parts of 12 and 10; its piece of 8 stays with it. The second has one part, the third is small.
    assert tree.parent.tolist() == [-1, 0, 0, -1] and tree.last.tolist() == [2, 1, 2, 3]
    expected = [0] * 8 + [1] * 12 + [2] * 10 + [3] * 20 + [-1] * 3
    assert tree.anchor_node[seen].tolist() == expected and tree.anchor_node[~seen].tolist() == [-1, -1]
    assert tree.cut(0.5).tolist() == tree.cut(1.0).tolist() and set(tree.cut(0.5).tolist()) == {0, 3, -1}
    assert set(tree.cut(0.1).tolist()) == {0, 1, 2, 3, -1}


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_seen(count):
    tree = nested_tree(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(count).bool())
    assert tree.num_nodes == 0 and tree.anchor_node.tolist() == [-1] * count


def test_queries_answer_on_features_alone(clean, graph):
    toy, feature = clean.toy, trained(clean, owners(clean))
    images, text = toy_scene.features(clean.names, noise=1.0)
    index = build_feature_index(
        CpuRasterizer(), toy.gaussians, clean.anchor, clean.xyz, feature, graph, toy.views, clean.masks, images
    )
    assert index.has_language and torch.equal(index.gaussian_anchor, clean.anchor)
    again = SceneIndex.from_dict(index.to_dict())
    assert torch.equal(again.gaussian_node(), index.gaussian_node())
    for k in (2, 4, 7):
        chosen = select_text(index, str(k), text[k]).gaussian_mask
        truth = toy.owner == k
        assert (chosen & truth).sum() > 0.85 * (chosen | truth).sum(), k
    ys, xs = (toy.ids[0] == 2).nonzero()
    place = float(xs.mean()), float(ys.mean())
    clicked = answer_click(index, toy.gaussians, CpuRasterizer(), toy.views[0], *place).selection
    assert (toy.owner[clicked.gaussian_mask] == 2).float().mean() > 0.9


def test_a_scene_that_no_view_sees(clean, graph):
    nothing = clean.by_anchor.group(torch.full((len(clean.xyz),), -1), len(clean.xyz))
    tree = feature_tree(nothing, trained(clean, owners(clean)), clean.xyz, graph)
    assert tree.num_nodes == 0 and (tree.cut(0.5) == -1).all() and not tree.seen.any()
