import json

import numpy as np
import pytest
from PIL import Image

from ag2_ns.io.referring import read_amodal, read_sentences
from ag2_ns.synthetic.room.layout import furnish, walk
from ag2_ns.synthetic.tabletop.layout import lay, orbit
from ag2_ns.synthetic.tabletop.programs import Clause, Description, Pick, answer, fits
from ag2_ns.synthetic.tabletop.sentences import KIND_NAMES, make_sentences
from ag2_ns.synthetic.tabletop.truth import YES, Truth


@pytest.fixture(scope="module")
def laid():
    layout = lay(14, 3)
    return layout, orbit(40, layout.table_half, 3)


@pytest.fixture(scope="module")
def made(laid):
    return make_sentences(*laid, 3)


def test_every_kind_is_there_once_and_again(made):
    kinds = {e.kind for e in made}
    assert kinds == set(KIND_NAMES)
    assert len({e.text for e in made}) == len(made)
    absent = sum(e.kind == "absent" for e in made) / len(made)
    assert 0.1 < absent < 0.2
    assert {e.split for e in made} == {"train", "test"}
    assert all((e.split == "test") == bool(e.held_out) for e in made)
    assert {h for e in made for h in e.held_out} >= {"wording", "pair", "synonym"}


def test_the_same_arguments_give_the_same_sentences(laid, made):
    assert make_sentences(*laid, 3) == made
    assert make_sentences(*laid, 4) != made


def test_wanted_ids_match_their_kind(laid, made):
    layout = laid[0]
    for e in made:
        assert (e.kind == "absent") == (not e.wanted)
        assert (len(e.wanted) > 1) == (e.kind == "set")
        assert (e.view is not None) == (any(r in ("left", "right", "front", "behind") for r in e.relations)), e.text
        assert all(layout.labels[i] != "table" for i in e.wanted)


def test_supports_are_those_that_were_built(laid):
    truth = Truth.of(laid[0])
    assert (truth.on.sum(1)[:-1] == 1).all() and not truth.on[truth.table].any()
    leaning = truth.leaning.sum()
    assert leaning == sum(truth.tilted) >= 1
    carried = np.argwhere(truth.on[:, : truth.table])
    assert all(truth.position[i, 2] > truth.position[j, 2] for i, j in carried)


def test_predicates_have_an_open_middle(laid):
    truth, pose = Truth.of(laid[0]), laid[1][0]
    for matrix in (truth.next_to, truth.view_bound(pose, "left"), truth.view_bound(pose, "front")):
        inner = matrix[:-1, :-1]
        assert {0.0, 1.0} <= set(inner[~np.isnan(inner)]) and np.isnan(inner).any()
    left, right = truth.view_bound(pose, "left"), truth.view_bound(pose, "right")
    assert np.array_equal(left == 1, (right == 1).T)


def test_descriptions_are_judged(laid):
    truth = Truth.of(laid[0])
    for k in range(len(truth) - 1):
        own = Description(kind=truth.kinds[k], colour=truth.colours[k])
        assert answer(truth, own) == (k,)
        assert fits(truth, Description(not_colour=truth.colours[k]))[k] == 0
    everything = Description()
    assert len(answer(truth, everything)) == len(truth) - 1
    empty = answer(truth, Description(clauses=(Clause("empty"),)))
    assert all(not truth.on[:, k].any() for k in empty)
    tallest = answer(truth, Description(pick=Pick("height")))
    assert tallest is None or truth.high[tallest[0], 2] - truth.low[tallest[0], 2] > 0.3


def test_amodal_masks_hold_what_is_visible(tabletop_tiny):
    for path in sorted((tabletop_tiny / "ground_truth" / "ids").glob("*.png")):
        ids = np.asarray(Image.open(path))
        amodal = read_amodal(tabletop_tiny / "sentences" / "amodal" / f"{path.stem}.npz")
        assert set(amodal) == {1, 2, 3, 4, 5}
        for i, mask in amodal.items():
            assert mask.shape == ids.shape
            assert not ((ids == i) & ~mask).any()
        assert sum(m.sum() for m in amodal.values()) > (ids > 0).sum()


def test_the_scene_comes_with_sentences(tabletop_tiny):
    read = read_sentences(tabletop_tiny / "sentences")
    labels = json.loads((tabletop_tiny / "ground_truth" / "labels.json").read_text())
    assert len(read) > 8
    for sentence in read:
        assert all(str(i) in labels for i in sentence.wanted)
        assert sentence.view is None or sentence.view.startswith("frame_")


def test_furniture_holds_what_stands_in_it():
    layout = furnish(40, 3)
    truth = Truth.of(layout)
    desks = [i for i, kind in enumerate(truth.kinds) if kind in ("desk", "shelf", "cupboard", "table")]
    held = (truth.on[:, desks] == YES).sum(0)
    assert held.sum() > 10
    made = make_sentences(layout, walk(20, 3), 3)
    assert any(e.kind == "relation" for e in made)
    empty = [e for e in made if any(c["name"] == "empty" for c in e.program.get("clauses", ()))]
    for expression in empty:  # nothing that carries something is called empty
        assert not (truth.carried[:, [truth.ids.index(i) for i in expression.wanted]] == YES).any()


@pytest.mark.parametrize("seed", [3, 4])
def test_twins_of_a_wild_table_top_are_told_apart_by_where_they_are(seed):
    layout = lay(14, seed, wild=True)
    made = make_sentences(layout, orbit(20, layout.table_half, seed), seed)
    assert {e.kind for e in made} >= {"attribute", "view", "negation", "set", "absent"}
    twins = {i for i, t in layout.labels.items() if list(layout.labels.values()).count(t) > 1}
    kinds = Truth.of(layout).kinds
    for e in made:
        if "cup" in kinds and e.program.get("kind") == "mug":
            assert not e.text.startswith("the cup ")  # no other word for mugs where there are cups
        if e.kind == "attribute":
            assert not twins & set(e.wanted)  # "the green apple" is contestable where there are two
