"""Further clicks and boxes, through every command that takes a selection, on balls whose instances are known."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_run import BLUE, BOTTOM, CENTRES, GREEN, HEIGHT, PLATE, RED, TOP, WIDTH, build
from PIL import Image
from plyfile import PlyData

import ag2_ns
from ag2_ns.cli.main import main
from ag2_ns.core.errors import UnknownView, UserError
from ag2_ns.edit.edit_file import edit_path, load_edits
from ag2_ns.io.selection_file import load_selection
from ag2_ns.query.click import Click
from ag2_ns.query.config import QueryConfig

VIEW, OTHER = "view_01.png", "view_04"
COMMANDS = {
    "query": ("--output-dir", "{}"),
    "edit": ("--delete", "--no-cleanup"),
    "render": ("--output-path", "{}", "--frames", "1", "--size", "32", "24"),
    "export": ("--output-dir", "{}", "--format", "splat"),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return build(tmp_path_factory.mktemp("picking"))


@pytest.fixture(scope="module")
def scene(config):
    return ag2_ns.open(config)


@pytest.fixture(autouse=True)
def plain(monkeypatch, config):
    monkeypatch.delenv("AG2_QUERY", raising=False)
    yield
    edit_path(config).unlink(missing_ok=True)


def at(scene, ball: str, name: str = VIEW, up: float = 0.0) -> tuple[str, float, float]:
    """The pixel of a ball's middle, or of a point above it."""
    view = scene.view(name)
    point = torch.tensor(CENTRES[ball]) + torch.tensor([0, 0, up])
    x, y, z = (view.K @ (view.viewmat[:3, :3] @ point + view.viewmat[:3, 3])).tolist()
    return name, round(x / z), round(y / z)


def around(scene, ball: str, name: str = VIEW, margin: int = 7) -> tuple[str, float, float, float, float]:
    _, x, y = at(scene, ball, name)
    return name, x - margin, y - margin, x + margin, y + margin


def gaussians(scene, *nodes: int) -> torch.Tensor:
    """Those of some instances, one by one; every anchor carries one Gaussian."""
    leaf = scene.index.tree.anchor_node.tolist()
    inside = {RED: {TOP, BOTTOM}}
    wanted = set().union(*(inside.get(node, {node}) for node in nodes))
    return torch.tensor([node in wanted for node in leaf])


def ask(command: str, config, out, *options: object) -> None:
    rest = [o.format(out) for o in COMMANDS[command]]
    main([command, "--load-config", str(config), *rest, *map(str, options)])


def queried(scene, tmp_path, capfd, *options: object) -> tuple[dict, torch.Tensor]:
    """The JSON answer and the Gaussians of one query."""
    capfd.readouterr()
    ask("query", scene.folder, tmp_path, "--max-views", 1, *options)
    answer = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    return answer, load_selection(tmp_path / "selection.npz", scene.fingerprint).gaussian_mask


def edit(config, *options: object) -> None:
    main(["edit", "--load-config", str(config), "--no-cleanup", *map(str, options)])


# In Python.


def clicks(*pixels):
    return [Click(*pixel) for pixel in pixels]


def test_clicks_add_and_then_take_away(scene):
    red = scene.select(click=at(scene, "red")).selection
    add, remove = clicks(at(scene, "green", OTHER), at(scene, "blue")), clicks(at(scene, "green"))
    both = scene.refine(red, add, remove)
    assert torch.equal(both.gaussian_mask, gaussians(scene, RED, BLUE))
    assert both.label == "red ball + green ball + blue ball" and both.nodes == (RED, BLUE)
    assert scene.refine(red) is red


def test_parts_are_taken_from_an_object(scene):
    red = scene.select(text="red ball")
    kept = scene.refine(red, remove=clicks(at(scene, "red", up=0.05)), level=0.0)
    assert torch.equal(kept.gaussian_mask, gaussians(scene, BOTTOM))
    gone = scene.refine(red, remove=clicks(at(scene, "red")))
    assert gone.empty and gone.reason == "everything selected was removed again"
    same = scene.refine(red, remove=clicks(at(scene, "blue")))
    assert torch.equal(same.gaussian_mask, red.selection.gaussian_mask)


