import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.language.lexicon import is_kind_of, knows, same_thing
from ag2_ns.language.word_meaning import WordEncoder, match, minilm, minilm_folder

KNOWN = [
    "mug",
    "book",
    "open book",
    "sofa",
    "alarm clock",
    "rubber duck",
    "gift box",
    "apple",
    "flowerpot",
    "pencil cup",
]


@pytest.mark.parametrize(
    "word, best",
    [
        ("mug", "mug"), ("couch", "sofa"), ("clock", "alarm clock"), ("timepiece", "alarm clock"),
        ("duck", "rubber duck"),
        ("present", "gift box"), ("fruit", "apple"), ("coffee cup", "mug"), ("potted plant", "flowerpot"),
        ("shiny mug", "mug"), ("pencil holder", "pencil cup"), ("flower pot", "flowerpot"),
    ],
)  # fmt: skip
def test_other_words_find_the_thing(word, best):
    found = match(word, KNOWN)
    assert KNOWN[int(found.score.argmax())] == best and found.score.max() > 0.7
    assert found.how == ("same" if word.replace(" ", "") == best else "meaning")


@pytest.mark.parametrize("word", ["teapot", "banana", "car", "keyboard", "blorp"])
def test_other_things_find_nothing(word):
    found = match(word, KNOWN)
    assert found.how == "" and not found.score.any()


def test_the_same_word_goes_before_what_only_fits():
    score = match("book", KNOWN).score
    assert score[1] == 1 and 0 < score[2] < 0.5
    assert match("book", ["open book", "mug"]).score[0] > 0.8
    cup, mug = match("cup", ["cup", "mug"]).score
    assert cup == 1 and 0.25 < mug < 0.5 and match("cup", ["book", "mug"]).score[1] > 0.9


def test_modifiers_that_made_no_difference_are_named():
    assert match("burning candle", ["candle"]).ignored == ("burning",)


def test_the_thesaurus():
    assert same_thing("couch", "sofa") and not same_thing("apple", "pear")
    assert is_kind_of("apple", "fruit") and not is_kind_of("mug", "fruit")
    assert knows("settee") and not knows("blorp")


def test_an_encoder_is_asked_only_for_words_that_the_thesaurus_does_not_know():
    asked = []

    def encode(texts):
        asked.append(texts)
        near = {"a gizmo": [1.0, 0.1], "a mug": [1.0, 0.0], "a book": [0.0, 1.0]}
        return torch.nn.functional.normalize(torch.tensor([near[t] for t in texts]), dim=1)

    assert match("kettle", ["mug", "book"], encode).how == "" and not asked
    found = match("gizmo", ["mug", "book"], encode)
    assert found.how == "nearest" and found.score[0] > 0.5 and found.score[1] == 0


def test_near_and_clear_are_both_needed():
    def both(texts):
        return torch.nn.functional.normalize(torch.tensor([[1.0, 1.0]] * len(texts)), dim=1)

    assert match("gizmo", ["mug", "book"], both).how == ""


def test_nothing_known_matches_nothing():
    assert match("mug", []).score.shape == (0,)
    assert not match("", KNOWN).score.any()


def test_a_folder_without_a_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match=str(tmp_path)):
        WordEncoder(tmp_path)


def test_minilm_knows_what_sofas_are():
    if minilm_folder() is None:
        pytest.skip("the extra `words` is not installed")
    encode = minilm()
    sofa, couch, mug = encode(["a sofa", "a couch", "a mug"]).double().numpy()
    assert sofa @ couch > 0.8 > 0.4 > sofa @ mug
    assert np.allclose(np.linalg.norm(sofa), 1, atol=1e-5)
    encoder = WordEncoder(minilm_folder())
    words = encoder.tokens(["the red mug"])[0]
    assert words.shape == (3, 384)
    states, mask = encoder.padded(["the red mug", "a"])
    assert states.shape[:2] == mask.shape and mask.sum(1).tolist() == [5, 3]
