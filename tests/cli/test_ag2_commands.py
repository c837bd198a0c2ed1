"""The `ag2` command's own jobs, end to end at tiny size: example, prepare, demo, lift, query, eval."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import mediapy
import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData
from tiny_run import HEIGHT, OBJECTS, VIEWS, WIDTH, ag2, nerfstudio_command, read_h264

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.ply import write_gaussians
from ag2_ns.io.selection_file import load_selection
from ag2_ns.io.view_store import Manifest
from ag2_ns.plugin.run import load_run

pytestmark = pytest.mark.slow


def answer(capfd) -> dict:
    """The JSON line that a query ends with."""
    return json.loads(capfd.readouterr().out.strip().splitlines()[-1])


def labels(scene: Path) -> dict[int, str]:
    return {int(k): v for k, v in json.loads((scene / "ground_truth" / "labels.json").read_text()).items()}


def object_label(scene: Path) -> tuple[int, str]:
    """The object that covers most pixels, not the table it stands on."""
    count = np.zeros(256, int)
    for path in sorted((scene / "ground_truth" / "ids").glob("*.png")):
        count += np.bincount(np.asarray(Image.open(path)).ravel().astype(int), minlength=256)
    known = {i: text for i, text in labels(scene).items() if "table" not in text}
    best = max(known, key=lambda i: count[i])
    return best, known[best]


def test_example(tmp_path):
    ag2("example", tmp_path / "s", "--objects", 2, "--views", 3, "--width", 48, "--height", 36, "--seed", 5)
    assert len(list((tmp_path / "s" / "images").iterdir())) == 3
    assert len(labels(tmp_path / "s")) >= 2
    for part in ("transforms.json", "ground_truth/ids", "masks_sparse", "clip_features", "text_features.json"):
        assert (tmp_path / "s" / part).exists(), part


def test_prepare_skips_what_is_valid(scene, capfd):
    before = {p: p.stat().st_mtime_ns for p in (scene / "ag2").rglob("*") if p.is_file()}
    ag2("prepare", scene, "--preview-every", 0)
    assert f"{VIEWS} valid already" in " ".join(capfd.readouterr().out.split())
    assert {p: p.stat().st_mtime_ns for p in (scene / "ag2").rglob("*") if p.is_file()} == before


def test_demo(scene, tmp_path, capfd):
    # In a process of its own, as a user does: what imports what first is part of it.
    options = ("--steps", 15, "--frames", 6, "--device", "cpu", "--output-dir", tmp_path)
    command = [sys.executable, "-m", "ag2_ns.cli.main", "demo", "--data", scene, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    (folder,) = (tmp_path / "scene" / "ag2aussian-small").iterdir()
    for word in ("psnr", "ssim", "gaussians", "anchors", "time: train", "ns-viewer --load-config"):
        assert word in out, word
    assert str(folder / "contact_sheet.png") in out and str(folder / "video.mp4") in out
    sheet = mediapy.read_image(folder / "contact_sheet.png")
    assert sheet.shape[1] >= 4 * WIDTH and sheet.std() > 10
    video = read_h264(folder / "video.mp4")
    assert video.shape == (6, HEIGHT, 2 * WIDTH, 3) and video[:, :, :WIDTH].std() > 5
    assert not [p for p in folder.iterdir() if p.name.startswith(".")], "nothing temporary is left"
    assert ag2_ns.open(folder).index is not None
    command = next(line for line in out.splitlines() if line.startswith("ask")).partition("ag2 ")[2]
    ag2(*shlex.split(command), "--max-views", 1)
    assert answer(capfd)["label"], "the suggested text is one that this scene knows"


def test_a_demo_without_a_video_reports_all_the_rest(scene, tmp_path, capfd, monkeypatch):
    def refuse(*_):
        raise UserError("no ffmpeg")

    monkeypatch.setattr("ag2_ns.plugin.pictures.render_video", refuse)
    ag2("demo", "--data", scene, "--steps", 5, "--device", "cpu", "--output-dir", tmp_path)
    out = capfd.readouterr().out
    assert "no video: no ffmpeg" in out and "video.mp4" not in out.replace("flight.mp4", "") and "psnr" in out


def test_demo_makes_its_own_scene(tmp_path, monkeypatch):
    from ag2_ns.plugin.main_job import Demo

    asked = {}

    def generate(out, **options):
        asked.update(options, out=out)
        raise KeyboardInterrupt

    monkeypatch.setattr("ag2_ns.synthetic.tabletop.generate.generate", generate)
    with pytest.raises(KeyboardInterrupt):
        Demo(output_dir=tmp_path, device="cpu", seed=3).main()
    assert asked["seed"] == 3 and asked["out"].parent == tmp_path and asked["views"] >= 20


# Queries.


def test_text_query(run, scene, tmp_path, capfd):
    identity, text = object_label(scene)
    ag2("query", "--load-config", run.config, "--text", text, "--output-dir", tmp_path, "--max-views", "all")
    found = answer(capfd)
    assert found["found"] and found["label"] == text and found["gaussians"] > 0 and found["reason"] == ""
    names = {p.stem for p in (scene / "images").iterdir()}
    for part in ("masks", "overlays"):
        assert {p.stem for p in (tmp_path / part).glob("*.png")} == names
    hits = selected = share = 0
    for path in sorted((tmp_path / "masks").glob("*.png")):
        mask = np.asarray(Image.open(path)) > 127
        truth = np.asarray(Image.open(scene / "ground_truth" / "ids" / path.name)) == identity
        hits, selected, share = hits + (mask & truth).sum(), selected + mask.sum(), share + truth.mean() / VIEWS
    assert hits / selected > max(0.5, 4 * share), "few steps give a rough shape, but in the right place"
    opened = ag2_ns.open(run.config)
    assert Manifest.from_bytes(opened.require_index().encoder) == FeatureStore.open(scene).manifest
    selection = load_selection(Path(found["selection"]), opened.fingerprint)
    assert int(selection.gaussian_mask.sum()) == found["gaussians"]


def test_standard_output_of_a_query_is_json_and_nothing_else(run, scene, tmp_path, capfd):
    args = ("--load-config", run.config, "--text", object_label(scene)[1], "--max-views", 1, "--output-dir", tmp_path)
    capfd.readouterr()
    ag2("query", *args)
    said = capfd.readouterr()
    assert json.loads(said.out)["found"] and said.out.count("\n") == 1


def test_other_commands_say_only_their_own_words(run, capfd):
    capfd.readouterr()
    ag2("edit", "--load-config", run.config, "--list")
    assert capfd.readouterr().out == "no edits\n"


def test_click_query(run, scene, tmp_path, capfd):
    identity, _ = object_label(scene)
    paths = sorted((scene / "ground_truth" / "ids").glob("*.png"))
    truth = {p.stem: np.asarray(Image.open(p)) == identity for p in paths}
    view = max(truth, key=lambda k: truth[k].sum())
    ys, xs = truth[view].nonzero()
    centre = int(np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2))
    x, y = int(xs[centre]), int(ys[centre])
    args = ("--load-config", run.config, "--click", view, x, y, "--max-views", 2, "--output-dir", tmp_path)
    ag2("query", *args)
    found = answer(capfd)
    assert found["found"] and found["level"] == 0.5
    assert len(list((tmp_path / "masks").glob("*.png"))) == 2


def test_all_takes_at_least_as_much(run, scene, tmp_path, capfd):
    _, text = object_label(scene)
    counts = []
    for extra in ((), ("--all",)):
        args = ("--load-config", run.config, "--text", text, "--max-views", 1, "--output-dir", tmp_path / str(extra))
        ag2("query", *args, *extra)
        counts.append(answer(capfd)["gaussians"])
    assert counts[1] >= counts[0] > 0


def test_eval(run, scene, tmp_path, capfd):
    args = ("--load-config", run.config, "--ground-truth", scene / "ground_truth", "--output-dir", tmp_path)
    ag2("eval", *args, "--predictions", "folders")
    report = json.loads((tmp_path / "report.json").read_text())
    texts = report["protocols"]["3d"]["share"]
    assert {p["label"] for p in texts["prompts"]} == set(labels(scene).values())
    for key in ("miou", "mbiou", "acc25", "acc50"):
        assert 0 <= texts["mean_over_prompts"][key] <= 1
    shown = [p for p in texts["prompts"] if p["views"]]
    assert len(shown) >= OBJECTS
    assert texts["mean_over_prompts"]["miou"] == pytest.approx(np.mean([p["miou"] for p in shown]))
    assert [p["miou"] for p in texts["prompts"]] == sorted(p["miou"] for p in texts["prompts"]), "worst first"
    assert report["headline"]["text mIoU"] == texts["mean_over_prompts"]["miou"]
    assert report["protocols"]["instances"]["objects"]["best_iou"] > 0.3
    assert (
        set(report["protocols"]) == {"3d", "2d", "clicks", "instances"} and "share of the pixel" in report["thresholds"]
    )
    rows = (tmp_path / "prompts.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(p["views"] for p in texts["prompts"])
    for name in ("worst_first.png", "plots.png"):
        assert mediapy.read_image(tmp_path / name).shape[2] >= 3
    assert list((tmp_path / "predictions").glob("*/*.png"))
    assert "mIoU" in capfd.readouterr().out


# Lifting.


def opens(config: Path, scene: Path, tmp_path: Path, capfd) -> dict:
    """The run answers a text and is measured by nerfstudio."""
    _, text = object_label(scene)
    args = ("--load-config", config, "--text", text, "--max-views", 1)
    capfd.readouterr()
    ag2("query", *args, "--output-dir", tmp_path / "query")
    found = answer(capfd)
    assert found["found"]
    nerfstudio_command("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    return json.loads((tmp_path / "eval.json").read_text())["results"]


def only_config(folder: Path) -> Path:
    (path,) = folder.rglob("config.yml")
    return path


@pytest.fixture(scope="module")
def trained(run):
    return load_run(run.config)


def test_lift_our_own_run(run, scene, tmp_path, capfd, trained):
    ag2("lift", "--load-config", run.config, "--output-dir", tmp_path / "out", "--device", "cpu")
    config = only_config(tmp_path / "out")
    results = opens(config, scene, tmp_path, capfd)
    lifted = load_run(config)
    assert torch.equal(lifted.scene.gaussians.means, trained.scene.gaussians.means), "the splat is not changed"
    assert torch.equal(lifted.scene.index.tree.parent, trained.scene.index.tree.parent), "nor what lifting finds in it"
    nerfstudio_command("ns-eval", "--load-config", run.config, "--output-path", tmp_path / "own.json")
    own = json.loads((tmp_path / "own.json").read_text())["results"]
    assert results["psnr"] == pytest.approx(own["psnr"], abs=1e-4)


def test_lifting_twice_in_one_second_keeps_both(run, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(
        "nerfstudio.engine.trainer.TrainerConfig.set_timestamp", lambda self: setattr(self, "timestamp", "now")
    )
    for more in ([], ["--grouping.piece", 0.2]):
        ag2("lift", "--load-config", run.config, "--output-dir", tmp_path / "out", "--device", "cpu", *more)
    first, second = sorted((tmp_path / "out").rglob("config.yml"))
    assert [p.parent.name for p in (first, second)] == ["now-lifted", "now-lifted-2"]
    assert all(len(list((p.parent / "nerfstudio_models").iterdir())) == 1 for p in (first, second))
    assert f"run        {second}" in capfd.readouterr().out
    assert len(ag2_ns.open(second).gaussians) == len(ag2_ns.open(first).gaussians)
    assert (ag2_ns.open(first).settings, ag2_ns.open(second).settings) == ({}, {"grouping": {"piece": 0.2}})


@pytest.mark.parametrize("instances", ["features", "both"])
def test_instances_from_the_features_of_a_run(instances, run, tmp_path, capfd, trained):
    """Clicks, boxes, pictures, checkpoint and export work alike, whatever instances are made from."""
    ag2(
        "lift",
        "--load-config",
        run.config,
        "--output-dir",
        tmp_path / "out",
        "--device",
        "cpu",
        "--instances",
        instances,
    )
    config = only_config(tmp_path / "out")
    lifted = load_run(config)
    scene = ag2_ns.open(config)
    index, model = scene.require_index(), lifted.model
    assert lifted.config.pipeline.model.instances == instances
    assert torch.equal(model.anchor_features(), trained.model.anchor_features()), "the features are those of the run"
    assert index.num_anchors == len(model.anchor_xyz) and len(index.tree.instances(0.5)) > 0 and index.has_language
    if instances == "features":
        assert torch.equal(index.gaussian_anchor, model.child_anchor), "no Gaussian changes its anchor"
    name = scene.of_split("train")[0].name
    picked = scene.select(click=(name, WIDTH / 2, HEIGHT / 2)).selection
    assert not picked.empty and int(picked.gaussian_mask.sum()) > 0
    assert not scene.select(box=(name, 0, 0, WIDTH, HEIGHT)).selection.empty
    outputs = model.eval().get_outputs_for_camera(lifted.pipeline.datamanager.train_dataset.cameras[:1])
    assert len(torch.unique((outputs["instance"] * 16).round().reshape(-1, 3), dim=0)) > 3
    ag2("export", "--load-config", config, "--all", "--format", "anchors", "--output-dir", tmp_path / "export")
    vertex = PlyData.read(str(tmp_path / "export" / "anchors.ply"))["vertex"]
    assert set(index.tree.instances(0.5).tolist()) >= set(vertex["label"].tolist()) - {-1}
    np.testing.assert_allclose(vertex["feature_1"], model.anchor_features()[:, 1].detach().numpy(), atol=1e-6)


def splatfacto_run(gaussians, scene: Path, folder: Path, source) -> Path:
    """A run of nerfstudio's own splatfacto that shows `gaussians`: its configuration and a checkpoint as it writes."""
    import yaml
    from nerfstudio.configs.method_configs import all_methods
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = deepcopy(all_methods["splatfacto"])
    config.data = config.pipeline.datamanager.data = scene
    config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(load_3D_points=True, eval_mode="interval")
    config.output_dir, config.experiment_name, config.timestamp = folder, "scene", "run"
    models = config.get_checkpoint_dir()
    models.mkdir(parents=True)
    (config.get_base_dir() / "config.yml").write_text(yaml.dump(config))
    trainable = {
        "means": gaussians.means,
        "scales": gaussians.scales.log(),
        "quats": gaussians.quats,
        "features_dc": gaussians.sh[:, 0],
        "features_rest": gaussians.sh[:, 1:],
        "opacities": gaussians.opacities.clamp(1e-6, 1 - 1e-6).logit()[:, None],
    }
    state = {f"_model.gauss_params.{k}": torch.nn.Parameter(v.clone()) for k, v in trainable.items()}
    state |= {"_model.camera_optimizer.pose_adjustment": torch.zeros(3, 6), "_model.lpips.net.lin0": torch.zeros(1)}
    schedulers = {"means": {"base_lrs": [np.float64(1.6e-4)], "_last_lr": [np.float64(1e-6)]}}
    content = {"step": 29999, "pipeline": state, "optimizers": {}, "schedulers": schedulers, "scalers": {}}
    torch.save(content, models / "step-000029999.ckpt")
    return config.get_base_dir() / "config.yml"


