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

from ag2_ns.cli.pictures import to_uint8
from ag2_ns.edit import steps
from ag2_ns.edit.apply import apply_edits
from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.query.answer import select
from ag2_ns.rendering import render
from ag2_ns.rendering.overlay import selection_share
from ag2_ns.session.surroundings import surroundings


def main(
    load_config: Path | None = None,
    data: Path | None = None,
    out: Path = Path("outputs/examples"),
    text: str | None = None,
    save: bool = False,
) -> Path:
    run = start.run(load_config, data, out)
    index, backend = run.require_index(), run.model.backend()
    found = select(run, text=text or run.texts.example())
    scene = apply_edits(run.gaussians, index.gaussian_anchor, [])
    # A clean removal looks at how the training views see the object.
    around = surroundings(run.model, index, run.pipeline.datamanager)
    thing = run.gaussians[found.gaussian_mask]
    low, high = robust_bounds(thing.means, thing.opacities)
    aside = (1.5 * float(high[0] - low[0]), 0.0, 0.0)
    made = {
        "as trained": (),
        "deleted": steps.delete(scene, found, around),
        "moved": steps.transform(scene, found, around, translation=aside, wxyz=(0.7071, 0.0, 0.0, 0.7071)),
        "recoloured": steps.recolour(scene, found, (0.1, 0.5, 1.0)),
        "duplicated": steps.duplicate(scene, found, translation=aside),
    }
    # The view that shows most of it.
    views = [view for _, view in run.views("train")]
    chosen = found.gaussian_mask[:, None]
    view = max(views, key=lambda v: float(selection_share(run.gaussians, chosen, v, backend).sum()))
    pictures = []
    for name, edits in made.items():
        edited = apply_edits(run.gaussians, index.gaussian_anchor, edits).gaussians
        pictures.append(to_uint8(render(edited, view, backend, depth=False).rgb))
        print(f"{name}: " + "; ".join(e.describe() for e in edits))
    Image.fromarray(np.concatenate(pictures, 1)).save(out / "edit.png")
    print(out / "edit.png")
    if save:
        session = run.model.AG2.session
        session.edit(*made["deleted"])
        print(session.save_edits())
    return out / "edit.png"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
