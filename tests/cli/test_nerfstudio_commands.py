"""Every ns-* command on a run of ours, at tiny size on the CPU."""

from __future__ import annotations

import gzip
import json
import math
import socket
import threading
import time
import types
import urllib.request

import mediapy
import numpy as np
import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from plyfile import PlyData
from tiny_run import HEIGHT, STEPS, VIEWS, WIDTH, nerfstudio_command, read_h264, small_config, trainer_of

from ag2_ns.core.errors import UserError
from ag2_ns.io.ply import read_gaussians

pytestmark = pytest.mark.slow

HELD_OUT = math.ceil(VIEWS / 8)


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


# Training.


@pytest.mark.slow
def test_ns_train_writes_a_run(run):
    assert "Training Finished" in run.process.out
    assert "Traceback" not in run.process.err + run.process.out
    state = load(run.checkpoint)
    assert state["step"] == STEPS - 1
    model = {k.removeprefix("_model."): v for k, v in state["pipeline"].items()}
    anchors, children = len(model["anchor_xyz"]), len(model["child_params.offset"])
    assert anchors < children <= 3 * anchors, "three children per anchor, less those that no view shows"
    assert int(model["schedule_length"]) == STEPS
    assert any(k.startswith("index.") for k in model), "the end of training lifts the prepared masks"
    assert (run.folder / "dataparser_transforms.json").is_file()
    assert not [k for k in model if "lpips" in k]


def test_times_are_logged_when_losses_are(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(run.folder))
    log.Reload()
    steps = [event.step for event in log.Scalars("Train Loss")]
    assert steps == list(range(0, STEPS, 10))
    assert [event.step for event in log.Scalars("Train Iter (time)")] == steps


def test_all_methods_and_the_dataparser_are_registered():
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_descriptions, all_methods

    for name in ("ag2aussian", "ag2aussian-small", "ag2aussian-published"):
        assert all_methods[name].method_name == name and "AG2aussian" in all_descriptions[name]
        assert set(all_methods[name].optimizers) >= {"offset", "sh_dc", "anchor_feature", "camera_opt"}
    assert "ag2-data" in all_dataparsers


def test_the_full_method_trains_with_other_budgets(scene, tmp_path):
    config = small_config(scene, tmp_path, steps=6, method="ag2aussian")
    config.pipeline.model.children_per_anchor = 2
    trainer = trainer_of(config)
    model = trainer.pipeline.model
    before = model.child_params["sh_dc"].detach().clone()
    trainer.train()
    assert config.method_name == "ag2aussian" and model.config.sh_degree == 3
    after = model.child_params["sh_dc"].detach()
    assert after.shape[1:] == before.shape[1:] and torch.isfinite(after).all()
    assert (trainer.checkpoint_dir / "step-000000005.ckpt").is_file()


def test_the_published_schedule_runs_through_and_its_regularisers_do_not_hurt(scene, tmp_path):
    """Every loss of it starts within these steps; depth distortion must not tear the scene apart."""
    psnr = {}
    for weight in (20.0, 0.0):
        config = small_config(scene, tmp_path / f"{weight:g}", steps=105, method="ag2aussian-published")
        config.pipeline.model.opacity_reset_every = 1000
        assert config.pipeline.model.distortion_weight == 20
        config.pipeline.model.distortion_weight = weight
        trainer = trainer_of(config)
        trainer.train()
        psnr[weight] = trainer.pipeline.get_average_eval_image_metrics()["psnr"]
    print(psnr)
    assert trainer.pipeline.model.scene_index().tree.num_nodes > 0, "super-anchors"
    assert psnr[20.0] > psnr[0.0] - 0.5