def test_lift_a_splatfacto_run(scene, tmp_path, capfd, trained):
    source = splatfacto_run(trained.scene.gaussians, scene, tmp_path / "splatfacto", trained)
    out = ("--output-dir", tmp_path / "out", "--device", "cpu")
    with pytest.raises(SystemExit):
        ag2("lift", "--load-config", source, "--instances", "features", *out)
    assert "only runs of ag2aussian have trained features" in capfd.readouterr().err
    ag2("lift", "--load-config", source, *out)
    config = only_config(tmp_path / "out")
    results = opens(config, scene, tmp_path, capfd)
    lifted = load_run(config)
    assert len(lifted.scene.gaussians) == len(trained.scene.gaussians)
    assert torch.allclose(lifted.scene.gaussians.means, trained.scene.gaussians.means, atol=1e-5)
    nerfstudio_command("ns-eval", "--load-config", trained.config_path, "--output-path", tmp_path / "own.json")
    own = json.loads((tmp_path / "own.json").read_text())["results"]
    assert results["psnr"] == pytest.approx(own["psnr"], abs=0.05)


def test_what_a_splatfacto_run_loses_is_said(scene, tmp_path, capfd, trained):
    from nerfstudio.configs.method_configs import all_methods

    from ag2_ns.plugin.lifting import dropped_settings

    assert dropped_settings(all_methods["splatfacto"].pipeline.model) == []
    source = splatfacto_run(trained.scene.gaussians, scene, tmp_path / "splatfacto", trained)
    text = source.read_text()
    assert "rasterize_mode: classic" in text and "mode: 'off'" in text and "use_bilateral_grid: false" in text
    text = text.replace("rasterize_mode: classic", "rasterize_mode: antialiased").replace("mode: 'off'", "mode: SO3xR3")
    source.write_text(text.replace("use_bilateral_grid: false", "use_bilateral_grid: true"))
    capfd.readouterr()
    ag2("lift", "--load-config", source, "--output-dir", tmp_path / "out", "--device", "cpu")
    said = capfd.readouterr().out.splitlines()
    for what in ("rasterize_mode antialiased", "camera_optimizer SO3xR3", "use_bilateral_grid"):
        assert len([line for line in said if line.startswith(f"{source}: {what} is dropped")]) == 1, said