@pytest.mark.parametrize(("ball", "node"), [("red", RED), ("green", GREEN), ("blue", BLUE)])
def test_a_box_takes_the_ball_that_it_is_drawn_around(scene, ball, node):
    for name in (VIEW, OTHER):
        found = scene.select(box=around(scene, ball, name)).selection
        assert torch.equal(found.gaussian_mask, gaussians(scene, node)) and found.label == f"{ball} ball"


def test_what_makes_no_sense_in_python(scene):
    red = scene.select(text="red ball")
    with pytest.raises(UserError, match=r"give one of text, .*click, box, selection; 2 were given"):
        scene.select(text="red ball", box=around(scene, "red"))
    with pytest.raises(UserError, match=rf"click \(0, 0\) in {VIEW} to add: the pixel shows the background"):
        scene.refine(red, add=clicks((VIEW, 0, 0)))
    with pytest.raises(UserError, match="need something to change"):
        scene.refine(scene.select(click=(VIEW, 0, 0)), add=clicks(at(scene, "red")))


@pytest.fixture
def repeated(scene):
    """The scene, where two images of different splits have one name in two folders."""
    views = list(scene.views)
    for side, split in (("left", "train"), ("right", "eval")):
        number = next(k for k, v in enumerate(views) if v.split == split)
        views[number] = replace(views[number], name=f"images/{side}/shot 1.png", key=f"images/{side}/shot 1")
    return replace(scene, views=tuple(replace(v, key=v.key.removeprefix("images/")) for v in views))


def test_names_that_repeat_are_told_apart_by_their_folders(scene, repeated):
    for side, split in (("left", "train"), ("right", "eval")):
        expected = scene.of_split(split)[0].view
        for name in (f"{side}/shot 1.png", f"{side}/shot 1"):
            assert torch.equal(repeated.view(name).viewmat, expected.viewmat)
    with pytest.raises(UnknownView, match=r"'shot 1': 2 images are called so; say which: .*left/shot 1.png, .*right/"):
        repeated.view("shot 1")


def test_unique_names_may_come_with_their_folders(scene):
    """images/left/view_02.png is view_02, view_02.png, left/view_02.png and images/left/view_02.png."""
    before = scene.of_split("train")
    sides = ["left", "le", "deep/left", *"abcdefgh"]
    views = [replace(v, key=f"{side}/{Path(v.name).stem}") for v, side in zip(before, sides)]
    moved = replace(scene, views=(*views, *scene.of_split("eval")))
    for view in views:
        path = f"{view.key}.png"
        for given in (view.name, view.name[:-4], path, view.key, f"images/{view.key}", f"./images_4/{path}"):
            assert torch.equal(moved.view(given).viewmat, view.view.viewmat), given
    for given in ("eft/" + before[0].name, "right/" + before[0].name, "left/" + before[1].name):
        with pytest.raises(UnknownView, match="no such image"):
            moved.view(given)
    assert before[0].name == VIEW
    assert moved.select(click=(f"left/{VIEW}", *at(scene, "red")[1:])).selection.nodes == (RED,)


def test_a_bare_name_that_is_unique_works_where_others_repeat(scene, repeated):
    named = scene.of_split("train")[1]
    for name in (named.name, named.name[:-4]):
        assert torch.equal(repeated.view(name).viewmat, named.view.viewmat)


# As commands.


def test_an_evaluation_takes_ids_in_the_folders_of_the_images(config, tmp_path):
    (tmp_path / "ids" / "images").mkdir(parents=True)
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "ids" / "images" / VIEW)
    (tmp_path / "labels.json").write_text('{"1": "red ball"}')
    main(["eval", "--load-config", str(config), "--ground-truth", str(tmp_path), "--output-dir", str(tmp_path / "e")])
    found = json.loads((tmp_path / "e" / "report.json").read_text())["protocols"]["3d"]
    assert found["share"]["prompts"][0]["views"] == 1


