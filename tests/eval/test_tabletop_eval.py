import json

import numpy as np
import pytest
import torch
from flat_scene import HEIGHT, WIDTH, view, wall
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval import tabletop
from ag2_ns.eval.metrics import boundary_iou, iou
from ag2_ns.eval.tabletop import MIN_PIXELS, compared, evaluate_selections, labelled_views, read_ground_truth
from ag2_ns.rendering.cpu import CpuRasterizer

LEFT, RIGHT, SPECK, UNSEEN = 1, 2, 3, 9


def ids() -> np.ndarray:
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    out[:, : WIDTH // 2], out[:, WIDTH // 2 :] = LEFT, RIGHT
    out[0, -1] = SPECK
    return out


@pytest.fixture
def truth(tmp_path):
    (tmp_path / "ids").mkdir()
    for name in ("a", "b"):
        Image.fromarray(ids()).save(tmp_path / "ids" / f"{name}.png")
    labels = {LEFT: "left wall", RIGHT: "right wall", SPECK: "speck", UNSEEN: "unseen"}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return read_ground_truth(tmp_path)


def select(mask: torch.Tensor, anchors: torch.Tensor | None = None) -> Selection:
    anchors = torch.ones(1, dtype=torch.bool) if anchors is None else anchors
    return Selection(torch.ones(1), anchors, mask, "", 0.9, (0,), 0.5)


def evaluate(truth, selections, views=None):
    labels = sorted(truth.labels.items())
    views = [("a.png", view()), ("b.png", view()), ("c.png", view())] if views is None else views
    return evaluate_selections(wall(), selections, labels, truth, views, CpuRasterizer())


def test_right_selections_score_one_and_missing_ones_zero(truth):
    left = wall().means[:, 0] < 0
    none = torch.zeros_like(left)
    report = evaluate(truth, [select(left), None, select(none, none[:1]), None])
    by_label = {p.label: p for p in report.prompts}
    assert by_label["left wall"].miou > 0.95 and not by_label["left wall"].missing
    assert by_label["left wall"].view == ["a.png", "b.png"], "c has no ground truth"
    assert by_label["right wall"].iou == [0.0, 0.0] and by_label["right wall"].missing
    content = report.as_dict()
    assert content["mean_over_prompts"]["miou"] == pytest.approx(by_label["left wall"].miou / 2)
    assert content["mean_over_prompts"]["acc50"] == 0.5
    assert content["missing"] == 3
    assert content["prompts"][-1]["label"] == "left wall", "worst first"


def test_a_selection_of_everything_scores_its_share(truth):
    everything = torch.ones(len(wall()), dtype=torch.bool)
    report = evaluate(truth, [select(everything)] * 4)
    left = next(p for p in report.prompts if p.label == "left wall")
    assert left.miou == pytest.approx(0.5, abs=0.02)
    assert left.boundary_iou[0] < 0.9


def test_objects_that_are_too_small_do_not_count(truth):
    assert (ids() == SPECK).sum() < MIN_PIXELS * ids().size / (640 * 480)
    report = evaluate(truth, [None] * 4)
    shown = {p.label for p in report.prompts if p.iou}
    assert shown == {"left wall", "right wall"}
    assert report.as_dict()["mean_over_prompts"]["miou"] == 0


class Counting(CpuRasterizer):
    """Notes how many sets each pass draws."""

    def __init__(self):
        self.passes = []

    def rasterize(self, means, quats, scales, opacities, values, view, **options):
        self.passes.append(values.shape[1])
        return super().rasterize(means, quats, scales, opacities, values, view, **options)


def ragged(count: int) -> torch.Tensor:
    """Sets of Gaussians with rough outlines. [N, S]"""
    x = wall().means[:, 0]
    return torch.stack([(x < 0.3 * torch.randn(len(x), generator=torch.manual_seed(s))) for s in range(count)], 1)


def compare(truth, chosen, numbers, **options) -> tuple[list, list[int]]:
    backend, views = Counting(), [("a.png", view()), ("b.png", view())]
    return compared(wall(), chosen, numbers, truth, views, backend, **options), backend.passes


def test_the_scores_are_those_of_each_mask_alone(truth):
    chosen = ragged(4)
    numbers = [LEFT, RIGHT, LEFT, SPECK]
    scores, passes = compare(truth, chosen, numbers)
    scene = wall()
    drawn = CpuRasterizer().rasterize(
        scene.means, scene.quats, scene.scales, scene.opacities, chosen.float(), view()
    ).values  # fmt: skip
    for k, number in enumerate(numbers[:3]):
        pair = (drawn[..., k] > 0.5).numpy(), ids() == number
        assert scores[k] == (["a.png", "b.png"], [iou(*pair)] * 2, [boundary_iou(*pair)] * 2)
    assert scores[3] == ([], [], []) and passes == [3, 3], "no view shows the speck well"


def test_equal_sets_are_drawn_once_and_batches_change_nothing(truth, monkeypatch):
    chosen, numbers = ragged(3)[:, [0, 1, 0, 2, 0]], [LEFT, LEFT, RIGHT, RIGHT, LEFT]
    scores, passes = compare(truth, chosen, numbers)
    assert passes == [3, 3] and scores[0] == scores[4] != scores[2]
    monkeypatch.setattr(tabletop, "BATCH", 2 * ids().size)
    again, passes = compare(truth, chosen, numbers)
    assert again == scores and passes == [2, 2, 2, 2]
    monkeypatch.setattr(tabletop, "BATCH", 0)
    again, passes = compare(truth, chosen, numbers)
    assert again == scores and passes == [1] * 8


def test_what_is_known_is_not_drawn_again(truth):
    chosen, known = ragged(3), {}
    first, _ = compare(truth, chosen[:, :2], [LEFT, RIGHT], known=known)
    done = []
    again, passes = compare(truth, chosen[:, [1, 0]], [RIGHT, LEFT], known=known, progress=done.append)
    assert again == first[::-1] and passes == [] and done == [1, 2]
    more, passes = compare(truth, chosen, [LEFT, LEFT, RIGHT], known=known)
    assert more[0] == first[0] and passes == [2, 2], "the second set is new to the left wall"
    assert more == compare(truth, chosen, [LEFT, LEFT, RIGHT])[0]


def test_ids_are_read_once_while_they_fit(truth, monkeypatch):
    first = truth.ids("a")
    truth.files["a"].unlink()
    assert np.array_equal(truth.ids("a"), first) and first.dtype == np.int64
    first[:] = 0
    assert truth.ids("a").any(), "a copy"
    monkeypatch.setattr(tabletop, "KEPT", 2 * ids().size - 1)
    truth.ids("b")
    truth.files["b"].unlink()
    with pytest.raises(UserError, match=r"b\.png: not a readable image"):
        truth.ids("b")


def test_sizes_must_agree(truth):
    small = View(view().viewmat, view().K, WIDTH // 2, HEIGHT)
    with pytest.raises(UserError, match=r"a\.png: 64x48 pixels where the camera has 32x48"):
        evaluate(truth, [None] * 4, [("a.png", small)])


def test_ids_in_folders_belong_to_the_images_there(truth):
    ids = truth.folder / "ids"
    for side, name in (("left", "a.png"), ("right", "b.png")):
        (ids / side).mkdir()
        (ids / name).rename(ids / side / "shot 1.png")
    again = read_ground_truth(truth.folder)
    names = [name for _, name, _, _ in labelled_views(again, [(f"{s}/shot 1.png", view()) for s in ("left", "up")])]
    assert sorted(again.files) == ["left/shot 1", "right/shot 1"] and names == ["left/shot 1.png"]


def test_ids_in_folders_are_found_under_the_names_of_the_run(truth):
    from ag2_ns.eval.tabletop import named_like

    ids = truth.folder / "ids"
    (ids / "left").mkdir()
    (ids / "left" / "a.png").write_bytes((ids / "a.png").read_bytes())
    (ids / "b.png").rename(ids / "left" / "b.png")
    again = read_ground_truth(truth.folder)
    meant = {"left/a": ["a.jpg"], "a": ["a.jpg"], "left/b": ["b.jpg"], "c": ["c.jpg", "d/c.jpg"]}
    named = named_like(again, lambda stem: meant.get(stem, []))
    assert named.files["a"] == ids / "a.png" and named.files["b"] == ids / "left" / "b.png"
    assert [name for _, name, _, _ in labelled_views(named, [("b.jpg", view())])] == ["b.jpg"]


def test_ids_are_grey(truth):
    path = truth.folder / "ids" / "a.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(UserError, match=r"a\.png: has 3 channels"):
        evaluate(truth, [None] * 4, [("a.png", view())])


def test_names_must_agree(truth):
    with pytest.raises(UserError, match="none of its files is named like an image"):
        evaluate(truth, [None] * 4, [("x.png", view())])


def test_damaged_ground_truth(truth):
    folder = truth.folder
    (folder / "ids" / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        evaluate(truth, [None] * 4)
    for content in ("[]", "{", '{"one": "x"}'):
        (folder / "labels.json").write_text(content)
        with pytest.raises(UserError, match=r"labels\.json"):
            read_ground_truth(folder)
    (folder / "labels.json").write_text("{}")
    with pytest.raises(UserError, match="no labels"):
        read_ground_truth(folder)
    (folder / "labels.json").unlink()
    with pytest.raises(UserError, match="no such file"):
        read_ground_truth(folder)