def test_a_run_is_lifted_on_its_own_scene_only(run, scene, tmp_path, capfd):
    from ag2_ns.synthetic.tabletop.generate import generate

    def lift(data):
        ag2("lift", "--load-config", run.config, "--data", data, "--output-dir", tmp_path / "out", "--device", "cpu")

    def refused(data, words):
        capfd.readouterr()
        with pytest.raises(SystemExit):
            lift(data)
        assert words in capfd.readouterr().err and not (tmp_path / "out").exists()

    options = {"objects": OBJECTS, "views": VIEWS, "width": WIDTH, "height": HEIGHT, "progress": False}
    generate(tmp_path / "other", seed=5, **options)
    ag2("prepare", tmp_path / "other", "--preview-every", 0)
    refused(tmp_path / "other", f"{tmp_path / 'other'}: its cameras are not those of {run.config}")
    repainted = shutil.copytree(scene, tmp_path / "repainted", ignore=shutil.ignore_patterns("ag2"))
    for path in (repainted / "images").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path).convert("RGB"))).save(path)
    ag2("prepare", repainted, "--preview-every", 0)
    refused(repainted, f"does not look like the pictures of {repainted} (PSNR ")
    lift(shutil.copytree(scene, tmp_path / "moved"))
    assert ag2_ns.open(only_config(tmp_path / "out")).index is not None


