"""Click on a thing in a picture and get it as a set of Gaussians: a part, an object, a group.

    python examples/4_click.py [--load-config …/config.yml] [--x 120 --y 100]

Shows `select`: one answer for clicks and texts, at any granularity, which marks the same Gaussians in every view.

Writes OUT/click.png: the clicked view on top, another one below; a column per granularity.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import start
import tyro
from PIL import Image

from ag2_ns.cli.pictures import to_uint8
from ag2_ns.query.answer import select
from ag2_ns.rendering import render
from ag2_ns.rendering.overlay import SELECTED, overlay, selection_share


def main(
    load_config: Path | None = None,
    data: Path | None = None,
    out: Path = Path("outputs/examples"),
    x: float | None = None,
    y: float | None = None,
) -> Path:
    run = start.run(load_config, data, out)
    views = run.views("train")
    (name, view), other = views[0], views[len(views) // 3][1]
    x, y = (view.width / 2 if x is None else x), (view.height / 2 if y is None else y)
    columns, backend = [], run.model.backend()
    for level in (0.0, 0.5, 1.0):
        found = select(run, click=(name, x, y), level=level)
        size = int(found.gaussian_mask.sum())
        print(f"granularity {level}: {found.label}, {size} Gaussians {found.reason}")
        rows = []
        for seen in (view, other):
            picture = to_uint8(render(run.gaussians, seen, backend, depth=False).rgb)
            share = selection_share(run.gaussians, found.gaussian_mask[:, None], seen, backend)[..., 0]
            rows.append(overlay(picture, (share > SELECTED).cpu().numpy()))
        columns.append(np.concatenate(rows, 0))
    Image.fromarray(np.concatenate(columns, 1)).save(out / "click.png")
    print(out / "click.png")
    return out / "click.png"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