def test_a_query_with_further_clicks(scene, tmp_path, capfd):
    further = ("--add", *at(scene, "green"), "--add", *at(scene, "blue", OTHER), "--remove", *at(scene, "green", OTHER))
    for k, start in enumerate(
        (("--click", *at(scene, "red")), ("--text", "red ball"), ("--box", *around(scene, "red")))
    ):
        answer, mask = queried(scene, tmp_path / str(k), capfd, *start, *further)
        assert torch.equal(mask, gaussians(scene, RED, BLUE))
        assert answer["found"] and answer["nodes"] == [RED, BLUE] and answer["gaussians"] == int(mask.sum())
        assert answer["label"] == "red ball + green ball + blue ball"
    answer, mask = queried(
        scene, tmp_path / "file", capfd, "--selection", tmp_path / "0" / "selection.npz", "--remove", *at(scene, "red")
    )
    assert torch.equal(mask, gaussians(scene, BLUE)) and answer["nodes"] == [BLUE]


def test_the_answer_of_one_click(scene, tmp_path, capfd):
    answer, mask = queried(scene, tmp_path, capfd, "--click", *at(scene, "green"))
    assert list(answer) == [
        "label", "found", "reason", "score", "level", "nodes", "runner_up", "anchors", "gaussians", "selection",
    ]  # fmt: skip
    assert answer["level"] == 0.5 and answer["reason"] == "" and torch.equal(mask, gaussians(scene, GREEN))


def test_thresholds_are_those_of_the_command_then_of_the_scene(scene, tmp_path, capfd):
    answer, _ = queried(scene, tmp_path, capfd, "--click", *at(scene, "green"), "--thresholds.solid", 1.5)
    assert not answer["found"] and "background" in answer["reason"]
    strict = scene.configured(QueryConfig(solid=1.5))
    assert strict.settings == {"query": {"solid": 1.5}} and strict.select(click=at(scene, "green")).selection.empty
    assert strict.configured(QueryConfig(tie=0.9)).config(QueryConfig) == QueryConfig(solid=1.5, tie=0.9)


def test_removing_everything_is_an_answer(scene, tmp_path, capfd):
    answer, mask = queried(scene, tmp_path, capfd, "--click", *at(scene, "red"), "--remove", *at(scene, "red", OTHER))
    assert not answer["found"] and "removed again" in answer["reason"] and not mask.any()


def test_an_edit_of_what_clicks_and_boxes_pick(scene, config, tmp_path):
    def edited(*options):
        ask("edit", scene.folder, tmp_path, *options)
        return load_edits(edit_path(config), scene.fingerprint).edits[-1].members.mask()

    mask = edited("--click", *at(scene, "red"), "--add", *at(scene, "blue"))
    assert torch.equal(mask.bool(), gaussians(scene, RED, BLUE))
    assert torch.equal(edited("--box", *around(scene, "green")).bool(), gaussians(scene, GREEN))


def test_clicks_boxes_and_pictures_see_the_scene_as_edited(scene, config, tmp_path, capfd):
    name, x, y = at(scene, "red")
    _, x_up, y_up = at(scene, "red", up=0.3)
    edit(config, "--text", "red ball", "--move", 0, 0, 0.3)
    moved, red = ag2_ns.open(config), gaussians(scene, RED)
    assert torch.equal(moved.select(click=(name, x_up, y_up)).selection.gaussian_mask, red)
    assert not (moved.select(click=(name, x, y)).selection.gaussian_mask & red).any()
    framed = moved.select(box=(name, x_up - 7, y_up - 9, x_up + 7, y_up + 7)).selection
    assert torch.equal(framed.gaussian_mask, red)
    _, mask = queried(scene, tmp_path, capfd, "--text", "red ball", "--max-views", "all")
    assert torch.equal(mask, red)
    picture = np.asarray(Image.open(tmp_path / "masks" / f"{Path(name).stem}.png"))
    assert picture[int(y_up), int(x_up)] == 255 and picture[int(y), int(x)] == 0
    ask("export", config, tmp_path / "trained", "--click", name, x, y, "--no-edits")
    assert (tmp_path / "trained" / "red-ball.ply").is_file()


