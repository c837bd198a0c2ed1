"""nerfstudio's viewer over a scene file alone: no run, no checkpoint, no training pictures are needed."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.configs.base_config import LoggingConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.utils import writer
from nerfstudio.viewer.viewer import Viewer
from torch import Tensor, nn

from ag2_ns.core.view import NamedView
from ag2_ns.plugin import compat
from ag2_ns.plugin.panel import PanelModule
from ag2_ns.plugin.trainer import AG2ViewerConfig
from ag2_ns.plugin.views import view_of
from ag2_ns.scene.naming import picture_file
from ag2_ns.session.opened import OpenScene
from ag2_ns.session.session import Fixed, Session


class SceneModel(nn.Module):
    """What the viewer asks a model for, of a scene that stays as it is."""

    def __init__(self, session: Session, device: torch.device) -> None:
        super().__init__()
        self.session, self.device = session, device

    def get_outputs_for_camera(self, camera: Cameras, obb_box: Any = None) -> dict[str, Tensor]:
        """What one camera shows; see `Session.outputs`."""
        return self.session.outputs(view_of(camera.to(self.device)), crop_box=obb_box)


class ScenePipeline(nn.Module):
    """What the viewer asks a pipeline for."""

    def __init__(self, scene: OpenScene) -> None:
        super().__init__()
        self.session = Session(Fixed(scene))
        self.session.open()
        self.model = SceneModel(self.session, scene.device)
        self.AG2 = PanelModule(self.session)  # the viewer finds it among the pipeline's attributes
        data = scene.folder if scene.source is None else scene.source.data
        self.datamanager = SimpleNamespace(includes_time=False, get_datapath=lambda: data)


def cameras_of(views: list[NamedView]) -> Cameras:
    """Views as nerfstudio's cameras, which look along -z."""
    poses = torch.stack([torch.linalg.inv(v.view.viewmat.double()).float().cpu() for v in views])[:, :3]
    poses[:, :, 1:3] *= -1
    K = torch.stack([v.view.K.float().cpu() for v in views])
    return Cameras(
        camera_to_worlds=poses,
        fx=K[:, 0, 0], fy=K[:, 1, 1], cx=K[:, 0, 2], cy=K[:, 1, 2],
        width=torch.tensor([v.view.width for v in views]),
        height=torch.tensor([v.view.height for v in views]),
        camera_type=CameraType.PERSPECTIVE,
    )  # fmt: skip


def start_viewer(scene: OpenScene, config: AG2ViewerConfig) -> Viewer:
    """Serve a scene; returns the viewer, which goes on in threads of its own.

    Args:
        scene: with or without instances.
        config: address and port.
    """
    compat.apply()
    pipeline = ScenePipeline(scene)
    log = Path(scene.folder) / config.relative_log_filename
    viewer = Viewer(config, log, pipeline.datamanager.get_datapath(), pipeline, train_lock=Lock())  # type: ignore[arg-type]
    viewer.pause_train.visible = viewer.resume_train.visible = False  # nothing is trained here
    logging = LoggingConfig()
    logging.local_writer.enable = False
    writer.setup_local_writer(logging, max_iter=1, banner_messages=viewer.viewer_info)
    found = [(v, p) for v in scene.views if (p := picture_file(scene, v)) is not None]
    dataset: Any = []
    if found:
        dataset = InputDataset(DataparserOutputs([p for _, p in found], cameras_of([v for v, _ in found])))
    viewer.init_scene(dataset, "completed")
    return viewer


def serve(scene: OpenScene, config: AG2ViewerConfig) -> None:
    """Serve a scene until the program is stopped."""
    viewer = start_viewer(scene, config)
    while True:
        viewer.update_scene(step=0)
        time.sleep(0.1)
