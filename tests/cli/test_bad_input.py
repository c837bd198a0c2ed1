"""Bad input through whole commands: one line that names the file, status 1, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import BIN, ag2, nerfstudio_command, run_process, small_config, trainer_of

from ag2_ns.core.errors import UserError
from ag2_ns.plugin import methods as configurations

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(scene, tmp_path) -> Path:
    """The scene without what was prepared, to be damaged."""
    out = tmp_path / "copy"
    out.mkdir()
    shutil.copytree(scene / "images", out / "images")
    meta = json.loads((scene / "transforms.json").read_text())
    points = scene / meta["ply_file_path"]
    shutil.copy(points, out / meta["ply_file_path"])
    shutil.copy(scene / "transforms.json", out / "transforms.json")
    return out


def images(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


def refused(job, capfd, *words: str, status: int = 1) -> str:
    """Run `job`, which must end as a command that shows one line; returns the line."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        job()
    err = capfd.readouterr().err
    assert stop.value.code == status
    lines = [line for line in err.splitlines() if line.strip()]
    assert len([line for line in lines if line.startswith("error: ")]) == 1, err
    assert "Traceback" not in err
    (line,) = (line for line in lines if line.startswith("error: "))
    for word in words:
        assert word in line, line
    return line


def train(config):
    trainer = trainer_of(config)
    trainer.train()
    return trainer


# Through ns-train.


def unreadable(folder):
    path = images(folder)[4]
    path.write_bytes(b"not a picture")
    return path.name


def cut_short(folder):
    path = images(folder)[4]
    path.write_bytes(path.read_bytes()[:200])
    return path.name


def other_size(folder):
    path = images(folder)[4]
    Image.open(path).resize((40, 30)).save(path)
    return path.name


def gone(folder):
    path = images(folder)[4]
    path.unlink()
    return path.name


def edit(folder, change):
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))
    return path.name


def one_view(folder):
    return edit(folder, lambda meta: meta.update(frames=meta["frames"][:1]))


def nan_pose(folder):
    return edit(folder, lambda meta: meta["frames"][2]["transform_matrix"][1].__setitem__(3, float("nan")))


def no_images(folder):
    shutil.rmtree(folder / "images")
    return "images"


def one_picture(folder):
    for path in images(folder)[1:]:
        path.unlink()
    return images(folder)[0].parent.name


@pytest.mark.parametrize("damage", [unreadable, cut_short, other_size, one_view, nan_pose, no_images, one_picture])
def test_training_on_a_damaged_scene(damage, copy, tmp_path):
    name = damage(copy)
    with pytest.raises(UserError) as error:
        train(small_config(copy, tmp_path / "out", steps=2))
    assert name in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_training_goes_on_without_a_picture_that_is_gone(copy, tmp_path, capfd):
    name = gone(copy)
    before = len(images(copy))
    train(small_config(copy, tmp_path / "out", steps=2))
    said = " ".join(capfd.readouterr().out.split())
    assert f"1 of {before + 1} images are missing" in said and name in said and said.count("left out") == 1


def test_a_distorted_scene_blames_the_right_image(copy, tmp_path):
    """Images before the bad one have been cropped by then, and their cameras with them."""
    edit(copy, lambda meta: meta.update(k1=0.3))
    name = cut_short(copy)
    with pytest.raises(UserError, match=name):
        train(small_config(copy, tmp_path / "out", steps=2))


