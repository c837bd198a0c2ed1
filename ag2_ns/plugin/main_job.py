"""The main job: from a folder of pictures to a trained scene with numbers, a video and a contact sheet."""

from __future__ import annotations

import time
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.notice import notice

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import Trainer, TrainerConfig


@dataclass
class Demo:
    """Make (or take) a scene, train, evaluate, render a video and a contact sheet, and print where everything is."""

    data: Path | None = None
    """Your own scene: a folder with transforms.json or a COLMAP model. Unset makes the table-top example."""
    output_dir: Path = Path("outputs")
    """Where the scene, the run and the pictures go."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to train; auto takes CUDA when torch sees it."""
    method: Literal["auto", "ag2aussian", "ag2aussian-small"] = "auto"
    """auto takes the full method on CUDA and the small one on a CPU."""
    steps: int | None = None
    """Length of the training run; unset takes the method's own."""
    downscale_factor: int | None = None
    """Use images_2, images_4, … of your own scene."""
    masks: bool = True
    """Prepare masks (see `ag2 prepare`) if the scene has none, and end with instances to click and name."""
    frames: int = 48
    """Frames of the video."""
    seed: int = 0
    """Seed of the example scene and of the training."""

    def main(self) -> None:
        """Run the job."""
        from ag2_ns.ops.device import choose_device

        for option, value, least in (("--steps", self.steps, 1), ("--frames", self.frames, 2)):
            if value is not None and value < least:
                raise UserError(f"{option} {value}: give a number from {least}")
        start = time.perf_counter()
        device = choose_device(self.device)
        method = self.method if self.method != "auto" else ("ag2aussian" if device == "cuda" else "ag2aussian-small")
        data = self.data if self.data is not None else self._example(device)
        timings: dict[str, float] = {"scene": time.perf_counter() - start}
        trainer = self._train(method, data, device, timings)
        results = self._pictures(trainer, timings)
        self._report(trainer, method, data, results, timings)
        if trainer.viewer_state is not None:
            trainer.shutdown()

    def _example(self, device: str) -> Path:
        from ag2_ns.synthetic.tabletop.generate import generate

        small = device == "cpu"
        size = (240, 180) if small else (640, 480)
        objects, views = (8, 60) if small else (14, 80)
        out = self.output_dir / f"tabletop-{objects}x{views}-{size[0]}x{size[1]}-seed{self.seed}"
        if not (out / "transforms.json").is_file():
            generate(out, seed=self.seed, objects=objects, views=views, width=size[0], height=size[1], noise=1.0)
        return out

    def _config(self, method: str, data: Path, device: str) -> TrainerConfig:
        from ag2_ns.plugin.compat import compile_when_called

        with compile_when_called():
            from ag2_ns.plugin.methods import ag2aussian, ag2aussian_small

        config = deepcopy({"ag2aussian": ag2aussian, "ag2aussian-small": ag2aussian_small}[method].config)
        config.data = data
        config.output_dir = self.output_dir
        config.experiment_name = data.resolve().name
        config.machine.device_type = device  # type: ignore[assignment]
        config.machine.seed = self.seed
        config.vis = "tensorboard"
        config.logging.local_writer.enable = False
        config.pipeline.datamanager.data = data
        config.pipeline.datamanager.prepare = config.pipeline.datamanager.use_masks = self.masks  # type: ignore[attr-defined]
        config.pipeline.datamanager.dataparser.downscale_factor = self.downscale_factor  # type: ignore[attr-defined]
        if self.steps is not None:
            config.max_num_iterations = self.steps
        config.steps_per_eval_image = config.steps_per_eval_all_images = config.max_num_iterations + 1
        config.set_timestamp()
        return config

    def _train(self, method: str, data: Path, device: str, timings: dict[str, float]) -> Trainer:
        from ag2_ns.plugin.train import seed

        start = time.perf_counter()
        config = self._config(method, data, device)

        from nerfstudio.utils import writer  # it and nerfstudio's configurations import each other: they come first

        seed(config.machine.seed)
        config.save_config()
        trainer: Any = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        with training_progress(trainer):
            trainer.train()
        writer.EVENT_WRITERS.clear()
        timings["train"] = time.perf_counter() - start
        return trainer

    def _pictures(self, trainer: Trainer, timings: dict[str, float]) -> dict[str, float]:
        from ag2_ns.plugin.pictures import evaluate_and_draw, render_video

        folder = trainer.config.get_base_dir()
        start = time.perf_counter()
        results = evaluate_and_draw(trainer.pipeline, folder / "contact_sheet.png")
        timings["evaluate"] = time.perf_counter() - start
        start = time.perf_counter()
        try:
            render_video(trainer.pipeline, folder / "video.mp4", self.frames)
        except UserError as error:  # must not cost the report
            notice(f"no video: {first_line(error)}", style="red")
        timings["video"] = time.perf_counter() - start
        return results

    def _report(
        self, trainer: Trainer, method: str, data: Path, results: dict[str, float], timings: dict[str, float]
    ) -> None:
        from rich.table import Table

        from ag2_ns.core.console import command_line, console

        folder = trainer.config.get_base_dir()
        config = folder / "config.yml"
        table = Table(title=f"{method} on {data}", show_header=False)
        for name, value in results.items():
            table.add_row(name, f"{value:,.0f}" if value == int(value) and value > 100 else f"{value:.3f}")
        for name, seconds in timings.items():
            table.add_row(f"time: {name}", f"{seconds:.1f} s")
        out = console()
        out.print(table)
        out.print(f"contact sheet  {folder / 'contact_sheet.png'}")
        if (folder / "video.mp4").is_file():
            out.print(f"video          {folder / 'video.mp4'}")

        def propose(what: str, command: str, *options: str | Path) -> None:
            out.print(f"{what:<15}{command_line(*command.split(), '--load-config', config, *options)}")

        scene = trainer.pipeline.live.scene()
        if scene.index is not None:
            text = scene.texts.example()
            propose("ask", "ag2 query", "--text", text, "--output-dir", folder / "answer")
            if (truth := data / "ground_truth").is_dir():
                propose("queries", "ag2 eval", "--ground-truth", truth, "--output-dir", folder / "eval")
        propose("look around", "ns-viewer")
        propose("numbers", "ns-eval", "--output-path", folder / "eval.json")
        propose("video", "ag2 render", "--output-path", folder / "flight.mp4")


@contextmanager
def training_progress(trainer: Trainer):
    """A progress bar over the steps of `trainer`, with PSNR of the training views and the number of Gaussians."""
    from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=trainer.config.max_num_iterations, note="")

        def advance(step: int) -> None:
            model = trainer.pipeline.model
            note = f"{model.num_points:,} Gaussians" if hasattr(model, "num_points") else ""
            progress.update(task, completed=step + 1 - trainer._start_step, note=note)

        trainer.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], advance))
        yield
