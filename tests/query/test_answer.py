"""The one door: whatever is asked, and wherever it is asked from, the answer is the same."""

import json
from dataclasses import dataclass

import PIL.Image
import pytest
import torch
from blob_run import CENTRES, GREEN, GROUP, RED, TOP, build_palette

import ag2_ns
from ag2_ns.cli.main import main
from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import MissingInstances, UserError
from ag2_ns.io.selection_file import load_selection, save_selection
from ag2_ns.query.answer import answer
from ag2_ns.query.click import Click, Ray
from ag2_ns.query.kinds import KINDS
from ag2_ns.query.query import Query
from ag2_ns.query.text import Text
from ag2_ns.session.opened import query_of

VIEW = "view_01.png"


@pytest.fixture(scope="module")
def scene(blob_template):
    return ag2_ns.open(blob_template, "cpu")


def pixel(scene, ball: str) -> tuple[float, float]:
    view = scene.view(VIEW)
    x, y, z = (view.K @ (view.viewmat[:3, :3] @ torch.tensor(CENTRES[ball]) + view.viewmat[:3, 3])).tolist()
    return round(x / z), round(y / z)


@pytest.fixture(scope="module")
def palette(tmp_path_factory):
    """The same balls, described by colours: an encoder that knows pictures."""
    return ag2_ns.open(build_palette(tmp_path_factory.mktemp("palette")), "cpu")


