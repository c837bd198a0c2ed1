"""Answers by every strategy, nothing as an answer, and the field on Gaussians and on anchors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from ag2_ns.core.errors import UserError
from ag2_ns.language.field import LanguageField
from ag2_ns.query.collaborative import ask_field, node_relevancy, refined
from ag2_ns.query.vector import select_vector


@pytest.fixture(scope="module")
def field(scene):
    """A field that knows every Gaussian's object exactly: its name's vector, and an instance feature of its own."""
    return field_of(scene, per_gaussian=False)


def field_of(scene, per_gaussian: bool) -> LanguageField:
    owner = scene.toy.owner.clamp_min(0)
    language, instance = scene.text[owner], torch.eye(len(scene.text))[owner]
    if not per_gaussian:
        anchor, count = scene.index.gaussian_anchor, scene.index.num_anchors
        mean = lambda rows: torch.zeros(count, rows.shape[1]).index_add_(0, anchor, rows)  # noqa: E731
        language, instance = mean(language), mean(instance)
    unit = lambda rows: normalize(rows, dim=1).half()  # noqa: E731
    return LanguageField(unit(instance), unit(language), 0.3, per_gaussian)


def ask(scene, name, **options):
    return select_vector(scene.index, f"thing {name}", scene.text[name], None, gaussians=scene.toy.gaussians, **options)


@pytest.mark.parametrize("strategy", ["tree", "collaborative", "both"])
@pytest.mark.parametrize("name", [2, 4, 7])
def test_every_strategy_finds_objects(scene, field, strategy, name):
    found = ask(scene, name, strategy=strategy, field=field, several=False)
    assert scene.iou(found.selection, name) > 0.6
    second = found.runner_up
    assert second is not None and scene.nodes[name] not in second.nodes


def test_a_field_on_gaussians(scene):
    field = field_of(scene, per_gaussian=True)
    found = ask(scene, 3, strategy="collaborative", field=field)
    assert scene.iou(found.selection, 3) > 0.95 and found.selection.nodes == ()
    assert found.selection.anchor_mask.any() and not found.selection.anchor_mask.all()


def test_collaborative_answers_where_no_node_fits(scene, field):
    """Half of an object, which no mask and so no node shows: its own feature and its own name."""
    half = (scene.toy.owner == 3) & (
        scene.toy.gaussians.means[:, 0] > scene.toy.gaussians.means[scene.toy.owner == 3, 0].median()
    )
    own = field_of(scene, per_gaussian=True)
    vector = torch.zeros_like(scene.text[0])
    vector[-1] = 1.0
    language, instance = own.language.clone(), torch.cat((own.instance, torch.zeros(len(own), 1).half()), 1)
    language[half], instance[half] = vector.half(), 0
    instance[half, -1] = 1
    own = replace(own, language=language, instance=instance)
    found = select_vector(
        scene.index, "half", vector, None, strategy="collaborative", field=own, gaussians=scene.toy.gaussians
    )
    assert torch.equal(found.selection.gaussian_mask, half)


@pytest.mark.parametrize("strategy", ["tree", "collaborative", "both"])
def test_nothing_is_an_answer_and_names_what_came_nearest(scene, field, strategy):
    negatives = scene.text[2:3]
    found = select_vector(
        scene.index, "unicorn", -scene.text[2], negatives, strategy=strategy, field=field,
        gaussians=scene.toy.gaussians, floor=0.55,
    )  # fmt: skip
    assert found.selection.empty and found.selection.reason == found.reason
    assert found.reason.startswith("nothing here is 'unicorn': nearest was instance ") and "below 0.55" in found.reason
    assert found.candidates[0].score < 0.55
    nearest = select_vector(
        scene.index, "unicorn", -scene.text[2], negatives, strategy=strategy, field=field,
        gaussians=scene.toy.gaussians, floor=0.0,
    )  # fmt: skip
    assert strategy == "collaborative" or not nearest.selection.empty  # a floor of 0 takes the nearest


def test_several_leaves_out_what_is_below_the_floor(scene):
    text, negatives = normalize(scene.text[2] + 0.5 * scene.text[3], dim=0), scene.text[6:7]
    every = select_vector(scene.index, "things", text, negatives, several=True)
    least = sorted(
        float(every.selection.anchor_score[scene.index.tree.anchors_of(n)][0]) for n in every.selection.nodes
    )
    if len(least) > 1:
        some = select_vector(scene.index, "things", text, negatives, several=True, floor=(least[-2] + least[-1]) / 2)
        assert 0 < len(some.selection.nodes) < len(every.selection.nodes)


def test_relevancy_of_nodes(scene, field):
    said = ask_field(field, scene.index, scene.toy.gaussians, scene.text[4], None)
    by_node = node_relevancy(field, scene.index, said)
    assert int(torch.nan_to_num(by_node, -1.0).argmax()) in scene.index.tree.ancestors(scene.nodes[4]) or float(
        by_node[scene.nodes[4]]
    ) > float(torch.nan_to_num(by_node).median())


def test_what_a_rival_names_better_answers_nothing(scene, field):
    said = ask_field(field, scene.index, scene.toy.gaussians, scene.text[4], None)
    every = refined(field, said)
    assert every.any() and torch.equal(refined(field, said, torch.ones_like(every)), every)
    assert not refined(field, said, ~every).any()


def test_bad_questions(scene, field):
    with pytest.raises(UserError, match="no language field; make one with `ag2 lift --language field`"):
        ask(scene, 2, strategy="both")
    with pytest.raises(UserError, match="has 3 numbers but the scene's language field has 64"):
        select_vector(
            scene.index, "x", torch.ones(3), None, strategy="collaborative", field=field, gaussians=scene.toy.gaussians
        )


@pytest.mark.parametrize("strategy", ["tree", "collaborative", "both"])
@pytest.mark.parametrize("per_gaussian", [False, True])
def test_rivals_decide_by_every_strategy(scene, strategy, per_gaussian):
    """What is there is found among all names; a name that is not there is what a rival says better."""
    own = field_of(scene, per_gaussian)
    common = {"strategy": strategy, "field": own, "several": False}
    assert not ask(scene, 4, rivals=scene.text, **common).selection.empty
    gone = normalize(scene.text[4] + 0.7 * torch.roll(scene.text[4], 1), dim=0)
    asked = replace(scene, text=torch.cat((scene.text, gone[None])))
    assert not ask(asked, len(scene.text), **common).selection.empty
    found = ask(asked, len(scene.text), rivals=scene.text, **common)
    assert found.selection.empty and "rather than something else" in found.reason
