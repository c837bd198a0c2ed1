"""Edit a scene: delete a thing and close the hole, or move, recolour and duplicate it. The checkpoint stays as it is.

    python examples/6_edit.py [--load-config …/config.yml] [--text "red mug"] [--save]

Shows edits as steps on a selection (`ag2 edit --help` lists them all), each from the scene as trained.

Writes OUT/edit.png: as trained, deleted, moved, recoloured, duplicated. With --save the deletion is also written beside
the run, where ns-viewer, ns-render and ns-export find it (`ag2 edit --undo` takes it back).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import start
import tyro
from PIL import Image

from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.rendering.overlay import to_uint8


def main(
    load_config: Path | None = None,
    data: Path | None = None,
    out: Path = Path("outputs/examples"),
    text: str | None = None,
    save: bool = False,
) -> Path:
    scene = start.opened(load_config, data, out).as_trained()
    found = scene.select(text=text or scene.texts.example())
    thing = scene.gaussians[found.selection.gaussian_mask]
    low, high = robust_bounds(thing.means, thing.opacities)
    aside = (1.5 * float(high[0] - low[0]), 0.0, 0.0)
    made = {
        "as trained": scene,
        "deleted": scene.edit("delete", found),
        "moved": scene.edit("move", found, translation=aside, wxyz=(0.7071, 0.0, 0.0, 0.7071)),
        "recoloured": scene.edit("recolour", found, rgb=(0.1, 0.5, 1.0)),
        "duplicated": scene.edit("duplicate", found, translation=aside),
    }
    # The view that shows most of it.
    view = max(scene.of_split("train"), key=lambda v: float(scene.mask(v.view, found).sum())).view
    pictures = []
    for name, edited in made.items():
        pictures.append(to_uint8(edited.render(view)["rgb"]))
        print(f"{name}: " + "; ".join(edited.history.describe()))
    Image.fromarray(np.concatenate(pictures, 1)).save(out / "edit.png")
    print(out / "edit.png")
    if save:
        print(made["deleted"].save_edits())
    return out / "edit.png"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