def test_a_splatfacto_run_is_sent_to_lift(scene, tmp_path, capfd, trained):
    source = splatfacto_run(trained.scene.gaussians, scene, tmp_path / "splatfacto", trained)
    with pytest.raises(SystemExit):
        ag2("query", "--load-config", source, "--text", "mug", "--output-dir", tmp_path / "q")
    err = capfd.readouterr().err
    assert err.startswith("error: ") and "scene.safetensors: no such file" in err and "ag2 lift" in err
    moved = shutil.copytree(source.parent, tmp_path / "my runs")
    with pytest.raises(UserError, match="a run of splatfacto") as error:
        load_run(moved)
    assert f"`ag2 lift --load-config '{moved / 'config.yml'}'`" in str(error.value)


def test_a_ply_that_does_not_look_like_the_pictures_is_refused(scene, tmp_path, capfd, trained):
    write_gaussians(tmp_path / "piece.ply", trained.scene.gaussians[:3])
    with pytest.raises(SystemExit):
        ag2(
            "lift",
            "--ply",
            tmp_path / "piece.ply",
            "--data",
            scene,
            "--output-dir",
            tmp_path / "out",
            "--device",
            "cpu",
        )
    said = capfd.readouterr().err
    assert "piece.ply: looks like the pictures of" in said and "in no frame" in said and "--data" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("frame", ["run", "world"])