def test_cuda_without_cuda(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = small_config(scene, tmp_path / "out", steps=2, method="ag2aussian")
    config.machine.device_type = "cuda"
    with pytest.raises(UserError, match=r"--machine\.device-type cpu"):
        train(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_the_small_method_trains_where_it_can(scene):
    small, full = (deepcopy(m.config) for m in (configurations.ag2aussian_small, configurations.ag2aussian))
    for config in (small, full):
        config.data = config.pipeline.datamanager.data = scene
        assert config.machine.device_type == "cuda"
    small.check()
    assert small.machine.device_type == "cpu"
    with pytest.raises(UserError, match="train ag2aussian-small"):
        full.check()


def test_an_unknown_backend(scene, tmp_path):
    config = small_config(scene, tmp_path / "out", steps=2)
    config.pipeline.model.rasterizer = "abacus"
    with pytest.raises(UserError, match="abacus"):
        train(config)
    assert not list((tmp_path / "out").rglob("*.ckpt"))


@pytest.mark.slow
def test_ns_train_shows_one_line_and_leaves_nothing(copy, tmp_path):
    """The real console script: the exception passes nerfstudio's launcher and the interpreter's top level."""
    name = unreadable(copy)
    options = ("--data", copy, "--output-dir", tmp_path / "out", "--vis", "tensorboard", "--machine.device-type", "cpu")
    done = run_process("ns-train", "ag2aussian-small", *options, "ag2-data", "--eval-interval", 4)
    assert done.status == 1
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and name in errors[0], done.err[-2000:]
    assert "Traceback" not in done.err + done.out
    assert not (tmp_path / "out").exists()


def test_an_unknown_backend_on_the_command_line(scene, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        nerfstudio_command("ns-train", "ag2aussian", "--data", scene, "--pipeline.model.rasterizer", "abacus")
    assert stop.value.code != 0
    assert "abacus" in "".join(capfd.readouterr())


# Checkpoints.


@pytest.fixture
def moved(run, tmp_path):
    """A copy of the run whose config.yml points at the copy."""
    import yaml

    config = yaml.load(run.config.read_text(), Loader=yaml.Loader)
    config.output_dir = tmp_path / "runs"
    folder = tmp_path / "runs" / "scene" / "ag2aussian-small" / "run"
    shutil.copytree(run.folder, folder)
    (folder / "config.yml").write_text(yaml.dump(config))
    return folder


def truncate(folder: Path) -> Path:
    (path,) = (folder / "nerfstudio_models").iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("command", ["ns-eval", "ns-render", "ns-export", "ns-viewer"])
def test_truncated_checkpoint_in_nerfstudio_commands(command, moved, tmp_path):
    path = truncate(moved)
    kind, out = {
        "ns-eval": ((), ("--output-path", tmp_path / "new" / "e.json")),
        "ns-render": (("interpolate",), ("--output-path", tmp_path / "new" / "v.mp4")),
        "ns-export": (("gaussian-splat",), ("--output-dir", tmp_path / "new")),
        "ns-viewer": ((), ()),
    }[command]
    with pytest.raises(UserError) as error:
        nerfstudio_command(command, *kind, "--load-config", moved / "config.yml", *out)
    assert path.name in str(error.value) and "truncated" in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "new").glob("*"))


def test_a_run_that_was_moved_opens_with_what_lies_beside_its_config(run, tmp_path):
    from ag2_ns.plugin.run import load_run

    folder = tmp_path / "elsewhere"
    shutil.copytree(run.folder, folder)
    found = load_run(folder / "config.yml")
    assert found.config.get_base_dir() == folder and len(found.scene.gaussians) > 0


def test_a_splatfacto_run_without_higher_bands_keeps_its_colours():
    from ag2_ns.ops.sh import sh_colours
    from ag2_ns.plugin.lifting import splatfacto_gaussians

    shapes = {"means": (4, 3), "quats": (4, 4), "scales": (4, 3), "opacities": (4, 1), "features_rest": (4, 0, 3)}
    state = {f"gauss_params.{name}": torch.ones(shape) for name, shape in shapes.items()}
    rgb = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    state["gauss_params.features_dc"] = rgb.logit()  # what splatfacto trains at sh_degree 0
    assert torch.allclose(sh_colours(splatfacto_gaussians(state).sh, torch.ones(4, 3)), rgb, atol=1e-6)


def test_no_checkpoint_in_nerfstudio_commands(moved, scene, tmp_path):
    for path in (moved / "nerfstudio_models").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="nerfstudio_models: no checkpoint in it; train again"):
        nerfstudio_command("ns-eval", "--load-config", moved / "config.yml", "--output-path", tmp_path / "e.json")
    # A run that starts afresh under a name that was used before is another matter.
    config = small_config(scene, tmp_path / "out", steps=2)
    (config.get_base_dir() / "nerfstudio_models").mkdir(parents=True)
    config.save_config()
    assert config.get_checkpoint_dir().is_dir()


def test_truncated_checkpoint_on_resuming(moved, scene, tmp_path):
    path = truncate(moved)
    for given in ({"load_dir": path.parent}, {"load_checkpoint": path}):
        config = small_config(scene, tmp_path / "out", steps=2)
        for name, value in given.items():
            setattr(config, name, value)
        with pytest.raises(UserError, match="truncated"):
            train(config)
    config = small_config(scene, tmp_path / "out", steps=2)
    config.load_dir = tmp_path
    with pytest.raises(UserError, match="no checkpoint there"):
        train(config)
    assert not (tmp_path / "out").exists()


