"""Further clicks and boxes, through every command that takes a selection, on balls whose instances are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_run import BLUE, BOTTOM, CENTRES, GREEN, HEIGHT, PLATE, RED, TOP, WIDTH, build
from PIL import Image
from plyfile import PlyData

from ag2_ns.cli.main import main
from ag2_ns.core.errors import UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.edit.edit_file import edit_path, load_edits
from ag2_ns.io.selection_file import load_selection
from ag2_ns.plugin.run import load_run
from ag2_ns.query.answer import refine, select

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
def run(config):
    return load_run(config)


@pytest.fixture(autouse=True)
def plain(monkeypatch, config):
    monkeypatch.delenv("AG2_QUERY", raising=False)
    yield
    edit_path(config).unlink(missing_ok=True)


def at(run, ball: str, name: str = VIEW, up: float = 0.0) -> tuple[str, float, float]:
    """The pixel of a ball's middle, or of a point above it."""
    view = run.view(name)
    point = torch.tensor(CENTRES[ball]) + torch.tensor([0, 0, up])
    x, y, z = (view.K @ (view.viewmat[:3, :3] @ point + view.viewmat[:3, 3])).tolist()
    return name, round(x / z), round(y / z)


def around(run, ball: str, name: str = VIEW, margin: int = 7) -> tuple[str, float, float, float, float]:
    _, x, y = at(run, ball, name)
    return name, x - margin, y - margin, x + margin, y + margin


def gaussians(run, *nodes: int) -> torch.Tensor:
    """Those of some instances, one by one; every anchor carries one Gaussian."""
    leaf = run.index.tree.anchor_node.tolist()
    inside = {RED: {TOP, BOTTOM}}
    wanted = set().union(*(inside.get(node, {node}) for node in nodes))
    return torch.tensor([node in wanted for node in leaf])


def ask(command: str, config, out, *options: object) -> None:
    rest = [o.format(out) for o in COMMANDS[command]]
    main([command, "--load-config", str(config), *rest, *map(str, options)])


def queried(run, tmp_path, capfd, *options: object) -> tuple[dict, torch.Tensor]:
    """The JSON answer and the Gaussians of one query."""
    capfd.readouterr()
    ask("query", run.config_path, tmp_path, *options, "--max-views", 1)
    answer = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    return answer, load_selection(tmp_path / "selection.npz", run.index).gaussian_mask


def edit(config, *options: object) -> None:
    main(["edit", "--load-config", str(config), "--no-cleanup", *map(str, options)])


# In Python.


def test_clicks_add_and_then_take_away(run):
    red = select(run, click=at(run, "red"))
    both = refine(run, red, add=[at(run, "green", OTHER), at(run, "blue")], remove=[at(run, "green")])
    assert torch.equal(both.gaussian_mask, gaussians(run, RED, BLUE))
    assert both.label == "red ball + green ball + blue ball" and both.nodes == (RED, BLUE)
    assert refine(run, red) is red


def test_parts_are_taken_from_an_object(run):
    red = select(run, text="red ball")
    kept = refine(run, red, remove=[at(run, "red", up=0.05)], level=0.0)
    assert torch.equal(kept.gaussian_mask, gaussians(run, BOTTOM))
    gone = refine(run, red, remove=[at(run, "red")])
    assert gone.empty and gone.reason == "everything selected was removed again"
    same = refine(run, red, remove=[at(run, "blue")])
    assert torch.equal(same.gaussian_mask, red.gaussian_mask)


@pytest.mark.parametrize(("ball", "node"), [("red", RED), ("green", GREEN), ("blue", BLUE)])
def test_a_box_takes_the_ball_that_it_is_drawn_around(run, ball, node):
    for name in (VIEW, OTHER):
        found = select(run, box=around(run, ball, name))
        assert torch.equal(found.gaussian_mask, gaussians(run, node)) and found.label == f"{ball} ball"


def test_what_makes_no_sense_in_python(run):
    red = select(run, text="red ball")
    with pytest.raises(UserError, match=r"either a text .* a click .* or a box"):
        select(run, text="red ball", box=around(run, "red"))
    with pytest.raises(UserError, match=r"--add view_01\.png 0 0: the pixel shows the background"):
        refine(run, red, add=[(VIEW, 0, 0)])
    with pytest.raises(UserError, match="need something to change"):
        refine(run, select(run, click=(VIEW, 0, 0)), add=[at(run, "red")])


@pytest.fixture
def repeated(run, monkeypatch):
    """The run, where two images of different splits have one name in two folders of the scene."""
    manager = run.pipeline.datamanager
    names = {"train": run.views("train"), "eval": run.views("eval")}
    for side, dataset in (("left", manager.train_dataset), ("right", manager.eval_dataset)):
        files = list(dataset.image_filenames)
        files[0] = files[0].parent / side / "shot 1.png"
        monkeypatch.setattr(dataset._dataparser_outputs, "image_filenames", files)
    return names


