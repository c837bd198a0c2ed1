import numpy as np
import pytest
from box_facts import THINGS, box_facts, camera, named, tabletop

from ag2_ns.query.sentence.parse import parses
from ag2_ns.query.sentence.solve import NeedsView, solve
from ag2_ns.scene.geometry import Seen


@pytest.fixture(scope="module")
def scene():
    return tabletop()


def ask(scene, text, seen=True):
    facts, words, view = scene
    return solve(parses(text), facts, words, Seen.by(facts, view) if seen else None)


def names(solution):
    return sorted(THINGS[i][3] for i in solution.things)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("the red mug", ["red mug"]),
        ("the mug that is not red", ["green mug"]),
        ("the mug on a book", ["green mug"]),
        ("the mug on the table", ["red mug"]),
        ("the book under the mug", ["red book"]),
        ("the book with a mug on it", ["red book"]),
        ("the book with nothing on it", ["blue book"]),
        ("the book without a mug", ["blue book"]),
        ("the mug left of the blue book", ["red mug"]),
        ("the mug right of the red book", ["red mug"]),
        ("the book to the right of the red mug", ["blue book"]),
        ("the lamp behind the red mug", ["white lamp"]),
        ("the fruit in front of the blue book", ["yellow apple"]),
        ("the leftmost book", ["red book"]),
        ("the second book from the left", ["blue book"]),
        ("the tallest thing", ["white lamp"]),
        ("the smallest thing on the table", ["yellow apple"]),
        ("the mug closest to the apple", ["red mug"]),
        ("the book farthest from the apple", ["red book"]),
        ("the thing between the red book and the blue book", ["red mug"]),
        ("all books", ["blue book", "red book"]),
        ("everything red", ["red book", "red mug"]),
        ("red things that aren't books", ["red mug"]),
        ("the red mug and the lamp", ["red mug", "white lamp"]),
        ("the cup on the volume that is left of the lamp", ["green mug"]),
        ("the mug on the book left of the red mug", ["green mug"]),
        ("the lamp bigger than the apple", ["white lamp"]),
        ("what does the green mug stand on?", ["red book"]),
    ],
)
def test_sentences_find_what_they_mean(scene, text, wanted):
    assert names(ask(scene, text)) == wanted


@pytest.mark.parametrize(
    "text, clause",
    [
        ("the yellow mug", "yellow"),
        ("the sofa", "sofa"),
        ("the mug on the blue book", "blue book"),
        ("the lamp left of the red book", "left of"),
        ("the third book from the left", "third"),
        ("the red blue book", ""),
    ],
)
def test_what_is_not_there_is_not_answered(scene, text, clause):
    solution = ask(scene, text)
    assert solution.things == () and solution.score == 0
    assert clause in solution.reason


def test_the_answer_says_why_and_what_came_second(scene):
    solution = ask(scene, "the mug left of the blue book")
    assert "red mug" in solution.reason and "left of the blue book" in solution.reason
    assert "runner-up: green mug" in solution.reason
    assert THINGS[solution.runner_up][3] == "green mug"
    assert 0.5 < solution.score <= 1


def test_left_and_right_swap_from_the_other_side(scene):
    facts, words, _ = scene
    behind = Seen.by(facts, camera(eye=(0, 5, 2)))
    for text, wanted in (("the leftmost book", "blue book"), ("the lamp in front of the red mug", "white lamp")):
        assert [THINGS[i][3] for i in solve(parses(text), facts, words, behind).things] == [wanted]


def test_a_viewpoint_in_the_scene_replaces_the_camera(scene):
    assert names(ask(scene, "the leftmost book as seen from the lamp", seen=False)) == ["blue book"]


def test_left_without_a_viewer_asks_for_one(scene):
    with pytest.raises(NeedsView, match="--seen-from"):
        ask(scene, "the mug left of the red book", seen=False)


def test_a_foreign_sentence_is_not_guessed(scene):
    solution = ask(scene, "der blaue Becher neben dem Buch")
    assert not solution.things and solution.reason


def test_a_contradiction_names_a_clause(scene):
    assert not ask(scene, "the red mug that is not red").things


def test_without_names_colours_and_places_still_work(scene):
    facts, words, view = scene
    blind = type(words)(facts.colours)
    solution = solve(parses("the red thing left of the blue thing"), facts, blind, Seen.by(facts, view))
    assert names(solution) in (["red mug"], ["red book"])
    solution = solve(parses("the green mug"), facts, blind)
    assert names(solution) == ["green mug"] and "mug" in solution.unused
    assert not solve(parses("the mug"), facts, blind).things


def test_numbers_beyond_what_is_there_are_said(scene):
    solution = ask(scene, "three mugs")
    assert len(solution.things) == 2 and "only 2 of the 3" in solution.reason


def test_an_empty_scene_has_no_answer():
    facts = box_facts([])
    assert solve(parses("the mug"), facts, named(facts, [])).reason == "the scene has no instances"


def test_scores_are_between_0_and_1(scene):
    for text in ("the mug", "books left of the lamp", "the smallest red thing"):
        scores = ask(scene, text).scores
        assert np.all((scores >= 0) & (scores <= 1))
