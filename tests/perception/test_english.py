import subprocess
import sys

import inflect
import pytest

from ag2_ns.perception.english import PLURAL_ENDINGS, forms, with_article


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


IRREGULAR = (
    "men women children oxen people feet teeth geese mice lice criteria data "
    "snowmen policewomen dormice wolves cities buses"
)


@pytest.mark.parametrize("noun", IRREGULAR.split())
def test_plurals_end_like_plurals(noun):
    assert inflect.engine().singular_noun(noun) not in (False, noun) and noun.endswith(PLURAL_ENDINGS)


def test_a_text_in_the_singular_is_asked_without_a_second_of_importing():
    code = "import sys; from ag2_ns.perception.english import asks_for_several, forms; "
    code += "print(asks_for_several('the green book'), forms('a duck on the book'), 'inflect' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.strip() == "False ['a duck on the book', 'duck on the book'] False"
