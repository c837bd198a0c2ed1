"""All protocols on a small wild world, lifted onto a stand-in for a splat: the small version of the benchmark suite."""

import json
import shutil

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import NamedView
from ag2_ns.eval.formats import read_benchmark
from ag2_ns.eval.report import write_report
from ag2_ns.eval.suite import evaluate, headline
from ag2_ns.ops.neighbours import radius_edges
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import build_index
from ag2_ns.splat.anchors import Anchors, voxel_groups
from ag2_ns.synthetic.stand_in import cameras, stand_in
from ag2_ns.synthetic.tabletop.generate import tabletop
from ag2_ns.synthetic.wild import WILD
from ag2_ns.synthetic.world import write_world

pytestmark = pytest.mark.slow


class Texts:
    """A closed list of texts."""

    def __init__(self, folder):
        self.rows = {k: torch.tensor(v) for k, v in json.loads((folder / "text_features.json").read_text()).items()}

    def encoder(self):
        return self

    def known_texts(self):
        return list(self.rows)

    def embed(self, text):
        return self.rows[text]

    def negatives(self):
        return torch.stack([self.rows[n] for n in NEGATIVES])


@pytest.fixture(scope="module")
def lifted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite") / "world"
    world = tabletop(seed=6, objects=6, views=8, width=160, height=120, noise=WILD)
    write_world(folder, world, WILD, 6, progress=False)
    splat = stand_in(world, 0.015, world.more["table_half"], 6)
    paths = sorted((folder / "images").glob("*.png"))
    views = tuple(NamedView(p.name, p.stem, "train", v) for p, v in zip(paths, cameras(world)))
    masks, features = [], []
    for path in sorted((folder / "masks_sparse").glob("*.pt")):
        masks.append(MaskSet.from_dense(torch.load(path, weights_only=True).to_dense().bool()))
        features.append(torch.load(folder / "clip_features" / path.name, weights_only=True).float())
    anchor = voxel_groups(splat.means, 0.04)
    count = torch.bincount(anchor)
    xyz = torch.zeros(len(count), 3).index_add_(0, anchor, splat.means) / count[:, None]
    edges = radius_edges(xyz, 0.08, 32)
    index = build_index(CpuRasterizer(), splat, anchor, xyz, edges, [v.view for v in views], masks, features)
    anchors = Anchors(xyz, torch.full((len(xyz), 1), 0.04), torch.zeros(len(xyz), 3))
    return folder, Scene(splat, anchors, anchor, 1.0, index, views, texts=Texts(folder))


def test_every_protocol(lifted, tmp_path):
    folder, scene = lifted
    benchmark = read_benchmark(folder / "ground_truth")
    saved = []
    found = evaluate(scene, benchmark, clicks=1, save=lambda *prediction: saved.append(prediction))
    assert set(found.results) == {"3d", "2d", "clicks", "instances", "parts", "groups", "absent"}
    head = headline(found.results)
    assert head["text mIoU"] > 0.4 and head["clicks"] > 0.35 and head["kept"] > 0.5 and head["rejected"] > 0.5
    assert all(0 <= v <= 1 for v in head.values()) and saved
    content = write_report(tmp_path, scene, benchmark, found, {"seed": 0})
    assert json.loads((tmp_path / "report.json").read_text())["headline"] == pytest.approx(content["headline"])
    assert (tmp_path / "plots.png").stat().st_size > 1000 and "device" in content
    again = evaluate(scene, benchmark, ("3d",))
    assert again.results["3d"] == found.results["3d"], "the same figures twice"


def test_what_cannot_be_measured(lifted, tmp_path):
    folder, scene = lifted
    benchmark = read_benchmark(folder / "ground_truth")
    with pytest.raises(UserError, match="unknown"):
        evaluate(scene, benchmark, ("4d",))
    with pytest.raises(UserError, match="does not allow it"):
        evaluate(scene, benchmark, ("scribbles",))
    from PIL import Image

    (tmp_path / "ids").mkdir()
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(tmp_path / "ids" / "frame_00001.png")
    (tmp_path / "labels.json").write_text('{"1": "red mug", "2": "red mug"}')
    found = evaluate(scene, read_benchmark(tmp_path), ("3d",))
    assert headline(found.results)["text mIoU"] == 0 and "labelled in no frame" in found.problems[0]


def test_a_capture_stands_for_its_ground_truth(lifted):
    folder, _ = lifted
    assert (folder / "text_features.json").exists() and read_benchmark(folder).folder == folder / "ground_truth"


def test_a_label_in_no_view_is_told_and_not_scored(lifted, tmp_path):
    folder, scene = lifted
    truth = shutil.copytree(folder / "ground_truth", tmp_path / "ground_truth")
    labels = json.loads((truth / "labels.json").read_text())
    ghost = json.loads((truth / "absent.json").read_text())[0]["text"]
    (truth / "labels.json").write_text(json.dumps(labels | {"4000": ghost}))
    found = evaluate(scene, read_benchmark(truth), ("3d",))
    assert any(f"{ghost!r}: labelled in no frame" in line for line in found.problems)
    views = {p["label"]: p["views"] for p in found.results["3d"]["share"]["prompts"]}
    scored = found.results["3d"]["share"]["mean_over_prompts"]["miou"]
    named = [p["miou"] for p in found.results["3d"]["share"]["prompts"] if p["views"]]
    assert views[ghost] == 0 and scored == pytest.approx(np.mean(named)), "it is listed, and counts for nothing"
