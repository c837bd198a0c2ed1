"""How long a training stands still while somebody uses its viewer: the gaps between steps, with and without, and how
long steps wait for an answer that has hold of the model.

    python examples/benchmarks/pauses.py --load-config outputs/…/config.yml --text "red mug"

Trains a finished run on for a while (elsewhere: the run stays as it is) with the viewer's server up. The goal on a GPU
is that no answer holds the training up by longer than a step takes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nerfstudio.engine.trainer import Trainer
from rich.console import Console
from rich.table import Table

from ag2_ns.plugin.run import read_config
from ag2_ns.query.text import Text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load-config", type=Path, required=True)
    parser.add_argument("--text", help="a text that the run knows; without one there are only clicks and levels")
    parser.add_argument("--steps", type=int, default=300, help="in each part: undisturbed, then with each kind of use")
    parser.add_argument("--port", type=int, default=7017)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder))


def measure(args: argparse.Namespace, folder: Path) -> None:
    config = read_config(args.load_config)
    checkpoints = args.load_config.parent / config.relative_model_dir
    config.load_dir, config.output_dir, config.vis = checkpoints, folder, "viewer"
    config.viewer.websocket_port, config.viewer.websocket_host = args.port, "127.0.0.1"
    config.viewer.quit_on_train_completion = True
    config.get_base_dir().mkdir(parents=True)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    panel = trainer.pipeline.AG2.panel
    c2w = trainer.pipeline.datamanager.train_dataset.cameras.camera_to_worlds
    uses = {"nobody": None, "clicks": lambda k: click(panel.session, c2w[k % len(c2w)])}
    uses["levels"] = lambda k: panel.session.set_level((k % 10) / 10)
    if args.text:
        panel.session.ask(Text(args.text))  # the encoder is loaded
        uses["texts"] = lambda k: panel.session.ask(Text(args.text))
    parts = Parts(trainer, panel, uses, args.steps)
    trainer.train()
    parts.stop()
    parts.show(f"{trainer.pipeline.model.child_anchor.shape[0]:,} Gaussians, {trainer.pipeline.model.device}")


def click(session, c2w) -> None:
    session.click(c2w[:, 3].tolist(), (-c2w[:, 2]).tolist())


class Waited:
    """A lock that tells how long each holder waited for it."""

    def __init__(self, lock: threading.Lock, tell: Callable[[float], None]) -> None:
        self.lock, self.tell = lock, tell

    def __enter__(self) -> None:
        start = time.perf_counter()
        self.lock.acquire()
        self.tell(time.perf_counter() - start)

    def __exit__(self, *_: object) -> None:
        self.lock.release()


class Parts:
    """Times the steps of a training; in each part something else disturbs it, five times a second."""

    def __init__(self, trainer: Trainer, panel, uses: dict, steps: int) -> None:
        self.trainer, self.panel, self.steps = trainer, panel, steps
        self.uses, self.begins = list(uses.items()), {name: [] for name in uses}
        self.answers: dict[str, list[float]] = {name: [] for name in uses}
        self.waits: dict[str, list[float]] = {name: [] for name in uses}
        self.use = None
        trainer.train_lock = Waited(trainer.train_lock, self.waited)
        self.iterate, trainer.train_iteration = trainer.train_iteration, self.step
        trainer.config.max_num_iterations = steps * (len(uses) + 1)  # the first part warms up
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.disturb, daemon=True)
        self.thread.start()

    def step(self, step: int):
        part = (step - self.trainer._start_step) // self.steps - 1
        if part >= 0:
            self.use = self.uses[part]
            self.begins[self.use[0]].append(time.perf_counter())
        return self.iterate(step)

    def waited(self, seconds: float) -> None:
        if self.use is not None:
            self.waits[self.use[0]].append(seconds)

    def disturb(self) -> None:
        for k in itertools.count():
            if self.stopped.wait(0.2):
                return
            if self.use is not None and self.use[1] is not None:
                name, change = self.use

                def timed(name=name, change=change, k=k) -> None:
                    start = time.perf_counter()
                    change(k)
                    self.answers[name].append(time.perf_counter() - start)

                self.panel.ask(timed)

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.panel.wait()

    def show(self, title: str) -> None:
        table = Table(title=f"training while somebody uses the viewer; {title}")
        steps = ("median step ms", "99 % ms", "longest gap ms", "longest wait ms")
        for name in ("", *steps, "answers", "first answer ms", "median", "longest"):
            table.add_column(name, justify="right" if name else "left")
        for name, begins in self.begins.items():
            gaps = sorted(1e3 * (b - a) for a, b in itertools.pairwise(begins))
            took = [1e3 * s for s in self.answers[name]]
            cells = [statistics.median(gaps), gaps[int(0.99 * len(gaps))], gaps[-1], 1e3 * max(self.waits[name])]
            cells += [len(took)] + ([took[0], statistics.median(took), max(took)] if took else [])
            table.add_row(name, *(f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
