"""The instance tree of a run as pictures: its instances at several levels of granularity, from parts to groups.

python examples/benchmarks/levels.py --load-config outputs/bear/.../config.yml --picture levels.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.rendering import render
from ag2_ns.rendering.overlay import to_uint8
from ag2_ns.rendering.sheet import contact_sheet
from ag2_ns.session.outputs import hues

SHADE = 0.45
"""Share of the photograph's brightness that shows through."""


@dataclass
class Levels:
    """Draw the instances of a run."""

    load_config: Path
    """A run with instances."""
    picture: Path = Path("levels.png")
    """The sheet to write."""
    levels: tuple[float, ...] = (0.1, 0.3, 0.5, 0.9)
    """0 finest parts, 0.5 objects, 1 groups."""
    views: int = 3
    """Training views, evenly spread."""

    @torch.no_grad()
    def main(self) -> None:
        """Write the sheet; print how many instances there are at each level."""
        scene = ag2_ns.open(self.load_config, edits=False)
        index, gaussians, backend = scene.require_index(), scene.gaussians, scene.rasterizer
        looks = [hues(index.gaussian_node(level)) for level in self.levels]
        named = [(v.name, v.view) for v in scene.of_split("train")]
        rows, names = [], []
        for i in np.linspace(0, len(named) - 1, self.views + 1).round().astype(int)[:-1]:
            name, view = named[i]
            out = render(gaussians, view, backend, feature=torch.cat(looks, 1), depth=False)
            grey = out.rgb.mean(-1, keepdim=True)
            drawn = [c.clamp(0, 1) * (1 - SHADE + SHADE * 1.6 * grey) for c in out.feature.split(3, dim=-1)]
            rows.append([to_uint8(p.clamp(0, 1)) for p in (out.rgb, *drawn)])
            names.append(name)
        contact_sheet(self.picture, rows, ["rendered", *(f"level {level:g}" for level in self.levels)], names)
        counts = ", ".join(f"{level:g}: {len(index.tree.instances(level))}" for level in self.levels)
        Console(soft_wrap=True).print(f"instances at level {counts}\npicture  {self.picture}")


if __name__ == "__main__":
    try:
        tyro.cli(Levels).main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
