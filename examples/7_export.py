"""Hand a thing on: as a splat, a point cloud of anchors, a box and a hull, with its name.

    python examples/7_export.py [--load-config …/config.yml] [--text "red mug"] [--world]

Shows the same as `ag2 export --load-config … --text "red mug" --output-dir piece`; edits saved with the run count.

Writes into OUT/piece: NAME.ply and rest.ply (any viewer of 3D Gaussian Splatting opens them), anchors.ply, boxes.glb,
hulls.glb and labels.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import start
import tyro

from ag2_ns.export.formats import ExportOptions


def main(
    load_config: Path | None = None,
    data: Path | None = None,
    out: Path = Path("outputs/examples"),
    text: str | None = None,
    world: bool = False,
) -> Path:
    scene = start.opened(load_config, data, out)
    text = text or scene.texts.example()
    formats = ("splat", "anchors", "boxes", "hulls")
    scene.export(out / "piece", scene.select(text=text), formats=formats, options=ExportOptions(world=world))
    labels = json.loads((out / "piece" / "labels.json").read_text())
    for number, known in labels["instances"].items():
        if known["label"] == text:
            print(f"instance {number}, {text}: {known['gaussians']} Gaussians, box {known['box']}")
    return out / "piece"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
