"""Prepare a scene: masks and language features for every picture, without downloaded weights.

    python examples/1_prepare.py [--data data/kitchen]

Shows what training learns instances from. Without --data a table with six objects is made first, with the masks of a
simulated segmenter; on your own capture superpixels are merged into parts and wholes and described by colour words
(`ag2 prepare --help` tells how to use SAM and CLIP).

Writes DATA/ag2: masks, features and preview sheets to look at.
"""

from __future__ import annotations

from pathlib import Path

import tyro
from start import scene

from ag2_ns.plugin.prepare import Prepare


def main(data: Path | None = None, out: Path = Path("outputs/examples")) -> Path:
    data = scene(data, out)
    Prepare(data).main()  # the same as: ag2 prepare DATA
    for preview in sorted((data / "ag2").rglob("*.jpg")) + sorted((data / "ag2").rglob("*.png")):
        print(f"look at {preview}")
    return data


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
