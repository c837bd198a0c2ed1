"""The viewer over a scene file alone."""

import shutil

import blob_scene
import pytest
import torch
from viewer_fixtures import free_port

import ag2_ns
from ag2_ns.cli.main import main
from ag2_ns.plugin.scene_viewer import cameras_of, start_viewer
from ag2_ns.plugin.trainer import AG2ViewerConfig
from ag2_ns.plugin.views import view_of
from ag2_ns.rendering import render


@pytest.fixture
def viewer(tmp_path):
    """Of a scene file that nothing lies beside."""
    made = blob_scene.make(tmp_path / "made")
    main(["name", "--load-config", str(made.path), "--output-dir", str(tmp_path / "n"), "--device", "cpu"])
    (tmp_path / "alone").mkdir()
    path = shutil.copy(made.path, tmp_path / "alone")
    config = AG2ViewerConfig(websocket_port=free_port(), websocket_host="127.0.0.1")
    viewer = start_viewer(ag2_ns.open(path, "cpu"), config)
    yield viewer
    viewer.viser_server.stop()


def test_a_scene_file_alone_is_shown_asked_and_labelled(viewer, monkeypatch):
    session = viewer.pipeline.session
    scene = session.scene()
    camera = cameras_of(list(scene.views))[:1]
    assert torch.allclose(view_of(camera).viewmat, scene.views[0].view.viewmat, atol=1e-5)
    shown = viewer.get_model().get_outputs_for_camera(camera)["rgb"]
    plain = render(scene.gaussians, scene.views[0].view, scene.rasterizer, depth=False).rgb
    assert torch.allclose(shown, plain.clamp(0, 1), atol=0.02)

    labels = {}

    def add(name, text, position):
        labels[text] = position
        return type("Node", (), {"remove": lambda self: labels.pop(text)})()

    monkeypatch.setattr(viewer.viser_server.scene, "add_label", add)
    panel = viewer.pipeline.AG2.panel
    panel.show.names.value = True
    panel.refresh()
    assert panel.wait()
    assert {"blue ball", "plate"} <= set(labels)
    ball = session.scene().gaussians.means[_members(session, "blue ball")].median(0).values
    assert torch.allclose(torch.tensor(labels["blue ball"]), 10 * ball, atol=1e-3)
    panel.show.names.value = False
    panel.refresh()
    assert panel.wait() and not labels


def _members(session, word):
    scene = session.scene()
    node = next(n for n in scene.index.tree.instances(0.5).tolist() if scene.vocabulary.name_of(n) == word)
    return scene.index.gaussian_node(0.5) == node


def test_a_port_that_is_none(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["view", "--load-config", str(tmp_path), "--port", "0"])
    assert "--port 0" in capsys.readouterr().err