def rewrite(folder: Path, change) -> None:
    (path,) = (folder / "nerfstudio_models").iterdir()
    state = torch.load(path, weights_only=True)
    change(state["pipeline"])
    torch.save(state, path)


def test_checkpoint_that_lacks_a_tensor_or_has_another_width(moved, capfd, tmp_path):
    rewrite(moved, lambda state: state.pop("_model.child_params.quat"))
    lift = ("lift", "--load-config", moved / "config.yml", "--output-dir", tmp_path / "q", "--device", "cpu")
    refused(lambda: ag2(*lift), capfd, "child_params.quat")
    with pytest.raises(UserError, match=r"child_params\.quat"):
        nerfstudio_command("ns-eval", "--load-config", moved / "config.yml", "--output-path", tmp_path / "e.json")
    rewrite(moved, lambda state: state.update({"_model.child_params.quat": torch.zeros(5, 7)}))
    refused(lambda: ag2(*lift), capfd, "child_params.quat", "config.yml")
    assert not (tmp_path / "q").exists() and not (tmp_path / "e.json").exists()


# Through ag2.


def test_runs_that_cannot_be_opened(moved, capfd, tmp_path):
    out = ("--text", "mug", "--output-dir", tmp_path / "q")

    def asked(place, *words):
        refused(lambda: ag2("query", "--load-config", place, *out), capfd, *words)

    asked(tmp_path / "nowhere" / "config.yml", "nowhere", "no scene there", "scene.safetensors")
    asked(tmp_path, str(tmp_path), "no scene there")
    for place in ("config.yml", "lifted.yml"):  # a run of before there were scene files, or one that did not end
        (tmp_path / "config.yml").write_text("a: 1\n")
        asked(tmp_path / place, "scene.safetensors: no such file", "train again, or make it with `ag2 lift`")
    (tmp_path / "config.yml").unlink()
    scene = moved / "scene.safetensors"
    scene.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    asked(moved / "config.yml", "scene.safetensors: truncated", "ag2 lift")
    scene.write_bytes(b"\x89PNG\r\n")
    asked(moved, "scene.safetensors", "not a safetensors file")
    assert not (tmp_path / "q").exists()


def test_runs_that_cannot_be_lifted(moved, capfd, tmp_path):
    out = ("--output-dir", tmp_path / "q", "--device", "cpu")

    def lifted(place, *words):
        refused(lambda: ag2("lift", "--load-config", place, *out), capfd, *words)

    lifted(tmp_path / "nowhere" / "config.yml", "nowhere", "no such file")
    for content in (b"a: 1\n", b"a: [1\n", b"\x89PNG\r\n"):
        (tmp_path / "config.yml").write_bytes(content)
        lifted(tmp_path / "config.yml", "config.yml", "not a nerfstudio config.yml")
    path = truncate(moved)
    lifted(moved / "config.yml", path.name, "truncated")
    path.unlink()
    lifted(moved, "nerfstudio_models", "no checkpoint")
    assert not (tmp_path / "q").exists()


def test_queries_that_make_no_sense(run, capfd, tmp_path):
    base = ("query", "--load-config", run.config, "--output-dir", tmp_path / "q")
    refused(lambda: ag2(*base), capfd, "--text")
    refused(lambda: ag2(*base, "--text", " "), capfd, "empty")
    refused(lambda: ag2(*base, "--text", "mug", "--level", 1.5), capfd, "--level 1.5")
    refused(lambda: ag2(*base, "--text", "mug", "--click", "0", 1, 1), capfd, "one of --text")
    refused(lambda: ag2(*base, "--text", "zzyzx quux"), capfd, "zzyzx quux")
    refused(lambda: ag2(*base, "--click", "no_such.png", 1, 1), capfd, "no_such.png")
    refused(lambda: ag2(*base, "--click", "0", 1000, 1), capfd, "1000")
    assert not (tmp_path / "q").exists()


