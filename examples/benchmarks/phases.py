"""Where the time of a run goes: imports, set-up, first step, training, instances, the scene; and the stages of lifting.

    python examples/benchmarks/phases.py train ag2aussian --data SCENE --vis tensorboard …  # as ns-train
    python examples/benchmarks/phases.py quick ag2aussian --data SCENE --vis tensorboard …  # as ag2 train
    python examples/benchmarks/phases.py train splatfacto …                                 # another method beside it
    python examples/benchmarks/phases.py lift RUN/config.yml                                # instances anew, by stages

`train` and `quick` print seconds since the process was started (clock, processor), and the step from one line to the
next; the last line is the end of the process. `lift` waits for the device after every stage, so that each has its own.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

START = psutil.Process().create_time()


class Marks:
    """Lines of what is reached when."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, what: str) -> None:
        now = time.time() - START
        print(f"@ {now:8.2f} s  (+{now - self.last:6.2f})  processor {time.process_time():8.2f} s  {what}", flush=True)
        self.last = now


def around(owner: Any, name: str, before: Callable[[], object] | None, after: Callable[[], object] | None) -> None:
    """Call `before` and `after` around a function."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **options: Any) -> Any:
        if before is not None:
            before()
        out = inner(*args, **options)
        if after is not None:
            after()
        return out

    setattr(owner, name, outer)


def train(arguments: list[str], quick: bool) -> None:
    """ns-train, or `ag2 train`, with marks."""
    mark = Marks()
    mark("python")
    if quick:
        from ag2_ns.cli.main import main
        from ag2_ns.plugin import train

        around(train, "_read", None, lambda: (mark("imports, options read"), _mark_training(mark)))
        program = main, (["train", *arguments],)
    else:
        import torch  # noqa: F401

        mark("torch")
        from nerfstudio.scripts import train as script

        mark("nerfstudio.scripts.train")
        around(script, "main", lambda: mark("options read"), None)
        _mark_training(mark)
        program = script.entrypoint, ()
    sys.argv = ["ns-train", *arguments]
    try:
        program[0](*program[1])
    finally:
        mark("program ends")


def _mark_training(mark: Marks) -> None:
    """Marks in what has been imported."""
    import torch
    from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
    from nerfstudio.engine.trainer import Trainer, TrainerConfig
    from nerfstudio.models.base_model import Model
    from nerfstudio.pipelines.base_pipeline import VanillaPipeline

    around(TrainerConfig, "save_config", None, lambda: mark("scene checked, config.yml written"))
    around(FullImageDatamanager, "__init__", None, lambda: mark("datamanager"))
    around(Model, "__init__", None, lambda: mark("model"))
    around(VanillaPipeline, "__init__", None, lambda: mark("pipeline, on the device"))
    around(FullImageDatamanager, "_load_images", None, lambda: mark("pictures of a split"))
    around(Trainer, "setup", None, lambda: mark("trainer"))
    around(Trainer, "save_checkpoint", None, lambda: mark("checkpoint"))
    around(Trainer, "_after_train", None, lambda: mark("after training"))
    inner, marked = Trainer.train_iteration, {0, 1, 2, 10, 100}

    def step(self: Trainer, step: int) -> Any:
        if step in marked and torch.cuda.is_available():
            torch.cuda.synchronize()
        if step == 0:
            mark("first step begins")
        out = inner(self, step)
        if step in marked:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            mark(f"step {step} done")
        return out

    Trainer.train_iteration = step
    if "ag2_ns.plugin.pipeline" in sys.modules:
        from ag2_ns.plugin.pipeline import AG2Pipeline
        from ag2_ns.scene import with_facts

        around(with_facts, "with_facts", None, lambda: mark("facts"))
        around(AG2Pipeline, "finish", lambda: mark("last step"), None)
        around(AG2Pipeline, "build_instances", None, lambda: mark("instances"))
        around(AG2Pipeline, "write_scene", None, lambda: mark("scene written"))


STAGES = {
    "ag2_ns.scene.build": ("merging_graph",),
    "ag2_ns.scene.scene_index": ("lift_masks", "build_tree", "refine_anchors", "add_parts", "node_language"),
    "ag2_ns.grouping.tree": ("merge_regions", "candidates", "elect", "lift_out", "_tree_of", "nested", "adopt_unseen"),
    "ag2_ns.grouping.merge": ("_pass", "_sharing", "_relate", "above", "for_ranges", "_measure_all"),
    "ag2_ns.grouping.parts": ("_with_masks", "recurring", "_voted", "_different", "_elected", "_nest", "_placed"),
    "ag2_ns.grouping.lifting": ("_maps",),
    "ag2_ns.language.node_language": ("match_masks", "group_median", "_weighted_mean"),
}


def lift(config: str, rounds: int = 3) -> None:
    """Make the instances of a run anew and say which stage takes how long."""
    import importlib

    import torch

    from ag2_ns.grouping import csr, lifting, merge, tree
    from ag2_ns.plugin.run import load_run

    times: dict[str, list[float]] = {}
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)

    def timed(owner: Any, name: str, label: str | None = None) -> None:
        inner, static = getattr(owner, name), isinstance(vars(owner).get(name), staticmethod)

        def outer(*args: Any, **options: Any) -> Any:
            wait()
            start = time.perf_counter()
            out = inner(*args, **options)
            wait()
            times.setdefault(label or name, []).append(time.perf_counter() - start)
            return out

        setattr(owner, name, staticmethod(outer) if static else outer)

    pipeline = load_run(Path(config)).pipeline
    print(f"{pipeline.model.num_points:,} Gaussians, {len(pipeline.datamanager.train_dataset)} views", flush=True)
    for turn in range(2 * rounds):
        if turn == rounds:  # with stages, each waiting for the device
            for module, names in STAGES.items():
                for name in names:
                    timed(importlib.import_module(module), name)
            timed(merge.Pairs, "refresh", "Pairs.refresh")
            timed(merge.Pairs, "__init__", "Pairs")
            timed(csr.Rows, "of", "Rows.of")
            timed(lifting.LiftedMasks, "group", "LiftedMasks.group")
            timed(tree.InstanceTree, "lift", "InstanceTree.lift")
            timed(type(pipeline.model.backend()), "lift", "rasterizer.lift")
            timed(type(pipeline.datamanager.view_masks()), "get", "masks from disk or memory")
        times.clear()
        wait()
        start, spent = time.perf_counter(), time.process_time()
        pipeline.build_instances()
        wait()
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
        print(f"round {turn}: {seconds:.2f} s, processor {spent:.2f} s", flush=True)
    tree_ = pipeline.model.scene_index().tree
    print(f"{tree_.num_anchors:,} anchors, {tree_.num_nodes} nodes, {len(tree_.instances(0.5))} objects")
    for name, each in sorted(times.items(), key=lambda item: -sum(item[1])):
        print(f"  {name:28s} {len(each):6d} calls {1e3 * sum(each):9.1f} ms")
    import cProfile
    import pstats

    with cProfile.Profile() as profile:
        pipeline.build_instances()
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    if sys.argv[1:2] == ["lift"]:
        lift(sys.argv[2])
    elif sys.argv[1:2] in (["train"], ["quick"]) and sys.argv[2:3] == ["--inside"]:
        train(sys.argv[3:], quick=sys.argv[1] == "quick")
    elif sys.argv[1:2] in (["train"], ["quick"]):
        start = time.time()
        done = subprocess.run([sys.executable, __file__, sys.argv[1], "--inside", *sys.argv[2:]])
        print(f"@ {time.time() - start:8.2f} s  end of the process, exit status {done.returncode}")
        sys.exit(done.returncode)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
