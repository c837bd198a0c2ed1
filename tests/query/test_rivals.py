"""Texts that compete with the one that is asked: which they are, and of what they are no rivals."""

import pytest
import torch
from torch.nn.functional import normalize

from ag2_ns.perception.nouns import NOUNS
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.query.config import QueryConfig
from ag2_ns.query.rivals import SHADES, against, instead, rivals_of, thing_of, within
from ag2_ns.query.text import for_parts, select_text


class Words:
    """Texts as sums of random vectors of their words; `closed` answers those only."""

    def __init__(self, closed=(), knows=None):
        self.asked = []
        if closed:
            self.known_texts = lambda: list(closed)
        if knows:
            self.knows = knows

    def encoder(self):
        return self

    def embed(self, text):
        words = [torch.randn(64, generator=torch.Generator().manual_seed(sum(map(ord, w)))) for w in text.split()]
        return normalize(sum(words), dim=0)

    def encode_text(self, texts):
        self.asked += texts
        return torch.stack([self.embed(t) for t in texts])

    def negatives(self):
        return self.encode_text(list(NEGATIVES))


@pytest.mark.parametrize(
    ("other", "text", "is_within"),
    [
        ("red mug", "red mug handle", True),
        ("green mug", "red mug handle", True),
        ("purple book", "stack of books", True),
        ("brown plate", "yellow bowl on the brown plate", True),
        ("mug", "red mug", True),
        ("red mug", "mug", False),
        ("red mug", "red cup", False),
        ("green mug", "red mug", False),
        ("red mug handle", "red mug", False),
        ("open book", "book", False),
    ],
)
def test_what_a_text_mentions_is_no_rival_of_it(other, text, is_within):
    assert within(other, text) == is_within


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("red mug handle", "red mug"),
        ("red mug", None),
        ("red pencil mug", None),
        ("red mugs", None),
        ("red mug on it", None),
    ],
)
def test_texts_of_parts(text, thing):
    assert thing_of(text, ["", "mug", "red mug"]) == thing


def test_a_part_is_asked_for_less_and_preferred(scene):
    between = normalize(scene.text[3] + scene.text[5], dim=0)
    config = QueryConfig(present=0.9, present_part=0.0)
    assert select_text(scene.index, "x", between, rivals=scene.text[1:], several=False, config=config).empty
    assert not select_text(
        scene.index, "x", between, rivals=scene.text[1:], several=False, config=for_parts(config)
    ).empty
    assert for_parts(config).part_handicap < 0 < for_parts(config).group_handicap


def test_other_nouns_and_colours():
    assert instead(["red", "mug"], ["cup"])[:2] == ["red cup", "orange mug"]
    assert instead(["mug"], ["cup"]) == [] == instead([], ["cup"])
    assert instead(["red", "mug", "on", "a", "shelf"], ["cup"])[0] == "red cup on a shelf"


def test_closed_lists(scene):
    known = [f"{c} {k}" for c in ("red", "green", "blue", "black", "white") for k in NOUNS[:30]]
    rows = rivals_of(Words([*known, *NEGATIVES]), known[0], scene.index)
    assert len(rows) == len(known) - 1
    groups = ["stack of mugs", "red mug on the plate"]
    assert len(rivals_of(Words([*known, *groups]), groups[0], scene.index)) == 1, "groups compete with groups only"
    assert len(rivals_of(Words([*known, *groups]), known[0], scene.index)) == len(known) - 1
    assert len(rivals_of(Words(known), groups[0], scene.index)) == 0
    part = f"{known[0]} handle"
    assert len(rivals_of(Words([*known, part]), known[0], scene.index)) == len(known) - 1, "nor with their parts"
    assert len(rivals_of(Words([*known, part]), known[1], scene.index)) == len(known)
    assert rivals_of(Words(known[:50]), known[0], scene.index) is None, "a short list says nothing of what is not there"
    assert rivals_of(Words(knows="colours"), "red", scene.index) is None


def test_nouns_stand_in_for_a_closed_list(scene):
    texts = Words()
    rows = rivals_of(texts, "red mug", scene.index)
    assert set(NOUNS) <= set(texts.asked) and "green mug" in texts.asked and len(rows) < 120
    texts.asked.clear()
    assert len(rivals_of(texts, "blue mug", scene.index)) and len(texts.asked) < 130, "nouns are embedded once"
    assert rivals_of(texts, "red mug", scene.index, QueryConfig(nouns=False)) is None


def test_nodes_are_called_something_by_themselves(scene):
    """What the nodes in question would be called competes, though it shares no word with what is asked."""
    texts = Words()
    rows = rivals_of(texts, "red mug", scene.index)
    others = [t for t in texts.asked if t.split()[0] in SHADES and not {"red", "mug"} & set(t.split())]
    assert len(others) > 10 and len(rows) < 300


def test_a_text_that_rivals_outdo_selects_nothing(scene):
    between = normalize(scene.text[3] + scene.text[5], dim=0)
    assert not select_text(scene.index, "x", between, several=False).empty
    found = select_text(scene.index, "x", between, rivals=scene.text[1:], several=False)
    assert found.empty and "rather than something else" in found.reason


def test_synonyms_are_no_rivals():
    text = normalize(torch.randn(8), dim=0)
    rows = torch.stack([text, -text])
    assert torch.equal(against(text, None, rows), -text[None]) and against(text, None, None) is None
    assert len(against(text, rows[:1], rows)) == 2
