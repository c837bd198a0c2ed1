"""Labels in other projects' layouts: real files, what is damaged, and the way there and back."""

import json

import numpy as np
import pytest
from flat_scene import view
from PIL import Image
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.eval.benchmark import match_views
from ag2_ns.eval.formats import lerf_ovs, read_benchmark, write_prediction

BOX = np.zeros((48, 64), bool)
BOX[10:30, 5:25] = True


def save(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


SIZES = {"figurines": (728, 986), "ramen": (731, 988), "teatime": (730, 988), "waldo_kitchen": (725, 985)}
COUNTS = {"figurines": 11, "ramen": 8, "teatime": 7, "waldo_kitchen": 4}


@pytest.mark.parametrize("scene", SIZES)
def test_real_labels(scene):
    benchmark = read_benchmark(shared("lerf_ovs_labels") / scene)
    assert benchmark.format == "lerf-ovs" and len(benchmark.prompts) == COUNTS[scene] and not benchmark.problems
    (frame,) = benchmark.sizes
    assert benchmark.sizes[frame] == SIZES[scene]
    content = json.loads((benchmark.folder / f"{frame}.json").read_text())
    masks = benchmark.masks(frame)
    for thing in content[
        "objects"
    ]:  # the areas that the annotators' tool wrote, and the outline that is drawn with them
        points = np.array(thing["segmentation"])
        outline = np.abs(np.diff(points, axis=0, append=points[:1])).max(1).sum()
        assert masks[thing["category"]].sum() == pytest.approx(thing["area"] + outline / 2 + 1, rel=0.03)


def test_polygons_of_one_category_are_united_and_bad_ones_told(tmp_path):
    square = lambda x: [[x, 4], [x + 8, 4], [x + 8, 12], [x, 12]]  # noqa: E731
    objects = [{"category": "knife", "segmentation": square(2)}, {"category": "knife", "segmentation": square(30)}]
    objects += [
        {"category": "spoon", "segmentation": [[1, 1], [5, 5]]},
        {"category": "fork", "segmentation": square(60)},
    ]
    content = {"info": {"name": "a.jpg", "width": 64, "height": 48}, "objects": objects}
    (tmp_path / "a.json").write_text(json.dumps(content))
    benchmark = read_benchmark(tmp_path)
    assert benchmark.prompts == ("knife", "fork") and benchmark.masks("a")["knife"].sum() == 2 * 81
    assert "fewer than 3 points" in benchmark.problems[0] and "leaves the 64x48 picture" in benchmark.problems[1]
    assert lerf_ovs.boxes_of(tmp_path)["a"]["knife"] == [(2, 4, 10, 12), (30, 4, 38, 12)]


@pytest.mark.parametrize("text", ["{}", "no", '{"info": {"width": 0, "height": 3}, "objects": []}', '{"info": 3}'])
def test_damaged_labels(tmp_path, text):
    (tmp_path / "frame_00001.json").write_text(text)
    with pytest.raises(UserError, match=r"frame_00001.json"):
        read_benchmark(tmp_path)


def test_empty_labels(tmp_path):
    content = {"info": {"width": 4, "height": 3}, "objects": []}
    (tmp_path / "frame_00001.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="no labels in it"):
        read_benchmark(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_benchmark(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a ground truth that is known"):
        read_benchmark(tmp_path / "empty")


def test_folders_of_masks(tmp_path):
    save(tmp_path / "gt" / "frame_1" / "red mug.png", BOX)
    save(tmp_path / "gt" / "frame_1" / "red_mug.png", ~BOX)
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(tmp_path / "gt" / "frame_1" / "ghost.png")
    benchmark = read_benchmark(tmp_path)
    assert benchmark.format == "folders" and benchmark.masks("frame_1")["red mug"].all()
    assert "ghost" not in benchmark.masks("frame_1"), "grey levels up to 10 are outside"
    assert "two files for 'red mug'" in benchmark.problems[0]


def test_masks_of_one_frame_have_one_size(tmp_path):
    save(tmp_path / "frame_1" / "a.png", BOX)
    save(tmp_path / "frame_1" / "b.png", BOX[:20])
    with pytest.raises(UserError, match="differ in size"):
        read_benchmark(tmp_path)


def test_spin_nerf_and_lerf_mask(tmp_path):
    save(tmp_path / "truck" / "000_mask.png", BOX)
    benchmark = read_benchmark(tmp_path / "truck")
    assert benchmark.format == "spin-nerf" and benchmark.prompts == ("truck",)
    assert np.array_equal(benchmark.masks("000")["truck"], BOX)
    save(tmp_path / "m" / "test_mask" / "41" / "green apple.png", BOX)
    assert read_benchmark(tmp_path / "m").format == "lerf-mask"


def test_nvos(tmp_path):
    root = tmp_path / "llff"
    save(root / "scribbles" / "fern" / "pos_0.png", BOX)
    save(root / "scribbles" / "fern" / "neg_0.png", ~BOX)
    save(root / "masks" / "fern" / "IMG_4029_mask.png", BOX)
    with pytest.raises(UserError, match="reference_image/fern"):
        read_benchmark(root / "scribbles" / "fern")
    save(root / "reference_image" / "fern" / "IMG_4027.png", BOX)
    benchmark = read_benchmark(root / "scribbles" / "fern")
    assert (
        benchmark.format == "nvos" and benchmark.strokes.frame == "IMG_4027" and list(benchmark.sizes) == ["IMG_4029"]
    )
    assert np.array_equal(benchmark.strokes.positive, BOX) and np.array_equal(benchmark.masks("IMG_4029")["fern"], BOX)


@pytest.mark.parametrize("layout", ["folders", "spin-nerf", "lerf-ovs"])
def test_what_is_written_is_read_back(tmp_path, layout):
    write_prediction(layout, tmp_path / "thing", "frame_1", {"thing": BOX})
    benchmark = read_benchmark(tmp_path / "thing")
    assert np.array_equal(benchmark.masks("frame_1")["thing"], BOX)


def test_layouts_that_cannot_hold_it(tmp_path):
    with pytest.raises(UserError, match="one thing per folder"):
        write_prediction("spin-nerf", tmp_path, "f", {"a": BOX, "b": BOX})
    with pytest.raises(UserError, match="unknown layout"):
        write_prediction("video", tmp_path, "f", {"a": BOX})
    write_prediction("folders", tmp_path, "f", {"../a/b": BOX})
    assert [p.parent.name for p in tmp_path.rglob("*.png")] == ["f"]


def test_frames_of_another_scene_and_size(tmp_path):
    save(tmp_path / "a" / "thing.png", BOX)
    save(tmp_path / "b" / "thing.png", np.kron(BOX, np.ones((2, 2), bool)))
    save(tmp_path / "c" / "thing.png", BOX)
    benchmark = read_benchmark(tmp_path)
    with pytest.raises(UserError, match="another scene"):
        match_views(benchmark, [("other.png", view())])
    matched = match_views(benchmark, [("a.png", view()), ("b.png", view())])
    assert matched.missing == ("c",) and matched.resized == ("b",)
    assert matched.views["b"][1].width == 128 and float(matched.views["b"][1].K[0, 0]) == 2 * float(view().K[0, 0])
    save(tmp_path / "b" / "thing.png", np.ones((90, 64), bool))
    with pytest.raises(UserError, match="another picture"):
        match_views(read_benchmark(tmp_path), [("b.png", view())])
