from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.perception.english import is_plural, singular
from ag2_ns.query.sentence.grammar import tokens_of
from ag2_ns.query.sentence.parse import MAX_WORDS, parse, parses
from ag2_ns.query.sentence.program import ALL


def brief(thing):
    """A description in one line: noun, attributes, relations, orders."""
    out = [thing.noun or "*"]
    if thing.number != 1:
        out.append("all" if thing.number == ALL else str(thing.number))
    out += [("!" if a.negated else "") + a.word for a in thing.attributes]
    for r in thing.relations:
        inner = ", ".join(brief(t) for t in r.things)
        out.append(f"{'!' if r.negated else ''}{r.name}{'~' if r.inverse else ''}({inner})")
    for o in thing.orders:
        what = f"{'soft ' if o.soft else ''}{o.measure}{'+' if o.largest else '-'}{o.rank}"
        out.append(what + (f"({', '.join(brief(t) for t in o.things)})" if o.things else ""))
    return " ".join(out)


CASES = {
    "the mug": "mug",
    "the red mug": "mug red",
    "a mug that is red": "mug red",
    "the mug which isn't red": "mug !red",
    "the non-red mug": "mug !red",
    "the red or blue mug": "mug red or blue",
    "the mug left of the red book": "mug left(book red)",
    "the mug to the left of the red book": "mug left(book red)",
    "the mug on the left": "mug soft left+1",
    "the leftmost mug": "mug left+1",
    "the mug furthest to the left": "mug left+1",
    "the second mug from the left": "mug left+2",
    "the mug that is third from the back": "mug behind+3",
    "the last mug from the right": "mug right+-1",
    "the tallest mug": "mug height+1",
    "the second largest mug": "mug size+2",
    "the smaller of the two mugs": "mug size-1",
    "the mug closest to the lamp": "mug distance-1(lamp)",
    "the closest mug to the lamp": "mug distance-1(lamp)",
    "whichever mug is farthest from the lamp": "mug distance+1(lamp)",
    "the nearest mug": "mug distance-1",
    "the two leftmost mugs": "mug 2 left+1",
    "all mugs": "mug all",
    "both mugs": "mug 2",
    "everything that is red": "* all red",
    "mugs next to the lamp": "mug all near(lamp)",
    "the mug on the book on the plate": "mug on(book on(plate))",
    "the mug between the book and the lamp": "mug between(book, lamp)",
    "the mug between two books": "mug between(book 2)",
    "the plate with an apple on it": "plate on~(apple)",
    "the plate with nothing on it": "plate !on~(*)",
    "the plate without an apple": "plate !has~(apple)",
    "the plate that the apple rests on": "plate on~(apple)",
    "the plate the apple is on": "plate on~(apple)",
    "the box with a book leaning against it": "box leaning~(book)",
    "the book propped up against the box": "book leaning(box)",
    "what is under the bowl?": "* under(bowl)",
    "Which book has nothing on it?": "book !on~(*)",
    "please show me the lamp": "lamp",
    "I'm looking for the piece of fruit on the dish": "fruit on(dish)",
    "something purple that isn't a duck": "* purple !is(duck)",
    "the stack of blocks": "block stack",
    "the mug bigger than the apple": "mug more size(apple)",
    "tower right of the turquoise one": "tower right(tower turquoise)",
    "of the two towers, the one further to the right": "tower right+1",
    "the red thing that's on the table and not a plate": "* red on(table) !is(plate)",
}


@pytest.mark.parametrize("text", CASES)
def test_sentences_become_programs(text):
    program = parse(text)
    assert len(program.targets) == 1
    assert brief(program.targets[0]) == CASES[text]


def test_several_targets_are_united():
    assert [brief(t) for t in parse("the red mug and the blue book").targets] == ["mug red", "book blue"]