def test_pictures_of_an_older_answer_do_not_stay(scene, tmp_path, capfd):
    queried(scene, tmp_path, capfd, "--text", "red ball", "--max-views", 3)
    (tmp_path / "masks" / "mine.png").write_bytes(b"")
    queried(scene, tmp_path, capfd, "--text", "green ball")
    assert len(list((tmp_path / "masks").iterdir())) == 2 and (tmp_path / "masks" / "mine.png").exists()
    assert len(list((tmp_path / "overlays").iterdir())) == 1


def test_a_text_for_what_edits_removed_says_so(scene, config, tmp_path, capfd):
    edit(config, "--text", "red ball", "--delete")
    found, mask = queried(scene, tmp_path, capfd, "--text", "red ball")
    assert found["found"] and "edits have removed it" in found["reason"] and torch.equal(mask, gaussians(scene, RED))
    assert queried(scene, tmp_path, capfd, "--text", "green ball")[0]["reason"] == ""


def test_a_clicked_copy_is_the_one_that_is_edited(scene, config):
    name, x_up, y_up = at(scene, "red", up=0.3)
    edit(config, "--text", "red ball", "--duplicate", "--move", 0, 0, 0.3)
    edit(config, "--click", name, x_up, y_up, "--recolour", 0, 1, 0)
    edit(config, "--click", *at(scene, "red"), "--recolour", 0, 0, 1)
    edits = load_edits(edit_path(config), scene.fingerprint).edits
    assert [e.copy for e in edits[1:]] == [1, 0]


def test_a_video_of_what_clicks_and_boxes_pick(scene, tmp_path, capfd):
    ask("render", scene.folder, tmp_path / "a", "--text", "red ball", "--add", *at(scene, "blue"))
    assert "red ball + blue ball: score" in capfd.readouterr().out
    ask("render", scene.folder, tmp_path / "b", "--text", "blue ball", "--box", *around(scene, "red"))
    out = capfd.readouterr().out
    assert out.index("blue ball: score") < out.index("red ball: score")


def test_an_export_of_what_clicks_and_boxes_pick(scene, tmp_path):
    def count(path):
        return len(PlyData.read(str(path))["vertex"].data)

    out = tmp_path / "e"
    ask("export", scene.folder, out, "--box", *around(scene, "red"), "--add", *at(scene, "green"))
    assert count(out / "red-ball-green-ball.ply") == int(gaussians(scene, RED, GREEN).sum())
    assert count(out / "rest.ply") == int(gaussians(scene, BLUE, PLATE).sum())


def test_a_box_around_a_piece_and_the_shape_of_exported_boxes_are_two_options(scene, tmp_path):
    shapes = {
        "a": ("--box-shape", "oriented"),
        "b": ("--box-shape", "oriented", "--box", *around(scene, "red")),
        "c": (),
    }
    labels = {}
    for name, options in shapes.items():
        what = () if name == "b" else ("--text", "red ball")
        ask("export", scene.folder, tmp_path / name, *what, *options)
        labels[name] = json.loads((tmp_path / name / "labels.json").read_text())["instances"][str(RED)]["box"]
    assert labels["a"] == labels["b"] != labels["c"]


