"""Running commands as users do, and short runs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

STEPS = 150
OBJECTS, VIEWS, WIDTH, HEIGHT = 3, 12, 96, 72
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Finished:
    """What a process left behind."""

    status: int
    out: str
    err: str


def run_process(*command: object, **environment: str) -> Finished:
    """Run one of the installed console scripts as a user would."""
    command = [str(BIN / str(command[0])), *map(str, command[1:])]
    env = os.environ | {"OMP_WAIT_POLICY": "passive", "COLUMNS": "200"} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=800)
    return Finished(done.returncode, done.stdout, done.stderr)


@contextmanager
def arguments(*args: object):
    """Give sys.argv these arguments for a while."""
    old = sys.argv
    sys.argv = ["command", *map(str, args)]
    try:
        yield
    finally:
        sys.argv = old


def nerfstudio_command(name: str, *args: object) -> None:
    """Run a nerfstudio command's own entry point in this process; importing it anew would take ten seconds each."""
    import importlib

    module, _, function = {
        "ns-train": "nerfstudio.scripts.train:entrypoint",
        "ns-eval": "nerfstudio.scripts.eval:entrypoint",
        "ns-render": "nerfstudio.scripts.render:entrypoint",
        "ns-export": "nerfstudio.scripts.exporter:entrypoint",
        "ns-viewer": "nerfstudio.scripts.viewer.run_viewer:entrypoint",
    }[name].partition(":")
    with arguments(*args):
        getattr(importlib.import_module(module), function)()


def ag2(*args: object) -> None:
    """Run the `ag2` command in this process."""
    from ag2_ns.cli.main import main

    main([str(a) for a in args])


def small_config(data: Path, output_dir: Path, steps: int = 12, method: str = "ag2aussian-small"):
    """A method's configuration for a short run on the CPU."""
    from ag2_ns.plugin import methods

    config = deepcopy(getattr(methods, method.replace("-", "_")).config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name = output_dir, "scene"
    config.machine.device_type = "cpu"
    config.vis = "tensorboard"
    config.max_num_iterations = steps
    config.logging.local_writer.enable = False
    config.steps_per_eval_image = config.steps_per_eval_all_images = 10**6
    config.pipeline.model.max_initial_anchors = config.pipeline.model.num_random = 300
    config.set_timestamp()
    return config


def trainer_of(config):
    """A trainer that is set up, as `ns-train` makes it; its event writers are dropped again."""
    from nerfstudio.scripts.train import _set_random_seed
    from nerfstudio.utils import writer

    writer.EVENT_WRITERS.clear()
    _set_random_seed(config.machine.seed)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    writer.EVENT_WRITERS.clear()
    return trainer


def read_h264(path: Path) -> np.ndarray:
    """The frames of a video, F x H x W x 3, which must be H.264 (mediapy cannot read with ffmpeg 8 and later)."""
    video = cv2.VideoCapture(str(path))
    assert int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"h264", b"avc1")
    frames = []
    while (frame := video.read())[0]:
        frames.append(frame[1][..., ::-1])
    return np.stack(frames)


@dataclass(frozen=True)
class Run:
    """A run of `ns-train`."""

    config: Path
    process: Finished

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def checkpoint(self) -> Path:
        return self.folder / "nerfstudio_models" / f"step-{STEPS - 1:09d}.ckpt"
