import numpy as np
import pytest
import torch
from box_facts import tabletop

from ag2_ns.perception.palette import BASIC, basic_shares, colour_likeness, colour_terms, is_colour_name
from ag2_ns.query.sentence.meaning import SceneWords, closed_words, name_fit, open_fit
from ag2_ns.query.sentence.parse import parses
from ag2_ns.query.sentence.solve import solve


def rows(*colours):
    return np.array([[float(b == c) for b in BASIC] for c in colours])


def test_names_fit_by_how_far_they_lead():
    g = torch.Generator().manual_seed(0)
    names = torch.nn.functional.normalize(torch.randn(6, 32, generator=g), dim=1)
    shared = torch.nn.functional.normalize(torch.randn(32, generator=g), dim=0)
    things = torch.nn.functional.normalize(3 * shared + names[:4] + 0.05 * torch.randn(4, 32, generator=g), dim=1)
    nothing = torch.nn.functional.normalize(3 * shared + 0.05 * torch.randn(1, 32, generator=g), dim=1)
    fit = name_fit(torch.cat([things, nothing, torch.zeros(1, 32)]), names)
    assert (fit[:4].argmax(1) == np.arange(4)).all() and (fit[:4].max(1) > 0.9).all()
    assert fit[4].max() < 0.3 and fit[5].max() == 0
    assert name_fit(torch.zeros(0, 4), torch.zeros(2, 4)).shape == (0, 2)


def test_nouns_and_colours_are_looked_up_among_names():
    words = SceneWords(rows("red", "blue", "blue"), ("red mug", "blue mug", "turquoise book"), np.eye(3))
    assert words.noun("mug").score.tolist() == [1, 1, 0]
    assert (
        words.noun("cup").score.tolist() == pytest.approx([0.97, 0.97, 0])
        and "taken for 'mug'" in words.noun("cup").note
    )
    assert words.noun("sofa").missing and not words.noun("sofa").score.any()
    assert words.attribute("red").score.tolist() == [1, 0, 0]
    assert words.attribute("blue").score.argmax() == 1 and words.attribute("blue").score[2] < 0.5
    assert words.attribute("wooden").score is None
    assert words.called(2) == "turquoise book"


def test_without_names_colours_are_as_drawn():
    words = SceneWords(rows("red", "blue"))
    assert words.attribute("red").score.tolist() == [1, 0] and words.noun("mug").score is None
    assert words.called(1) == "blue thing" and not words.knows_things


def test_closed_words_ask_the_encoder():
    feature = torch.eye(3)
    words = closed_words(
        ["red mug", "blue book"], torch.eye(3)[:2], feature, torch.ones(3), rows("red", "blue", "white")
    )
    assert words.fit.shape == (3, 2) and words.kinds == ["mug", "book"]


def test_what_is_drawn_decides_between_colours_of_one_kind():
    names = ["red mug", "blue mug", "green book", "table"]
    meant = torch.eye(5)[:4]
    meant[:2] += 0.8 * torch.eye(5)[4]  # both are mugs
    feature = torch.stack((meant[0] + 1.05 * meant[1], meant[2], meant[3], meant[1]))  # blue by a hair
    drawn = closed_words(names, meant, feature, torch.ones(4), rows("red", "green", "brown", "blue"))
    assert [drawn.called(i) for i in range(4)] == ["red mug", "green book", "table", "blue mug"]
    wrong = closed_words(names, meant, feature, torch.ones(4), rows("red", "red", "red", "red"))
    assert [wrong.called(i) for i in range(1, 4)] == ["green book", "table", "blue mug"]  # a clear name stays


def test_an_open_encoder_answers_any_noun():
    facts, _, _ = tabletop()
    place = {"mug": [3, 4], "cup": [3, 4], "gizmo": None}

    def open_text(text):
        if place.get(text, []) is None:
            return None
        return np.isin(np.arange(len(facts)), place.get(text, [])).astype(float)

    words = SceneWords(facts.colours, open_text=open_text)
    assert solve(parses("the red cup"), facts, words).things == (4,)
    assert solve(parses("the cup on the red thing"), facts, words).things == (3,)
    unknown = solve(parses("the red gizmo on the table"), facts, words)
    assert "gizmo" in unknown.unused


def test_open_fit_needs_something_that_fits():
    feature = torch.nn.functional.normalize(torch.eye(4) + 0.2, dim=1)
    negatives = torch.nn.functional.normalize(torch.ones(1, 4), dim=1)
    found = open_fit(feature, torch.ones(4), torch.tensor([1.0, 0, 0, 0]), negatives)
    assert found.argmax() == 0 and found[0] > 0.9 and found[1:].max() < 0.3
    away = open_fit(feature, torch.ones(4), -torch.ones(4), negatives)
    assert away.max() < 0.1
    assert not open_fit(feature, torch.zeros(4), torch.ones(4), None).any()


def test_colour_words():
    assert is_colour_name("red") and is_colour_name("teal") and not is_colour_name("banana")
    assert colour_likeness("gray", "grey") == 1 and colour_likeness("red", "blue") == 0
    assert 0.3 < colour_likeness("crimson", "red") <= 1 and colour_likeness("navy", "blue") > 0.5
    assert colour_terms("red").argmax() == BASIC.index("red") and colour_terms("dark")[BASIC.index("black")] == 1
    shares = basic_shares(np.array([[250, 10, 10], [10, 10, 240], [128, 128, 128]], np.uint8))
    assert shares.argmax(1).tolist() == [BASIC.index(c) for c in ("red", "blue", "grey")]
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