def test_a_viewpoint_is_read_wherever_it_stands():
    for text in ("the mug behind the lamp as seen from the chair", "seen from the chair, the mug behind the lamp"):
        program = parse(text)
        assert program.viewpoint.noun == "chair" and brief(program.targets[0]) == "mug behind(lamp)"
    assert parse("the mug behind the lamp from here").viewpoint is None


def test_a_clause_at_the_end_may_belong_to_either_noun():
    low, high = parses("the apple near the house that is yellow")
    assert brief(low.targets[0]) == "apple near(house yellow)"
    assert brief(high.targets[0]) == "apple yellow near(house)"


def test_what_needs_a_view_is_known():
    assert parse("the mug left of the lamp").view_bound == "left of the lamp"
    assert parse("the mug on the book left of the lamp").view_bound
    assert parse("the second mug from the left").view_bound
    assert not parse("the mug next to the lamp").view_bound


def test_words_that_cannot_be_used_are_named():
    assert "whose" in parse("the mug whose handle points left").unused


@pytest.mark.parametrize("text", ["", "   ", " , ?", "mug " * (MAX_WORDS + 1)])
def test_empty_and_overlong_sentences_are_refused(text):
    with pytest.raises(UserError, match="sentence"):
        parse(text)


def test_200_words_are_refused_in_one_line():
    with pytest.raises(UserError) as error:
        parse("the mug on " * 70)
    assert "\n" not in str(error.value) and "210 words" in str(error.value)


def test_plurals_and_contractions():
    assert singular("snowmen") == "snowman" and singular("dishes") == "dish" and singular("glass") == "glass"
    assert is_plural("books") and not is_plural("bus")
    assert tokens_of("That's the left-most one, isn't it?") == [
        "that",
        "is",
        "the",
        "leftmost",
        "one",
        ",",
        "is",
        "not",
        "it",
    ]


WORDS = st.sampled_from(
    [
        "the",
        "a",
        "red",
        "mug",
        "book",
        "on",
        "left",
        "of",
        "with",
        "nothing",
        "it",
        "that",
        "is",
        "not",
        "between",
        "and",
        "second",
        "from",
        "tallest",
        "closest",
        "to",
        "all",
        "two",
        "one",
        "which",
        "has",
        "leaning",
        "against",
        ",",
        "'s",
        "in",
        "front",
        "behind",
        "except",
        "without",
        "of",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=18))
def test_no_sequence_of_words_breaks_the_parser(words):
    try:
        for program in parses(" ".join(words)):
            assert program.targets
    except UserError:
        pass


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text):
    with suppress(UserError):
        parses(text)


@pytest.mark.parametrize(
    "text, name, inverse, noun, inner",
    [
        ("the lamp closer to the camera than the green bottle", "front", False, "bottle", ()),
        ("all bowls nearer to the camera than the box", "front", False, "box", ()),
        ("the box that the vase on the book is on", "on", True, "vase", ("book",)),
        ("the tray the cup leaning on the pot rests on", "on", True, "cup", ("pot",)),
    ],
)
def test_relations_whose_words_lie_apart(text, name, inverse, noun, inner):
    program = parses(text)[0]
    (target,) = program.targets
    (relation,) = target.relations
    (thing,) = relation.things
    assert (relation.name, relation.inverse, thing.noun, program.unused) == (name, inverse, noun, ())
    assert tuple(t.noun for r in thing.relations for t in r.things) == inner


def test_a_bear_is_an_animal_and_what_plates_do():
    assert [parse(t).targets[0].noun for t in ("the bear", "bear", "two bears", "the grey bear on the rock")] == [
        "bear"
    ] * 4
    (relation,) = parse("the thing that the bear stands on").targets[0].relations
    assert (relation.name, relation.inverse, relation.things[0].noun) == ("on", True, "bear")
    (relation,) = parse("the plate that bears an apple").targets[0].relations
    assert relation.things[0].noun == "apple" and parse("the plate that bears an apple").targets[0].noun == "plate"
    assert parse("the rock under the bear").targets[0].relations[0].things[0].noun == "bear"
