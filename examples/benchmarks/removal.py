"""Remove every object of a table-top run: do the pixels of the object change, and no others?

    python examples/benchmarks/removal.py --load-config outputs/.../config.yml

The bar: the mean IoU of the changed pixels with the object's exact mask is at least 0.9.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from ag2_ns.edit import steps
from ag2_ns.edit.apply import apply_edits
from ag2_ns.errors import UserError
from ag2_ns.rasterizer import render

LEAST = 100
"""Views that show less of an object (pixels) are left out."""


@dataclass
class Removal:
    """Measure removal."""

    load_config: Path
    """A run of the table-top scene with instances."""
    changed: float = 0.1
    """A pixel has changed if a channel differs by more than this (0 to 1)."""
    views: int = 24
    """Views to measure in, evenly spread over training and held-out ones."""
    pictures: Path | None = None
    """Write a sheet of before, removed and removed with cleanup here."""

    @torch.no_grad()
    def main(self) -> None:
        from ag2_ns import compat
        from ag2_ns.edit.around import surroundings
        from ag2_ns.run_access import load_run, select

        compat.apply()
        run = load_run(self.load_config)
        index, gaussians, backend = run.require_index(), run.gaussians, run.model.backend()
        truth = Path(run.config.pipeline.datamanager.data or run.config.data) / "ground_truth"
        labels = {int(k): v for k, v in json.loads((truth / "labels.json").read_text()).items()}
        named = run.views("train") + run.views("eval")
        named = [named[i] for i in np.linspace(0, len(named) - 1, min(self.views, len(named))).round().astype(int)]
        ids = [np.asarray(Image.open(truth / "ids" / f"{Path(name).stem}.png")) for name, _ in named]
        before = [render(gaussians, view, backend).rgb for _, view in named]
        trained = apply_edits(gaussians, index.gaussian_anchor, [])
        around = surroundings(run.model, index, run.pipeline.datamanager)
        table = Table("object", "IoU", "beside", "unchanged", "IoU with cleanup", "beside", "unchanged", "residue",
                      "patch", "seconds", title=f"{len(gaussians)} Gaussians, changed by > {self.changed}")  # fmt: skip
        means, rows = [], []
        for number, label in labels.items():
            if label == "table":
                continue
            found = select(run, text=label)
            if found.empty:
                table.add_row(label, "0", found.reason)
                means.append((0.0, 0.0))
                continue
            start = time.perf_counter()
            try:
                step = steps.delete(trained, found, around)
            except UserError as error:
                table.add_row(label, "0", str(error))
                continue
            seconds = time.perf_counter() - start
            edited = [apply_edits(gaussians, index.gaussian_anchor, s).gaussians
                      for s in (steps.delete(trained, found, None), step)]  # fmt: skip
            cells = []
            for scene in edited:
                figures, largest = [], max(range(len(ids)), key=lambda k: int((ids[k] == number).sum()))
                for k, (_, view) in enumerate(named):
                    mask = ids[k] == number
                    if mask.sum() < LEAST:
                        continue
                    after = render(scene, view, backend).rgb
                    other = ((after - before[k]).abs().amax(-1) > self.changed).cpu().numpy()
                    figures.append([(other & mask).sum() / (other | mask).sum(), (other & ~mask).sum() / mask.sum(),
                                    (~other & mask).sum() / mask.sum()])  # fmt: skip
                cells.append(np.mean(figures, 0) if figures else np.zeros(3))
                if scene is edited[0]:
                    rows.append([before[largest]])
                rows[-1].append(render(scene, named[largest][1], backend).rgb)
            means.append((cells[0][0], cells[1][0]))
            table.add_row(label, *(f"{v:.3f}" for c in cells for v in c), str(step[0].residue.size),
                          str(len(step[1]) if len(step) > 1 else 0), f"{seconds:.2f}")  # fmt: skip
        plain, clean = np.mean(means, 0)
        table.add_row("mean", f"{plain:.3f}", "", "", f"{clean:.3f}")
        Console().print(table)
        if self.pictures is not None:
            sheet = torch.cat([torch.cat(row, 1) for row in rows]).clamp(0, 1)
            self.pictures.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((sheet * 255).byte().cpu().numpy()).save(self.pictures)


if __name__ == "__main__":
    tyro.cli(Removal).main()
