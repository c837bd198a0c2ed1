"""How fast training is, beside splatfacto: python examples/benchmarks/speed.py [--captures bear fox] [--repeats 3]

Captures: held-out PSNR and SSIM, wall time and Gaussians of `ag2aussian` and of `splatfacto` (7,000 steps; --long:
30,000, too), by the commands that a user types, in turn, medians of the repeats.

Steps: a table-top of 640 x 480 pixels, Gaussians at random places that neither grow nor fade, all losses on from the
first step: milliseconds, kernels and memory. On a machine without CUDA all of it at a reduced size.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import statistics
import subprocess
import tempfile
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.plugin import methods
from ag2_ns.plugin.trainer import AG2TrainerConfig
from ag2_ns.synthetic.tabletop.generate import generate

BAR_MS = 3.5
"""A step with all losses, 350,000 Gaussians, 640 x 480."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--gaussians", type=int, nargs="+", default=[20_000, 350_000, 900_000] if cuda else [5_000])
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480) if cuda else (160, 120), metavar=("W", "H"))
    parser.add_argument("--losses", nargs="+", choices=("colour", "all"), default=("colour", "all"))
    parser.add_argument("--steps", type=int, default=300 if cuda else 20)
    parser.add_argument("--profile", action="store_true", help="also print what the CPU does in a step")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the model")
    parser.add_argument("--captures", type=Path, nargs="*", default=[], metavar="DATA", help="folders of real captures")
    parser.add_argument("--repeats", type=int, default=3 if cuda else 1)
    parser.add_argument("--long", action="store_true", help="also splatfacto with 30,000 steps")
    args = parser.parse_args()
    for data in args.captures:
        compare(data, args)
    table = Table(
        "Gaussians, anchors", "losses", "step ms", "kernels", "kernel ms", "peak GB", "bar ms", title=_machine()
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scene"
        generate(data, objects=4, views=6, width=args.size[0], height=args.size[1], progress=False)
        _prepare(data)
        for count in args.gaussians:
            for losses in args.losses:
                row = measure(data, Path(folder), count, losses == "all", args)
                bar = f"{BAR_MS}" if count == 350_000 and losses == "all" else ""
                table.add_row(*row[:1], losses, *row[1:], bar)
    Console(width=120).print(table)


METHODS = {"ag2aussian": [], "splatfacto": ["--max-num-iterations", "7000"]}
LONG = {"splatfacto, 30,000": []}
SMALL = {"ag2aussian-small": []}
"""What is trained by `ns-train`, and how; the last without CUDA."""


def compare(data: Path, args: argparse.Namespace) -> None:
    """Train a capture by every method, one after the other, and print medians."""
    methods_ = (METHODS | (LONG if args.long else {})) if torch.cuda.is_available() else SMALL
    table = Table("method", "PSNR", "SSIM", "wall s", "Gaussians", title=f"{data.name}, {_machine()}, {args.repeats} x")
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in methods_}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(args.repeats):
            for name, options in methods_.items():
                rows[name].append(train(name.split(",")[0], options, data, Path(folder) / f"{k}"))
    for name, found in rows.items():
        psnr, ssim, wall, count = (statistics.median(column) for column in zip(*found))
        spread = max(r[0] for r in found) - min(r[0] for r in found)
        table.add_row(name, f"{psnr:.2f} (±{spread / 2:.2f})", f"{ssim:.4f}", f"{wall:.0f}", f"{count:,.0f}")
    Console(width=120).print(table)


def train(method: str, options: list[str], data: Path, folder: Path) -> tuple[float, float, float, float]:
    """Held-out PSNR and SSIM, seconds of `ns-train` with its start-up, and Gaussians."""
    parser = ["ag2-data"] if method == "splatfacto" else []
    common = ["--data", str(data), "--output-dir", str(folder), "--vis", "tensorboard"]
    start = time.perf_counter()
    subprocess.run(["ns-train", method, *common, *options, *parser], check=True, capture_output=True)
    wall = time.perf_counter() - start
    config = max(folder.glob(f"*/{method}/*/config.yml"))
    report = folder / f"{method}.json"
    subprocess.run(
        ["ns-eval", "--load-config", str(config), "--output-path", str(report)], check=True, capture_output=True
    )
    results = json.loads(report.read_text())["results"]
    checkpoint = max((config.parent / "nerfstudio_models").glob("*.ckpt"))
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["pipeline"]
    count = next(len(v) for k, v in state.items() if k.endswith(("child_anchor", "gauss_params.means")))
    return results["psnr"], results["ssim"], wall, count


