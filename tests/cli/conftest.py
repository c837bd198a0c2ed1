"""One tiny prepared table-top scene and one short run on it by the real `ns-train`, shared by this room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import HEIGHT, OBJECTS, STEPS, VIEWS, WIDTH, Run, ag2, run_process


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> Path:
    """The table-top scene with exact masks and features, prepared."""
    from ag2_ns.synthetic.tabletop.generate import generate

    out = tmp_path_factory.mktemp("cli") / "scene"
    generate(out, seed=2, objects=OBJECTS, views=VIEWS, width=WIDTH, height=HEIGHT, noise=0.0, progress=False)
    ag2("prepare", out, "--preview-every", 0)
    return out


@pytest.fixture(scope="session")
def run(scene, tmp_path_factory) -> Run:
    """`ns-train ag2aussian-small` in a process of its own: registration, training, instances, checkpoint."""
    out = tmp_path_factory.mktemp("outputs")
    options = ("--data", scene, "--output-dir", out, "--timestamp", "run", "--vis", "tensorboard")
    options += ("--max-num-iterations", STEPS, "--machine.device-type", "cpu", "--steps-per-eval-all-images", 1000)
    process = run_process("ns-train", "ag2aussian-small", *options)
    assert process.status == 0, process.err[-3000:]
    return Run(out / "scene" / "ag2aussian-small" / "run" / "config.yml", process)