@pytest.fixture
def values(scene, tmp_path):
    """A value for every kind of query, that selects the red ball; a new kind wants one, too."""
    PIL.Image.new("RGB", (32, 32), (230, 26, 26)).save(tmp_path / "red.png")
    x, y = pixel(scene, "red")
    save_selection(tmp_path / "red.npz", scene.index.selection([RED], "red", 0.9, 0.5), scene.fingerprint)
    return {
        "text": ("red ball",),
        "image": (tmp_path / "red.png",),
        "sentence": ("the red ball",),
        "node": (RED,),
        "click": (VIEW, x, y),
        "box": (VIEW, x - 7, y - 9, x + 7, y + 7),
        "selection": (tmp_path / "red.npz",),
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_asked_alike_in_python_and_on_the_command_line(kind, scene, palette, values, tmp_path, capsys):
    assert kind.name in values, f"give an example of --{kind.name} in `values`"
    given = values[kind.name]
    scene = palette if kind.name == "image" else scene
    value = given[0] if len(given) == 1 else given
    found = scene.select(**{kind.name: value})
    assert isinstance(found, Answer) and found.selection.nodes == (RED,)
    again = answer(scene, kind.query(value))
    assert again.selection.nodes == found.selection.nodes and again.candidates == found.candidates
    options = ["--output-dir", str(tmp_path / "out"), "--max-views", "0"]
    main(["query", "--load-config", str(scene.path), f"--{kind.name}", *map(str, given), *options])
    content = json.loads(capsys.readouterr().out)
    assert content["nodes"] == [RED] and content["label"] == found.selection.label
    assert content["score"] == pytest.approx(found.selection.score, abs=1e-3)
    assert content["runner_up"] == found.to_json()["runner_up"]
    mask = load_selection(tmp_path / "out" / "selection.npz", scene.fingerprint).gaussian_mask
    assert torch.equal(mask, found.selection.gaussian_mask)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_its_option_with_help_and_an_example(kind, capsys):
    assert kind.example.startswith(f"--{kind.name} ") and kind.help
    for command in ("query", "edit", "render", "export"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = capsys.readouterr().out
        for name in (kind.name, *(option.name for option in kind.further)):
            assert f"--{name.replace('_', '-')}" in said, command


def test_a_text_names_what_came_second_and_how_near(scene):
    found = scene.select(text="red ball")
    second = found.runner_up
    assert second is not None and set(second.nodes).isdisjoint(found.selection.nodes)
    assert 0 <= second.score < found.selection.score <= 1
    assert found.candidates[0] == Candidate("red ball", found.selection.score, (RED,))
    scores = [c.score for c in found.candidates]
    assert scores == sorted(scores, reverse=True), "best first"
    tree = scene.index.tree
    for node in second.nodes:  # neither in what is selected nor around it
        assert not bool((tree.anchors_of(node) & tree.anchors_of(RED)).any())
    said = found.to_json()
    assert said["runner_up"] == {"label": second.label, "score": round(second.score, 4)}


def test_the_runner_up_of_a_click_is_what_else_the_pixels_show(scene):
    """Between the red ball and the plate: each has a share of the pixels."""
    x, y = pixel(scene, "red")
    shares = [scene.select(click=(VIEW, x, y + d)) for d in range(12)]
    both = [found for found in shares if found.runner_up is not None]
    assert both, "some pixel lies at the outline"
    for found in both:
        assert 0 < found.runner_up.score <= 1 and found.runner_up.score + found.selection.score < 1 + 1e-5
        assert {found.selection.label, found.runner_up.label} <= {"red ball", "plate", "green ball", "blue ball"}


def test_an_answer_of_nothing_has_a_reason_and_no_score(scene):
    found = scene.select(click=(VIEW, 0, 0))
    assert found.selection.empty and "background" in found.reason and found.runner_up is None
    assert found.to_json() | {"label": ""} == {
        "label": "", "found": False, "reason": found.reason, "score": 0.0, "level": None, "nodes": [],
        "runner_up": None,
    }  # fmt: skip


def test_rivals_are_those_that_share_no_node_with_what_is_selected(scene):
    selection = scene.index.selection([RED, GREEN], "both", 0.9)
    candidates = (Candidate("red", 0.9, (RED,)), Candidate("green", 0.8, (GREEN,)), Candidate("blue", 0.4, (5,)))
    assert Answer(selection, candidates).runner_up == candidates[2]
    assert Answer(selection, candidates[:2]).runner_up is None


def test_levels(scene):
    x, y = pixel(scene, "red")
    nodes = [scene.select(click=(VIEW, x, y), level=level).selection.nodes for level in (0.5, 1.0)]
    assert nodes == [(RED,), (GROUP,)]
    assert scene.select(text="top of the red ball", level=0.0).selection.nodes == (TOP,)
    assert scene.select(click=(VIEW, x, y), level=1.0).level == 1.0
    for level in (-0.1, 1.5):
        with pytest.raises(UserError, match=f"level {level}"):
            answer(scene, Text("red ball"), level)


def test_a_ray_and_a_click_of_the_same_pixel_agree(scene):
    eye = (0.0, 0.0, 2.0)
    ray = Ray(eye, tuple(c - e for c, e in zip(CENTRES["red"], eye)))
    assert answer(scene, ray).selection.nodes == answer(scene, Click(VIEW, *pixel(scene, "red"))).selection.nodes


def test_a_scene_without_instances_says_so_whatever_is_asked(scene, values):
    from dataclasses import replace

    bare = replace(scene, index=None)
    for kind in KINDS:
        given = values[kind.name]
        with pytest.raises(MissingInstances, match=r"ag2 lift --load-config"):
            bare.select(**{kind.name: given[0] if len(given) == 1 else given})


def test_queries_by_the_name_of_their_kind():
    assert query_of(text="mugs", all=True) == Text("mugs", True) and query_of(text="mug") == Text("mug")
    with pytest.raises(UserError, match=r"give one of text, .*click, box, selection.*; 0 were given"):
        query_of()
    with pytest.raises(UserError, match="click: has no option all"):
        query_of(click=("a.png", 1, 2), all=True)


def test_a_new_kind_is_one_class(scene):
    @dataclass(frozen=True)
    class Largest(Query):
        """The instance with most anchors."""

        def reply(self, scene, level):
            index = scene.require_index()
            node = int(index.tree.size[index.tree.instances(0.5)].argmax())
            return Answer(index.selection([int(index.tree.instances(0.5)[node])], "largest", 1.0))

    found = scene.select(Largest())
    assert int(found.selection.anchor_mask.sum()) == int(scene.index.tree.size[scene.index.tree.instances(0.5)].max())