def test_evaluation_without_ground_truth(run, scene, capfd, tmp_path):
    base = ("eval", "--load-config", run.config, "--output-dir", tmp_path / "e", "--ground-truth")
    refused(lambda: ag2(*base, tmp_path / "none"), capfd, "none: no such folder", "--ground-truth")
    refused(lambda: ag2(*base, tmp_path / "none", "--clicks", -3), capfd, "--clicks -3")
    truth = tmp_path / "truth"
    shutil.copytree(scene / "ground_truth", truth)
    for path in (truth / "ids").iterdir():
        Image.fromarray(np.zeros((10, 10), np.uint8)).save(path)
    refused(lambda: ag2(*base, truth), capfd, "10x10")
    for path in (truth / "ids").iterdir():
        path.write_bytes(b"no")
    refused(lambda: ag2(*base, truth), capfd, "not a readable image")
    for k, path in enumerate(sorted((truth / "ids").iterdir())):
        Image.fromarray(np.ones((72, 96), np.uint8)).save(truth / "ids" / f"other_{k}.png")
        path.unlink()
    refused(lambda: ag2(*base, truth), capfd, "named like an image")
    (truth / "labels.json").write_text("[]")
    refused(lambda: ag2(*base, truth), capfd, "labels.json")
    assert not (tmp_path / "e").exists()


def test_lifting_what_cannot_be_lifted(run, scene, copy, capfd, tmp_path):
    out = ("--output-dir", tmp_path / "out")
    refused(lambda: ag2("lift", *out), capfd, "--load-config", "--ply")
    refused(lambda: ag2("lift", "--ply", tmp_path / "no.ply", "--data", scene, *out), capfd, "no.ply", "no such file")
    refused(lambda: ag2("lift", "--ply", tmp_path / "no.ply", *out), capfd, "--data")
    points = next(scene.glob("*.ply"))
    refused(lambda: ag2("lift", "--ply", points, "--data", scene, *out), capfd, points.name, "lacks")
    refused(lambda: ag2("lift", "--load-config", run.config, "--data", copy, *out), capfd, "ag2 prepare")
    assert not (tmp_path / "out").exists()


def test_a_run_that_does_not_fit_on_the_disk_leaves_nothing(run, capfd, tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    lift = ("lift", "--load-config", run.config, "--output-dir", tmp_path / "out", "--device", "cpu")
    refused(lambda: ag2(*lift), capfd, "ckpt", "the disk is full")
    monkeypatch.undo()
    monkeypatch.setattr("nerfstudio.configs.experiment_config.ExperimentConfig.save_config", fsync)
    refused(lambda: ag2(*lift), capfd, "-lifted", "No space left on device", "--output-dir")
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert not list((tmp_path / "out").rglob("*-lifted"))


def test_a_run_without_instances_says_how_to_get_them(copy, capfd, tmp_path):
    trainer = train(small_config(copy, tmp_path / "out", steps=2))
    config = trainer.config.get_base_dir() / "config.yml"
    query = ("query", "--load-config", config, "--text", "mug", "--output-dir", tmp_path / "q")
    refused(lambda: ag2(*query), capfd, "ag2 prepare", "ag2 lift")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_in_ag2(run, scene, capfd, tmp_path):
    refused(lambda: ag2("demo", "--device", "cuda", "--output-dir", tmp_path / "o"), capfd, "--device cuda")
    args = ("--load-config", run.config, "--device", "cuda", "--output-dir", tmp_path / "o")
    refused(lambda: ag2("lift", *args), capfd, "--device cuda")
    assert not (tmp_path / "o").exists()


def test_demo_on_a_damaged_capture(copy, capfd, tmp_path):
    name = other_size(copy)
    refused(lambda: ag2("demo", "--data", copy, "--output-dir", tmp_path / "o", "--device", "cpu"), capfd, name)
    assert not (tmp_path / "o").exists()


def test_masks_of_another_image(scene, copy, tmp_path):
    """The store knows the pixels it was made from."""
    shutil.copytree(scene / "ag2", copy / "ag2")
    path = images(copy)[4]
    Image.fromarray(255 - np.asarray(Image.open(path).convert("RGB"))).save(path)
    with pytest.raises(UserError) as error:
        train(small_config(copy, tmp_path / "out", steps=20))
    assert path.stem in str(error.value) and "ag2 prepare" in str(error.value)


def test_a_reader_that_has_read_enough_is_no_error():
    command = [BIN / "ag2", "example", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
