import pytest

from ag2_ns.perception.english import forms, with_article


@pytest.mark.parametrize(
    ("text", "among"),
    [
        ("Green  Book!", "green book"), ("the green books", "green book"), ("all cookies", "cookie"),
        ("cherries", "cherry"), ("two boxes", "box"), ("some wine glasses", "wine glass"), ("knives", "knife"),
        ("piles of books", "pile of books"),
    ],
)  # fmt: skip
def test_forms_without_articles_and_plurals(text, among):
    assert among in forms(text)


@pytest.mark.parametrize("text", ["dress", "bus", "the", "", "cactus", "tennis"])
def test_what_only_looks_like_a_plural_has_one_form(text):
    assert forms(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mug", "a mug"), ("apple", "an apple"), ("an apple", "an apple"), ("The mug", "The mug"),
        ("things", "things"), ("stuff", "stuff"), ("scissors", "scissors"), ("pile of books", "a pile of books"),
        ("books on a table", "books on a table"), ("unicorn", "a unicorn"), ("uneven stone", "an uneven stone"),
        ("hourglass", "an hourglass"), ("used car", "a used car"), ("one-eyed doll", "a one-eyed doll"), ("", ""),
        ("all mugs", "all mugs"), ("two mugs", "two mugs"), ("bus", "a bus"),
    ],
)  # fmt: skip
def test_articles(text, expected):
    assert with_article(text) == expected