def test_unprepared_data_trains_colours_and_says_how_to_prepare(scene, tmp_path, capsys):
    config = small_config(scene, tmp_path, steps=2)
    config.pipeline.datamanager.use_masks = False
    trainer = trainer_of(config)
    trainer.train()
    assert trainer.pipeline.model.scene_index() is None
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("images", "transforms.json"):
        (bare / name).symlink_to(scene / name)
    config = small_config(bare, tmp_path / "two", steps=2)
    capsys.readouterr()
    trainer = trainer_of(config)
    trainer.train()
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("has no masks") == 1 and "ag2 prepare" in said and "--pipeline.datamanager.prepare True" in said
    assert trainer.pipeline.model.scene_index() is None


def test_prepare_on_the_way(scene, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("images", "transforms.json", "masks_sparse", "clip_features", "text_features.json"):
        (bare / name).symlink_to(scene / name)
    config = small_config(bare, tmp_path / "out", steps=2)
    config.pipeline.datamanager.prepare = True
    trainer = trainer_of(config)
    trainer.train()
    assert (bare / "ag2").is_dir()
    assert trainer.pipeline.model.scene_index() is not None


# Resuming.


@pytest.fixture
def growing(scene, tmp_path):
    """A configuration that grows anchors early."""

    def make(steps: int):
        config = small_config(scene, tmp_path / "out", steps=steps)
        model = config.pipeline.model
        model.schedule_steps, model.grow_from, model.grow_every, model.grow_until = 60, 10, 5, 55
        model.remove_invisible_at, model.resolution_schedule = (), 1
        model.growth = type(model.growth)(threshold=1e-7, min_seen=0)
        model.instances = "none"
        return config

    return make


def test_resume_continues_the_optimizers(growing):
    config = growing(30)
    first = trainer_of(config)
    started = len(first.pipeline.model.anchor_xyz)
    first.train()
    saved = load(first.checkpoint_dir / "step-000000029.ckpt")
    grown = saved["pipeline"]["_model.anchor_xyz"].shape[0]
    assert grown != started, "the test needs an anchor count that differs from the initial one"

    config = growing(7)
    config.load_dir = first.checkpoint_dir
    config.set_timestamp()
    config.timestamp += "-resumed"
    second = trainer_of(config)
    model = second.pipeline.model
    assert len(model.anchor_xyz) == grown and second._start_step == 30
    assert int(model.schedule_length) == 30, "the schedule of the first run stays"
    for group, optimizer in second.optimizers.optimizers.items():
        if group not in model.get_param_groups() or not saved["optimizers"][group]["state"]:
            continue
        (parameter,) = optimizer.param_groups[0]["params"]
        assert parameter is model.get_param_groups()[group][0], group
        kept = saved["optimizers"][group]["state"][0]
        for name in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.state[parameter][name], kept[name]), (group, name)
    loaded = model.child_params["sh_dc"].detach().clone()
    model.before_step(30)
    second.train_iteration(30)
    moved = model.child_params["sh_dc"].detach()
    assert (moved != loaded).any(dim=1).float().mean() > 0.5
    assert float(second.optimizers.optimizers["sh_dc"].state[model.child_params["sh_dc"]]["step"]) == 31
    second.train()
    assert load(second.checkpoint_dir / "step-000000036.ckpt")["step"] == 36


