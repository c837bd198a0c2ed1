"""Click on a thing in a picture and get it as a set of Gaussians: a part, an object, a group.

    python examples/4_click.py [--load-config …/config.yml] [--x 120 --y 100]

Shows `scene.select`: one answer for clicks and texts, at any granularity, which marks the same Gaussians in every view.

Writes OUT/click.png: the clicked view on top, another one below; a column per granularity.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import start
import tyro
from PIL import Image

from ag2_ns.rendering.overlay import to_uint8


def main(
    load_config: Path | None = None,
    data: Path | None = None,
    out: Path = Path("outputs/examples"),
    x: float | None = None,
    y: float | None = None,
) -> Path:
    scene = start.opened(load_config, data, out)
    views = scene.of_split("train")
    first, other = views[0], views[len(views) // 3]
    x = first.view.width / 2 if x is None else x
    y = first.view.height / 2 if y is None else y
    columns = []
    for level in (0.0, 0.5, 1.0):
        answer = scene.select(click=(first.name, x, y), level=level)
        found, second = answer.selection, answer.runner_up
        beside = "" if second is None else f"; runner-up {second.label} ({second.score:.2f})"
        size = int(found.gaussian_mask.sum())
        print(f"granularity {level}: {found.label} ({found.score:.2f}), {size} Gaussians{beside}")
        shown = [scene.render(seen.view, answer)["selection_overlay"] for seen in (first, other)]
        columns.append(np.concatenate([to_uint8(picture) for picture in shown], 0))
    Image.fromarray(np.concatenate(columns, 1)).save(out / "click.png")
    print(out / "click.png")
    return out / "click.png"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
