"""The nerfstudio method: training, resuming, evaluating, and the command that predicts."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import ag2, nerfstudio_command, trainer_of

from ag2_ns.cli.occupancy import Occupancy
from ag2_ns.core.errors import UserError
from ag2_ns.io.occ3d import read_labels
from ag2_ns.io.ply import read_gaussians
from ag2_ns.plugin import gausstr as methods
from ag2_ns.plugin.gausstr_run import open_gausstr
from ag2_ns.plugin.surround_datamanager import SurroundDataManagerConfig


def configuration(data, out, steps=6, **loss):
    config = deepcopy(methods.gausstr_small.config)
    config.data = config.pipeline.datamanager.data = Path(data)
    config.output_dir, config.experiment_name = Path(out), "street"
    config.machine.device_type = "cpu"
    config.max_num_iterations = steps
    config.logging.local_writer.enable = False
    config.steps_per_eval_image = config.steps_per_eval_all_images = 10**6
    network = config.pipeline.model.network
    network.width, network.queries, network.ffn, network.head_width, network.heads = 16, 12, 16, 16, 2
    for name, value in loss.items():
        setattr(config.pipeline.model.loss, name, value)
    config.set_timestamp()
    return config


def train(config):
    trainer = trainer_of(config)
    trainer.train()
    return trainer, trainer.base_dir / "config.yml"


@pytest.fixture(scope="module")
def run(street_template, tmp_path_factory):
    """A run of a few steps; returns config.yml."""
    return train(configuration(street_template, tmp_path_factory.mktemp("runs"), rays=1.0, frames=1))[1]


def test_methods_are_those_promised():
    names = {s.config.method_name for s in vars(methods).values() if isinstance(s, methods.MethodSpecification)}
    assert names == {"gausstr", "gausstr-small", "gausstr-published", "gausstr-featup"}
    published = methods.gausstr_published.config
    optimizer = published.optimizers["network"]["optimizer"]
    assert (optimizer.lr, optimizer.weight_decay, optimizer.max_norm) == (2e-4, 5e-3, 35.0)
    assert published.mixed_precision and published.pipeline.datamanager.batch == 2
    assert (published.pipeline.datamanager.width, published.pipeline.datamanager.height) == (896, 504)
    assert published.optimizers["network"]["scheduler"].warmup == 200


def test_schedule_is_plain_floats():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    config = methods.WarmStepConfig(warmup=10, drop_at=20)
    scheduler = config.setup().get_scheduler(optimizer, 1.0)
    rates = []
    for _ in range(25):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1e-3) and rates[10] == 1.0 and rates[19] == 1.0
    assert rates[20] == pytest.approx(0.1) and all(type(r) is float for r in rates)


@pytest.mark.slow
def test_a_resumed_run_goes_on_where_it_stopped(street_template, run, tmp_path):
    config = configuration(street_template, tmp_path, steps=2)
    config.load_dir = run.parent / "nerfstudio_models"
    trainer = trainer_of(config)
    assert trainer._start_step == 6
    kept = torch.load(next(config.load_dir.glob("*.ckpt")), weights_only=False)["pipeline"]
    own = trainer.pipeline.state_dict()
    assert all(torch.equal(own[k], v) for k, v in kept.items())
    before = own["_model.network.query.weight"].clone()
    trainer.train()
    assert not torch.equal(trainer.pipeline.state_dict()["_model.network.query.weight"], before)


def test_ns_eval_reports_both_means(run, tmp_path):
    nerfstudio_command("ns-eval", "--load-config", run, "--output-path", tmp_path / "eval.json",
                       "--render-output-path", tmp_path / "pictures")  # fmt: skip
    found = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert 0 <= found["miou17"] <= found["miou15"] <= 100 and 0 <= found["iou"] <= 100
    assert found["frames"] == 1.0 and "iou_driveable_surface" in found
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 1


def test_the_command_writes_what_it_says(run, tmp_path, capsys):
    ag2("occupancy", "--load-config", run, "--output-dir", tmp_path / "out", "--frame", "0", "--scene",
        "--min-opacity", "0.01", "--text", "car", "--text", "road")  # fmt: skip
    said = capsys.readouterr().out
    labels = read_labels(tmp_path / "out" / "labels.npz")
    assert labels.grid.shape == (40, 40, 16) and set(np.unique(labels.semantics)) <= {4, 11, 17}
    splat = read_gaussians(tmp_path / "out" / "gaussians.ply")
    assert len(splat) == 72 and "mIoU(15)" in said
    assert (tmp_path / "out" / "picture.png").is_file() and (tmp_path / "out" / "voxels.ply").is_file()
    meta = json.loads((tmp_path / "out" / "scene" / "transforms.json").read_text())
    assert len(meta["frames"]) == 6 and (tmp_path / "out" / "scene" / meta["frames"][0]["file_path"]).is_file()


@pytest.mark.slow
def test_ag2aussian_starts_from_the_predicted_scene(run, tmp_path):
    from tiny_run import small_config

    Occupancy(run, tmp_path / "out", scene=True, min_opacity=0.01).main()
    config = small_config(tmp_path / "out" / "scene", tmp_path / "runs", steps=3)
    trainer = trainer_of(config)
    assert len(trainer.pipeline.datamanager.train_dataset.metadata["points3D_xyz"]) == 72
    trainer.train()


def test_bad_input_is_one_line(run, street, tmp_path):
    with pytest.raises(UserError, match="banana"):
        Occupancy(run, tmp_path / "a", text=("banana",)).main()
    with pytest.raises(UserError, match="no such frame"):
        Occupancy(run, tmp_path / "a", frame="99").main()
    with pytest.raises(UserError, match="no such file"):
        open_gausstr(tmp_path / "config.yml")
    with pytest.raises(UserError, match="no data"):
        config = configuration(street, tmp_path)
        config.data = config.pipeline.datamanager.data = None
        config.check()
    config = configuration(street, tmp_path)
    config.load_dir = tmp_path
    with pytest.raises(UserError, match="no checkpoint"):
        config.check()
    config = configuration(street, tmp_path)
    config.machine.device_type = "cuda"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA"):
            config.check()


def test_a_text_table_of_another_width(street, tmp_path):
    (street / "text_features.json").write_text(json.dumps({"car": [1.0, 2.0], "sky": [0.0, 1.0]}))
    manager = SurroundDataManagerConfig(data=street).setup()
    with pytest.raises(UserError, match="texts have 2 numbers, the features of the pictures 32"):
        _ = manager.texts
    (street / "text_features.json").unlink()
    with pytest.raises(UserError, match="no table of text features"):
        _ = SurroundDataManagerConfig(data=street).setup().texts
    with pytest.raises(UserError, match="no prompt"):
        np.save(street / "text_features.npy", np.ones((21, 32)))
        _ = SurroundDataManagerConfig(data=street, prompts=("banana",)).setup().texts


def test_a_checkpoint_of_other_features(run, street):
    for file in street.glob("drive_*/features/*/*.npy"):
        np.save(file, np.load(file)[:16])
    table = json.loads((street / "text_features.json").read_text())
    (street / "text_features.json").write_text(json.dumps({k: v[:16] for k, v in table.items()}))
    with pytest.raises(UserError, match="another encoder"):
        open_gausstr(run, street)


def test_processes_share_out_the_frames(street):
    served = []
    for rank in range(2):
        manager = SurroundDataManagerConfig(data=street).setup(world_size=2, local_rank=rank)
        served.append([manager.next_train(step)[1]["records"][0].token for step in range(4)])
    assert all(a != b for a, b in zip(*served)), "two frames, two processes: never the same at once"
    assert set(served[0]) | set(served[1]) == {f.token for f in manager.train_frames}


def test_frames_are_read_once_while_there_is_memory(street):
    manager = SurroundDataManagerConfig(data=street).setup()
    first = manager.frame(manager.train_frames[0])[0]
    assert manager.frame(manager.train_frames[0])[0] is first
    tight = SurroundDataManagerConfig(data=street, cache_gb=0.0).setup()
    one = tight.frame(tight.train_frames[0])[0]
    tight.frame(tight.train_frames[1])
    assert tight.frame(tight.train_frames[0])[0] is not one


def test_segments_teach_too(street, tmp_path):
    for record in (f for d in ("drive_000", "drive_001") for f in (street / d / "images").rglob("*.jpg")):
        target = street / record.relative_to(street).parts[0] / "segments" / record.parent.name / f"{record.stem}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, np.random.default_rng(0).integers(0, 26, (28, 48)).astype(np.uint8))
    trainer, _ = train(configuration(street, tmp_path, steps=2, segment=1.0))
    _, losses, _ = trainer.pipeline.get_train_loss_dict(0)
    assert set(losses) >= {"feature", "depth", "segment"} and float(losses["segment"].detach()) > 0


def test_mirrored_frames_and_rare_things_teach_along_rays(street, tmp_path):
    config = configuration(street, tmp_path, steps=2)
    trainer, _ = train(config)
    _, losses, _ = trainer.pipeline.get_train_loss_dict(1)
    assert set(losses) == {"rays", "rays_feature"} and all(bool(torch.isfinite(v)) for v in losses.values())


def test_pictures_for_the_viewer(run):
    pipeline = open_gausstr(run)
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    empty = pipeline.model.get_outputs_for_camera(camera)
    assert float(empty["rgb"].abs().max()) == 0
    pipeline.predict(pipeline.datamanager.train_frames[0])
    shown = pipeline.model.get_outputs_for_camera(camera)
    assert shown["rgb"].shape == (28, 48, 3) and float(shown["rgb"].max()) > 0
    metrics, images = pipeline.get_eval_image_metrics_and_images(0)
    assert "iou" in metrics and images["above"].shape == images["truth"].shape


def test_several_processes_train_one_network(run, tmp_path):
    """What nerfstudio does with several GPUs, with one process: wrap the model, run it, add up the gradients."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    pipeline = open_gausstr(run)
    pipeline.datamanager.rays = pipeline.config.model.loss
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        pipeline._model = DistributedDataParallel(pipeline.model, find_unused_parameters=True)
        pipeline.train()
        _, losses, _ = pipeline.get_train_loss_dict(0)
        sum(losses.values()).backward()
        grads = [p.grad for p in pipeline.model.network.parameters()]
        assert all(g is not None and bool(torch.isfinite(g).all()) for g in grads)
        state = {f"_model.module.{k}": v for k, v in pipeline.model.state_dict().items()}
        pipeline.load_pipeline(state, 0)
    finally:
        dist.destroy_process_group()
