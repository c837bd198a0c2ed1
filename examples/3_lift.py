"""Lift a splat that exists already: instances and language for it, without training.

    python examples/3_lift.py [--ply point_cloud.ply --data data/kitchen]

Shows that any 3D Gaussian Splatting .ply will do, as long as its pictures are there. Without --ply the Gaussians of
`2_train.py` are written to one first, which forgets anchors, instances and features.

Writes a run below OUT/runs and prints what its things are called.
"""

from __future__ import annotations

from pathlib import Path

import start
import tyro

import ag2_ns
from ag2_ns.cli.lift import Lift
from ag2_ns.io.ply import write_gaussians
from ag2_ns.plugin.prepare import Prepare
from ag2_ns.query.naming import name_of


def main(ply: Path | None = None, data: Path | None = None, out: Path = Path("outputs/examples")) -> Path:
    data = start.scene(data, out)
    if ply is None:
        ply = out / "splat.ply"
        write_gaussians(ply, start.opened(None, data, out).gaussians)
    Prepare(data).main()
    before = set(out.rglob("config.yml"))
    Lift(ply=ply, data=data, output_dir=out / "runs").main()  # ag2 lift --ply PLY --data DATA
    (path,) = set(out.rglob("config.yml")) - before

    scene = ag2_ns.open(path)
    names = [name_of(scene, node) or "?" for node in scene.require_index().tree.instances(0.5).tolist()]
    print(f"{len(names)} things: {', '.join(sorted(names))}")
    return path


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
