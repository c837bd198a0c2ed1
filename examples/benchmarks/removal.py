"""Remove every object of a table-top run: do the pixels of the object change, and no others?

    python examples/benchmarks/removal.py --load-config outputs/.../config.yml

The bar: the mean IoU of the changed pixels with the object's exact mask is at least 0.9. Two things count against a
removal that are not its fault, so they are shown beside it: the pixels of the border, which show the object in part
("off border" leaves out one pixel on either side of it), and pixels of the object that look like what is behind it
("unchanged": the better the hole is closed, the more of them there are).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from ag2_ns.core.errors import UserError
from ag2_ns.edit import steps
from ag2_ns.edit.apply import apply_edits
from ag2_ns.edit.config import EditConfig
from ag2_ns.edit.operations import Patch
from ag2_ns.rendering import render

LEAST = 100
"""Views that show less of an object (pixels) are left out."""


def figures(changed: np.ndarray, mask: np.ndarray) -> list[float]:
    """IoU, IoU off the mask's border, and changed pixels beside and unchanged pixels inside per pixel of the mask."""
    inner = ndimage.binary_erosion(mask, border_value=1) | ~ndimage.binary_dilation(mask)

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        return (a & b).sum() / max((a | b).sum(), 1)

    beside, unchanged = (changed & ~mask).sum() / mask.sum(), (~changed & mask).sum() / mask.sum()
    return [iou(changed, mask), iou(changed & inner, mask & inner), beside, unchanged]


@dataclass
class Removal:
    """Measure removal."""

    load_config: Path
    """A run of the table-top scene with instances."""
    changed: float = 0.1
    """A pixel has changed if a channel differs by more than this (0 to 1)."""
    views: int = 24
    """Views to measure in, evenly spread over training and held-out ones."""
    config: EditConfig = field(default_factory=EditConfig)
    """Thresholds of the removals."""
    pictures: Path | None = None
    """Write a sheet of before, removed and removed with cleanup here."""

    @torch.no_grad()
    def main(self) -> None:
        import ag2_ns
        from ag2_ns.session.surroundings import surroundings

        opened = ag2_ns.open(self.load_config, edits=False)
        index, gaussians, backend = opened.require_index(), opened.gaussians, opened.rasterizer
        truth = opened.source.data / "ground_truth"
        labels = {int(k): v for k, v in json.loads((truth / "labels.json").read_text()).items()}
        named = [(v.name, v.view) for v in opened.views]
        named = [named[i] for i in np.linspace(0, len(named) - 1, min(self.views, len(named))).round().astype(int)]
        ids = [np.asarray(Image.open(truth / "ids" / f"{Path(name).stem}.png")) for name, _ in named]
        before = [render(gaussians, view, backend).rgb for _, view in named]
        trained = apply_edits(gaussians, index.gaussian_anchor, [])
        around = surroundings(opened.configured(self.config))
        table = Table("object", "IoU", "off border", "beside", "unchanged", "IoU, no cleanup", "off border", "residue",
                      "patch", "seconds", title=f"{len(gaussians)} Gaussians, changed by > {self.changed}")  # fmt: skip
        measured, rows = [], []
        for number, label in labels.items():
            large = [k for k in range(len(ids)) if (ids[k] == number).sum() >= LEAST]
            if label == "table" or not large:
                continue
            found = opened.select(text=label).selection
            start = time.perf_counter()
            try:
                step = steps.delete(trained, found, around)
            except UserError as error:
                table.add_row(label, "0", str(error))
                measured.append(np.zeros((2, 4)))
                continue
            seconds = time.perf_counter() - start
            row = [before[largest := max(large, key=lambda k: int((ids[k] == number).sum()))]]
            measured.append([])
            for edits in (step, steps.delete(trained, found, None)):
                scene, cells = apply_edits(gaussians, index.gaussian_anchor, edits).gaussians, []
                for k in large:
                    after = render(scene, named[k][1], backend).rgb
                    changed = ((after - before[k]).abs().amax(-1) > self.changed).cpu().numpy()
                    cells.append(figures(changed, ids[k] == number))
                measured[-1].append(np.mean(cells, 0))
                row.insert(1, render(scene, named[largest][1], backend).rgb)
            rows.append(row)
            clean, plain = measured[-1]
            table.add_row(label, *(f"{v:.3f}" for v in (*clean, *plain[:2])), str(step[0].residue.size),
                          str(sum(len(e) for e in step if isinstance(e, Patch))), f"{seconds:.2f}")  # fmt: skip
        clean, plain = np.mean(measured, 0)
        table.add_row("mean", *(f"{v:.3f}" for v in (*clean, *plain[:2])))
        Console().print(table)
        if self.pictures is not None:
            sheet = torch.cat([torch.cat(row, 1) for row in rows]).clamp(0, 1)
            self.pictures.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((sheet * 255).byte().cpu().numpy()).save(self.pictures)


if __name__ == "__main__":
    tyro.cli(Removal).main()
