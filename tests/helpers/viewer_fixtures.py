import os
import shutil
import socket
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def blob_template(tmp_path_factory):
    from blob_run import build

    return build(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def blob_run(blob_template, tmp_path, monkeypatch):
    """config.yml of a run of one's own: a copy beside the template's data."""
    import yaml

    for name in ("AG2_QUERY", "AG2_EDITS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "out" / "blobs" / "ag2aussian-small" / "run"
    shutil.copytree(Path(blob_template).parent, folder)
    config = yaml.load((folder / "config.yml").read_text(), Loader=yaml.Loader)
    config.output_dir = tmp_path / "out"
    (folder / "config.yml").write_text(yaml.dump(config))
    return folder / "config.yml"


@pytest.fixture
def loaded(blob_run):
    from ag2_ns.plugin.run import load_run

    return load_run(blob_run)


@pytest.fixture
def session(loaded):
    return loaded.session


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def viewer(loaded):
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.viewer.viewer import Viewer

    config = ViewerConfig(websocket_host="127.0.0.1", websocket_port=free_port(), quit_on_train_completion=True)
    state = Viewer(
        config, loaded.folder / "viewer.log", loaded.folder, pipeline=loaded.pipeline, train_lock=Lock()
    )  # fmt: skip
    state.init_scene(loaded.pipeline.datamanager.train_dataset, "completed")
    yield state
    loaded.pipeline.AG2.panel.wait()
    state.viser_server.stop()


def shows(picture, session, view) -> bool:
    """Whether a picture is that of a camera: tabs are led to a training camera when they come, and go back."""
    expected = 255 * session.outputs(view)["rgb"].numpy()
    small = Image.fromarray(picture).resize((view.width, view.height), Image.BOX)
    return np.abs(np.asarray(small) - expected).mean() < 6


@pytest.fixture
def tab(viewer, session):
    from blob_run import ring_pose
    from tab import Tab

    tab = Tab(viewer.config.websocket_port, ring_pose(0))
    tab.until(lambda: tab.pictures > 0 and "/click_catcher" in tab.clickable and tab.led, 60)
    tab.seen(lambda picture: shows(picture, session, tab.view()))
    yield tab
    tab.close()
