"""scene.safetensors: what is written comes back, and what is no scene is refused in one line."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_run import RED, ball_anchors, blob_index
from random_gaussians import random_gaussians
from safetensors import safe_open
from safetensors.torch import save_file

import ag2_ns
from ag2_ns.core.errors import DamagedFile, MissingFile, MissingInstances, UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import NamedView, View
from ag2_ns.io.view_store import Manifest
from ag2_ns.language.field import LanguageField
from ag2_ns.language.vocabulary import Name, Vocabulary
from ag2_ns.ops.similarity import Similarity
from ag2_ns.scene.geometry import Facts, GeometryConfig, gather_facts
from ag2_ns.scene.scene import Scene, Source, WorldFrame
from ag2_ns.scene.scene_file import FILE_NAME, SCHEMA, open_scene, save_scene, scene_path
from ag2_ns.splat.anchors import Anchors

NAMES = [("left/shot 1.png", "left/shot 1", "train"), ("right/shot 1.png", "right/shot 1", "eval")]


def plain() -> Scene:
    """Only what every scene has."""
    xyz, _, _ = ball_anchors(torch.Generator().manual_seed(1))
    count = len(xyz)
    gaussians = replace(random_gaussians(count, degree=1), means=xyz)
    anchors = Anchors(xyz, torch.full((count, 1), 0.05), torch.randn(count, 3))
    return Scene(gaussians, anchors, torch.arange(count), 1.25)


def full(tmp_path) -> Scene:
    """A scene with every field set."""
    scene = plain()
    index = blob_index(*ball_anchors(torch.Generator().manual_seed(1))[:2])
    index = replace(index, encoder=Manifest("palette", {"dim": 8}, {}).to_bytes())
    g = torch.Generator().manual_seed(2)
    views = tuple(
        NamedView(*name, View(torch.randn(4, 4, generator=g), torch.rand(3, 3, generator=g), 64 + k, 48))
        for k, name in enumerate(NAMES)
    )
    angle = torch.tensor(0.3, dtype=torch.double)
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]], dtype=torch.double)
    frame = WorldFrame(
        Similarity(turn, 0.1 / 3, torch.rand(3, generator=g).double() / 3), (691_607.123456789, 1e-9, -3.0)
    )
    return replace(
        scene, index=index, views=views, background=torch.tensor([0.1, 0.2, 0.3]), sh_degree=1,
        source=Source(tmp_path / "my capture", 2.0), frame=frame, settings={"GroupingConfig": {"tau": 0.2}},
        language_field=LanguageField(
            torch.rand(5, 16, generator=g).half(), torch.rand(5, 8, generator=g).half(), 0.125, True
        ),
        provenance={"method": "ag2aussian", "steps": 7, "seconds": {"train": 1.5}, "note": "ça"},
        vocabulary=Vocabulary(
            ("red ball",), (Name(1, "red ball", 0.7, 3, 4),), torch.tensor([-1, 0, 0, 0, -1, -1, -1]), torch.eye(8)[:1],
            {"red ball": ("ball",)}, {"zebra": "hardly a view names it"},
        ),
        facts=gather_facts(index, scene.gaussians, config=GeometryConfig(near=0.8)),
    )  # fmt: skip


def same(a, b) -> bool:
    """Equal to the last bit, whatever it is made of."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Facts):
        assert vars(b).keys() >= {"gap", "over", "surface", "closest_boxes"}, "what is slow is read, not computed"
        return same(a.to_dict(), b.to_dict()) and a.config == b.config
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict) and isinstance(next(iter(a.values()), None), torch.Tensor):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple) and not isinstance(b, dict):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


IN_THE_FILE = [f.name for f in fields(Scene) if f.name not in ("path", "rasterizer_name", "texts")]


def test_every_field_comes_back(tmp_path):
    scene = full(tmp_path)
    assert all(getattr(scene, name) is not None for name in IN_THE_FILE), "a new field wants to be tested, too"
    save_scene(tmp_path / FILE_NAME, scene)
    again = open_scene(tmp_path / FILE_NAME, "cpu")
    for name in IN_THE_FILE:
        assert same(getattr(scene, name), getattr(again, name)), name
    assert again.path == tmp_path / FILE_NAME and again.fingerprint == scene.fingerprint
    assert again.texts is not None and Manifest.from_bytes(again.index.encoder).maker == "palette"
    assert [p.name for p in tmp_path.iterdir()] == [FILE_NAME], "nothing temporary is left"


