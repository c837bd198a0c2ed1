"""Train a scene: anchors, Gaussians, and at the end the instance tree with language on it.

    python examples/2_train.py [--data data/kitchen] [--steps 1500]

Shows the method as nerfstudio configures it; `ns-train ag2aussian-small --data DATA` does the same from the shell.
Takes about two minutes on two CPU cores.

Writes a run below OUT/runs and prints its config.yml, which every other command opens (`ns-viewer --load-config …`).
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import tyro
from start import scene

from ag2_ns.ops.device import choose_device
from ag2_ns.plugin.main_job import training_progress
from ag2_ns.plugin.methods import ag2aussian_small


def main(data: Path | None = None, out: Path = Path("outputs/examples"), steps: int | None = None) -> Path:
    config = deepcopy(ag2aussian_small.config)
    config.data = config.pipeline.datamanager.data = scene(data, out)
    config.pipeline.datamanager.prepare = True  # `ag2 prepare`, if that was not done yet
    config.output_dir, config.experiment_name = out / "runs", config.data.resolve().name
    config.machine.device_type = choose_device("auto")
    config.max_num_iterations = steps or config.max_num_iterations
    config.vis, config.logging.local_writer.enable = "tensorboard", False  # no viewer while training
    config.steps_per_eval_all_images = config.steps_per_eval_image = config.max_num_iterations + 1
    config.set_timestamp()
    config.save_config()

    torch.manual_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    with training_progress(trainer):
        trainer.train()

    index = trainer.pipeline.model.scene_index()
    things = 0 if index is None else len(index.tree.instances(0.5))
    path = config.get_base_dir() / "config.yml"
    print(f"{trainer.pipeline.model.num_points:,} Gaussians, {things} things: {path}")
    return path


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
