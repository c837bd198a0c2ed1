"""`ag2 refer-train`: train ReferSplat's referring field on a frozen scene."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ag2_ns.cli.picking import Opened
from ag2_ns.eval.refer_options import ReferOptions


@dataclass
class ReferTrain(Opened):
    """Train a field that answers sentences (ReferSplat, ICML 2025), as a baseline beside the solver.

    Writes refer.safetensors beside the scene; ask it with `ag2 query --sentence "..." --by field`.
    """

    sentences: Path
    """sentences/ of an example scene, or a scene's folder of Ref-LERF (with json/)."""
    _: KW_ONLY
    options: Annotated[ReferOptions, tyro.conf.arg(name="")] = field(default_factory=ReferOptions)

    def main(self) -> None:
        """Train, write, and say what to do next."""
        from rich.progress import Progress

        from ag2_ns.core.console import command_line, console
        from ag2_ns.eval.refer_job import train_referring

        out = console()
        scene = self.open(edits=False)
        with Progress(transient=True) as bar:
            tasks: dict[int, int] = {}

            def progress(stage: int, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(f"stage {stage + 1}", total=total)
                bar.update(tasks[stage], completed=done)

            made = train_referring(scene, self.sentences, self.options, progress)
        out.print(
            f"{made.path}: {made.steps} steps on {made.pairs} pairs in {made.seconds:.0f} s, loss {made.loss:.3f}"
        )
        ask = command_line("ag2", "query", "--load-config", self.load_config, "--output-dir", "found", "--by", "field",
                           "--sentence", made.example)  # fmt: skip
        out.print(f"ask it: {ask}")