def test_parts_that_a_writer_did_not_have_are_left_out(tmp_path):
    save_scene(tmp_path / FILE_NAME, plain())
    with safe_open(tmp_path / FILE_NAME, "pt") as file:
        assert {name.split(".")[0] for name in file.keys()} == {"gaussians", "anchors"}  # noqa: SIM118
    again = open_scene(tmp_path, "cpu")
    assert (again.index, again.views, again.background, again.source, again.frame, again.texts) == (
        None, (), None, None, None, None,
    )  # fmt: skip
    assert again.settings == {} and again.provenance == {} and again.sh_degree is None
    with pytest.raises(MissingInstances, match=r"scene\.safetensors: no instances yet; run `ag2 prepare DATA`"):
        again.require_index()


def test_tensors_that_share_memory_are_written(tmp_path):
    scene = plain()
    scene = replace(
        scene, anchors=replace(scene.anchors, xyz=scene.gaussians.means, feature=scene.gaussians.means[:, :2])
    )
    save_scene(tmp_path / FILE_NAME, scene)
    again = open_scene(tmp_path, "cpu")
    assert torch.equal(again.anchors.xyz, scene.anchors.xyz) and torch.equal(
        again.anchors.feature, scene.anchors.feature
    )


def rewritten(path: Path, change=lambda header: header, **tensors) -> None:
    """The file with another header, and further tensors."""
    with safe_open(path, "pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["scene"])
    save_file(content | tensors, path, {"scene": json.dumps(change(header))})


def test_what_a_newer_writer_added_is_ignored(tmp_path):
    save_scene(tmp_path / FILE_NAME, full(tmp_path))
    more = {"field.latent": torch.zeros(3), "gaussians.velocity": torch.ones(2), "index.depth": torch.ones(1)}
    rewritten(tmp_path / FILE_NAME, lambda header: header | {"vocabulary": ["mug"]}, **more)
    again = open_scene(tmp_path, "cpu")
    assert all(same(getattr(full(tmp_path), name), getattr(again, name)) for name in ("gaussians", "index", "views"))


def test_a_newer_schema_is_refused(tmp_path):
    save_scene(tmp_path / FILE_NAME, plain())
    rewritten(tmp_path / FILE_NAME, lambda header: header | {"schema": SCHEMA + 1})
    with pytest.raises(DamagedFile, match=rf"scene\.safetensors: .*newer.*schema {SCHEMA + 1}.*update ag2-ns"):
        open_scene(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file(share, tmp_path):
    path = tmp_path / FILE_NAME
    save_scene(path, plain())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        DamagedFile, match=r"scene\.safetensors: truncated or not a safetensors file.*ag2 lift"
    ) as error:
        open_scene(path)
    assert "\n" not in str(error.value)


def lacking(path):
    with safe_open(path, "pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys() if "quats" not in name}  # noqa: SIM118
        save_file(content, path, file.metadata())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"\x89PNG\r\n" * 9),
        lambda path: save_file({"weights": torch.ones(3)}, path),
        lambda path: save_file({"weights": torch.ones(3)}, path, {"scene": "no json"}),
        lambda path: save_file({"weights": torch.ones(3)}, path, {"scene": "[1]"}),
        lambda path: save_file({"weights": torch.ones(3)}, path, {"scene": '{"schema": "new"}'}),
        lambda path: rewritten(path, lambda header: header | {"extent": "large"}),
        lambda path: rewritten(path, lambda header: header | {"frame": {"rotation": 3}}),
        lacking,
    ],
)
def test_a_file_of_something_else(spoil, tmp_path):
    path = tmp_path / FILE_NAME
    save_scene(path, plain())
    spoil(path)
    with pytest.raises(DamagedFile, match=r"scene\.safetensors: .*(train again|ag2 lift)") as error:
        open_scene(path)
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_a_scene_is_named_by_its_file_its_folder_or_its_configuration(tmp_path):
    path = tmp_path / FILE_NAME
    save_scene(path, plain())
    (tmp_path / "config.yml").write_text("")
    for place in (path, tmp_path, tmp_path / "config.yml", str(tmp_path)):
        assert scene_path(place) == path and open_scene(Path(place), "cpu").path == path
    moved = path.rename(tmp_path / "kitchen.safetensors")
    assert open_scene(moved, "cpu").path == moved


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("run", r"scene\.safetensors: no such file; the run has not ended, or is of before.*ag2 lift"),
        ("run/config.yml", r"scene\.safetensors: no such file; the run has not ended, or is of before.*ag2 lift"),
        ("nowhere", "nowhere: no scene there; give a run's config.yml, its folder or its scene.safetensors"),
        ("nowhere/config.yml", "nowhere/config.yml: no scene there"),
        ("a.ply", "a.ply: no such file; give a run's config.yml"),
    ],
)
def test_where_no_scene_lies(place, words, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yml").write_text("")
    with pytest.raises(MissingFile, match=words) as error:
        open_scene(tmp_path / place)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tmp_path):
    save_scene(tmp_path / FILE_NAME, plain())
    with pytest.raises(UserError, match="cuda"):
        open_scene(tmp_path, "cuda")