def test_names_that_repeat_are_told_apart_by_their_folders(run, repeated, tmp_path, capfd):
    named = dict(run.views("train") + run.views("eval"))
    assert len(named) == sum(map(len, repeated.values()))
    for side, split in (("left", "train"), ("right", "eval")):
        (_, expected), *_ = repeated[split]
        for name in (f"{side}/shot 1.png", f"{side}/shot 1"):
            assert torch.equal(run.view(name).viewmat, expected.viewmat)
    with pytest.raises(UserError, match=r"'shot 1': 2 images are called so; say which: left/shot 1.png, right/shot 1"):
        run.view("shot 1")


def test_unique_names_may_come_with_their_folders(run, monkeypatch):
    """images/left/view_02.png is view_02, view_02.png, left/view_02.png and images/left/view_02.png."""
    dataset = run.pipeline.datamanager.train_dataset
    files = [
        f.parent / side / f.name for f, side in zip(dataset.image_filenames, ["left", "le", "deep/left", *"abcdefgh"])
    ]
    before = run.views("train")
    monkeypatch.setattr(dataset._dataparser_outputs, "image_filenames", files[: len(before)])
    assert [name for name, _ in run.views("train")] == [name for name, _ in before], "bare names are unique"
    for file, (name, view) in zip(files, before):
        path = file.relative_to(file.parents[len(file.parts) - file.parts.index("images") - 2])
        stem = path.with_suffix("").as_posix()
        for given in (name, name[:-4], path.as_posix(), stem, f"images/{stem}", f"./images_4/{path}"):
            assert torch.equal(run.view(given).viewmat, view.viewmat), given
    for given in ("eft/" + before[0][0], "right/" + before[0][0], "left/" + before[1][0]):
        with pytest.raises(UserError, match="no such image"):
            run.view(given)
    assert before[0][0] == VIEW
    assert select(run, click=(f"left/{VIEW}", *at(run, "red")[1:])).nodes == (RED,)


def test_a_bare_name_that_is_unique_works_where_others_repeat(run, repeated):
    name, view = repeated["train"][1]
    assert torch.equal(run.view(name).viewmat, view.viewmat) and torch.equal(run.view(name[:-4]).viewmat, view.viewmat)


# As commands.


def test_an_evaluation_takes_ids_in_the_folders_of_the_images(config, tmp_path):
    (tmp_path / "ids" / "images").mkdir(parents=True)
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "ids" / "images" / VIEW)
    (tmp_path / "labels.json").write_text('{"1": "red ball"}')
    main(["eval", "--load-config", str(config), "--ground-truth", str(tmp_path), "--output-dir", str(tmp_path / "e")])
    assert json.loads((tmp_path / "e" / "report.json").read_text())["prompts"][0]["views"] == 1


def test_a_query_with_further_clicks(run, tmp_path, capfd):
    further = ("--add", *at(run, "green"), "--add", *at(run, "blue", OTHER), "--remove", *at(run, "green", OTHER))
    for k, start in enumerate((("--click", *at(run, "red")), ("--text", "red ball"), ("--box", *around(run, "red")))):
        answer, mask = queried(run, tmp_path / str(k), capfd, *start, *further)
        assert torch.equal(mask, gaussians(run, RED, BLUE))
        assert answer["found"] and answer["nodes"] == [RED, BLUE] and answer["gaussians"] == int(mask.sum())
        assert answer["label"] == "red ball + green ball + blue ball"
    answer, mask = queried(
        run, tmp_path / "file", capfd, "--selection", tmp_path / "0" / "selection.npz", "--remove", *at(run, "red")
    )
    assert torch.equal(mask, gaussians(run, BLUE)) and answer["nodes"] == [BLUE]


def test_the_answer_of_one_click_is_what_it_was(run, tmp_path, capfd):
    answer, mask = queried(run, tmp_path, capfd, "--click", *at(run, "green"))
    assert list(answer) == [
        "label", "found", "reason", "score", "level", "nodes", "anchors", "gaussians", "selection",
    ]  # fmt: skip
    assert answer["level"] == 0.5 and answer["reason"] == "" and torch.equal(mask, gaussians(run, GREEN))


def test_removing_everything_is_an_answer(run, tmp_path, capfd):
    answer, mask = queried(run, tmp_path, capfd, "--click", *at(run, "red"), "--remove", *at(run, "red", OTHER))
    assert not answer["found"] and "removed again" in answer["reason"] and not mask.any()


