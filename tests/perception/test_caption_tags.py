import builtins

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.perception.caption_tags import lemma, noun_tags, spacy_tags, tags_of
from ag2_ns.perception.nouns import DOMAINS, NOUNS


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("A red mug and two blue books on a wooden table, next to an alarm clock.", "mug book table alarm+clock"),
        ("parked cars, traffic lights and pedestrians crossing", "car traffic+light pedestrian"),
        ("The shiny astrolabe stands behind the potted plants.", "astrolabe potted+plant"),
        ("a brown bear statue in a park", "bear+statue statue park"),
        ("two men riding bikes down the road with buses", "man bicycle road bus"),
        ("a block tower and shelves of glasses", "block+tower shelf glasses"),
        ("an image of something blurry in the background", ""),
        ("красная кружка на столе", ""),
        ("", ""),
        ("mug", "mug"),
        ("the woman\u2019s handbag", "woman handbag"),
    ],
)
def test_nouns_of_captions(caption, tags):
    assert noun_tags(caption) == [t.replace("+", " ") for t in tags.split()]


def test_colours_are_kept_when_asked_for():
    assert noun_tags("a red mug and a green rubber duck", colours=True) == ["red mug", "green rubber duck"]


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("mugs", "mug"), ("shelves", "shelf"), ("bus", "bus"), ("buses", "bus"), ("scissors", "scissors"),
     ("people", "person"), ("glass", "glass"), ("cookies", "cookie"), ("fish", "fish")],
)  # fmt: skip
def test_lemma(plural, singular):
    assert lemma(plural) == singular


def test_tags_count_captions():
    assert tags_of(["a mug", "a mug and a plate", "plates"]) == [("mug", 2.0), ("plate", 2.0)]
    assert tags_of([]) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=80))
def test_any_text_gives_words_or_nothing(text):
    tags = noun_tags(text)
    assert len(set(tags)) == len(tags)
    assert all(tag == tag.strip().lower() and len(tag) > 2 for tag in tags)


def test_every_listed_noun_is_found_in_a_caption():
    lost = [n for n in NOUNS if n not in noun_tags(f"there is a {n} here") and not n.startswith(("open ", "top"))]
    assert len(lost) <= 40, lost


def test_the_list_is_long_and_has_no_repeats():
    assert len(NOUNS) >= 1500
    assert len(set(NOUNS)) == len(NOUNS)
    assert all(n == n.lower().strip() for n in NOUNS)
    assert len(DOMAINS) >= 15


def test_spacy_is_optional(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **further):
        if name == "spacy":
            raise ImportError(name)
        return real(name, *rest, **further)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install spacy"):
        spacy_tags()
