import json

import pytest
import torch

from ag2_ns.core.errors import DamagedFile, UserError
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.language.vocabulary import Vocabulary, VocabularyConfig, find_vocabulary

SHELF, BOOK, CUP, PLANT = range(4)
WORDS = ["shelf", "book", "cup", "mug", "plant", "zebra"]


def tree():
    """A shelf (object) with a book as a part; a cup; a plant."""
    parent, last = torch.tensor([-1, SHELF, -1, -1]), torch.tensor([BOOK, BOOK, CUP, PLANT])
    level, size = torch.tensor([0.3, 0.0, 0.0, 0.0]), torch.tensor([2, 1, 1, 1])
    node = torch.tensor([SHELF, BOOK, CUP, PLANT])
    return InstanceTree(parent, last, level, size, size.float(), node, torch.ones(4, dtype=torch.bool))


def language(rows, trust=0.9):
    rows = torch.nn.functional.normalize(torch.tensor(rows), dim=1)
    full = torch.full((len(rows),), 0.9)
    return NodeLanguage(rows.half(), 5 * full, full, torch.full((len(rows),), trust))


def scene():
    vectors = torch.eye(6)
    vectors[3] = torch.nn.functional.normalize(torch.tensor([0, 0, 1.0, 0.2, 0, 0]), dim=0)  # mug is nearly cup
    rows = [[1.0, 0.15, 0, 0, 0, 0.1], [0.15, 1, 0, 0, 0, 0.1], [0, 0, 1, 0.1, 0, 0.1], [0, 0, 0, 0, 1, 0.1]]
    return tree(), language(rows), vectors


def found(tags, **further):
    t, lang, vectors = scene()
    return find_vocabulary(t, lang, tags, WORDS, vectors, **further)


EVERY = [[("shelf", 1.0), ("book", 1.0), ("cup", 1.0), ("plant", 1.0)]] * 6


def test_objects_and_parts_have_words_of_their_own():
    v = found([*EVERY, [("mug", 1.0), ("zebra", 1.0)]])
    own = {n.node: n.word for n in v.names}
    assert own == {SHELF: "shelf", BOOK: "book", CUP: "cup", PLANT: "plant"}
    assert v.synonyms == {"cup": ("mug",)}
    assert "zebra" in v.dropped
    assert v.nodes_of("the Books") == (BOOK,) and v.nodes_of("mug") == (CUP,) and v.nodes_of("zebra") == ()
    assert next(n for n in v.names if n.node == CUP).views == 7


def test_parts_without_a_word_inherit():
    t, lang, vectors = scene()
    same = NodeLanguage(lang.feature[[0, 0, 2, 3]], lang.support, lang.quality, lang.trust)
    v = find_vocabulary(t, same, EVERY, WORDS, vectors)
    assert v.name_of(BOOK) == "shelf"
    assert [n.node for n in v.names if n.word == "shelf"] == [SHELF]


def test_what_no_view_says_of_a_node_names_it_not():
    shown = torch.zeros(4, 6)
    shown[:, :3] = 0.1  # views 3 to 5 show nothing of it all
    tags = [[("shelf", 1.0)]] * 3 + [[("cup", 1.0)]] * 3
    assert CUP not in {n.node for n in found(tags, shown=shown).names}


def test_untrusted_nodes_take_no_word():
    t, lang, vectors = scene()
    trust = lang.trust.clone()
    trust[CUP] = 0.4  # as a floor beside the things on the table, which are trusted with 0.9
    v = find_vocabulary(t, NodeLanguage(lang.feature, lang.support, lang.quality, trust), EVERY, WORDS, vectors)
    assert v.name_of(CUP) is None and v.name_of(PLANT) == "plant"
    alike = NodeLanguage(lang.feature, lang.support, lang.quality, 0.4 * lang.trust)  # of few pictures
    assert find_vocabulary(t, alike, EVERY, WORDS, vectors).name_of(CUP) == "cup"


