"""What a run ends with: instances and a scene file; and the poses that both are made with."""

from types import SimpleNamespace

import pytest
import torch
from tiny_model import attach, camera_ring, tiny_model

from ag2_ns.core.errors import UserError
from ag2_ns.grouping.config import GroupingConfig
from ag2_ns.plugin import methods
from ag2_ns.plugin.live import capture_views
from ag2_ns.plugin.run import load_run
from ag2_ns.plugin.views import view_of
from ag2_ns.scene.scene_file import FILE_NAME, open_scene
from ag2_ns.splat.density import Shown


@pytest.mark.parametrize(
    "error", [UserError("a.npz: damaged"), MemoryError("no room"), torch.cuda.OutOfMemoryError("CUDA full.\nTried")]
)
def test_instances_that_cannot_be_made_do_not_cost_the_splat(loaded, tmp_path, monkeypatch, capsys, error):
    def fails(reach=None):
        raise error

    monkeypatch.setattr(loaded.pipeline, "build_instances", fails)
    loaded.model.set_scene_index(None)
    loaded.pipeline.finish("ag2aussian-small", 3, tmp_path / "my run")
    said = capsys.readouterr().out
    assert str(error).splitlines()[0] in said
    assert f"ag2 lift --load-config '{tmp_path / 'my run' / 'config.yml'}'" in said.splitlines(), "on a line of its own"
    scene = open_scene(tmp_path / "my run", "cpu")
    assert scene.index is None and torch.equal(scene.gaussians.means, loaded.scene.gaussians.means)


def test_a_scene_that_cannot_be_written_does_not_cost_the_checkpoint(loaded, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    loaded.pipeline.finish("ag2aussian-small", 3, tmp_path / "file")
    said = capsys.readouterr().out
    assert FILE_NAME in said and "cannot be written" in said


def test_a_run_ends_with_its_scene(loaded, tmp_path):
    loaded.pipeline.finish("ag2aussian-small", 30, tmp_path)
    scene = open_scene(tmp_path, "cpu")
    assert scene.provenance["steps"] == 30 and "instances" in scene.provenance["seconds"]
    assert torch.equal(scene.index.tree.parent, loaded.scene.index.tree.parent), "data without masks: they are kept"


def test_thresholds_of_a_training_group_its_anchors_and_stay_with_its_scene(blob_run, tmp_path, monkeypatch):
    import tyro
    import yaml

    config = yaml.load(blob_run.read_text(), Loader=yaml.Loader)
    given = ["--grouping.last-stage", "0.9", "--query.solid", "0.7"]
    config.pipeline = tyro.cli(type(config.pipeline), args=given, default=config.pipeline)
    blob_run.write_text(yaml.dump(config))
    run, grouped = load_run(blob_run), []

    def build_index(*args, config, **options):
        grouped.append(config)
        return run.scene.index

    monkeypatch.setattr("ag2_ns.scene.build.build_index", build_index)
    monkeypatch.setattr(run.pipeline.datamanager, "view_masks", lambda: SimpleNamespace(feature_store=None))
    run.pipeline.finish("ag2aussian-small", 30, tmp_path)
    scene = open_scene(tmp_path, "cpu")
    assert scene.settings == {"grouping": {"last_stage": 0.9}, "query": {"solid": 0.7}}
    assert [scene.config(GroupingConfig)] == grouped == [GroupingConfig(last_stage=0.9)]


def test_the_viewer_listens_on_this_machine_only_unless_told_otherwise():
    for method in (methods.ag2aussian, methods.ag2aussian_small, methods.ag2aussian_published):
        assert method.config.viewer.websocket_host == "127.0.0.1"


# Cameras that training has moved.


def moved(optimizer) -> None:
    """Give every camera another correction."""
    g = torch.Generator().manual_seed(0)
    optimizer.pose_adjustment.data = 0.1 * torch.randn(optimizer.pose_adjustment.shape, generator=g)


@pytest.fixture(params=["SO3xR3", "SE3"])
def corrected(request):
    from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig

    model = tiny_model(camera_optimizer=CameraOptimizerConfig(mode=request.param))
    attach(model)
    moved(model.camera_optimizer)
    return model


def expected_views(model, cameras):
    """As a training step sees them, one by one."""
    views = []
    for k in range(len(cameras)):
        camera = cameras[k : k + 1]
        camera.metadata = {"cam_idx": k}
        views.append(view_of(camera, model.camera_optimizer.apply_to_camera(camera).detach()))
    return views


def test_training_views_have_the_poses_that_were_found(corrected):
    views = corrected.training_views()
    plain = [view_of(camera_ring()[k : k + 1]) for k in range(4)]
    for found, expected, before in zip(views, expected_views(corrected, camera_ring()), plain):
        torch.testing.assert_close(found.viewmat, expected.viewmat)
        assert (found.viewmat - before.viewmat).abs().max() > 0.01
        assert torch.equal(found.K, before.K) and not found.viewmat.requires_grad


def test_invisible_gaussians_are_looked_for_from_the_poses_that_were_found(corrected, monkeypatch):
    seen = []

    def visibility(gaussians, views, backend):
        seen.append(views)
        return Shown(*torch.full((3, len(gaussians)), 10.0))

    monkeypatch.setattr("ag2_ns.plugin.model.visibility", visibility)
    corrected.remove_invisible()
    for found, expected in zip(seen[0], expected_views(corrected, camera_ring()), strict=True):
        torch.testing.assert_close(found.viewmat, expected.viewmat)


def test_masks_are_lifted_from_the_poses_that_were_found_and_the_scene_keeps_them(loaded, tmp_path, monkeypatch):
    from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig

    model, manager = loaded.model, loaded.pipeline.datamanager
    plain = capture_views(model, manager)
    model.config.camera_optimizer.mode = "SO3xR3"
    model.camera_optimizer = CameraOptimizerConfig(mode="SO3xR3").setup(num_cameras=6, device="cpu")
    moved(model.camera_optimizer)
    with torch.no_grad():
        model.child_params["opacity_logit"].add_(0.01)  # training goes on
    lifted = []

    def index_scene(scene, views, *args, **options):
        lifted.extend(views)
        return scene.index

    monkeypatch.setattr("ag2_ns.scene.build.index_scene", index_scene)
    monkeypatch.setattr(manager, "view_masks", lambda: SimpleNamespace(feature_store=None))
    loaded.pipeline.finish("ag2aussian-small", 3, tmp_path)
    expected = expected_views(model, manager.train_dataset.cameras)
    written = open_scene(tmp_path, "cpu")
    assert len(lifted) == 6
    for found, kept, right, before in zip(lifted, written.of_split("train"), expected, plain):
        torch.testing.assert_close(found.viewmat, right.viewmat)
        torch.testing.assert_close(kept.view.viewmat, right.viewmat)
        assert (right.viewmat - before.view.viewmat).abs().max() > 0.01
    for kept, before in zip(written.of_split("eval"), plain[6:]):
        assert torch.equal(kept.view.viewmat, before.view.viewmat), "held-out cameras stay where they are"


def test_training_mode_reaches_a_model_that_was_evaluated_alone(loaded):
    pipeline = loaded.pipeline
    pipeline.train()
    pipeline.model.eval()
    assert pipeline.train().model.training and pipeline.training
    assert not pipeline.eval().model.training and not pipeline.training
