import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.language.relevancy import relevancy, trusted_relevancy
from ag2_ns.perception.english import asks_for_several
from ag2_ns.query.config import DEFAULTS, QueryConfig
from ag2_ns.query.text import evidence, for_parts, part_of_thing, select_text
from ag2_ns.scene.scene_index import SceneIndex


def test_every_object_answers_to_its_name(scene):
    for k in range(1, 8):
        selection = select_text(scene.index, f"thing {k}", scene.text[k], several=False)
        assert selection.nodes == (scene.nodes[k],) and scene.iou(selection, k) > 0.6
        assert 0 < selection.score <= 1 and selection.label == f"thing {k}"
        assert torch.equal(selection.gaussian_mask, selection.anchor_mask[scene.index.gaussian_anchor])
        assert selection.anchor_score[selection.anchor_mask].min() >= selection.anchor_score.max() - 1e-6


def test_with_negatives(scene):
    negatives = torch.nn.functional.normalize(scene.text.mean(0) + 0.1 * torch.randn(4, 64), dim=1)
    for k in range(1, 8):
        assert select_text(scene.index, "x", scene.text[k], negatives, several=False).nodes == (scene.nodes[k],)


def test_several_instances(scene):
    # A text between two of the objects names both, and nothing else.
    pair = torch.nn.functional.normalize(scene.text[3] + scene.text[5], dim=0)
    both = select_text(scene.index, "small things", pair)
    assert set(both.nodes) == {scene.nodes[3], scene.nodes[5]}
    assert len(select_text(scene.index, "small thing", pair).nodes) == 1
    assert len(select_text(scene.index, "small things", pair, several=False).nodes) == 1


def test_levels_limit_the_nodes(scene):
    tree = scene.index.tree
    for level in (0.0, 0.5, 1.0):
        chosen = select_text(scene.index, "x", scene.text[4], level=level)
        assert int(tree.top(level)[chosen.nodes[0]]) == chosen.nodes[0] and chosen.level == level
    with pytest.raises(UserError, match="level 2"):
        select_text(scene.index, "x", scene.text[4], level=2)


def test_unknown_words_and_missing_language(scene):
    unknown = select_text(scene.index, "qwzx", torch.zeros(64))
    assert unknown.empty and "no word of 'qwzx'" in unknown.reason
    with pytest.raises(UserError, match="embedding has 7 numbers but the scene's features have 64"):
        select_text(scene.index, "x", torch.ones(7))
    index = scene.index
    n = index.tree.num_nodes
    mute = NodeLanguage(torch.zeros(n, 0, dtype=torch.half), torch.zeros(n), torch.zeros(n), torch.zeros(n))
    silent = select_text(
        type(index)(index.gaussian_anchor, index.anchor_xyz, index.edges, index.tree, mute), "x", torch.ones(3)
    )
    assert silent.empty and "no language" in silent.reason


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("red mugs", True), ("red mug", False), ("all red mugs", True), ("the glass", False), ("cactus", False),
        ("books on the table", True), ("pile of books", False), ("people", True), ("bus", False), ("", False),
        ("chess board", False), ("knives", True), ("the dog's bed", False), ("rubber ducks!", True),
        ("scissors", False), ("the blue sunglasses", False),
    ],
)  # fmt: skip
def test_plurals(text, several):
    assert asks_for_several(text) is several


def test_relevancy_is_the_worst_pair():
    feature = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    text, negatives = feature[0], torch.stack([feature[1], feature[2]])
    value = relevancy(feature, 3 * text, negatives)
    for n in range(6):
        cos = feature[n] @ torch.stack([text, *negatives]).T
        pairs = [torch.softmax(10 * torch.stack([cos[0], c]), 0)[0] for c in cos[1:]]
        assert value[n] == pytest.approx(float(min(pairs)), abs=1e-5)


def test_little_evidence_is_drawn_to_the_typical():
    feature = torch.eye(5, 8).half()
    text = torch.zeros(8)
    text[0], text[1] = 1.0, 0.9
    ones = torch.ones(5)
    language = NodeLanguage(feature, 10 * ones, ones, torch.tensor([0.1, 0.9, 0.9, 0.9, 0.9]))
    value, typical = trusted_relevancy(language, text, None)
    assert int(value.argmax()) == 1, "a fragment that fits slightly better does not beat the object"
    assert typical == pytest.approx(0.5) and value[2:].tolist() == pytest.approx([0.5] * 3)


def test_narrow_cosines_still_rank():
    # Every cosine within 0.01: a factor on the relevancy itself would let trust decide.
    generator = torch.Generator().manual_seed(1)
    base = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
    feature = torch.nn.functional.normalize(base + 0.02 * torch.randn(9, 64, generator=generator), dim=1)
    trust = torch.linspace(0.9, 0.6, 9)
    ones = torch.ones(9)
    language = NodeLanguage(feature.half(), ones, ones, trust)
    text = feature[8] + 0.5 * base
    assert int(trusted_relevancy(language, text, None)[0].argmax()) == 8