def _machine() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"


def _prepare(data: Path) -> None:
    from ag2_ns.plugin.prepare import Prepare

    Prepare(data, segmenter="files", encoder="table").main()


def measure(data: Path, folder: Path, count: int, features: bool, args: argparse.Namespace) -> list[str]:
    """Gaussians and anchors, milliseconds of a step, kernels that it launches and their time, and the memory's peak."""
    from nerfstudio.utils import writer

    config: AG2TrainerConfig = deepcopy(methods.ag2aussian.config)
    values = {name: _value(value) for name, value in (pair.split("=") for pair in args.set)}
    settings = dict(
        random_init=True, num_random=count // 5, children_per_anchor=5, grow_by="cells", max_initial_anchors=count,
        num_downscales=0, grow_from=10**9, grow_until=0, opacity_cover_from=0, mask_loss_from=0 if features else 10**9,
        propagation_from=0 if features else 10**9, remove_invisible_at=(), opacity_reset_every=10**9,
        sh_degree_interval=0, instances="none", schedule_steps=10**5, random_opacity=0.1,
    )  # fmt: skip
    config.pipeline.model = replace(config.pipeline.model, **settings | values)
    config.pipeline.datamanager.data = data
    config.output_dir, config.vis, config.max_num_iterations = folder / "runs", "tensorboard", args.steps
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_save = 10**9
    config.logging.local_writer.enable, config.logging.profiler = False, "none"
    if not torch.cuda.is_available():
        config.machine.device_type = "cpu"
    config.set_timestamp()
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    clock = _Clock(trainer, args)
    trainer.train()
    row = clock.row()
    # Nothing of this run may slow the next one down: nerfstudio's writers pile up, and what a trainer holds is frozen.
    writer.EVENT_WRITERS.clear()
    del trainer, clock
    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return row


def _value(text: str) -> object:
    try:
        return eval(text, {})
    except NameError:
        return text


class _Clock:
    """Wraps a trainer's steps: warm-up, then steps that are timed, then some under a profiler."""

    def __init__(self, trainer, args) -> None:
        self.trainer, self.args, self.cuda = trainer, args, torch.cuda.is_available()
        self.begin, self.profiled = args.steps // 3, max(1, args.steps // 10)
        self.inner = trainer.train_iteration
        self.profile = None
        self.cpu = cProfile.Profile() if args.profile else None
        trainer.train_iteration = self.step
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()

    def step(self, step: int):
        last = self.args.steps - self.profiled
        if step in (self.begin, last):
            if self.cuda:
                torch.cuda.synchronize()
            if step == self.begin:
                self.start = time.perf_counter()
                if self.cpu is not None:
                    self.cpu.enable()
            else:
                self.seconds = (time.perf_counter() - self.start) / (last - self.begin)
                if self.cpu is not None:
                    self.cpu.disable()
                if self.cuda:
                    self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
                    self.profile.__enter__()
        out = self.inner(step)
        if step == self.args.steps - 1 and self.cuda:  # what ends a run is no step
            torch.cuda.synchronize()
            self.profile.__exit__(None, None, None)
            self.peak = torch.cuda.max_memory_allocated() / 2**30
        return out

    def row(self) -> list[str]:
        kernels, busy, peak = "", "", ""
        if self.cuda:
            events = [e for e in self.profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
            kernels = f"{len(events) / self.profiled:.0f}"
            busy = f"{sum(e.self_device_time_total for e in events) / self.profiled / 1000:.2f}"
            peak = f"{self.peak:.2f}"
            if self.args.profile:
                print(self.profile.key_averages().table(sort_by="self_device_time_total", row_limit=22))
        if self.cpu is not None:
            pstats.Stats(self.cpu).sort_stats("tottime").print_stats(28)
        model = self.trainer.pipeline.model
        counts = f"{model.num_points:,}, {len(model.anchor_xyz):,}"
        return [counts, f"{1000 * self.seconds:.2f}", kernels, busy, peak]


if __name__ == "__main__":
    main()