def test_lift_a_ply_in_either_frame(frame, scene, tmp_path, capfd, trained):
    from ag2_ns.export.frame import world_frame

    gaussians = trained.scene.gaussians
    if frame == "world":
        outputs = trained.pipeline.datamanager.train_dataparser_outputs
        gaussians = world_frame(outputs.dataparser_transform, float(outputs.dataparser_scale)).gaussians(gaussians)
        assert not torch.allclose(gaussians.means, trained.scene.gaussians.means, atol=0.05)
    write_gaussians(tmp_path / "splat.ply", gaussians)
    args = ("--ply", tmp_path / "splat.ply", "--data", scene, "--output-dir", tmp_path / "out", "--device", "cpu")
    capfd.readouterr()
    ag2("lift", *args)
    assert f"lies in the {frame} frame" in " ".join(capfd.readouterr().out.split())
    config = only_config(tmp_path / "out")
    opens(config, scene, tmp_path, capfd)
    means = ag2_ns.open(config).gaussians.means
    assert torch.allclose(means, trained.scene.gaussians.means, atol=1e-4)


def test_a_lifted_run_renders_and_exports(run, tmp_path):
    ag2("lift", "--load-config", run.config, "--output-dir", tmp_path / "out", "--device", "cpu")
    config = only_config(tmp_path / "out")
    args = ("--load-config", config, "--output-path", tmp_path / "v.mp4", "--interpolation-steps", 2)
    nerfstudio_command("ns-render", "interpolate", *args, "--rendered-output-names", "rgb", "instance")
    assert read_h264(tmp_path / "v.mp4").shape[1:] == (HEIGHT, 2 * WIDTH, 3)
    nerfstudio_command("ns-export", "gaussian-splat", "--load-config", config, "--output-dir", tmp_path)
    assert (tmp_path / "splat.ply").stat().st_size > 1000