@pytest.mark.parametrize(("part", "meant"), [(0.55, 0), (0.65, 1)])
def test_the_whole_is_meant_unless_masks_speak_for_the_part(part, meant):
    """Half of a bottle answers to "bottle" as well as the bottle does."""
    one = torch.ones(4)
    tree = InstanceTree(
        torch.tensor([-1, 0, -1, -1]), torch.tensor([1, 1, 2, 3]), torch.tensor([0.5, 0.0, 0.5, 0.5]), one.long(), one,
        torch.tensor([0, 1, 2, 3]), torch.ones(4, dtype=torch.bool),
    )  # fmt: skip
    cosine = torch.tensor([0.9, 1.0, 0.0, 0.0])  # to the text; two other things make up the typical one
    feature = torch.stack((cosine, (1 - cosine**2).sqrt()), 1).half()
    language = NodeLanguage(feature, one, torch.tensor([0.5, part, 0.5, 0.5]), one)
    index = SceneIndex(torch.arange(4), torch.zeros(4, 3), torch.zeros(2, 0, dtype=torch.long), tree, language)
    assert select_text(index, "bottle", torch.tensor([1.0, 0.0])).nodes == (meant,)


@pytest.mark.parametrize(
    ("cosines", "text", "meant"),
    [
        ((1.0, 0.9, 0.8), "candle", 0),  # a dish and a stick of wax, each as much a candle
        ((1.0, 0.97, 0.3), "plate", 1),  # a bowl on a plate
        ((0.7, 1.0, 0.9), "book", 1),  # two books, one of which is meant
        ((1.0, 0.9, 0.8), "bowl on the plate", 0),
    ],
)
def test_a_group_all_of_which_answers_is_one_thing(cosines, text, meant):
    one = torch.ones(6)
    tree = InstanceTree(
        torch.tensor([-1, 0, 0, -1, -1, -1]), torch.tensor([2, 1, 2, 3, 4, 5]),
        torch.tensor([0.75, 0.5, 0.5, 0.5, 0.5, 0.5]), one.long(), one, torch.arange(6), one.bool(),
    )  # fmt: skip
    cosine = 0.1 * torch.tensor([*cosines, 0.0, 0.0, 0.0])
    feature = torch.stack((cosine, (1 - cosine**2).sqrt()), 1).half()
    quality = torch.tensor([0.6, 0.65, 0.6, 0.5, 0.5, 0.5])
    index = SceneIndex(
        torch.arange(6),
        torch.zeros(6, 3),
        torch.zeros(2, 0, dtype=torch.long),
        tree,
        NodeLanguage(feature, one, quality, one),
    )
    assert select_text(index, text, torch.tensor([1.0, 0.0])).nodes == (meant,)


@pytest.mark.parametrize(("kin", "meant"), [(0.9, 1), (0.6, 0)])
def test_a_stack_is_not_the_book_in_it(kin, meant):
    """Both books of a stack answer, and masks fit the stack better; but its books do not say the same."""
    one = torch.ones(6)
    tree = InstanceTree(
        torch.tensor([-1, 0, 0, -1, -1, -1]), torch.tensor([2, 1, 2, 3, 4, 5]),
        torch.tensor([0.75, *[0.5] * 5]), one.long(), one, torch.arange(6), one.bool(),
    )  # fmt: skip
    book, red, blue, rest = torch.eye(4)
    said = torch.stack((book + red / 2 + blue / 2, book + red, book + blue / 2, rest, rest + blue / 2, rest - blue / 2))
    index = SceneIndex(
        torch.arange(6), torch.zeros(6, 3), torch.zeros(2, 0, dtype=torch.long), tree,
        NodeLanguage(torch.nn.functional.normalize(said, dim=1).half(), one, 0.6 - 0.05 * (one.cumsum(0) > 1), one),
    )  # fmt: skip
    config = QueryConfig(kin=kin)
    assert select_text(index, "red book", book + red, rest[None], config=config).nodes == (meant,)


def test_pieces_are_no_evidence_of_things():
    """A piece of a bottle resembles a vase, as one of many pieces will: no vase is there, though its neck may be."""
    one = torch.ones(3)
    tree = InstanceTree(
        torch.tensor([-1, 0, -1]), torch.tensor([1, 1, 2]), torch.tensor([0.5, 0.0, 0.5]), one.long(), one,
        torch.tensor([0, 1, 2]), one.bool(),
    )  # fmt: skip
    feature = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0], [0.5, 0.5, 0], [0.6, 0.4, 0.6]]), dim=1)
    index = SceneIndex(
        torch.arange(3), torch.zeros(3, 3), torch.zeros(2, 0, dtype=torch.long), tree,
        NodeLanguage(feature.half(), one, one / 2, one),
    )  # fmt: skip
    bottle, vase = torch.eye(3)[:2]
    assert select_text(index, "bottle", bottle, rivals=vase[None]).nodes == (0,)
    assert select_text(index, "vase", vase, rivals=bottle[None]).empty
    assert select_text(index, "vase neck", vase, rivals=bottle[None], config=for_parts(DEFAULTS)).nodes == (1,)