def test_an_edit_of_what_clicks_and_boxes_pick(run, tmp_path):
    def edited(*options):
        ask("edit", run.config_path, tmp_path, *options)
        fingerprint = Fingerprint.of(len(run.gaussians), run.model.anchor_xyz)
        return load_edits(edit_path(run.config_path), fingerprint).edits[-1].members.mask()

    mask = edited("--click", *at(run, "red"), "--add", *at(run, "blue"))
    assert torch.equal(mask.bool(), gaussians(run, RED, BLUE))
    assert torch.equal(edited("--box", *around(run, "green")).bool(), gaussians(run, GREEN))


def test_clicks_boxes_and_pictures_see_the_scene_as_edited(run, config, tmp_path, capfd):
    name, x, y = at(run, "red")
    _, x_up, y_up = at(run, "red", up=0.3)
    edit(config, "--text", "red ball", "--move", 0, 0, 0.3)
    moved, red = load_run(config), gaussians(run, RED)
    assert torch.equal(select(moved, click=(name, x_up, y_up)).gaussian_mask, red)
    assert not (select(moved, click=(name, x, y)).gaussian_mask & red).any()
    framed = select(moved, box=(name, x_up - 7, y_up - 9, x_up + 7, y_up + 7))
    assert torch.equal(framed.gaussian_mask, red)
    _, mask = queried(run, tmp_path, capfd, "--text", "red ball", "--max-views", 0)
    assert torch.equal(mask, red)
    picture = np.asarray(Image.open(tmp_path / "masks" / f"{Path(name).stem}.png"))
    assert picture[int(y_up), int(x_up)] == 255 and picture[int(y), int(x)] == 0
    ask("export", config, tmp_path / "trained", "--click", name, x, y, "--no-edits")
    assert (tmp_path / "trained" / "red-ball.ply").is_file()


def test_pictures_of_an_older_answer_do_not_stay(run, tmp_path, capfd):
    queried(run, tmp_path, capfd, "--text", "red ball", "--max-views", 3)
    (tmp_path / "masks" / "mine.png").write_bytes(b"")
    queried(run, tmp_path, capfd, "--text", "green ball")
    assert len(list((tmp_path / "masks").iterdir())) == 2 and (tmp_path / "masks" / "mine.png").exists()
    assert len(list((tmp_path / "overlays").iterdir())) == 1


def test_a_text_for_what_edits_removed_says_so(run, config, tmp_path, capfd):
    edit(config, "--text", "red ball", "--delete")
    found, mask = queried(run, tmp_path, capfd, "--text", "red ball")
    assert found["found"] and "edits have removed it" in found["reason"] and torch.equal(mask, gaussians(run, RED))
    assert queried(run, tmp_path, capfd, "--text", "green ball")[0]["reason"] == ""


def test_a_clicked_copy_is_the_one_that_is_edited(run, config):
    name, x_up, y_up = at(run, "red", up=0.3)
    edit(config, "--text", "red ball", "--duplicate", "--move", 0, 0, 0.3)
    edit(config, "--click", name, x_up, y_up, "--recolour", 0, 1, 0)
    edit(config, "--click", *at(run, "red"), "--recolour", 0, 0, 1)
    edits = load_edits(edit_path(config), Fingerprint.of(len(run.gaussians), run.model.anchor_xyz)).edits
    assert [e.copy for e in edits[1:]] == [1, 0]


def test_a_video_of_what_clicks_and_boxes_pick(run, tmp_path, capfd):
    ask("render", run.config_path, tmp_path / "a", "--text", "red ball", "--add", *at(run, "blue"))
    assert "red ball + blue ball: score" in capfd.readouterr().out
    ask("render", run.config_path, tmp_path / "b", "--text", "blue ball", "--box", *around(run, "red"))
    out = capfd.readouterr().out
    assert out.index("blue ball: score") < out.index("red ball: score")


def test_an_export_of_what_clicks_and_boxes_pick(run, tmp_path):
    def count(path):
        return len(PlyData.read(str(path))["vertex"].data)

    out = tmp_path / "e"
    ask("export", run.config_path, out, "--box", *around(run, "red"), "--add", *at(run, "green"))
    assert count(out / "red-ball-green-ball.ply") == int(gaussians(run, RED, GREEN).sum())
    assert count(out / "rest.ply") == int(gaussians(run, BLUE, PLATE).sum())


def test_a_box_around_a_piece_and_the_shape_of_exported_boxes_are_two_options(run, tmp_path):
    shapes = {
        "a": ("--box-shape", "oriented"),
        "b": ("--box-shape", "oriented", "--box", *around(run, "red")),
        "c": (),
    }
    labels = {}
    for name, options in shapes.items():
        what = () if name == "b" else ("--text", "red ball")
        ask("export", run.config_path, tmp_path / name, *what, *options)
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
        ((*RED_TEXT, "--add", VIEW, "0", "0"), "--add view_01.png 0 0: the pixel shows the background"),
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
