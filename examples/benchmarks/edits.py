"""One click on a run, and what edits of the clicked thing look like: a sheet of removed, alone, moved and turned.

python examples/benchmarks/edits.py --load-config outputs/…/config.yml --click frame_00002.jpg 255 255 --level 0.3
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro


@dataclass
class Edits:
    """Draw a sheet of edits."""

    load_config: Path
    """A run with instances."""
    click: tuple[str, float, float]
    """Image and pixel of the thing."""
    level: float = 0.5
    """Granularity, 0 (parts) to 1 (groups)."""
    move: tuple[float, float, float] = (0.0, 0.0, 0.1)
    """Where to move it, in the run's frame."""
    turn: float = 45.0
    """Degrees to turn it about the vertical."""
    views: int = 3
    """Views to show, evenly spread over the training views that see most of it."""
    out: Path = Path("edits.png")
    """The sheet."""

    @torch.no_grad()
    def main(self) -> None:
        import ag2_ns
        from ag2_ns.edit.operations import axis_angle
        from ag2_ns.rendering import render
        from ag2_ns.rendering.overlay import SELECTED, marked, selection_share, to_uint8
        from ag2_ns.rendering.sheet import contact_sheet

        scene = ag2_ns.open(self.load_config, edits=False)
        backend, gaussians = scene.rasterizer, scene.gaussians
        found = scene.select(click=self.click, level=self.level).selection
        start = time.perf_counter()
        place = {"translation": self.move, "wxyz": axis_angle((0.0, 0.0, 1.0), self.turn)}
        made = {
            "removed": scene.edit("delete", found),
            "alone": scene.edit("isolate", found),
            "moved and turned": scene.edit("move", found, **place),
        }
        for name, edited in made.items():
            print(f"{name}: " + "; ".join(edited.history.describe()))
        print(f"{time.perf_counter() - start:.1f} s for {len(made)} edits of {len(gaussians):,} Gaussians")
        scenes = [edited.edited.gaussians for edited in made.values()]

        def picture(scene, view) -> np.ndarray:
            return to_uint8(render(scene, view, backend, depth=False).rgb)

        named = [(v.name, v.view) for v in scene.of_split("train")]
        shares = [selection_share(gaussians, found.gaussian_mask[:, None], v, backend)[..., 0] for _, v in named]
        area = np.array([float(s.sum()) for s in shares])
        good = np.nonzero(area >= np.median(area))[0]
        chosen = good[np.linspace(0, len(good) - 1, self.views + 1).round().astype(int)[:-1]]
        rows = []
        for k in chosen:
            view, plain = named[k][1], picture(gaussians, named[k][1])
            shown = marked(plain, (shares[k] > SELECTED).cpu().numpy())
            rows.append([plain, shown, *(picture(scene, view) for scene in scenes)])
        columns = ["rendered", f"{found.label}, granularity {self.level:g}", *made]
        contact_sheet(self.out, rows, columns, [named[k][0] for k in chosen])
        print(self.out)


if __name__ == "__main__":
    tyro.cli(Edits).main()