def test_an_encoder_may_say_from_which_cosine_it_is_sure():
    t, lang, vectors = scene()
    feature = lang.feature.clone()
    feature[PLANT] = torch.nn.functional.normalize(torch.tensor([0, 0, 0, 0.5, 1.0, 1.0]), dim=0).half()
    mixed = NodeLanguage(feature, lang.support, lang.quality, lang.trust)
    config = VocabularyConfig(least_cosine=0.8)
    assert find_vocabulary(t, mixed, EVERY, WORDS, vectors).name_of(PLANT) == "plant"
    v = find_vocabulary(t, mixed, EVERY, WORDS, vectors, config=config)
    assert v.name_of(PLANT) is None and v.name_of(CUP) == "cup"


def test_what_takes_after_a_thing_is_not_called_by_its_word():
    t, lang, vectors = scene()
    feature = lang.feature.clone()  # the plant's is partly the cup's
    feature[PLANT] = torch.nn.functional.normalize(torch.tensor([0, 0, 0.7, 0, 0.5, 0.5]), dim=0).half()
    mixed = NodeLanguage(feature, lang.support, lang.quality, lang.trust)
    assert find_vocabulary(t, mixed, EVERY, WORDS, vectors).name_of(PLANT) == "cup"
    v = find_vocabulary(t, mixed, EVERY, WORDS, vectors, config=VocabularyConfig(least_cosine=0.4))
    assert v.name_of(PLANT) is None and v.name_of(CUP) == "cup"


def test_views_that_do_not_show_a_node_do_not_count_against_it():
    shown = torch.full((4, 6), 0.1)
    shown[PLANT, 1:] = 0.0
    tags = [[("plant", 1.0), ("cup", 1.0)], *[[("cup", 1.0)]] * 5]
    name = next(n for n in found(tags, shown=shown).names if n.node == PLANT)
    assert (name.word, name.views, name.seen) == ("plant", 1, 1)


def test_nothing_said_names_nothing():
    for tags in ([], [[]], [[("unheard", 1.0)]]):
        t, lang, vectors = scene()
        v = find_vocabulary(t, lang, tags, [], vectors[:0])
        assert v.words == () and v.names == () and v.node_word.tolist() == [-1] * 4
    assert v.dropped == {"unheard": "unknown to the encoder"}


def test_vectors_of_another_encoder_are_refused():
    t, lang, _ = scene()
    with pytest.raises(UserError, match="with the encoder that prepared it"):
        find_vocabulary(t, lang, EVERY, WORDS, torch.eye(6)[:, :4])


def test_json_and_back():
    v = found(EVERY)
    again = Vocabulary.from_json(v.to_json(), v.vectors)
    assert again.words == v.words and again.names == v.names and torch.equal(again.node_word, v.node_word)
    broken = json.loads(v.to_json()) | {"format": 99}
    with pytest.raises(DamagedFile, match="ag2 name"):
        Vocabulary.from_json(json.dumps(broken))


def test_a_strict_threshold_drops_every_word():
    assert found(EVERY, config=VocabularyConfig(clear=0.9999)).words == ()


def test_no_object_inherits_from_scraps_around_it():
    # A group with a scrap of its own, which makes it an object, too; it holds the cup and an object without a word.
    parent, last = torch.tensor([-1, 0, 0]), torch.tensor([2, 1, 2])
    level, size, node = torch.tensor([0.9, 0.0, 0.0]), torch.tensor([3, 1, 1]), torch.tensor([0, 1, 2])
    t = InstanceTree(parent, last, level, size, size.float(), node, torch.ones(3, dtype=torch.bool))
    assert t.instances(0.5).tolist() == [0, 1, 2]
    _, _, vectors = scene()
    lang = language([[1.0, 0, 0, 0, 0, 0.1], [0, 0, 1, 0.1, 0, 0.1], [0.1, 0.1, 0, 0, 0, 1]])
    v = find_vocabulary(t, lang, [[("shelf", 1.0), ("cup", 1.0)]] * 6, WORDS[:3], vectors[:3])
    assert [v.name_of(n) for n in range(3)] == ["shelf", "cup", None]
