"""Wild worlds: what the segmenter proposes, what the encoder confuses, what the ground truth knows."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.eval.formats import read_benchmark
from ag2_ns.eval.formats.own import each_thing, is_twin, read_groups, read_parts
from ag2_ns.synthetic.room import room
from ag2_ns.synthetic.room.layout import furnish, walk
from ag2_ns.synthetic.tabletop.generate import generate
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, COLOURS
from ag2_ns.synthetic.tabletop.layout import lay
from ag2_ns.synthetic.wild import WILD, Difficulty
from ag2_ns.synthetic.wild.cosines import WORDS, gram
from ag2_ns.synthetic.wild.language import Meanings
from ag2_ns.synthetic.wild.masks import move_outline
from ag2_ns.synthetic.wild.prompts import absent_prompts


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    options = dict(seed=5, objects=8, views=4, width=128, height=96, noise=WILD, progress=False)
    return generate(tmp_path_factory.mktemp("wild") / "scene", **options)


def test_words_are_as_alike_as_real_ones():
    table = gram()
    assert np.linalg.eigvalsh(table).min() > 0.1 and len(table) == len(WORDS)
    meaning, words = Meanings(), list(WORDS)
    vectors = np.array([meaning(w) for w in words])
    np.testing.assert_allclose(vectors @ vectors.T, table, atol=1e-9)
    embedded = np.array(list(Meanings(ALL_KINDS).embed(["red mug", "red cup", "blue mug", "blue toy car"]).values()))
    cosine = embedded @ embedded.T
    np.testing.assert_allclose(np.diag(cosine), 1, atol=1e-5)
    assert min(cosine[0, 1], cosine[0, 2]) > cosine[0, 3] + 0.05 and cosine[0, 3] > 0.45


def test_knobs():
    assert Difficulty.parse("wild") == WILD
    knobs = Difficulty.parse("wild:wholes=0.3,border=0")
    assert knobs.wholes == 0.3 and knobs.border == 0 and knobs.parts == WILD.parts
    for text in ("tame", "wild:heat=1", "wild:wholes=high", "wild:wholes=2", "wild:border=-1"):
        with pytest.raises(UserError, match="--noise"):
            Difficulty.parse(text)


def test_outlines_move_by_as_much_as_is_asked():
    y, x = np.ogrid[:200, :200]
    disc = (y - 100) ** 2 + (x - 100) ** 2 < 60**2
    rng, off = np.random.default_rng(0), []
    for _ in range(12):
        moved = move_outline(disc, 2.0, 1.0, rng)
        radius = [
            np.sqrt(np.count_nonzero(moved & s) / np.count_nonzero(disc & s)) * 60 - 60 for s in (x > 100, y > 100)
        ]
        off += radius
        assert 0.5 < np.count_nonzero(moved ^ disc) / (2 * np.pi * 60) < 3.5
    assert abs(np.mean(off)) < 1
    assert np.array_equal(move_outline(disc, 0.0, 1.0, rng), disc)


def test_layout_has_twins_look_alikes_parts_and_groups():
    layout = lay(14, 7, wild=True)
    texts = list(layout.labels.values())
    assert len(texts) == 15 and sum(texts.count(t) == 2 for t in set(texts)) == 1
    mug, cup = (next(t for t in texts if t.endswith(f" {kind}")) for kind in ("mug", "cup"))
    assert mug.split()[0] == cup.split()[0]
    names, owner = layout.parts
    assert f"{mug} handle" in names.values() and set(np.unique(owner)) == {0, *names}
    assert "stack of books" in [name for name, _ in layout.groups]
    assert lay(14, 7).labels != layout.labels and not any(kind.endswith("cup") for kind in lay(9, 7).labels.values())


def test_files(wild):
    truth = read_benchmark(wild / "ground_truth")
    assert len(truth.several) == 1 and len(truth.absent) == 30
    texts = json.loads((wild / "text_features.json").read_text())
    asked = {*truth.prompts, *(t for t, _ in truth.absent), *read_parts(wild / "ground_truth").prompts}
    assert asked | set(read_groups(wild / "ground_truth").prompts) <= set(texts)
    assert sum(is_twin(t) for t in each_thing(wild / "ground_truth").prompts) == 2
    labels = json.loads((wild / "ground_truth" / "labels.json").read_text())
    assert not {t for t, _ in truth.absent} & set(labels.values())
    owners = json.loads((wild / "ground_truth" / "parts" / "owners.json").read_text())
    for path in sorted((wild / "ground_truth" / "ids").glob("*.png")):
        ids, parts = (
            np.asarray(Image.open(p)).astype(int) for p in (path, wild / "ground_truth/parts/ids" / path.name)
        )
        for part in np.unique(parts[parts > 0]):
            assert set(np.unique(ids[parts == part])) == {owners[str(part)]}, "a part lies within its thing"


def test_masks_and_features(wild):
    labels = {int(k): v for k, v in json.loads((wild / "ground_truth" / "labels.json").read_text()).items()}
    texts = json.loads((wild / "text_features.json").read_text())
    names = list(labels.values())
    embedded = torch.tensor([texts[n] for n in names])
    right, wrong, counts = [], [], []
    for path in sorted((wild / "masks_sparse").glob("*.pt")):
        masks = torch.load(path, weights_only=True).to_dense()
        features = torch.load(wild / "clip_features" / path.name, weights_only=True).float()
        ids = torch.from_numpy(np.asarray(Image.open(wild / "ground_truth" / "ids" / f"{path.stem}.png")).astype(int))
        counts.append(len(masks))
        for k, number in enumerate(labels):
            target = ids == number
            overlap = (masks & target).sum((1, 2)) / (masks | target).sum((1, 2)).clamp_min(1)
            if overlap.max() > 0.75:
                cosine = features[int(overlap.argmax())] @ embedded.T
                right.append(float(cosine[k]))
                wrong += [float(c) for c, name in zip(cosine, names) if name != names[k]]
    assert 12 <= np.mean(counts) <= 100
    assert 0.2 < np.mean(right) < 0.32 and 0.15 < np.mean(wrong) < 0.25 and np.mean(right) > np.mean(wrong) + 0.02


def test_the_same_seed_gives_the_same_scene(wild, tmp_path):
    options = dict(seed=5, objects=8, views=4, width=128, height=96, noise=WILD, progress=False)
    again = generate(tmp_path / "again", **options)
    for name in ("masks_sparse", "clip_features"):
        for path in sorted((wild / name).glob("*.pt")):
            one, other = (torch.load(p, weights_only=True) for p in (path, again / name / path.name))
            assert torch.equal(one.to_dense(), other.to_dense())


def test_absent_prompts_of_three_sorts():
    labels = ["red mug", "blue bowl", "table"]
    found = absent_prompts(labels, ALL_KINDS, 30, 0)
    assert len({t for t, _ in found}) == 30 and {s for _, s in found} == {"kind", "colour", "lookalike"}
    assert not {t for t, _ in found} & set(labels)
    assert all(t.split()[0] in COLOURS for t, _ in found)
    swapped = [t for t, s in found if s == "colour"]
    assert all(t.split(" ", 1)[1] in ("mug", "bowl") for t in swapped)
    more = absent_prompts(labels, ALL_KINDS, 300, 0)
    assert any(t.endswith(" sofa") for t, _ in more) and not any(
        t.endswith(" sofa") for t, _ in absent_prompts(labels, ALL_KINDS, 300, 0, {"sofa"})
    ), "what stands around is there"


def test_room():
    layout = furnish(60, 7)
    texts = list(layout.labels.values())
    assert len(texts) > 65 and sum(texts.count(t) == 2 for t in set(texts)) == 3
    assert len(layout.supports) >= 6 and len(layout.groups) == 2
    size = [np.ptp(p.outline(), axis=0).max() for p in layout.placed]
    assert max(size) / min(size) > 15, "things of very different size"
    poses = walk(30, 7)
    assert poses.shape == (30, 3, 4) and (np.abs(poses[:, :2, 3]) < 3).all()
    np.testing.assert_allclose(
        poses[:, :, :3] @ poses[:, :, :3].transpose(0, 2, 1), np.tile(np.eye(3), (30, 1, 1)), atol=1e-9
    )
    for bad in ({"objects": 5}, {"objects": 999}, {"views": 1}, {"seed": -1}):
        with pytest.raises(UserError, match="--"):
            room(**bad)


def test_things_in_a_room_do_not_interpenetrate_on_their_furniture():
    layout = furnish(40, 3)
    supports, discs = set(layout.supports), []
    for p in layout.placed:
        if p.id in supports or p.id < 13:
            continue
        low, high = p.outline().min(0), p.outline().max(0)
        discs.append((low, high))
    apart = [not ((a[0] < b[1] - 0.05) & (b[0] < a[1] - 0.05)).all() for i, a in enumerate(discs) for b in discs[:i]]
    assert np.mean(apart) > 0.97
