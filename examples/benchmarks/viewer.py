"""How long the viewer's server takes from a click or a text to the picture, on a run of your own.

    python examples/benchmarks/viewer.py --load-config outputs/…/config.yml --text "red mug"

The goals at 300 000 Gaussians and 640x480 on a GPU are 100 ms for a click and 150 ms for a text. While the viewer
shows a training, it waits for the answer alone, which should take no longer than a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from nerfstudio.cameras.cameras import Cameras
from rich.console import Console
from rich.table import Table

from ag2_ns.core.errors import UserError
from ag2_ns.edit import steps
from ag2_ns.plugin.run import load_run
from ag2_ns.query.text import Text


def timed(job, device: torch.device, repeats: int) -> list[float]:
    out = []
    for k in range(repeats + 2):
        start = time.perf_counter()
        job(k)
        if device.type == "cuda":
            torch.cuda.synchronize()
        out.append(1000 * (time.perf_counter() - start))
    return out[2:]  # the first ones compile and load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load-config", type=Path, required=True)
    parser.add_argument("--text", help="a text that the run knows; without one only clicks are timed")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    run = load_run(args.load_config)
    model, session = run.model, run.session
    c2w = run.pipeline.datamanager.train_dataset.cameras.camera_to_worlds[:1]
    f, size = 0.9 * args.width, {"width": args.width, "height": args.height}
    camera = Cameras(c2w, fx=f, fy=f, cx=args.width / 2, cy=args.height / 2, **size).to(model.device)
    origin, forward = c2w[0, :, 3].tolist(), (-c2w[0, :, 2]).tolist()

    def draw() -> None:
        model.get_outputs_for_camera(camera)["selection_overlay"].cpu()

    def click(k: int) -> None:
        session.click(origin, [v + 0.002 * k for v in forward])

    def ask(_: int) -> None:
        session.ask(Text(args.text))

    def slide(k: int) -> None:
        session.set_level((k % 10) / 10)

    rows = {"picture alone": lambda _: draw()}
    for name, answer in {"click": click, "slider": slide, "text": ask}.items():
        if name != "text" or args.text:
            rows[f"{name} to answer"] = answer
            rows[f"{name} to picture"] = lambda k, answer=answer: (answer(k), draw())
    table = Table(title=f"{len(run.scene.gaussians):,} Gaussians, {args.width}x{args.height}, {model.device}")
    for name in ("", "median ms", "worst ms"):
        table.add_column(name, justify="right" if name else "left")
    for name, job in rows.items():
        ms = timed(job, model.device, args.repeats)
        table.add_row(name, f"{statistics.median(ms):.1f}", f"{max(ms):.1f}")
    try:
        session.click(origin, forward)
        session.edit(*steps.delete(session.edited(), session.require_selection(), None), keep_selection=False)
        ms = timed(lambda _: draw(), model.device, args.repeats)
        table.add_row("picture with an edit", f"{statistics.median(ms):.1f}", f"{max(ms):.1f}")
    except UserError as error:
        print(error)
    Console().print(table)


if __name__ == "__main__":
    main()
