import json

import numpy as np
import pytest
import torch
from PIL import Image

from ag2_ns.synthetic.tabletop import language, segmenter
from ag2_ns.synthetic.tabletop.segmenter import Proposal


def views(scene):
    for p in sorted((scene / "masks_sparse").glob("*.pt")):
        masks = torch.load(p, weights_only=True)
        features = torch.load(scene / "clip_features" / p.name, weights_only=True)
        ids = np.asarray(Image.open(scene / "ground_truth" / "ids" / f"{p.stem}.png")).astype(int)
        yield masks, features, torch.from_numpy(ids)


def iou(a, b):
    return (a & b).sum().item() / max(1, (a | b).sum().item())


def test_files_have_the_published_format(tabletop_noisy):
    for masks, features, ids in views(tabletop_noisy[1]):
        assert masks.is_sparse and masks.dtype == torch.bool and masks.shape[1:] == ids.shape
        assert masks.is_coalesced() and masks.sparse_dim() == 3
        assert features.dtype == torch.float16 and features.shape == (len(masks), 512)
        assert torch.isfinite(features).all()
        torch.testing.assert_close(features.float().norm(dim=1), torch.ones(len(masks)), atol=2e-3, rtol=0)


def test_level_zero_is_exact(tabletop_tiny):
    for masks, _, ids in views(tabletop_tiny):
        dense = masks.to_dense()
        shown = [i for i in torch.unique(ids).tolist() if i > 0]
        assert len(dense) == len(shown)
        for mask, i in zip(dense, shown):
            assert torch.equal(mask, ids == i)


def test_defects_grow_with_the_level(tabletop_noisy):
    found = {}
    for level, scene in tabletop_noisy.items():
        best, missing, count = [], 0, 0
        for masks, _, ids in views(scene):
            dense = masks.to_dense()
            for i in range(1, 9):
                if (ids == i).sum() < 60:
                    continue
                count += 1
                overlap = max(iou(m, ids == i) for m in dense)
                missing += overlap < 0.5
                best.append(overlap)
        assert count > 50
        found[level] = (np.mean(best), missing / count)
    assert 0.72 < found[1][0] < 0.95 and 0.02 < found[1][1] < 0.25
    assert 0.5 < found[2][0] < found[1][0] - 0.03
    assert found[2][1] > found[1][1]


def squares():
    """Two touching squares on a table, one of two primitives; a floor below."""
    ids = np.zeros((120, 160), np.int64)
    primitive = np.full(ids.shape, -1)
    ids[40:110, 10:150], primitive[40:110, 10:150] = 3, 0
    ids[60:90, 30:60], primitive[60:90, 30:60] = 1, 1
    primitive[60:75, 30:60] = 2
    ids[60:90, 60:90], primitive[60:90, 60:90] = 2, 3
    points = np.zeros((*ids.shape, 3))
    points[..., 2] = np.where(np.arange(120)[:, None] > 100, -1.0, 0.5)
    points[..., 0] = np.where(points[..., 2] < 0, 0.0, 2.0)
    return ids, primitive, np.array([0, 1, 3, 4]), points, np.array([2.0, -1.0, 3.0]), 3


def test_every_defect_occurs_about_as_often_as_documented():
    whole = merged = pieces = table = floor = 0
    runs = 300
    for seed in range(runs):
        found = segmenter.propose(*squares(), 1.0, np.random.default_rng(seed))
        only = [p for p in found if p.parts == ((1, 1.0),)]
        whole += any(p.whole for p in only)
        pieces += any(not p.whole for p in only)
        merged += any({w for w, _ in p.parts} == {1, 2} for p in found)
        table += any(p.parts == ((3, 1.0),) for p in found)
        floor += any(p.parts == (("floor", 1.0),) for p in found)
    assert 0.70 < whole / runs < 0.90
    assert 0.10 < pieces / runs < 0.25
    assert 0.05 < merged / runs < 0.18
    assert 0.90 < table / runs < 0.99
    assert 0.48 < floor / runs < 0.72