@pytest.mark.parametrize(("other", "meant"), [(0.0, (2,)), (1.0, None)])
def test_a_part_is_looked_for_in_its_thing(other, meant):
    """A mug, its side and its handle; a cup whose handle answers better; and a thing that may be called so itself."""
    one = torch.ones(6)
    tree = InstanceTree(
        torch.tensor([-1, 0, 0, -1, 3, -1]), torch.tensor([2, 1, 2, 4, 4, 5]),
        torch.tensor([0.5, 0.0, 0.0, 0.5, 0.0, 0.5]), one.long(), one, torch.arange(6), one.bool(),
    )  # fmt: skip
    mug, handle, cup, rest = torch.eye(4)
    sides = [mug, mug, mug / 2 + handle, cup, handle, other * (mug + 2 * handle)]
    feature = torch.nn.functional.normalize(torch.stack(sides) + 3 * rest, dim=1)
    index = SceneIndex(
        torch.arange(6), torch.zeros(6, 3), torch.zeros(2, 0, dtype=torch.long), tree,
        NodeLanguage(feature.half(), one, one, one),
    )  # fmt: skip
    text = torch.nn.functional.normalize(mug + handle, dim=0)
    anywhere = index.selection([5] if other else [4], "mug handle", 0.5)
    found = part_of_thing(index, anywhere, text, mug, cup[None], [0])
    if other:
        assert found is None
        return
    assert found.nodes == meant and found.score == 0.5 and found.label == "mug handle"
    assert part_of_thing(index, anywhere, text, mug, cup[None], [5], QueryConfig(present=1)) is anywhere


def test_groups_tell_of_groups():
    """A plate with a bowl on it: together they are no yellow plate, and neither alone is what "on the plate" means."""
    one = torch.ones(3)
    tree = InstanceTree(
        torch.tensor([-1, 0, 0]), torch.tensor([2, 1, 2]), torch.tensor([0.75, 0.5, 0.5]), one.long(), one,
        torch.arange(3), one.bool(),
    )  # fmt: skip
    brown, yellow, bowl, plate = torch.eye(4)
    things = torch.stack((yellow + brown + bowl + plate, yellow + bowl, brown + plate))
    index = SceneIndex(
        torch.arange(3), torch.zeros(3, 3), torch.zeros(2, 0, dtype=torch.long), tree,
        NodeLanguage(torch.nn.functional.normalize(things, dim=1).half(), one, one / 2, one),
    )  # fmt: skip
    rivals = torch.stack((yellow + bowl, brown + plate))
    wrong = select_text(index, "yellow plate", yellow + plate, rivals=rivals)
    assert wrong.empty and 0 < wrong.score < 0.5
    group = select_text(index, "yellow bowl on the brown plate", yellow + bowl + plate, rivals=rivals[1:])
    assert group.nodes == (0,)


def test_twins_are_things_that_answer_alike():
    """A candle of two parts, its twin, a red thing with a part like wax, and things that are not red."""
    parent = torch.tensor([-1, 0, 0, -1, -1, 4, *[-1] * 9])
    one = torch.ones(15)
    tree = InstanceTree(
        parent, torch.tensor([2, 1, 2, 3, 5, *range(5, 15)]),
        torch.tensor([0.75, 0.5, 0.5, 0.5, 0.5, 0.0, *[0.5] * 9]), one.long(), one, torch.arange(15), one.bool(),
    )  # fmt: skip
    cosine = 0.1 * torch.tensor([0.9, 0.9, 0.8, 1.0, 0.5, 0.85, *[0.0] * 9])
    feature = torch.stack((cosine, (1 - cosine**2).sqrt()), 1).half()
    quality = torch.tensor([0.6, 0.65, 0.6, *[0.5] * 12])
    index = SceneIndex(
        torch.arange(15), torch.zeros(15, 3), torch.zeros(2, 0, dtype=torch.long), tree,
        NodeLanguage(feature, one, quality, one),
    )  # fmt: skip
    text = torch.tensor([1.0, 0.0])
    assert select_text(index, "red candles", text).nodes == (0, 3)
    assert select_text(index, "red candle", text).nodes == (3,)


def test_evidence_is_of_things_of_a_level_or_of_parts():
    one = torch.ones(2)
    tree = InstanceTree(
        torch.tensor([-1, 0]), torch.tensor([1, 1]), torch.tensor([0.5, 0.0]), one.long(), one, torch.tensor([0, 1]),
        one.bool(),
    )  # fmt: skip
    index = SceneIndex(
        torch.arange(2), torch.zeros(2, 3), torch.zeros(2, 0, dtype=torch.long), tree,
        NodeLanguage(torch.eye(2).half(), one, one, one),
    )  # fmt: skip
    score = torch.tensor([0.4, 0.9])
    assert evidence(index, score) == pytest.approx(0.4)
    assert evidence(index, score, config=for_parts(DEFAULTS)) == pytest.approx(0.9)
    assert evidence(index, score, level=0.0) == pytest.approx(0.9)