RED_TEXT, PIXEL = ("--text", "red ball"), (VIEW, "20", "26")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--click", VIEW, "64", "5"), "click (64, 5): outside of the image"),
        (("--click", "nowhere.png", "1", "1"), "camera 'nowhere.png': no such image"),
        (("--box", "nowhere.png", "1", "1", "9", "9"), "camera 'nowhere.png': no such image"),
        (("--box", VIEW, "9", "1", "9", "9"), "has no area inside the image"),
        (("--box", VIEW, "70", "1", "90", "9"), "has no area inside the image"),
        (("--box", VIEW, "nan", "1", "9", "inf"), "box (nan, 1, 9, inf): give x0 y0 x1 y1"),
        ((*RED_TEXT, "--add", VIEW, "5", "-1"), "click (5, -1): outside of the image"),
        ((*RED_TEXT, "--add", VIEW, "0", "0"), f"click (0, 0) in {VIEW} to add: the pixel shows the background"),
        ((*RED_TEXT, "--remove", "nowhere.png", "1", "1"), "camera 'nowhere.png': no such image"),
        (("--click", VIEW, "0", "0", "--add", *PIXEL), "need something to change"),
        ((*RED_TEXT, "--add", *PIXEL, "--level", "7"), "--level 7"),
        (("--add", *PIXEL), "--add: has nothing to change"),
        (("--remove", *PIXEL), "--remove: has nothing to change"),
        ((*RED_TEXT, "--click", *PIXEL, "--selection", "a.npz", "--add", *PIXEL), "--add: could change each of the 3"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(command, options, words, config, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        ask(command, config, tmp_path / "out", *options)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 1 and last.startswith("error: ") and words in last
    assert not (tmp_path / "out").exists() and not edit_path(config).exists()


@pytest.mark.parametrize("command", ["query", "edit"])
def test_one_thing_at_a_time(command, config, tmp_path, capfd):
    for pair in (("--click", *PIXEL), ("--selection", "a.npz"), ("--box", VIEW, "1", "1", "9", "9")):
        with pytest.raises(SystemExit):
            ask(command, config, tmp_path / "out", *RED_TEXT, *pair)
        assert "with one of --text" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["render", "export"])
def test_further_clicks_need_one_thing_to_change(command, config, tmp_path, capfd):
    with pytest.raises(SystemExit):
        ask(command, config, tmp_path / "out", *RED_TEXT, "--text", "blue ball", "--add", *PIXEL)
    assert "--add: could change each of the 2 things" in capfd.readouterr().err


@pytest.mark.parametrize(("given", "count"), [((), 9), (("--max-views", "all"), 9), (("--max-views", "0"), 0),
                                              (("--max-views", "4"), 4)])  # fmt: skip
def test_how_many_views_are_drawn(config, tmp_path, given, count):
    ask("query", config, tmp_path, "--text", "red ball", *given)
    assert (tmp_path / "selection.npz").exists()
    for part in ("masks", "overlays"):
        assert len(list((tmp_path / part).glob("*.png"))) == count


@pytest.mark.parametrize(
    ("views", "count", "chosen"), [(30, 12, 12), (30, "all", 30), (30, 0, 0), (3, 12, 3), (30, 1, 1)]
)
def test_views_are_spread_over_the_capture(views, count, chosen):
    from ag2_ns.cli.query import spread

    found = spread(list(range(views)), count)
    assert len(found) == chosen == len(set(found)) and found == sorted(found)
    if chosen > 1:
        assert found[0] == 0 and found[-1] == views - 1
        steps = np.diff(found)
        assert steps.max() - steps.min() <= 1


def test_a_negative_number_of_views(config, tmp_path, capfd):
    with pytest.raises(SystemExit):
        ask("query", config, tmp_path / "out", "--text", "red ball", "--max-views", -1)
    assert "--max-views -1: give a number of views, 0 for none, or all" in capfd.readouterr().err


COMMANDS_ONLY = """
import sys
from ag2_ns.cli.main import main
config, out = sys.argv[1:]
text = ["--load-config", config, "--text", "red ball"]
main(["query", *text, "--output-dir", out + "/q", "--max-views", "1"])
main(["edit", *text, "--delete"])
main(["edit", "--load-config", config, "--clear"])
main(["render", *text, "--output-path", out + "/f", "--frames", "1"])
main(["export", *text, "--output-dir", out + "/e"])
main(["eval", "--load-config", config, "--ground-truth", out + "/truth", "--output-dir", out + "/v"])
print("loaded:", sorted({name.partition(".")[0] for name in sys.modules} & {"nerfstudio", "viser"}))
"""


@pytest.mark.slow
def test_commands_on_a_scene_never_load_nerfstudio(config, tmp_path):
    (tmp_path / "truth" / "ids").mkdir(parents=True)
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "truth" / "ids" / VIEW)
    (tmp_path / "truth" / "labels.json").write_text('{"1": "red ball"}')
    command = [sys.executable, "-c", COMMANDS_ONLY, str(config), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "loaded: []"
    for name in ("q/selection.npz", "f/00000.png", "e/labels.json", "v/report.json"):
        assert (tmp_path / name).is_file(), name
