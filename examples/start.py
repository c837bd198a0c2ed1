"""What the numbered examples begin with: a scene, and a run on it. Both are made once, then reused."""

from __future__ import annotations

import runpy
from pathlib import Path

from nerfstudio.engine.trainer import TrainerConfig

import ag2_ns
from ag2_ns.io.view_store import data_folder
from ag2_ns.plugin.run import read_config
from ag2_ns.session.opened import OpenScene
from ag2_ns.synthetic.tabletop.generate import generate


def scene(data: Path | None, out: Path) -> Path:
    """Your own capture, or else a table with six objects on it."""
    if data is not None:
        return data
    data = out / "table"
    if not (data / "transforms.json").is_file():
        generate(data, objects=6, views=48, width=240, height=180)
    return data


def opened(load_config: Path | None, data: Path | None, out: Path) -> OpenScene:
    """The run given, or else the newest of the capture below `out`, or else one that is trained now (`2_train.py`)."""
    out.mkdir(parents=True, exist_ok=True)
    if load_config is None:
        wanted = data_folder(out / "table" if data is None else data).resolve()
        newest_last = sorted(out.glob("runs/*/*/*/config.yml"), key=lambda p: p.stat().st_mtime)
        found = [path for path in newest_last if _data(read_config(path)) == wanted]
        train = None if found else runpy.run_path(str(Path(__file__).with_name("2_train.py")))["main"]
        load_config = found[-1] if found else train(data=data, out=out)
    return ag2_ns.open(load_config)


def _data(config: TrainerConfig) -> Path:
    """The folder of a run's scene."""
    return data_folder(Path(config.pipeline.datamanager.data or config.data)).resolve()