@pytest.mark.gpu
def test_a_scene_opens_on_the_gpu(tmp_path):
    save_scene(tmp_path / FILE_NAME, full(tmp_path))
    scene = open_scene(tmp_path)
    tensors = (scene.gaussians.means, scene.anchors.xyz, scene.index.tree.parent, scene.views[0].view.K)
    assert scene.device.type == "cuda" and all(t.is_cuda for t in tensors)


def test_what_stops_the_writer_leaves_the_file_of_before(tmp_path, monkeypatch):
    save_scene(tmp_path / FILE_NAME, plain())
    before = (tmp_path / FILE_NAME).read_bytes()

    def stopped(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_scene(tmp_path / FILE_NAME, full(tmp_path))
    assert (tmp_path / FILE_NAME).read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_file_of_before(tmp_path):
    save_scene(tmp_path / FILE_NAME, plain())
    before = (tmp_path / FILE_NAME).read_bytes()
    code = (
        "import os, signal, sys; from pathlib import Path; from dataclasses import replace;"
        "from ag2_ns.scene.scene_file import open_scene, save_scene;"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL);"
        "path = Path(sys.argv[1]); save_scene(path, replace(open_scene(path, 'cpu'), extent=9.0))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / FILE_NAME)], timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / FILE_NAME).read_bytes() == before and open_scene(tmp_path, "cpu").extent == 1.25


ASK = """
import sys
import ag2_ns
scene = ag2_ns.open(sys.argv[1], "cpu")
found = scene.select(text="red ball")
print(found.selection.nodes, scene.render("view_01.png", found)["selection"].max().item() > 0.5)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"nerfstudio", "viser", "tyro"}))
"""


@pytest.mark.slow
def test_a_scene_is_opened_asked_and_drawn_without_nerfstudio(blob_run):
    done = subprocess.run([sys.executable, "-c", ASK, str(blob_run)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [f"({RED},) True", "[]"]


def test_a_run_and_its_scene_file_are_the_same(loaded, blob_run):
    live, opened = loaded.scene, ag2_ns.open(blob_run, "cpu")
    assert opened.fingerprint == live.fingerprint
    for f in fields(Gaussians):
        torch.testing.assert_close(getattr(opened.gaussians, f.name), getattr(live.gaussians, f.name))
    assert [(v.name, v.key, v.split) for v in opened.views] == [(v.name, v.key, v.split) for v in live.views]
    for a, b in zip(opened.views, live.views):
        torch.testing.assert_close(a.view.viewmat, b.view.viewmat)
        torch.testing.assert_close(a.view.K, b.view.K)
    assert same(opened.frame, live.frame) and opened.sh_degree == live.sh_degree and opened.source == live.source
    assert opened.provenance["method"] == "ag2aussian-small" and opened.provenance["ag2_ns"] == ag2_ns.__version__