def test_resume_in_the_middle_of_the_features_schedule(growing):
    """Features, their moments and the graph go on; and instances are built from them."""

    def config_of(steps: int):
        config = growing(steps)
        model = config.pipeline.model
        model.schedule_steps, model.grow_until = 24, 8
        model.mask_loss_from, model.propagation_from, model.instances = 10, 12, "features"
        model.mask_loss_every = 1
        return config

    def mask_losses(trainer, start: int, count: int) -> list[float]:
        out = []
        for step in range(start, start + count):
            for callback in trainer.callbacks:
                callback.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
            _, losses, _ = trainer.train_iteration(step)
            for callback in trainer.callbacks:
                callback.run_callback_at_location(step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
            out.append(float(losses["mask"].detach()) if "mask" in losses else float("nan"))
            assert ("propagation" in losses) == (step >= 12), step
        return out

    first = trainer_of(config_of(24))
    first.pipeline.train()
    before = mask_losses(first, 0, 18)
    assert np.isnan(before[:10]).all() and np.isfinite(before[10:]).all()
    first.save_checkpoint(17)
    own = first.pipeline.model

    config = config_of(6)
    config.load_dir = first.checkpoint_dir
    config.timestamp += "-resumed"
    second = trainer_of(config)
    model = second.pipeline.model
    assert second._start_step == 18 and int(model.schedule_length) == 24
    feature = model.anchor_params["feature"]
    assert torch.equal(feature, own.anchor_params["feature"])
    mine, theirs = (
        t.optimizers.optimizers["anchor_feature"].state[m.anchor_params["feature"]]
        for t, m in ((second, model), (first, own))
    )
    for name in ("exp_avg", "exp_avg_sq", "step"):
        assert torch.equal(mine[name], theirs[name]), name
    assert float(mine["exp_avg"].abs().sum()) > 0 and int(mine["step"]) == 8
    second.pipeline.train()
    after = mask_losses(second, 18, 6)
    assert torch.equal(model.propagation_graph.edges, own.propagation_graph.edges)
    assert 0.7 * np.mean(before[15:]) < np.mean(after) < 1.3 * np.mean(before[15:]), "the loss goes on"
    second.pipeline.build_instances()
    assert model.scene_index() is not None and model.scene_index().tree.num_nodes > 0


def test_resuming_twice_equals_resuming_once(growing):
    """The state that a resumed run starts from does not depend on what the fresh model looked like."""
    first = trainer_of(growing(8))
    first.train()
    after = []
    for seed in (0, 1):
        config = growing(1)
        config.machine.seed = seed
        config.load_dir = first.checkpoint_dir
        config.timestamp += f"-{seed}"
        config.pipeline.model.max_initial_anchors = 100 + 50 * seed
        config.pipeline.model.background_color = "black"
        again = trainer_of(config)
        model = again.pipeline.model
        again.pipeline.datamanager.train_unseen_cameras = [0, 1]
        again.pipeline.train()
        model.before_step(8)
        again.train_iteration(8)
        after.append({k: v.detach().clone() for k, v in model.child_params.items()})
    for name, value in after[0].items():
        assert torch.allclose(value, after[1][name], atol=1e-6), name


# Evaluating.


def test_ns_eval(run, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    nerfstudio_command("ns-eval", "--load-config", run.config, "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["psnr"] > 8 and 0 < results["ssim"] <= 1
    assert not [k for k in results if "lpips" in k]
    said = capfd.readouterr().out
    assert said.count("LPIPS is left out") == 1
    assert not list(tmp_path.glob("torch/**/*.pth")), "nothing is downloaded"


def test_ns_eval_writes_pictures(run, tmp_path):
    args = (
        "--load-config",
        run.config,
        "--output-path",
        tmp_path / "eval.json",
        "--render-output-path",
        tmp_path / "p",
    )
    nerfstudio_command("ns-eval", *args)
    pictures = sorted((tmp_path / "p").glob("*.jpg")) + sorted((tmp_path / "p").glob("*.png"))
    assert len(pictures) >= HELD_OUT
    assert mediapy.read_image(pictures[0]).shape[0] == HEIGHT


# Rendering.


def test_ns_render_interpolate(run, tmp_path):
    args = ("--load-config", run.config, "--output-path", tmp_path / "flight.mp4", "--interpolation-steps", 3)
    names = ("--rendered-output-names", "rgb", "feature", "depth", "accumulation")
    nerfstudio_command("ns-render", "interpolate", *args, *names)
    video = read_h264(tmp_path / "flight.mp4")
    assert video.shape[1:] == (HEIGHT, 4 * WIDTH, 3)
    assert video[0, :, :WIDTH].std() > 5 and video[0, :, WIDTH : 2 * WIDTH].std() > 1


def camera_path(path, count=2, width=64, height=48):
    frames = []
    for k in range(count):
        pose = np.eye(4)
        pose[:3, 3] = (0.1 * k, 0.0, 1.0)
        frames.append({"camera_to_world": pose.flatten().tolist(), "fov": 60, "aspect": width / height})
    content = {"camera_type": "perspective", "render_height": height, "render_width": width, "camera_path": frames}
    path.write_text(json.dumps(content | {"fps": 24, "seconds": count / 24, "crop": None}))
    return path


def test_ns_render_camera_path_as_images(run, tmp_path):
    args = ("--load-config", run.config, "--camera-path-filename", camera_path(tmp_path / "path.json"))
    out = ("--output-path", tmp_path / "frames", "--output-format", "images", "--image-format", "png")
    nerfstudio_command("ns-render", "camera-path", *args, *out, "--rendered-output-names", "rgb", "depth")
    frames = sorted((tmp_path / "frames").glob("*.png"))
    assert len(frames) == 2 and mediapy.read_image(frames[0]).shape == (48, 128, 3)


def test_ns_render_rgba_has_the_opacity_as_alpha(run, tmp_path):
    args = ("--load-config", run.config, "--camera-path-filename", camera_path(tmp_path / "path.json", count=1))
    out = ("--output-path", tmp_path / "frames", "--output-format", "images", "--image-format", "png")
    nerfstudio_command("ns-render", "camera-path", *args, *out, "--rendered-output-names", "rgba")
    image = mediapy.read_image(tmp_path / "frames" / "00000.png")
    assert image.shape == (48, 64, 4) and image[..., 3].max() > 0


def test_ns_render_of_an_unknown_output_ends_with_an_error(run, tmp_path):
    args = ("--load-config", run.config, "--output-path", tmp_path / "x.mp4", "--rendered-output-names", "nonsense")
    with pytest.raises(SystemExit) as stop:
        nerfstudio_command("ns-render", "interpolate", *args)
    assert stop.value.code == 1


def test_ns_render_dataset(run, tmp_path):
    args = ("--load-config", run.config, "--output-path", tmp_path / "renders", "--image-format", "png")
    names = ("--rendered-output-names", "rgb", "gt-rgb", "raw-depth", "rgba", "feature")
    nerfstudio_command("ns-render", "dataset", *args, "--split", "train+test", *names)
    count = {s: len(list((tmp_path / "renders" / s / "rgb").glob("*.png"))) for s in ("train", "test")}
    assert count == {"train": VIEWS - HELD_OUT, "test": HELD_OUT}
    first = sorted((tmp_path / "renders" / "test" / "raw-depth").glob("*.npy.gz"))[0]
    with gzip.open(first) as file:
        depth = np.load(file)
    assert depth.shape == (HEIGHT, WIDTH, 1) and np.isfinite(depth).all()
    truth = mediapy.read_image(sorted((tmp_path / "renders" / "test" / "gt-rgb").glob("*.png"))[0])
    rgb = mediapy.read_image(sorted((tmp_path / "renders" / "test" / "rgb").glob("*.png"))[0])
    assert truth.shape == rgb.shape == (HEIGHT, WIDTH, 3)


def test_ns_render_dataset_renders_all_outputs_by_default(run, tmp_path):
    args = ("--load-config", run.config, "--output-path", tmp_path / "renders", "--image-format", "png")
    nerfstudio_command("ns-render", "dataset", *args)
    names = {p.name for p in (tmp_path / "renders" / "test").iterdir()}
    assert {"rgb", "gt-rgb", "feature", "depth", "accumulation"} <= names


def test_ns_render_spiral_is_refused_by_nerfstudio(run, tmp_path):
    """nerfstudio's spiral needs a datamanager of rays and asserts so, for splatfacto just as for us."""
    with pytest.raises(AssertionError):
        nerfstudio_command("ns-render", "spiral", "--load-config", run.config, "--output-path", tmp_path / "s.mp4")


# Exporting.


def test_ns_export_gaussian_splat(run, tmp_path):
    args = ("--load-config", run.config, "--output-dir", tmp_path)
    nerfstudio_command("ns-export", "gaussian-splat", *args)
    ours = read_gaussians(tmp_path / "splat.ply")
    vertex = PlyData.read(tmp_path / "splat.ply")["vertex"]
    state = {k.removeprefix("_model."): v for k, v in load(run.checkpoint)["pipeline"].items()}
    child = state["child_anchor"]
    means = state["anchor_xyz"][child] + state["anchor_radius"][child] * state["child_params.offset"]
    assert 0 < len(ours) == len(vertex) <= len(means)
    finite = (state["child_params.opacity_logit"] > -5.5373).squeeze(-1)  # nerfstudio drops what is under 1/255
    assert len(ours) == int(finite.sum())
    assert torch.allclose(ours.means, means[finite], atol=1e-5)
    opacity = torch.from_numpy(np.array(vertex["opacity"])).sigmoid()
    assert torch.allclose(opacity, state["child_params.opacity_logit"][finite].sigmoid().squeeze(-1), atol=1e-5)
    rest = [p.name for p in vertex.properties if p.name.startswith("f_rest")]
    assert len(rest) == 9 and ours.sh.shape[1] == 4


def test_the_exported_splat_opens_in_another_reader(run, tmp_path):
    o3d = pytest.importorskip("open3d")
    nerfstudio_command("ns-export", "gaussian-splat", "--load-config", run.config, "--output-dir", tmp_path)
    cloud = o3d.io.read_point_cloud(str(tmp_path / "splat.ply"))
    ours = read_gaussians(tmp_path / "splat.ply")
    assert np.allclose(np.asarray(cloud.points), ours.means.numpy(), atol=1e-5)


# The viewer.


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_ns_viewer_serves_its_page_and_a_connection(run, monkeypatch):
    from nerfstudio.scripts.viewer import run_viewer
    from websockets.sync.client import connect

    port, started, stop = free_port(), [], threading.Event()
    original = run_viewer.ViewerState

    def remember(*args, **kwargs):
        started.append(original(*args, **kwargs))
        return started[-1]

    def sleep(seconds):
        if stop.is_set():
            raise KeyboardInterrupt
        time.sleep(seconds)

    monkeypatch.setattr(run_viewer, "ViewerState", remember)
    monkeypatch.setattr(run_viewer, "time", types.SimpleNamespace(sleep=sleep))
    options = ("--viewer.websocket-port", port, "--viewer.websocket-host", "127.0.0.1")

    def serve():
        with pytest.raises(KeyboardInterrupt):
            nerfstudio_command("ns-viewer", "--load-config", run.config, *options)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        page, deadline = b"", time.monotonic() + 60
        while not page and time.monotonic() < deadline:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
            except OSError:
                assert thread.is_alive(), "ns-viewer ended"
                time.sleep(0.2)
        assert b"<html" in page.lower()
        with connect(f"ws://127.0.0.1:{port}", max_size=None) as socket_:
            assert len(socket_.recv(timeout=20)) > 0
    finally:
        stop.set()
        thread.join(20)
        for viewer in started:
            viewer.viser_server.stop()
    assert started and not thread.is_alive()


# Odd scenes and options.


def subset(scene, folder, views: int, change=lambda meta: None):
    """The first views of a scene, unprepared."""
    folder.mkdir()
    (folder / "images").symlink_to(scene / "images")
    meta = json.loads((scene / "transforms.json").read_text())
    (folder / meta["ply_file_path"]).symlink_to(scene / meta["ply_file_path"])
    meta["frames"] = meta["frames"][:views]
    change(meta)
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


@pytest.mark.parametrize("points", [True, False])
def test_two_views_train_and_grow(points, scene, tmp_path):
    """One of them is held out, so there is a single training camera and the scene's extent is not known from it."""
    folder = subset(scene, tmp_path / "two", 2, lambda meta: None if points else meta.pop("ply_file_path"))
    config = small_config(folder, tmp_path / "out", steps=16)
    model = config.pipeline.model
    model.schedule_steps, model.grow_from, model.grow_every, model.grow_until = 16, 2, 4, 14
    model.growth = type(model.growth)(threshold=1e-7, min_seen=0)
    model.remove_invisible_at = (10,)
    model.max_gaussians = 3000
    trainer = trainer_of(config)
    trainer.train()
    trained = trainer.pipeline.model
    assert 0 < trained.num_points <= 3000 + 5
    assert torch.isfinite(trained.gaussians().means).all()
    trainer.pipeline.eval()
    metrics = trainer.pipeline.get_average_eval_image_metrics()
    assert math.isfinite(metrics["psnr"])


def test_a_lens_and_nerfstudios_own_dataparser(scene, tmp_path):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    folder = subset(scene, tmp_path / "lens", VIEWS, lambda meta: meta.update(k1=0.1, k2=0.01))
    config = small_config(folder, tmp_path / "out", steps=3)
    config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(load_3D_points=True)
    trainer = trainer_of(config)
    trainer.train()
    config = trainer.config.get_base_dir() / "config.yml"
    nerfstudio_command("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    args = ("--load-config", config, "--output-path", tmp_path / "renders", "--rendered-output-names", "rgb", "gt-rgb")
    nerfstudio_command("ns-render", "dataset", *args)
    nerfstudio_command("ns-export", "gaussian-splat", "--load-config", config, "--output-dir", tmp_path)
    assert len(read_gaussians(tmp_path / "splat.ply")) > 0


def test_a_run_whose_images_are_gone_still_exports_and_renders(scene, tmp_path):
    folder = subset(scene, tmp_path / "s", VIEWS)
    trainer = trainer_of(small_config(folder, tmp_path / "out", steps=2))
    trainer.train()
    (folder / "images").unlink()
    args = ("--load-config", trainer.config.get_base_dir() / "config.yml")
    nerfstudio_command("ns-export", "gaussian-splat", *args, "--output-dir", tmp_path)
    assert len(read_gaussians(tmp_path / "splat.ply")) > 0
    path = ("--camera-path-filename", camera_path(tmp_path / "path.json"))
    nerfstudio_command("ns-render", "camera-path", *args, *path, "--output-path", tmp_path / "v.mp4")
    assert read_h264(tmp_path / "v.mp4").shape == (2, 48, 64, 3)
    with pytest.raises(UserError, match="restore the images folder"):
        nerfstudio_command("ns-eval", *args, "--output-path", tmp_path / "e.json")


def test_ns_train_load_dir_on_the_command_line(run, scene, tmp_path):
    from nerfstudio.utils import writer

    options = ("--data", scene, "--output-dir", tmp_path, "--timestamp", "more", "--vis", "tensorboard")
    options += ("--max-num-iterations", 3, "--machine.device-type", "cpu", "--load-dir", run.checkpoint.parent)
    options += ("--pipeline.datamanager.prepare", "False", "--pipeline.model.mask-loss", "none")
    try:
        nerfstudio_command("ns-train", "ag2aussian-small", *options, "ag2-data", "--eval-interval", 6)
    finally:
        writer.EVENT_WRITERS.clear()
    (path,) = (tmp_path / "scene" / "ag2aussian-small" / "more" / "nerfstudio_models").iterdir()
    state, old = load(path), load(run.checkpoint)
    assert state["step"] == STEPS + 2
    assert int(state["pipeline"]["_model.schedule_length"]) == STEPS
    name = "_model.child_params.sh_dc"
    assert state["pipeline"][name].shape == old["pipeline"][name].shape
    assert not torch.equal(state["pipeline"][name], old["pipeline"][name])
    step = state["optimizers"]["sh_dc"]["state"][0]["step"]
    assert float(step) == STEPS + 3