def test_pieces_are_disjoint_parts_and_outlines_move_a_little():
    ids, primitive, *_ = squares()
    mask = ids == 1
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = segmenter.halves(mask, primitive, rng)
        assert not (a & b).any() and ((a | b) == mask).all() and a.any() and b.any()
        rough = segmenter.rough_outline(mask, 1.0, 1.0, rng)
        changed = rough ^ mask
        assert changed.any()
        assert (rough & mask).sum() / (rough | mask).sum() > 0.6
    assert segmenter.rough_outline(np.ones((20, 20), bool), 1.0, 1.0, rng).all()


def test_text_features_have_the_geometry_of_a_text_encoder(tabletop_noisy):
    table = json.loads((tabletop_noisy[1] / "text_features.json").read_text())
    labels = json.loads((tabletop_noisy[1] / "ground_truth" / "labels.json").read_text())
    assert list(table) == [*labels.values(), "object", "things", "stuff", "texture"]
    x = np.array(list(table.values()))
    assert x.shape == (len(table), 512)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    texts = ["red mug", "blue mug", "green chair", "red chair", "table"]
    t = np.array(list(language.text_features(texts).values()))
    cosine = t @ t.T
    assert cosine[0, 1] > 0.83 > cosine[0, 3] > cosine[0, 2]
    many = language.text_features(["red mug", "blue chair", "green lamp", "table", "pink house", "black bowl"])
    c = np.array(list(many.values())) @ np.array(list(many.values())).T
    assert c[np.triu_indices(6, 1)].min() > 0.6 and c[np.triu_indices(6, 1)].max() < 0.8


@pytest.mark.parametrize("level", [1, 2])
def test_the_right_label_has_the_highest_mean_cosine(tabletop_noisy, level):
    scene = tabletop_noisy[level]
    labels = json.loads((scene / "ground_truth" / "labels.json").read_text())
    table = json.loads((scene / "text_features.json").read_text())
    texts = torch.tensor([table[v] for v in labels.values()])
    seen = {int(i): [] for i in labels}
    for masks, features, ids in views(scene):
        for mask, feature in zip(masks.to_dense(), features.float()):
            for i in seen:
                if iou(mask, ids == i) > 0.7:
                    seen[i].append(texts @ feature)
    for n, i in enumerate(seen):
        mean = torch.stack(seen[i]).mean(0)
        assert mean.argmax().item() == n
        assert 0.25 < mean[n] < 0.35
        others = torch.cat([mean[:n], mean[n + 1 :]])
        assert others.min() > 0.15 and others.max() < mean[n] - 0.015


def test_embeddings_of_perfect_merged_and_partial_masks():
    labels = {1: "red mug", 2: "green chair"}
    mask = np.ones((60, 80), bool)
    one, two = Proposal(mask, ((1, 1.0),)), Proposal(mask, ((2, 1.0),))
    both, piece = Proposal(mask, ((1, 0.5), (2, 0.5))), Proposal(mask, ((1, 1.0),), whole=False)
    texts = np.array(list(language.text_features(["red mug", "green chair", "blue mug"]).values()))
    clean = language.image_features([one, two, both, piece], labels, 0.0, 7, np.random.default_rng(0))
    again = language.image_features([one], labels, 0.0, 7, np.random.default_rng(1))
    np.testing.assert_array_equal(clean[0], again[0])
    cosine = clean @ texts.T
    np.testing.assert_allclose(cosine[0], [0.30, 0.20, 0.256], atol=0.02)
    assert cosine[1].argmax() == 1
    assert abs(cosine[2, 0] - cosine[2, 1]) < 0.01 and cosine[2, 0] < cosine[0, 0]
    assert cosine[1, 0] < cosine[3, 0] < cosine[0, 0]
    assert 0.5 < clean[0] @ clean[1] < 0.6
    noisy = language.image_features([one] * 50, labels, 1.0, 7, np.random.default_rng(0))
    assert 0.8 < np.mean(noisy @ clean[0]) < 0.97
